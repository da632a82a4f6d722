// The binding table of the instruments: one line for each function of c/measure/measure.h, grouped as there.
// test/native/abi.test.ts holds header, shared object and this table equal.
import { FFIType as T } from "bun:ffi";

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
