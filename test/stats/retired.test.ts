// Counts that outlive their rules, so that totals only grow.

import { describe, expect, test } from "bun:test";
import { Counters } from "../../src/stats/counters.ts";
import { Retired, sumOf } from "../../src/stats/retired.ts";
import { FakeCounterArea } from "../support/fakes.ts";

const nothing = {
  sent_packets: 0,
  sent_bytes: 0,
  full_packets: 0,
  error_packets: 0,
  unavailable_packets: 0,
  expired_packets: 0,
};

describe("the counts of removed rules", () => {
  test("are nothing at first, for each worker", () => {
    const counters = new Counters([new FakeCounterArea().words, new FakeCounterArea().words]);
    expect(new Retired(counters).workers).toEqual([nothing, nothing]);
  });

  test("are kept by worker, all but the last errno", () => {
    const first = new FakeCounterArea().set("egress", 3, {
      sent_packets: 10,
      sent_bytes: 1000,
      full_packets: 1,
      error_packets: 2,
      last_errno: 105,
    });
    const second = new FakeCounterArea().set("egress", 3, { sent_packets: 5, unavailable_packets: 7 });
    const retired = new Retired(new Counters([first.words, second.words]));
    retired.add(3);
    expect(retired.workers).toEqual([
      { ...nothing, sent_packets: 10, sent_bytes: 1000, full_packets: 1, error_packets: 2 },
      { ...nothing, sent_packets: 5, unavailable_packets: 7 },
    ]);
  });

  test("stay when the slot is reset, and add up when its next user goes too", () => {
    const area = new FakeCounterArea().set("egress", 3, { sent_packets: 10 });
    const retired = new Retired(new Counters([area.words]));
    retired.add(3);
    area.set("egress", 3, { sent_packets: 0 });
    expect(retired.workers).toEqual([{ ...nothing, sent_packets: 10 }]);
    area.set("egress", 3, { sent_packets: 4 });
    retired.add(3);
    expect(retired.workers).toEqual([{ ...nothing, sent_packets: 14 }]);
  });

  test("do not spill from one relay to another", () => {
    const area = new FakeCounterArea().set("egress", 0, { sent_packets: 1 });
    new Retired(new Counters([area.words])).add(0);
    expect(new Retired(new Counters([area.words])).workers).toEqual([nothing]);
  });
});

test("the sum of no counts is nothing", () => {
  expect(sumOf([])).toEqual(nothing);
});
