// MPEG transport streams, bare or inside RTP (ISO/IEC 13818-1): packets of 188 bytes that begin with 0x47, and the
// programs that a program association table counts.
import { get16 } from "./bytes.ts";
import { type FlowFacts, type Recognised, readEach } from "./flow.ts";

const packetBytes = 188;
const syncByte = 0x47;

/**
 * Whole packets only, and a sync byte wherever one was captured, in every sample.
 * By chance: 2^-8 for each sync byte, and one length in 188.
 */
export function mpegTs({ samples }: FlowFacts): Recognised | undefined {
  const payloads = readEach(samples, ({ payload, bytes }) => (isTs(payload, bytes) ? payload : undefined));
  return payloads && { kind: "mpeg-ts", programs: programsOf(payloads) };
}

/** @param length of the whole of it; `bytes` may be its beginning. */
export function isTs(bytes: Uint8Array, length: number): boolean {
  if (length <= 0 || length % packetBytes !== 0 || bytes.length === 0) return false;
  for (let at = 0; at < bytes.length; at += packetBytes) if (bytes[at] !== syncByte) return false;
  return true;
}

/** Of the first table that counts any. */
export function programsOf(payloads: readonly Uint8Array[]): number | undefined {
  for (const payload of payloads)
    for (let at = 0; at + packetBytes <= payload.length; at += packetBytes) {
      const programs = countPrograms(payload.subarray(at, at + packetBytes));
      if (programs > 0) return programs;
    }
  return undefined;
}

/**
 * Programs in a packet that begins a program association table, section 2.4.4.3; 0 when it is none.
 * Program 0 is the network's, and none.
 *
 *     0x47 | start, PID 0 | adaptation? | pointer | table 0 | length | 5 bytes | program, PID … | CRC
 */
function countPrograms(packet: Uint8Array): number {
  const adaptation = ((packet[3] ?? 0) >> 4) & 3;
  if ((get16(packet, 1) & 0x5fff) !== 0x4000 || (adaptation & 1) === 0) return 0;
  const pointer = adaptation === 3 ? 5 + (packet[4] ?? 0) : 4;
  if (pointer >= packetBytes) return 0;
  const table = pointer + 1 + (packet[pointer] ?? 0);
  if (table + 8 > packetBytes || packet[table] !== 0) return 0;
  // The length counts from behind itself; the last four bytes are the CRC.
  const end = Math.min(table + 3 + (get16(packet, table + 1) & 0xfff) - 4, packetBytes);
  let programs = 0;
  for (let at = table + 8; at + 4 <= end; at += 4) if (get16(packet, at) !== 0) programs += 1;
  return programs;
}
