// Added latency out of its histogram: where buckets begin, quantiles, Prometheus' cumulative buckets.

import { describe, expect, test } from "bun:test";
import {
  type AddedLatency,
  bucketStartNs,
  cumulativeBuckets,
  samplesOf,
  summaryOf,
  sumOfLatencies,
} from "../../src/stats/latency.ts";

const bucketCount = 93;

function latencyOf(counts: Readonly<Record<number, number>>, max_ns: number): AddedLatency {
  return {
    sum_ns: 0,
    max_ns,
    buckets: Array.from({ length: bucketCount }, (_, bucket) => counts[bucket] ?? 0),
  };
}

describe("buckets", () => {
  test("begin where c/mcr.h says: in units of 512 ns, then 4 to every power of two", () => {
    const units = [0, 7, 8, 9, 11, 12, 13, 16, 92].map((bucket) => bucketStartNs(bucket) / 512);
    expect(units).toEqual([0, 7, 8, 10, 14, 16, 20, 32, 4 * 2 ** 22]);
  });

  test("are never wider than a quarter of where they begin, and leave no hole", () => {
    for (let bucket = 8; bucket < bucketCount; bucket += 1) {
      const width = bucketStartNs(bucket + 1) - bucketStartNs(bucket);
      expect(width).toBeGreaterThan(0);
      expect(width).toBeLessThanOrEqual(bucketStartNs(bucket) / 4);
    }
  });
});

describe("a summary", () => {
  test("of nothing is null", () => {
    expect(summaryOf(latencyOf({}, 0))).toBeNull();
    expect(summaryOf(sumOfLatencies([undefined]))).toBeNull();
  });

  test("of one sample is that sample, as near as its bucket tells", () => {
    expect(summaryOf(latencyOf({ 0: 1 }, 300))).toEqual({
      samples: 1,
      p50_ns: 256,
      p99_ns: 300,
      max_ns: 300,
    });
  });

  test("takes the samples of a bucket to lie evenly in it", () => {
    // Bucket 8 holds 4,096 to 5,119 ns, bucket 12 8,192 to 10,239.
    const latency = latencyOf({ 8: 100, 12: 100 }, 10_000);
    expect(summaryOf(latency)).toEqual({ samples: 200, p50_ns: 5_120, p99_ns: 10_000, max_ns: 10_000 });
    expect(summaryOf({ ...latency, max_ns: 10_239 })?.p99_ns).toBe(10_199);
  });

  test("of samples in the last bucket, which has no end, is the maximum at most", () => {
    expect(summaryOf(latencyOf({ 92: 10 }, 20e9))).toMatchObject({ p99_ns: 19_885_899_346, max_ns: 20e9 });
  });
});

describe("cumulative buckets", () => {
  test("are one for each power of two, from 1,024 ns on, each with all below it", () => {
    const latency = latencyOf({ 0: 1, 1: 2, 2: 4, 8: 8, 91: 16, 92: 32 }, 20e9);
    const buckets = cumulativeBuckets(latency);
    expect(buckets).toHaveLength(24);
    expect(buckets.slice(0, 4)).toEqual([
      { below_ns: 1_024, samples: 3 },
      { below_ns: 2_048, samples: 7 },
      { below_ns: 4_096, samples: 7 },
      { below_ns: 8_192, samples: 15 },
    ]);
    expect(buckets.at(-1)).toEqual({ below_ns: 1_024 * 2 ** 23, samples: 31 });
    expect(samplesOf(latency)).toBe(63);
  });
});

test("several workers add up, but for the maximum", () => {
  const sum = sumOfLatencies([
    { ...latencyOf({ 3: 1 }, 5), sum_ns: 5 },
    undefined,
    { ...latencyOf({ 3: 2, 4: 1 }, 9), sum_ns: 20 },
  ]);
  expect(sum).toEqual({ ...latencyOf({ 3: 3, 4: 1 }, 9), sum_ns: 25 });
});
