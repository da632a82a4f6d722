// Whether the checksums of a captured packet are right, so that a scan can say what a receiver would drop, and what a
// capture only shows because the sender's device had not computed them yet.
// Called by net/scan.ts; membership.ts takes the sum.
import { get16 } from "./bytes.ts";
import { protocols, readIpv4, readIpv6 } from "./network.ts";

/** partial: the rest was left to a device, and the capture was taken in front of it. */
export type Checksum = "right" | "wrong" | "absent" | "partial" | "unknown";

/**
 * Of a packet from its IPv4 or IPv6 header on, and of the UDP datagram in it.
 * @param bytes of the whole packet as it was sent, captured or not; unknown for all that was not captured whole, is no
 * UDP, is a fragment, or states lengths that do not fit.
 */
export function readChecksum(packet: Uint8Array, bytes: number): Checksum {
  const ip = (packet[0] ?? 0) >> 4 === 6 ? readIpv6(packet) : readIpv4(packet);
  if (ip === undefined || ip.protocol !== protocols.udp || ip.isFragment) return "unknown";
  const { body, bodyBytes } = ip;
  const udpBytes = get16(body, 4);
  const isWhole = packet.length >= bytes && body.length === bodyBytes;
  if (!isWhole || udpBytes < 8 || udpBytes > bodyBytes) return "unknown";
  const header = ip.family === 6 ? "right" : headerChecksum(ip.header);
  if (header === "wrong") return "wrong";
  const stated = get16(body, 6);
  if (stated === 0) return header === "partial" ? "partial" : "absent";
  const pseudo = sumOf(ip.source) + sumOf(ip.destination) + protocols.udp + udpBytes;
  if (fold(pseudo + sumOf(body.subarray(0, udpBytes))) === 0xffff) return header;
  return stated === fold(pseudo) ? "partial" : "wrong";
}

/** Left to the device it is 0, which no sender computes: RFC 1071 gives 0xffff for it. */
function headerChecksum(header: Uint8Array): "right" | "wrong" | "partial" {
  if (sumOf(header) === 0xffff) return "right";
  return get16(header, 10) === 0 ? "partial" : "wrong";
}

/** RFC 1071: 0xffff over bytes that hold their own checksum. */
export function sumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += get16(bytes, at);
  return fold(sum);
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}
