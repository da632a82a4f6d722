// Counters as readers see them: one worker's, or the sum of all.

import { describe, expect, test } from "bun:test";
import { Counters, type RuleCounts } from "../../src/stats/counters.ts";
import { FakeCounterArea } from "../support/fakes.ts";

function areas(count: number): readonly FakeCounterArea[] {
  return Array.from({ length: count }, () => new FakeCounterArea());
}

function countersOf(of: readonly FakeCounterArea[]): Counters {
  return new Counters(of);
}

const noRule: RuleCounts = {
  packets: 0,
  bytes: 0,
  last_ns: 0,
  sampled_ns: 0,
  rtp_packets: 0,
  rtp_missing: 0,
  rtp_reordered: 0,
  rtp_duplicate: 0,
  looped: 0,
};

describe("counters", () => {
  test("lie where c/mcr.h draws them", () => {
    const words = new BigUint64Array((16_810_048 + 256) / 8);
    const wordAt = (byte: number) => byte / 8;
    words[wordAt(0) + 4] = 1n; // the worker's run_packets
    words[wordAt(64 + 3 * 128) + 7] = 2n; // bad_checksum of interface 3
    words[wordAt(32_832 + 5 * 128) + 1] = 3n; // bytes of rule 5
    words[wordAt(16_810_048 + 128) + 4] = 4n; // unavailable_packets of egress 1
    const counters = new Counters([words]);
    expect(counters.worker(0).run_packets).toBe(1);
    expect(counters.interface(3).bad_checksum).toBe(2);
    expect(counters.rule(5).bytes).toBe(3);
    expect(counters.egress(1).unavailable_packets).toBe(4);
  });

  test("of a slot are the sum over all workers, by name", () => {
    const [first, second] = areas(2);
    if (!first || !second) throw new Error("two workers");
    first.set("interface", 0, { packets: 10, bytes: 1000, matched: 9, no_match: 1 });
    second.set("interface", 0, { packets: 5, bytes: 500, matched: 4, tagged: 1 });
    expect(countersOf([first, second]).interface(0)).toEqual({
      packets: 15,
      bytes: 1500,
      matched: 13,
      no_match: 1,
      tagged: 1,
      malformed: 0,
      truncated: 0,
      bad_checksum: 0,
      fragment_late: 0,
      fragment_overlap: 0,
      fragment_full: 0,
      fragment_malformed: 0,
      other_host: 0,
      looped: 0,
      undescribed: 0,
    });
  });

  test("of an interface whose worker counts on meanwhile never have more matched than packets", () => {
    class BusyArea extends FakeCounterArea {
      packets = 0;
      /** With each word that is read the worker has counted one packet more, and what became of it. */
      override at(word: number): bigint | undefined {
        this.packets += 1;
        this.set("interface", 0, { packets: this.packets, matched: this.packets });
        return super.at(word);
      }
    }
    const { packets, matched } = countersOf([new BusyArea(), new BusyArea()]).interface(0);
    expect(matched).toBeGreaterThan(0);
    expect(matched).toBeLessThanOrEqual(packets);
  });

  test("of one worker are its own, and the workers' add up to the total", () => {
    const three = areas(3);
    three.forEach((area, worker) => {
      area.set("egress", 7, { sent_packets: 100 + worker, sent_bytes: 1000 * worker });
    });
    const counters = countersOf(three);
    expect([0, 1, 2].map((worker) => counters.egress(7, worker).sent_packets)).toEqual([100, 101, 102]);
    expect(counters.egress(7).sent_packets).toBe(303);
    expect(counters.egress(7).sent_bytes).toBe(3000);
  });

  test("of one slot leave its neighbours at zero", () => {
    const [area] = areas(1);
    if (!area) throw new Error("one worker");
    area.set("rule", 3, { packets: 1, bytes: 2, last_ns: 3, sampled_ns: 2 });
    const counters = countersOf([area]);
    expect(counters.rule(2)).toEqual(noRule);
    expect(counters.rule(4)).toEqual(noRule);
    expect(counters.rule(3)).toEqual({ ...noRule, packets: 1, bytes: 2, last_ns: 3, sampled_ns: 2 });
  });

  test("that are last values are not added: the newest time, an errno that is one", () => {
    const [first, second] = areas(2);
    if (!first || !second) throw new Error("two workers");
    first.set("rule", 0, { packets: 1, last_ns: 5_000_000 }).set("egress", 0, { last_errno: 11 });
    second.set("rule", 0, { packets: 1, last_ns: 7_000_000 }).set("egress", 0, { last_errno: 11 });
    const counters = countersOf([first, second]);
    expect(counters.rule(0)).toEqual({ ...noRule, packets: 2, last_ns: 7_000_000 });
    expect(counters.egress(0).last_errno).toBe(11);
  });

  test("of a worker that does not exist are zero", () => {
    expect(countersOf(areas(1)).rule(0, 5)).toEqual(noRule);
    expect(countersOf([]).rule(0)).toEqual(noRule);
  });

  test("beyond 32 bits stay exact", () => {
    const [area] = areas(1);
    if (!area) throw new Error("one worker");
    area.set("rule", 0, { bytes: 9_007_199_254_740_991 });
    expect(countersOf([area]).rule(0).bytes).toBe(9_007_199_254_740_991);
  });
});

describe("added latency", () => {
  test("of a rule is that of all workers; a rule's slot and that of all rules lie apart", () => {
    const [first, second] = areas(2);
    if (!first || !second) throw new Error("two workers");
    first.setLatency(3, { sum_ns: 1_000, max_ns: 900 }, { 0: 1, 1: 1 });
    second.setLatency(3, { sum_ns: 5_000, max_ns: 5_000 }, { 8: 1 }).setLatency(4, { sum_ns: 7 }, { 0: 1 });
    first.setLatency(131_072, { sum_ns: 8_000, max_ns: 5_000 }, { 0: 2, 1: 1, 92: 1 });
    const counters = countersOf([first, second]);
    const { sum_ns, max_ns, buckets } = counters.latency(3);
    expect([sum_ns, max_ns, buckets.length]).toEqual([6_000, 5_000, 93]);
    expect([0, 1, 2, 8].map((bucket) => buckets[bucket])).toEqual([1, 1, 0, 1]);
    expect(counters.latencyOfAll().buckets.at(-1)).toBe(1);
    expect(counters.latency(5).buckets.every((samples) => samples === 0)).toBe(true);
  });
});

describe("what the relay asks every half second", () => {
  test("the last packet of a rule is the newest of any worker, in ms, or 0", () => {
    const [first, second] = areas(2);
    if (!first || !second) throw new Error("two workers");
    const counters = countersOf([first, second]);
    expect(counters.lastPacketMs(2)).toBe(0);
    first.set("rule", 2, { last_ns: 9_000_000_000 });
    second.set("rule", 2, { last_ns: 12_500_000_000 });
    expect(counters.lastPacketMs(2)).toBe(12_500);
  });

  test("what an egress refused is its full and its error packets, of all workers", () => {
    const [first, second] = areas(2);
    if (!first || !second) throw new Error("two workers");
    first.set("egress", 1, { full_packets: 3, error_packets: 4, unavailable_packets: 100, last_errno: 105 });
    second.set("egress", 1, { full_packets: 10 });
    expect(countersOf([first, second]).egressRefused(1)).toEqual({ packets: 17, errno: 105 });
  });
});
