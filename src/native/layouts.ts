// Struct layouts of c/mcr.h: name → [offset, type]. test/native/abi.test.ts compares every offset and size with the
// compiler's.
import { codecOf, type DecodedOf, type Layout, type StructOf } from "./struct.ts";

export const layouts = {
  mcr_ring_options: {
    size: 32,
    fields: {
      ifindex: [0, "u32"],
      fanout_id: [4, "u32"],
      block_bytes: [8, "u32"],
      receive_bytes: [12, "u32"],
      sleep_us: [16, "u32"],
      block_count: [20, "u32"],
      retire_ms: [24, "u32"],
      fanout: [28, "u32"],
    },
  },
  mcr_address_range: { size: 8, fields: { first: [0, "u32"], last: [4, "u32"] } },
  mcr_exclusive_entry: {
    size: 40,
    fields: {
      address: [0, "bytes16"],
      source: [16, "bytes16"],
      port: [32, "u16"],
      kind: [34, "u8"],
      drops: [35, "u8"],
    },
  },
  mcr_ring_spec: {
    size: 16,
    fields: { ring: [0, "u64"], worker: [8, "u32"], interface: [12, "u32"] },
  },
  mcr_match_spec: {
    size: 48,
    fields: {
      address: [0, "bytes16"],
      source: [16, "bytes16"],
      port: [32, "u16"],
      vlan: [34, "u16"],
      interface: [36, "u32"],
      flow: [40, "u32"],
    },
  },
  mcr_flow_spec: {
    size: 16,
    fields: { rule: [0, "u32"], action_first: [4, "u32"], action_count: [8, "u32"] },
  },
  mcr_action_spec: {
    size: 24,
    fields: { address: [0, "bytes16"], port: [16, "u16"], egress: [20, "u32"] },
  },
  mcr_egress_spec: {
    size: 32,
    fields: {
      link: [0, "u64"],
      fd: [8, "i32"],
      slot: [12, "u32"],
      segment_bytes_max: [16, "u32"],
      source: [20, "u32"],
      source_port: [24, "u16"],
      ttl: [26, "u8"],
      dscp: [27, "u8"],
      keep: [28, "u16"],
      plain: [30, "u16"],
    },
  },
  mcr_origin_spec: {
    size: 16,
    fields: { source: [0, "u32"], source_port: [4, "u16"], rule: [8, "u32"], egress: [12, "u32"] },
  },
  mcr_table_spec: {
    size: 80,
    fields: {
      rings: [0, "u64"],
      matches: [8, "u64"],
      flows: [16, "u64"],
      actions: [24, "u64"],
      egresses: [32, "u64"],
      origins: [40, "u64"],
      ring_count: [48, "u32"],
      match_count: [52, "u32"],
      flow_count: [56, "u32"],
      action_count: [60, "u32"],
      egress_count: [64, "u32"],
      origin_count: [68, "u32"],
      epoch: [72, "u32"],
    },
  },
  mcr_egress_options: {
    size: 12,
    fields: {
      ifindex: [0, "u32"],
      source: [4, "u32"],
      source_port: [8, "u16"],
      ttl: [10, "u8"],
      dscp: [11, "u8"],
    },
  },
  mcr_link_options: { size: 16, fields: { mac: [0, "u64"], ifindex: [8, "u32"] } },
  mcr_query: {
    size: 32,
    fields: { source: [0, "bytes16"], time_ns: [16, "u64"], version: [24, "u8"] },
  },
  mcr_scan_options: {
    size: 32,
    fields: {
      ifindexes: [0, "u64"],
      seed: [8, "u64"],
      interface_count: [16, "u32"],
      flows_max: [20, "u32"],
      ingress_only: [24, "u32"],
    },
  },
  mcr_scan_state: {
    size: 72,
    fields: {
      frames: [0, "u64"],
      flow_count: [8, "u64"],
      member_count: [16, "u64"],
      announcement_count: [24, "u64"],
      flows_refused: [32, "u64"],
      members_refused: [40, "u64"],
      announcements_refused: [48, "u64"],
      malformed: [56, "u64"],
      ring_drops: [64, "u64"],
    },
  },
  mcr_scan_flow: {
    size: 96,
    fields: {
      group: [0, "bytes16"],
      source: [16, "bytes16"],
      packets: [32, "u64"],
      bytes: [40, "u64"],
      first_ns: [48, "u64"],
      last_ns: [56, "u64"],
      bytes_min: [64, "u32"],
      bytes_max: [68, "u32"],
      interface: [72, "u32"],
      ssrc: [76, "u32"],
      port: [80, "u16"],
      vlan: [82, "u16"],
      programs: [84, "u16"],
      kind: [86, "u8"],
      payload_type: [87, "u8"],
      is_egress: [88, "u8"],
    },
  },
  mcr_scan_member: {
    size: 64,
    fields: {
      address: [0, "bytes16"],
      group: [16, "bytes16"],
      packets: [32, "u64"],
      last_ns: [40, "u64"],
      interface: [48, "u32"],
      vlan: [52, "u16"],
      kind: [54, "u8"],
      version: [55, "u8"],
      is_egress: [56, "u8"],
    },
  },
  mcr_scan_announcement: {
    size: 32,
    fields: {
      source: [0, "bytes16"],
      last_ns: [16, "u64"],
      interface: [24, "u32"],
      vlan: [28, "u16"],
      bytes: [30, "u16"],
    },
  },
  mcr_peer: {
    size: 16,
    fields: { pid: [0, "u32"], uid: [4, "u32"], gid: [8, "u32"], in_group: [12, "u32"] },
  },
  mcr_interface: {
    size: 32,
    fields: {
      ifindex: [0, "u32"],
      flags: [4, "u32"],
      mtu: [8, "u32"],
      address: [12, "u32"],
      mac: [16, "u64"],
      type: [24, "u32"],
    },
  },
} as const satisfies Record<string, Layout>;

