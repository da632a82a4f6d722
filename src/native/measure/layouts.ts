// The structs and counters of c/measure/measure.h, as ../layouts.ts has those of the relay's shim.
import { codecOf, type StructOf } from "../struct.ts";
import { counters, layouts } from "./abi.ts";

/** What the instruments count: all fields are 64-bit words, in this order. */
export const instrumentCounters = {
  generator: counters.mcr_generator_counters.words,
  stream: counters.mcr_stream_counters.words,
  latency: counters.mcr_latency_counters.words,
  latencyBuckets: counters.mcr_latency_counters.buckets.count,
  bytes: {
    generator: counters.mcr_generator_counters.size,
    stream: counters.mcr_stream_counters.size,
    /** In front of its buckets. */
    latency: counters.mcr_latency_counters.buckets.offset,
  },
} as const;

export const { encode } = codecOf(layouts);
export type Struct<Name extends keyof typeof layouts> = StructOf<(typeof layouts)[Name]>;
