// Who wants which groups, and who asks: IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810).
// Called by net/scan.ts with control messages as they were captured.
import { type Address, addressOf } from "../net/address.ts";
import { get16 } from "./bytes.ts";
import { sumOf } from "./checksum.ts";
import { type Packet, protocols, readIpv4, readIpv6 } from "./network.ts";

export interface Membership {
  readonly kind: "query" | "report" | "leave";
  /** Of a general query 0.0.0.0 or ::. */
  readonly group: Address;
  /** Of IGMP 1 to 3, of MLD 1 or 2. */
  readonly version: 1 | 2 | 3;
  /** Where the message names any: 64 at most, of those that were captured. */
  readonly sources?: readonly Address[] | undefined;
}

const sourcesMax = 64;

/**
 * What a packet says, from its IPv4 header on; nothing where it is no IGMP, or IGMP of another kind. Undefined where it
 * is malformed: a header or a checksum that is wrong, a length that no version has.
 */
export function readIgmp(packet: Uint8Array): readonly Membership[] | undefined {
  const ip = readIpv4(packet);
  if (ip === undefined || ((packet[16] ?? 0) & 0xf0) !== 0xe0 || sumOf(ip.header) !== 0xffff)
    return undefined;
  if (ip.protocol !== protocols.igmp) return [];
  const { body } = ip;
  const isWhole = body.length === ip.bodyBytes;
  if (body.length < 8 || (isWhole && !ip.isFragment && sumOf(body) !== 0xffff)) return undefined;
  const group = addressAt(body, 4, 4);
  switch (body[0]) {
    case 0x11:
      return readIgmpQuery(ip, group);
    case 0x12:
      return [{ kind: "report", group, version: 1 }];
    case 0x16:
      return [{ kind: "report", group, version: 2 }];
    case 0x17:
      return [{ kind: "leave", group, version: 2 }];
    case 0x22:
      return readRecords(body, 4, 3);
    default:
      return [];
  }
}

/** The same from the IPv6 header on. ICMPv6 carries more than MLD: neighbours and routers say nothing here. */
export function readMld(packet: Uint8Array): readonly Membership[] | undefined {
  const ip = readIpv6(packet);
  if (ip === undefined || packet[24] !== 0xff) return undefined;
  const { body, bodyBytes } = ip;
  const type = body[0];
  if (ip.protocol !== protocols.icmpv6 || body.length < 8) return [];
  if (type === 143) return readRecords(body, 16, 2);
  if (body.length < 24) return [];
  const group = addressAt(body, 8, 16);
  switch (type) {
    case 130: {
      const version = bodyBytes >= 28 ? 2 : 1;
      const sources = version === 2 ? readSources(body, 28, get16(body, 26), 16) : undefined;
      return [{ kind: "query", group, version, sources }];
    }
    case 131:
      return [{ kind: "report", group, version: 1 }];
    case 132:
      return [{ kind: "leave", group, version: 1 }];
    default:
      return [];
  }
}

/**
 * The version by length and code: RFC 3376 section 7.1.
 *
 *     0      1          2          4       8           10        12
 *     | 0x11 | max code | checksum | group | flags, QQIC | n     | n sources |
 *     |<- all of a query of version 1 or 2 ->|<- version 3 only ----------->|
 */
function readIgmpQuery(
  { body, bodyBytes, isFragment }: Packet,
  group: Address,
): readonly Membership[] | undefined {
  if (bodyBytes === 8 && !isFragment) return [{ kind: "query", group, version: body[1] ? 2 : 1 }];
  const count = get16(body, 10);
  if (body.length < 12 || (!isFragment && bodyBytes < 12 + count * 4)) return undefined;
  return [{ kind: "query", group, version: 3, sources: readSources(body, 12, count, 4) }];
}

/**
 * Group records of IGMPv3 and MLDv2, as far as they were captured; a group wanted from no source is left.
 *
 *     0      4       8
 *     | type | count | type, aux words, n | group | n sources | aux | type …
 */
function readRecords(body: Uint8Array, addressBytes: 4 | 16, version: 2 | 3): readonly Membership[] {
  const found: Membership[] = [];
  let at = 8;
  for (let left = get16(body, 6); left > 0 && at + 4 + addressBytes <= body.length; left -= 1) {
    const count = get16(body, at + 2);
    found.push({
      kind: isLeft(body[at] ?? 0, count) ? "leave" : "report",
      group: addressAt(body, at + 4, addressBytes),
      version,
      sources: readSources(body, at + 4 + addressBytes, count, addressBytes),
    });
    at += 4 + addressBytes * (1 + count) + (body[at + 1] ?? 0) * 4;
  }
  return found;
}

/** BLOCK_OLD_SOURCES; MODE_IS_INCLUDE and CHANGE_TO_INCLUDE_MODE of nobody. */
function isLeft(type: number, sources: number): boolean {
  return type === 6 || ((type === 1 || type === 3) && sources === 0);
}

function readSources(
  bytes: Uint8Array,
  start: number,
  count: number,
  addressBytes: 4 | 16,
): readonly Address[] | undefined {
  const captured = Math.floor(Math.max(0, bytes.length - start) / addressBytes);
  const length = Math.min(count, captured, sourcesMax);
  if (length === 0) return undefined;
  return Array.from({ length }, (_, i) => addressAt(bytes, start + i * addressBytes, addressBytes));
}

/** As `addressOf`, and IPv4 without the detour; the caller has seen that it was captured. */
function addressAt(bytes: Uint8Array, at: number, addressBytes: 4 | 16): Address {
  const address = bytes.subarray(at, at + addressBytes);
  return addressBytes === 4 ? address.join(".") : addressOf(address);
}