/** The counter area of one worker: what c/mcr.h draws. Offsets in bytes, fields in 64-bit words. */
export const counterArea = {
  interfacesMax: 256,
  rulesMax: 131_072,
  egressesMax: 262_144,
  worker: ["wakeups", "blocks", "sends", "runs", "run_packets", "gather_ns", "send_ns"],
  interface: [
    "packets",
    "bytes",
    "matched",
    "no_match",
    "tagged",
    "malformed",
    "truncated",
    "bad_checksum",
    "fragment_late",
    "fragment_overlap",
    "fragment_full",
    "fragment_malformed",
    "other_host",
    "looped",
    "undescribed",
  ],
  rule: [
    "packets",
    "bytes",
    "last_ns",
    "sampled_ns",
    "rtp_packets",
    "rtp_missing",
    "rtp_reordered",
    "rtp_duplicate",
    "looped",
  ],
  egress: [
    "sent_packets",
    "sent_bytes",
    "full_packets",
    "error_packets",
    "unavailable_packets",
    "last_errno",
    "frame_packets",
    "expired_packets",
    "returned_packets",
  ],
  /** In front of its buckets. */
  addedLatency: ["samples", "sum_ns", "max_ns"],
  addedLatencyBuckets: 93,
  bytes: { worker: 64, interface: 128, rule: 128, egress: 128, addedLatency: 768 },
} as const;

/** Of one scan. */
export const scanInterfacesMax = 64;
export const scanFlowsMax = 16_384;
/** Room of each announcement of a scan, its struct included. */
export const scanAnnouncementBytes = 1536;

export const { encode, decode } = codecOf(layouts);
export type Struct<Name extends keyof typeof layouts> = StructOf<(typeof layouts)[Name]>;
export type Decoded<Name extends keyof typeof layouts> = DecodedOf<(typeof layouts)[Name]>;
