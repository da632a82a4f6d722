// CPU time of threads, as /proc tells it.

import { expect, test } from "bun:test";
import { parseStat, readCpuSeconds } from "../../src/stats/cpu.ts";

test("utime and stime are found whatever the thread is called", () => {
  const stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 1250 250 13 14 15 16 17 18 19 20";
  expect(parseStat(stat)).toEqual([{ name: "a) b (c", seconds: 15 }]);
  expect(parseStat("")).toEqual([]);
});

test("a process without workers still has its own time", () => {
  const { process: seconds, workers } = readCpuSeconds(2);
  expect(seconds).toBeGreaterThan(0);
  expect(workers).toEqual([undefined, undefined]);
});
