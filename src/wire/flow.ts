// What a decoder is given and what it answers: the first bytes of a few datagrams of one flow, and the kind of stream
// they are of. Decoders are pure; they read no byte that was not captured, never throw, and do work that is linear in
// the bytes they are given.

/** The first eight in the order of c/mcr.h, enum mcr_scan_kind. */
export const scanKinds = [
  "unknown",
  "mcr",
  "rtp",
  "rtcp",
  "mpeg-ts",
  "sap",
  "mdns",
  "ptp",
  "sacn",
  "art-net",
  "ssdp",
  "ws-discovery",
  "knx",
  "dante",
  "market-data",
] as const;
export type ScanKind = (typeof scanKinds)[number];

/** What was captured of one datagram: the first bytes of its payload, and how long that was. */
export interface Sample {
  readonly payload: Uint8Array;
  /** Of the whole payload. */
  readonly bytes: number;
}

export interface FlowFacts {
  readonly group: string;
  readonly port: number;
  readonly source: string;
  /** In order of arrival; two at least where the flow has them. */
  readonly samples: readonly Sample[];
}

export interface Recognised {
  readonly kind: ScanKind;
  /** Of RTP, as is `ssrc`. */
  readonly payloadType?: number | undefined;
  readonly ssrc?: number | undefined;
  /** Of MPEG-TS, also inside RTP; undefined where no sample holds their table. */
  readonly programs?: number | undefined;
  /** A short hint for people, printable: `universe 7, Console`. */
  readonly detail?: string | undefined;
}

/** Undefined: another decoder may know. */
export type Decoder = (flow: FlowFacts) => Recognised | undefined;

/** What `read` makes of each sample; undefined when one of them is something else, or there is none. */
export function readEach<T>(
  samples: readonly Sample[],
  read: (sample: Sample) => T | undefined,
): readonly [T, ...T[]] | undefined {
  const found: T[] = [];
  for (const sample of samples) {
    const one = read(sample);
    if (one === undefined) return undefined;
    found.push(one);
  }
  const [first, ...rest] = found;
  return first === undefined ? undefined : [first, ...rest];
}

/** What `read` makes of the first sample that it can read. */
export function readAny<T>(
  samples: readonly Sample[],
  read: (sample: Sample) => T | undefined,
): T | undefined {
  for (const sample of samples) {
    const one = read(sample);
    if (one !== undefined) return one;
  }
  return undefined;
}
