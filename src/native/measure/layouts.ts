// Struct layouts of c/measure/measure.h, as ../layouts.ts has those of the relay's shim.
import { codecOf, type Layout, type StructOf } from "../struct.ts";

export const layouts = {
  mcr_stream_spec: {
    size: 24,
    fields: { address: [0, "bytes16"], port: [16, "u16"] },
  },
  mcr_generator_options: {
    size: 72,
    fields: {
      streams: [0, "u64"],
      body: [8, "u64"],
      clock: [16, "u64"],
      count: [24, "u64"],
      duration_ns: [32, "u64"],
      stream_count: [40, "u32"],
      body_bytes: [44, "u32"],
      payload_bytes: [48, "u32"],
      rate_pps: [52, "u32"],
      burst: [56, "u32"],
      segments: [60, "u32"],
      fd: [64, "i32"],
    },
  },
  mcr_receiver_options: {
    size: 40,
    fields: {
      streams: [0, "u64"],
      clock: [8, "u64"],
      expect: [16, "u64"],
      stream_count: [24, "u32"],
      ifindex: [28, "u32"],
      buffer_bytes: [32, "u32"],
    },
  },
} as const satisfies Record<string, Layout>;

/** What the instruments count: all fields are 64-bit words, in this order. */
export const instrumentCounters = {
  generator: [
    "sent_packets",
    "retries",
    "errors",
    "skipped_ns",
    "first_ns",
    "last_ns",
    "last_packets",
    "end_ns",
  ],
  stream: [
    "kind",
    "packets",
    "bytes",
    "lost",
    "duplicated",
    "reordered",
    "corrupt",
    "foreign",
    "restarts",
    "first_ns",
    "last_ns",
    "socket_drops",
  ],
  latency: ["count", "min_ns", "max_ns"],
  latencyBuckets: 1920,
  bytes: { generator: 64, stream: 128, latency: 64 },
} as const;

export const { encode } = codecOf(layouts);
export type Struct<Name extends keyof typeof layouts> = StructOf<(typeof layouts)[Name]>;
