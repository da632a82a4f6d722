// Bytes of Ethernet, IPv4 and UDP: built for the generator, read for the model and for what arrived. RFC 791, 768, 1071.
// Says what is written in a packet, never what a relay should think of it.

import { type Frame, noOffload, type Offload } from "../support/records.ts";

export const etherType = { ipv4: 0x0800, vlan: 0x8100, serviceVlan: 0x88a8 } as const;
export const protocol = { tcp: 6, udp: 17 } as const;
export const gso = { none: 0, oldUdp: 3, udp: 5 } as const;
/** NEEDS_CSUM: the device is to write the checksum. */
export const needsChecksum = 1;

export const ethernetBytes = 14;
export const ipv4Bytes = 20;
export const udpBytes = 8;
/** The largest payload of UDP in IPv4 without options. */
export const payloadBytesMax = 65_507;

export interface Datagram {
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly port: number;
  readonly ttl: number;
  readonly tos: number;
  readonly identification: number;
  readonly payload: Uint8Array;
  /** Of IPv4, padded to a multiple of 4. */
  readonly options?: Uint8Array;
  readonly dontFragment?: boolean;
  readonly checksum: "full" | "zero" | "bad" | "partial";
}

/** A piece of an IPv4 packet's payload; the whole of it has offset 0 and no more. */
export interface Piece {
  readonly offset: number;
  readonly hasMore: boolean;
  readonly bytes: Uint8Array;
}

export interface Tag {
  readonly type: number;
  /** Priority and id. */
  readonly control: number;
}

export function addressNumber(text: string): number {
  return text.split(".").reduce((number, part) => number * 256 + Number(part), 0);
}

export function addressText(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 0xff).join(".");
}

export function macBytes(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

/** RFC 1112 section 6.4. */
export function groupMac(group: number): Uint8Array {
  return Uint8Array.of(0x01, 0x00, 0x5e, (group >>> 16) & 0x7f, (group >>> 8) & 0xff, group & 0xff);
}

/** The ones' complement sum of 16-bit words, folded, not inverted. */
export function sumWords(bytes: Uint8Array, start = 0, end = bytes.length, initial = 0): number {
  let sum = initial;
  let at = start;
  for (; at + 1 < end; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  if (at < end) sum += (bytes[at] ?? 0) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

export function pseudoSum(source: number, destination: number, length: number): number {
  const words = [source >>> 16, source & 0xffff, destination >>> 16, destination & 0xffff];
  let sum = words.reduce((total, word) => total + word, protocol.udp + length);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** UDP header and payload, its checksum as asked. */
export function udpOf(datagram: Datagram): Uint8Array {
  const { payload, source, destination } = datagram;
  const bytes = new Uint8Array(udpBytes + payload.length);
  write16(bytes, 0, datagram.sourcePort);
  write16(bytes, 2, datagram.port);
  write16(bytes, 4, bytes.length);
  bytes.set(payload, udpBytes);
  const pseudo = pseudoSum(source, destination, bytes.length);
  if (datagram.checksum === "partial") write16(bytes, 6, pseudo);
  else if (datagram.checksum !== "zero") {
    // 0 would say that there is none.
    const whole = ~sumWords(bytes, 0, bytes.length, pseudo) & 0xffff || 0xffff;
    write16(bytes, 6, datagram.checksum === "full" ? whole : spoil(whole));
  }
  return bytes;
}

/** Neither the right one, nor one that means the same, nor none. */
function spoil(checksum: number): number {
  return checksum === 0x1234 ? 0x4321 : checksum ^ 0x1234;
}

/** The IPv4 packet of one piece, header checksum included. */
export function packetOf(
  datagram: Datagram,
  piece: Piece,
  protocolNumber: number = protocol.udp,
): Uint8Array {
  const options = datagram.options ?? new Uint8Array(0);
  const headerBytes = ipv4Bytes + options.length;
  const bytes = new Uint8Array(headerBytes + piece.bytes.length);
  bytes[0] = 0x40 | (headerBytes / 4);
  bytes[1] = datagram.tos;
  write16(bytes, 2, bytes.length);
  write16(bytes, 4, datagram.identification);
  const flags = (datagram.dontFragment === true ? 0x4000 : 0) | (piece.hasMore ? 0x2000 : 0);
  write16(bytes, 6, flags | (piece.offset / 8));
  bytes[8] = datagram.ttl;
  bytes[9] = protocolNumber;
  write32(bytes, 12, datagram.source);
  write32(bytes, 16, datagram.destination);
  bytes.set(options, ipv4Bytes);
  bytes.set(piece.bytes, headerBytes);
  writeHeaderChecksum(bytes);
  return bytes;
}

export function writeHeaderChecksum(packet: Uint8Array): void {
  write16(packet, 10, 0);
  write16(packet, 10, ~sumWords(packet, 0, ((packet[0] ?? 0) & 15) * 4) & 0xffff);
}

export function frameOf(
  destination: Uint8Array,
  source: Uint8Array,
  tags: readonly Tag[],
  packet: Uint8Array,
  offload: Offload = noOffload,
  paddingBytes = 0,
): Frame {
  const header = ethernetBytes + 4 * tags.length;
  const bytes = new Uint8Array(header + packet.length + paddingBytes);
  bytes.set(destination);
  bytes.set(source, 6);
  tags.forEach(({ type, control }, i) => {
    write16(bytes, 12 + 4 * i, type);
    write16(bytes, 14 + 4 * i, control);
  });
  write16(bytes, header - 2, etherType.ipv4);
  bytes.set(packet, header);
  // A mark, so that padding that leaks into a payload is seen.
  bytes.fill(0xee, header + packet.length);
  return { bytes, offload };
}

/** The device writes the checksum of the datagram, and cuts it where gsoSize is not 0. */
export function partialOffload(headersBytes: number, gsoType: number, gsoSize: number): Offload {
  return {
    flags: needsChecksum,
    gsoType: gsoSize === 0 ? gso.none : gsoType,
    headerBytes: headersBytes + udpBytes,
    gsoSize,
    checksumStart: headersBytes,
    checksumOffset: 6,
  };
}

export function read16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

export function read32(bytes: Uint8Array, at: number): number {
  return read16(bytes, at) * 0x10000 + read16(bytes, at + 2);
}

export function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function write32(bytes: Uint8Array, at: number, value: number): void {
  write16(bytes, at, value >>> 16);
  write16(bytes, at + 2, value & 0xffff);
}

export function hasBytes(bytes: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(bytes, other) === 0;
}
