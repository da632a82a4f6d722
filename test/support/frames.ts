// Frames for records.ts, built field by field: UDP in IPv4 in Ethernet, whole, in fragments, or as one super-frame whose
// checksum is left to the device; and the payload that receive.c demands back, test/traffic/payload.h.

import { type Frame, noOffload, type Offload } from "./records.ts";

export interface Datagram {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort?: number;
  readonly port: number;
  readonly payload: Uint8Array;
  /** Identification; fragments of one datagram share it. */
  readonly id?: number;
  readonly ttl?: number;
  /** "Do not fragment", as most senders say. */
  readonly isAtomic?: boolean;
}

export interface Tag {
  readonly tpid: number;
  readonly id: number;
}
export const dot1q = 0x8100;
export const dot1ad = 0x88a8;

export interface Link {
  /** By default the one that belongs to the group. */
  readonly mac?: string;
  readonly tags?: readonly Tag[];
}

const ethernetBytes = 14;
const ipBytes = 20;
const udpBytes = 8;
/** What an MTU of 1500 leaves to one fragment. */
const fragmentBytes = 1480;
const senderMac = "02:00:00:00:00:01";

/** With whole checksums. */
export function frameOf(datagram: Datagram, link: Link = {}): Frame {
  return { bytes: ethernet(datagram, link, ipPacket(datagram, segmentOf(datagram))), offload: noOffload };
}

/** In order; all but the last hold `size` bytes. */
export function fragmentsOf(datagram: Datagram, link: Link = {}, size = fragmentBytes): readonly Frame[] {
  const segment = segmentOf(datagram);
  const offsets = Array.from({ length: Math.ceil(segment.length / size) }, (_, i) => i * size);
  return offsets.map((offset) => {
    const piece = segment.subarray(offset, offset + size);
    const packet = ipPacket(datagram, piece, { offset, isLast: offset + size >= segment.length });
    return { bytes: ethernet(datagram, link, packet), offload: noOffload };
  });
}

/** Datagrams of `size` bytes each, the last one of what is left; as UDP_SEGMENT makes them. */
export function superFrameOf(datagram: Datagram, size: number, link: Link = {}): Frame {
  return withOffload(datagram, link, { gsoType: 5, gsoSize: size });
}

/** The old offload type: one datagram that the device shall cut into fragments. No packet ring can describe it. */
export function oldTypeFrameOf(datagram: Datagram, link: Link = {}): Frame {
  return withOffload(datagram, link, { gsoType: 3, gsoSize: fragmentBytes });
}

/** Changes one byte of a copy of the frame. */
export function withByte(frame: Frame, at: number, change: (old: number) => number): Frame {
  const bytes = Uint8Array.from(frame.bytes);
  bytes[at] = change(bytes[at] ?? 0);
  return { ...frame, bytes };
}

/** What send.c writes into datagram `sequence` of `stream`. */
export function testPayload(stream: number, sequence: number, size: number): Uint8Array {
  const mask = (1n << 64n) - 1n;
  const mix = (value: bigint) => {
    let mixed = (value + 0x9e3779b97f4a7c15n) & mask;
    mixed = ((mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & mask;
    return mixed ^ (mixed >> 31n);
  };
  const magic = 0x4d435254;
  const pair = (high: number, low: number) => (BigInt(high) << 32n) | BigInt(low);
  const seed = mix(mix(mix(pair(magic, size)) ^ pair(stream, sequence)));
  const padded = new Uint8Array(Math.ceil(size / 8) * 8);
  const view = new DataView(padded.buffer);
  for (const [i, word] of [magic, size, stream, sequence].entries()) view.setUint32(i * 4, word, true);
  // sent_ns, at 16, stays 0.
  for (let at = 24; at < padded.length; at += 8)
    view.setBigUint64(at, (seed + BigInt((at - 24) / 8) * 0xd1342543de82ef95n) & mask, true);
  return padded.subarray(0, size);
}

function withOffload(
  datagram: Datagram,
  link: Link,
  { gsoType, gsoSize }: Pick<Offload, "gsoType" | "gsoSize">,
): Frame {
  const segment = segmentOf(datagram);
  // Left to the device: it finds the sum of the pseudo header here, and adds the rest.
  new DataView(segment.buffer).setUint16(6, fold(pseudoSum(datagram, segment.length)));
  const checksumStart = ethernetBytes + (link.tags ?? []).length * 4 + ipBytes;
  return {
    bytes: ethernet(datagram, link, ipPacket(datagram, segment)),
    offload: {
      ...{ flags: 1, gsoType, gsoSize, checksumStart, checksumOffset: 6 },
      headerBytes: checksumStart + udpBytes,
    },
  };
}

function ethernet({ destination }: Datagram, { mac, tags = [] }: Link, packet: Uint8Array): Uint8Array {
  const [, b = 0, c = 0, d = 0] = octetsOf(destination);
  const to = mac === undefined ? [0x01, 0x00, 0x5e, b & 0x7f, c, d] : macOctets(mac);
  const types = [...tags.flatMap(({ tpid, id }) => [tpid >> 8, tpid & 255, id >> 8, id & 255]), 0x08, 0x00];
  return Uint8Array.from([...to, ...macOctets(senderMac), ...types, ...packet]);
}

function ipPacket(
  { source, destination, id = 0, ttl = 8, isAtomic = false }: Datagram,
  content: Uint8Array,
  { offset, isLast } = { offset: 0, isLast: true },
): Uint8Array {
  const packet = new Uint8Array(ipBytes + content.length);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x4500);
  view.setUint16(2, packet.length);
  view.setUint16(4, id);
  view.setUint16(6, (isAtomic ? 0x4000 : 0) | (isLast ? 0 : 0x2000) | (offset / 8));
  view.setUint16(8, (ttl << 8) | 17);
  packet.set([...octetsOf(source), ...octetsOf(destination)], 12);
  view.setUint16(10, ~fold(sumOf(packet.subarray(0, ipBytes))) & 0xffff);
  packet.set(content, ipBytes);
  return packet;
}

/** UDP header and payload. */
function segmentOf(datagram: Datagram): Uint8Array {
  const { sourcePort = 40_000, port, payload } = datagram;
  const segment = new Uint8Array(udpBytes + payload.length);
  const view = new DataView(segment.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, port);
  view.setUint16(4, segment.length);
  segment.set(payload, udpBytes);
  const sum = ~fold(pseudoSum(datagram, segment.length) + sumOf(segment)) & 0xffff;
  // 0 would say that there is none: RFC 768.
  view.setUint16(6, sum === 0 ? 0xffff : sum);
  return segment;
}

function pseudoSum({ source, destination }: Datagram, segmentBytes: number): number {
  return sumOf(Uint8Array.from([...octetsOf(source), ...octetsOf(destination), 0, 17])) + segmentBytes;
}

/** RFC 1071, not folded yet. */
function sumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  return sum;
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}

function octetsOf(address: string): readonly number[] {
  return address.split(".").map(Number);
}

function macOctets(mac: string): readonly number[] {
  return mac.split(":").map((octet) => Number.parseInt(octet, 16));
}
