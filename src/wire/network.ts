// IPv4 and IPv6 headers in front of what the decoders read: where the body lies, how long it is, what it is of.
// Called by membership.ts and checksum.ts. The body never reaches beyond what was captured, nor beyond its packet.
import { get16 } from "./bytes.ts";

export interface Packet {
  readonly family: 4 | 6;
  readonly header: Uint8Array;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** Of the body; 0xff where it begins within another packet's datagram. */
  readonly protocol: number;
  readonly body: Uint8Array;
  /** Of the body, as the header says. */
  readonly bodyBytes: number;
  readonly isFragment: boolean;
}

export const protocols = { igmp: 2, udp: 17, icmpv6: 58, none: 0xff } as const;

/** @param packet from the IPv4 header on; its checksum is the caller's business. */
export function readIpv4(packet: Uint8Array): Packet | undefined {
  const headerBytes = ((packet[0] ?? 0) & 0x0f) * 4;
  const packetBytes = get16(packet, 2);
  if ((packet[0] ?? 0) >> 4 !== 4 || headerBytes < 20 || headerBytes > packet.length) return undefined;
  if (packetBytes < headerBytes) return undefined;
  const fragment = get16(packet, 6);
  return {
    family: 4,
    header: packet.subarray(0, headerBytes),
    source: packet.subarray(12, 16),
    destination: packet.subarray(16, 20),
    protocol: (fragment & 0x1fff) === 0 ? (packet[9] ?? 0) : protocols.none,
    // Padding of a short frame is no part of it.
    body: packet.subarray(headerBytes, packetBytes),
    bodyBytes: packetBytes - headerBytes,
    isFragment: (fragment & 0x3fff) !== 0,
  };
}

const extensionsMax = 8;
const extensions = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;
const extensionNumbers: ReadonlySet<number> = new Set(Object.values(extensions));

/** @param packet from the IPv6 header on; at most eight extension headers are walked. */
export function readIpv6(packet: Uint8Array): Packet | undefined {
  if (packet.length < 40 || (packet[0] ?? 0) >> 4 !== 6) return undefined;
  const end = 40 + get16(packet, 4);
  let next = packet[6] ?? 0;
  let at = 40;
  let isFragment = false;
  for (let count = 0; extensionNumbers.has(next); count += 1) {
    const isFragmentHeader = next === extensions.fragment;
    const length = isFragmentHeader ? 8 : ((packet[at + 1] ?? 0) + 1) * 8;
    if (count === extensionsMax || at + length > Math.min(packet.length, end)) return undefined;
    isFragment ||= isFragmentHeader;
    const isLater = isFragmentHeader && (get16(packet, at + 2) & 0xfff8) !== 0;
    next = isLater ? protocols.none : (packet[at] ?? 0);
    at += length;
  }
  return {
    family: 6,
    header: packet.subarray(0, 40),
    source: packet.subarray(8, 24),
    destination: packet.subarray(24, 40),
    protocol: next,
    body: packet.subarray(at, end),
    bodyBytes: end - at,
    isFragment,
  };
}
