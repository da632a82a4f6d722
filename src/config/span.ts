// The flows of one endpoint as a line in the plane of groups and ports, so that thousands of them are compared as
// one. Used by duplicate.ts and cycle.ts, which ask a SpanIndex what overlaps. Pure arithmetic on numbers:
//
//   port                    ranges of groups and ports pair up: a diagonal        239.1.1.1-50 : 5001-5050
//    |  |   /  ----         one group, many ports: upright                        239.1.1.1    : 5001-5050
//    |  |  /                many groups, one port: level                          239.1.1.1-50 : 5001
//    +---------- group      every port: an upright band over all its groups       239.1.1.1-50
import { addressBytes, addressFamily } from "../net/address.ts";
import { type Endpoint, pairedSize } from "./pairing.ts";
import { portMax } from "./range.ts";

export interface Span {
  /** The upper 96 bits of the address: spans in different spaces never meet. */
  readonly space: string;
  /** The lower 32 bits of first and last group. */
  readonly from: number;
  readonly to: number;
  /** The ports at `from`; further on they move by `slope` with each group. */
  readonly portFrom: number;
  readonly portTo: number;
  readonly slope: 0 | 1;
}

const spaceSize = 2 ** 32;
const ipv4Space = addressBytes("0.0.0.0").subarray(0, 12).toHex();

/** Usually one span; two where an IPv6 range runs over the edge of its space. None when the ranges do not pair. */
export function spansOf(endpoint: Endpoint): Span[] {
  const { addresses, ports = { first: 1, size: portMax } } = endpoint;
  const size = pairedSize(endpoint);
  if (size === undefined || size > spaceSize) return [];
  const slope = endpoint.ports && ports.size > 1 && addresses.size > 1 ? 1 : 0;
  const from = lowBits(addresses.first);
  const portTo = slope === 1 ? ports.first : ports.first + ports.size - 1;
  const span: Span = {
    space: spaceOf(addresses.first),
    from,
    to: from + addresses.size - 1,
    portFrom: ports.first,
    portTo,
    slope,
  };
  if (span.to < spaceSize) return [span];
  const cut = spaceSize - from;
  const rest: Span = {
    space: spaceOf(addresses.last),
    from: 0,
    to: lowBits(addresses.last),
    portFrom: ports.first + slope * cut,
    portTo: portTo + slope * cut,
    slope,
  };
  return [{ ...span, to: spaceSize - 1 }, rest];
}

/** True when the two have at least one (group, port) in common. */
export function overlaps(a: Span, b: Span): boolean {
  const from = Math.max(a.from, b.from);
  const to = Math.min(a.to, b.to);
  if (a.space !== b.space || from > to) return false;
  if (a.slope === b.slope) return portsMeet(a, b, from);
  const [level, diagonal] = a.slope === 0 ? [a, b] : [b, a];
  // The diagonal has one port at each group: it meets the level band if it is inside it anywhere in [from, to].
  const first = diagonal.portFrom + from - diagonal.from;
  const last = first + to - from;
  return first <= level.portTo && last >= level.portFrom;
}

function portsMeet(a: Span, b: Span, group: number): boolean {
  const shiftA = a.slope * (group - a.from);
  const shiftB = b.slope * (group - b.from);
  return a.portFrom + shiftA <= b.portTo + shiftB && b.portFrom + shiftB <= a.portTo + shiftA;
}

function lowBits(address: string): number {
  if (isIpv4(address)) return address.split(".").reduce((value, byte) => value * 256 + Number(byte), 0);
  return new DataView(addressBytes(address).buffer).getUint32(12);
}
function spaceOf(address: string): string {
  return isIpv4(address) ? ipv4Space : addressBytes(address).subarray(0, 12).toHex();
}

/** A file of 32,768 rules has so many of them that they shall not be read as numbers of 128 bits. */
function isIpv4(address: string): boolean {
  return addressFamily(address) === 4;
}
