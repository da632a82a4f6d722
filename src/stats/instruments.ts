// What the instruments counted, read out of the shim's memory. Called by `mcr send` and `mcr receive`; live while they
// run. Times of day are nanoseconds since 1970 as numbers: exact to a quarter of a microsecond, shown to the
// millisecond.
import { instrumentCounters } from "../native/measure/layouts.ts";

const { bytes, generator, stream, latencyBuckets } = instrumentCounters;

export type GeneratorCounters = Readonly<Record<(typeof generator)[number], number>>;
export type StreamCounters = Readonly<Record<(typeof stream)[number], number>>;

/** In the order of c/measure/measure.h. */
export const kinds = ["unknown", "mcr", "rtp", "ts"] as const;
export type Kind = (typeof kinds)[number];

export interface Latency {
  readonly samples: number;
  readonly min_ns: number;
  readonly p50_ns: number;
  readonly p90_ns: number;
  readonly p99_ns: number;
  readonly p999_ns: number;
  readonly max_ns: number;
}

export function readGenerator(words: BigUint64Array): GeneratorCounters {
  return named(generator, words, 0);
}

export function readSentByStream(words: BigUint64Array): readonly number[] {
  return Array.from(words.subarray(bytes.generator / 8), Number);
}

export function readStream(words: BigUint64Array, index: number): StreamCounters {
  return named(stream, words, (index * bytes.stream) / 8);
}

/** Undefined when no packet of this machine's clock came. */
export function readLatency(words: BigUint64Array): Latency | undefined {
  const [samples, min_ns, max_ns] = [at(words, 0), at(words, 1), at(words, 2)];
  if (samples === 0) return undefined;
  const buckets = words.subarray(bytes.latency / 8);
  const quantile = (share: number) => Math.min(max_ns, quantileOf(buckets, Math.ceil(samples * share)));
  return {
    samples,
    min_ns,
    p50_ns: quantile(0.5),
    p90_ns: quantile(0.9),
    p99_ns: quantile(0.99),
    p999_ns: quantile(0.999),
    max_ns,
  };
}

function named<Name extends string>(
  names: readonly Name[],
  words: BigUint64Array,
  start: number,
): Readonly<Record<Name, number>> {
  const entries = names.map((name, index) => [name, at(words, start + index)]);
  return Object.fromEntries(entries);
}

/** The largest value of the bucket that holds the packet of this rank. */
function quantileOf(buckets: BigUint64Array, rank: number): number {
  let seen = 0;
  for (let bucket = 0; bucket < latencyBuckets; bucket += 1) {
    seen += at(buckets, bucket);
    if (seen >= rank) return bucketEnd(bucket);
  }
  return Infinity;
}

/** As c/measure/measure.h draws the buckets. */
export function bucketEnd(bucket: number): number {
  if (bucket < 64) return bucket;
  const exponent = Math.floor(bucket / 32) - 1;
  return (bucket - 32 * exponent + 1) * 2 ** exponent - 1;
}

function at(words: BigUint64Array, index: number): number {
  return Number(words[index] ?? 0n);
}
