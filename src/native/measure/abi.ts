// Written by `make abi` from c/measure/measure.h, as the compiler sees it. Change the header, not this file.
import { FFIType as T } from "bun:ffi";

export const constants = {
  MCR_MEASURE_ABI: 1,
  MCR_PAYLOAD_BYTES_MAX: 65507,
  MCR_BURST_MAX: 1024,
  MCR_SEGMENTS_MAX: 64,
  MCR_LATENCY_BUCKETS: 1920,
  MCR_KIND_UNKNOWN: 0,
  MCR_KIND_MCR: 1,
  MCR_KIND_RTP: 2,
  MCR_KIND_TS: 3,
} as const;

/** Structs that are read and written whole: field → offset and type. */
export const layouts = {
  mcr_stream_spec: { size: 24, fields: { address: [0, "bytes16"], port: [16, "u16"] } },
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
} as const;

/** Structs that are read as 64-bit words while C writes them: their names in order, and what follows them. */
export const counters = {
  mcr_generator_counters: {
    size: 64,
    words: [
      "sent_packets",
      "retries",
      "errors",
      "skipped_ns",
      "first_ns",
      "last_ns",
      "last_packets",
      "end_ns",
    ],
  },
  mcr_stream_counters: {
    size: 128,
    words: [
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
  },
  mcr_latency_counters: {
    size: 15424,
    words: ["count", "min_ns", "max_ns"],
    buckets: { offset: 64, count: 1920 },
  },
} as const;

/** Every function, for dlopen(). */
export const symbols = {
  mcr_measure_abi: { args: [], returns: T.i32 },
  mcr_generator_open: { args: [T.ptr, T.ptr], returns: T.ptr },
  mcr_generator_run: { args: [T.ptr, T.i32], returns: T.i32 },
  mcr_generator_counters: { args: [T.ptr], returns: T.ptr },
  mcr_generator_close: { args: [T.ptr], returns: T.void },
  mcr_receiver_open: { args: [T.ptr, T.ptr, T.ptr], returns: T.ptr },
  mcr_receiver_fd: { args: [T.ptr, T.u32], returns: T.i32 },
  mcr_receiver_run: { args: [T.ptr, T.i32], returns: T.i32 },
  mcr_receiver_counters: { args: [T.ptr], returns: T.ptr },
  mcr_receiver_latency: { args: [T.ptr], returns: T.ptr },
  mcr_receiver_buffer_bytes: { args: [T.ptr], returns: T.i32 },
  mcr_receiver_close: { args: [T.ptr], returns: T.void },
} as const;
