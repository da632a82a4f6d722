// Struct layouts of c/mcr.h: name → [offset, type], and how to write one. test/native/abi.test.ts compares every
// offset and size with the compiler's. Only little-endian machines are built for (x86-64, arm64).

export type FieldType = "u8" | "u16" | "u32" | "i32" | "u64" | "bytes16";
export interface Layout {
  readonly size: number;
  readonly fields: Readonly<Record<string, readonly [offset: number, type: FieldType]>>;
}

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
  mcr_raw_packet: {
    size: 32,
    fields: {
      time_ns: [0, "u64"],
      flow: [8, "u32"],
      interface: [12, "u32"],
      payload_bytes: [16, "u32"],
      payload: [20, "u16"],
      captured: [22, "u16"],
      vlan: [24, "u16"],
      is_egress: [26, "u8"],
      checksum_known: [27, "u8"],
    },
  },
  mcr_stream_spec: {
    size: 40,
    fields: { address: [0, "bytes16"], source: [16, "bytes16"], port: [32, "u16"] },
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
  mcr_scan_options: {
    size: 32,
    fields: {
      ifindexes: [0, "u64"],
      seed: [8, "u64"],
      interface_count: [16, "u32"],
      flows_max: [20, "u32"],
      ingress_only: [24, "u32"],
      samples: [28, "u16"],
      whole_port: [30, "u16"],
    },
  },
  mcr_scan_state: {
    size: 56,
    fields: {
      frames: [0, "u64"],
      flow_count: [8, "u64"],
      packet_count: [16, "u64"],
      flows_refused: [24, "u64"],
      packets_refused: [32, "u64"],
      malformed: [40, "u64"],
      ring_drops: [48, "u64"],
    },
  },
  mcr_scan_flow: {
    size: 88,
    fields: {
      group: [0, "bytes16"],
      source: [16, "bytes16"],
      interface: [32, "u32"],
      vlan: [36, "u16"],
      port: [38, "u16"],
      is_egress: [40, "u64"],
      packets: [48, "u64"],
      bytes: [56, "u64"],
      first_ns: [64, "u64"],
      last_ns: [72, "u64"],
      bytes_min: [80, "u32"],
      bytes_max: [84, "u32"],
    },
  },
  mcr_scan_wish: {
    size: 24,
    fields: {
      flow: [0, "u32"],
      packets: [4, "u32"],
      offset: [8, "u32"],
      step: [12, "u32"],
      word: [16, "u32"],
      mask: [20, "u32"],
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

/** Of one scan. */
export const scanInterfacesMax = 64;
export const scanFlowsMax = 16_384;
/** Room of each packet that C hands over unread, its struct included. */
export const rawPacketBytes = 1568;
/** Of a raw packet: one of no flow. */
export const rawOther = 0xffff_ffff;
/** Of one look at a query ring. */
export const queriesMax = 16;
/** An id of the shim's that no 802.1Q tag has: this, and that of another tag. */
export const vlanOther = 0x1000;

type Value<Type extends FieldType> = Type extends "bytes16"
  ? Uint8Array
  : Type extends "u64"
    ? number | bigint
    : number;
export type Struct<Name extends keyof typeof layouts> = {
  readonly [Field in keyof (typeof layouts)[Name]["fields"]]: (typeof layouts)[Name]["fields"][Field] extends readonly [
    number,
    infer Type extends FieldType,
  ]
    ? Value<Type>
    : never;
};

function put(view: DataView, at: number, type: FieldType, value: number | bigint | Uint8Array): void {
  if (typeof value === "bigint") {
    view.setBigUint64(at, value, true);
    return;
  }
  if (typeof value !== "number") {
    new Uint8Array(view.buffer, view.byteOffset + at, 16).set(value);
    return;
  }
  switch (type) {
    case "u8":
      view.setUint8(at, value);
      break;
    case "u16":
      view.setUint16(at, value, true);
      break;
    case "u32":
      view.setUint32(at, value, true);
      break;
    case "i32":
      view.setInt32(at, value, true);
      break;
    case "u64":
      view.setBigUint64(at, BigInt(value), true);
      break;
    case "bytes16":
      throw new TypeError("bytes16 wants 16 bytes");
  }
}

/** Structs one after the other, as C reads an array; at least one byte, since ptr() of an empty array is an error. */
export function encode<Name extends keyof typeof layouts>(
  name: Name,
  structs: readonly Struct<Name>[],
): Uint8Array {
  const layout: Layout = layouts[name];
  const bytes = new Uint8Array(Math.max(1, structs.length * layout.size));
  const view = new DataView(bytes.buffer);
  const fields = Object.entries(layout.fields);
  structs.forEach((struct, index) => {
    const values = struct as Readonly<Record<string, number | bigint | Uint8Array>>;
    for (const [field, [offset, type]] of fields) {
      const value = values[field];
      if (value !== undefined) put(view, index * layout.size + offset, type, value);
    }
  });
  return bytes;
}

type Got<Type extends FieldType> = Type extends "bytes16" ? Uint8Array : number;
/** A struct as it is read: 64-bit words as numbers, which hold nanoseconds since 1970 to 256 ns. */
export type Decoded<Name extends keyof typeof layouts> = {
  readonly [Field in keyof (typeof layouts)[Name]["fields"]]: (typeof layouts)[Name]["fields"][Field] extends readonly [
    number,
    infer Type extends FieldType,
  ]
    ? Got<Type>
    : never;
};

function get(view: DataView, at: number, type: FieldType): number | Uint8Array {
  switch (type) {
    case "u8":
      return view.getUint8(at);
    case "u16":
      return view.getUint16(at, true);
    case "u32":
      return view.getUint32(at, true);
    case "i32":
      return view.getInt32(at, true);
    case "u64":
      return Number(view.getBigUint64(at, true));
    case "bytes16":
      // A copy: the memory goes on changing.
      return new Uint8Array(view.buffer, view.byteOffset + at, 16).slice();
  }
}

/** The struct at this offset of memory that C wrote. */
export function decode<Name extends keyof typeof layouts>(name: Name, view: DataView, at = 0): Decoded<Name> {
  const layout: Layout = layouts[name];
  const fields = Object.entries(layout.fields).map(([field, [offset, type]]) => [
    field,
    get(view, at + offset, type),
  ]);
  return Object.fromEntries(fields) as Decoded<Name>;
}
