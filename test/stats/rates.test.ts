// Rates from samples: right at any moment, undefined while there is nothing to compare with.

import { expect, test } from "bun:test";
import { Rates } from "../../src/stats/rates.ts";

test("a rate covers the time since the sample before the last one, up to the moment it is asked for", () => {
  let nowMs = 0;
  const rates = new Rates(() => nowMs);
  const rule = {};
  const perMs = { packets: 20, bytes: 20_480 };
  const ask = () => rates.of(rule, nowMs * perMs.packets, nowMs * perMs.bytes);
  for (const atMs of [0, 1000, 2000, 3000]) {
    nowMs = atMs;
    rates.sample([[rule, atMs * perMs.packets, atMs * perMs.bytes]]);
  }
  for (const atMs of [3000, 3001, 3333, 3999]) {
    nowMs = atMs;
    expect(ask()).toEqual({ packets_per_s: 20_000, bits_per_s: 163_840_000 });
  }
});

test("a stream that has ended is at 0 two samples later", () => {
  let nowMs = 0;
  const rates = new Rates(() => nowMs);
  const rule = {};
  for (const [atMs, packets] of [
    [0, 0],
    [1000, 500],
    [2000, 500],
    [3000, 500],
  ] as const) {
    nowMs = atMs;
    rates.sample([[rule, packets, 0]]);
  }
  expect(rates.of(rule, 500, 0)).toEqual({ packets_per_s: 0, bits_per_s: 0 });
});

test("what is new has no rate until there is time to measure in", () => {
  let nowMs = 0;
  const rates = new Rates(() => nowMs);
  const rule = {};
  expect(rates.of(rule, 1, 1)).toBeUndefined();
  rates.sample([[rule, 100, 1000]]);
  nowMs = 100;
  expect(rates.of(rule, 200, 2000)).toBeUndefined();
  nowMs = 500;
  expect(rates.of(rule, 200, 2000)).toEqual({ packets_per_s: 200, bits_per_s: 16_000 });
});

test("a sample is due once a second", () => {
  let nowMs = 0;
  const rates = new Rates(() => nowMs);
  expect(rates.isDue).toBe(true);
  rates.sample([]);
  nowMs = 999;
  expect(rates.isDue).toBe(false);
  nowMs = 1000;
  expect(rates.isDue).toBe(true);
});
