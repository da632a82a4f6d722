// The binding table: one line for each function of c/mcr.h, grouped as there. test/native/abi.test.ts holds
// header, shared object and this table equal.
import { FFIType as T } from "bun:ffi";

export const symbols = {
  mcr_abi: { args: [], returns: T.i32 },
  mcr_relay_open: { args: [T.u32, T.ptr], returns: T.ptr },
  mcr_counters: { args: [T.ptr, T.u32], returns: T.ptr },
  mcr_counters_bytes: { args: [], returns: T.i64_fast },
  mcr_rule_counters_reset: { args: [T.ptr, T.u32], returns: T.i32 },
  mcr_egress_counters_reset: { args: [T.ptr, T.u32], returns: T.i32 },
  mcr_relay_publish: { args: [T.ptr, T.ptr], returns: T.void },
  mcr_relay_epoch_seen: { args: [T.ptr], returns: T.i32 },
  mcr_relay_stop: { args: [T.ptr], returns: T.void },
  mcr_cpus: { args: [T.ptr, T.u32], returns: T.i32 },

  mcr_worker_pin: { args: [T.u32, T.u32], returns: T.i32 },
  mcr_worker_run: { args: [T.ptr, T.u32, T.i32], returns: T.i32 },

  mcr_ring_permitted: { args: [], returns: T.i32 },
  mcr_rings_open: { args: [T.ptr, T.u32, T.ptr, T.ptr], returns: T.void },
  mcr_ring_fanout_id: { args: [T.ptr], returns: T.i32 },
  mcr_ring_receive_bytes: { args: [T.ptr], returns: T.i32 },
  mcr_ring_filter: { args: [T.ptr, T.ptr, T.u32], returns: T.i32 },
  mcr_ring_drops: { args: [T.ptr], returns: T.i64_fast },
  mcr_ring_taken: { args: [T.ptr], returns: T.i64_fast },
  mcr_ring_unread: { args: [T.ptr], returns: T.i64_fast },
  mcr_ring_discard: { args: [T.ptr], returns: T.i64_fast },
  mcr_ring_is_bound: { args: [T.ptr], returns: T.i32 },
  mcr_ring_close: { args: [T.ptr], returns: T.void },

  mcr_exclusive_probe: { args: [T.u32], returns: T.i32 },
  mcr_exclusive_open: { args: [T.u32, T.u32, T.ptr], returns: T.ptr },
  mcr_exclusive_set: { args: [T.ptr, T.ptr, T.u32], returns: T.i32 },
  mcr_exclusive_close: { args: [T.ptr], returns: T.void },

  mcr_table_build: { args: [T.ptr, T.ptr, T.ptr], returns: T.ptr },
  mcr_table_free: { args: [T.ptr], returns: T.void },

  mcr_egress_open: { args: [T.ptr], returns: T.i32 },
  mcr_egress_port: { args: [T.i32], returns: T.i32 },

  mcr_link_open: { args: [T.ptr, T.ptr, T.ptr], returns: T.ptr },
  mcr_link_refusal: { args: [T.ptr], returns: T.i32 },
  mcr_link_close: { args: [T.ptr], returns: T.void },

  mcr_member_open: { args: [], returns: T.i32 },
  mcr_member_join: { args: [T.i32, T.u32, T.ptr, T.ptr], returns: T.i32 },
  mcr_member_leave: { args: [T.i32, T.u32, T.ptr, T.ptr], returns: T.i32 },

  mcr_query_ring_open: { args: [T.u32, T.ptr], returns: T.ptr },
  mcr_query_ring_read: { args: [T.ptr, T.ptr], returns: T.i32 },

  mcr_generator_open: { args: [T.ptr, T.ptr], returns: T.ptr },
  mcr_generator_run: { args: [T.ptr, T.i32], returns: T.i32 },
  mcr_generator_counters: { args: [T.ptr], returns: T.ptr },
  mcr_generator_close: { args: [T.ptr], returns: T.void },

  mcr_receiver_open: { args: [T.ptr, T.ptr, T.ptr], returns: T.ptr },
  mcr_receiver_run: { args: [T.ptr, T.i32], returns: T.i32 },
  mcr_receiver_counters: { args: [T.ptr], returns: T.ptr },
  mcr_receiver_latency: { args: [T.ptr], returns: T.ptr },
  mcr_receiver_buffer_bytes: { args: [T.ptr], returns: T.i32 },
  mcr_receiver_close: { args: [T.ptr], returns: T.void },

  mcr_scan_open: { args: [T.ptr, T.ptr, T.ptr], returns: T.ptr },
  mcr_scan_run: { args: [T.ptr, T.i32], returns: T.i32 },
  mcr_scan_state: { args: [T.ptr], returns: T.ptr },
  mcr_scan_flows: { args: [T.ptr], returns: T.ptr },
  mcr_scan_members: { args: [T.ptr], returns: T.ptr },
  mcr_scan_announcements: { args: [T.ptr], returns: T.ptr },
  mcr_scan_close: { args: [T.ptr], returns: T.void },

  mcr_interface_read: { args: [T.ptr, T.ptr], returns: T.i32 },
  mcr_notify: { args: [T.ptr, T.ptr, T.u32], returns: T.i32 },
  mcr_monotonic_us: { args: [], returns: T.i64_fast },
  mcr_close: { args: [T.i32], returns: T.void },
  mcr_peer_read: { args: [T.i32, T.u32, T.ptr], returns: T.i32 },

  mcr_netlink: { args: [T.ptr, T.u32, T.ptr, T.u32], returns: T.i32 },
} as const;
