// The load of a worker: its time on batches, over a window.

import { expect, test } from "bun:test";
import { Counters } from "../../src/stats/counters.ts";
import { LoadMeter } from "../../src/stats/load.ts";
import { FakeCounterArea } from "../support/fakes.ts";

const ms = 1_000_000;

test("is the share of the last seconds that went into batches", () => {
  const [first, second] = [new FakeCounterArea(), new FakeCounterArea()];
  const load = new LoadMeter(new Counters([first, second]), 5_000, 0);
  expect(load.percent(0)).toEqual([0, 0]);
  first.set("worker", 0, { gather_ns: 100 * ms, send_ns: 400 * ms });
  expect(load.percent(1_000)).toEqual([50, 0]);

  // Busy all of the time for 10 s, then idle: what lies before the window is forgotten.
  for (let nowMs = 500; nowMs <= 10_000; nowMs += 500) {
    second.set("worker", 0, { send_ns: nowMs * ms });
    load.take(nowMs);
  }
  expect(load.percent(10_000)).toEqual([0, 100]);
  for (let nowMs = 10_500; nowMs <= 12_500; nowMs += 500) load.take(nowMs);
  expect(load.percent(12_500)).toEqual([0, 50]);
});

test("is never beyond 100: a batch counts when it is done", () => {
  const area = new FakeCounterArea();
  const load = new LoadMeter(new Counters([area]), 5_000, 10_000);
  area.set("worker", 0, { send_ns: 3_000 * ms });
  expect(load.percent(10_001)).toEqual([100]);
});
