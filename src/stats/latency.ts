// What mcr adds to a packet's way, out of the histogram that the workers fill: quantiles for people, cumulative buckets
// for Prometheus. c/mcr.h draws the buckets and says which packets are sampled. Pure.
import { counterArea } from "../native/layouts.ts";

export interface AddedLatency {
  readonly sum_ns: number;
  readonly max_ns: number;
  /** Samples in each bucket of c/mcr.h. */
  readonly buckets: readonly number[];
}

export interface LatencySummary {
  readonly samples: number;
  readonly p50_ns: number;
  readonly p99_ns: number;
  readonly max_ns: number;
}

const unitNs = 512;
const bucketCount = counterArea.addedLatencyBuckets;

/** Where bucket `bucket` begins, in ns: it ends where the next one begins, the last one never. */
export function bucketStartNs(bucket: number): number {
  if (bucket < 8) return bucket * unitNs;
  const exponent = Math.floor(bucket / 4) - 1;
  return (bucket - 4 * exponent) * 2 ** exponent * unitNs;
}

/** Of several workers; those that sampled nothing have none. */
export function sumOfLatencies(parts: readonly (AddedLatency | undefined)[]): AddedLatency {
  const found = parts.filter((part) => part !== undefined);
  return {
    sum_ns: found.reduce((sum, part) => sum + part.sum_ns, 0),
    max_ns: Math.max(0, ...found.map((part) => part.max_ns)),
    buckets: Array.from({ length: bucketCount }, (_, bucket) =>
      found.reduce((sum, part) => sum + (part.buckets[bucket] ?? 0), 0),
    ),
  };
}

export function samplesOf({ buckets }: AddedLatency): number {
  return buckets.reduce((sum, count) => sum + count, 0);
}

/** Null when nothing was sampled. */
export function summaryOf(latency: AddedLatency): LatencySummary | null {
  const samples = samplesOf(latency);
  if (samples === 0) return null;
  return {
    samples,
    p50_ns: quantileNs(latency, samples * 0.5),
    p99_ns: quantileNs(latency, samples * 0.99),
    max_ns: latency.max_ns,
  };
}

/** The samples of a bucket are taken to lie evenly in it; at most an eighth off, and never above the maximum. */
function quantileNs({ buckets, max_ns }: AddedLatency, rank: number): number {
  let seen = 0;
  for (const [bucket, count] of buckets.entries()) {
    if (count > 0 && seen + count >= rank) {
      const start = bucketStartNs(bucket);
      const end = bucket + 1 < bucketCount ? bucketStartNs(bucket + 1) : max_ns;
      return Math.round(Math.min(max_ns, start + ((end - start) * (rank - seen)) / count));
    }
    seen += count;
  }
  return max_ns;
}

/**
 * As Prometheus wants them: samples below each bound, one bound for every power of two from 1,024 ns to 8.6 s, so 24
 * lines for a rule; what is above the last one is in `samplesOf` only (+Inf).
 */
export function cumulativeBuckets({
  buckets,
}: AddedLatency): readonly { readonly below_ns: number; readonly samples: number }[] {
  const bounds = Array.from({ length: 24 }, (_, power) => unitNs * 2 ** (power + 1));
  let bucket = 0;
  let samples = 0;
  return bounds.map((below_ns) => {
    for (; bucketStartNs(bucket) < below_ns; bucket += 1) samples += buckets[bucket] ?? 0;
    return { below_ns, samples };
  });
}
