// Hints of what an RTP stream carries, from its announced encoding or from how its packets step. RTP does not say what
// it carries where the payload type is dynamic, so whatever is told from packets is called a hint.
import { get16, get32 } from "./bytes.ts";

export interface RtpPacket {
  readonly payloadType: number;
  readonly sequence: number;
  readonly timestamp: number;
  readonly ssrc: number;
  /** Behind the header, as much as was captured. */
  readonly content: Uint8Array;
  readonly contentBytes: number;
}

/** Encodings of SMPTE ST 2110 and AES67 as SDP names them with their rate. */
const announced: ReadonlyMap<string, string> = new Map([
  ["raw/90000", "ST 2110-20 video"],
  ["jxsv/90000", "ST 2110-22 JPEG XS video"],
  ["L16/48000", "AES67 or ST 2110-30 audio"],
  ["L24/48000", "AES67 or ST 2110-30 audio"],
  ["L24/96000", "AES67 or ST 2110-30 audio"],
  ["AM824/48000", "ST 2110-31 audio"],
  ["smpte291/90000", "ST 2110-40 ancillary data"],
  ["SMPTE2022-6/27000000", "ST 2022-6 SDI"],
]);

/** Samples in a packet at 48 kHz, and the packet time that this is: AES67 section 7.2. */
const packetTimes: ReadonlyMap<number, string> = new Map([
  [6, "125 µs"],
  [12, "250 µs"],
  [16, "333 µs"],
  [48, "1 ms"],
  [192, "4 ms"],
]);

/** By the packets alone. */
export function mediaHint(packets: readonly RtpPacket[]): string | undefined {
  if (packets.every(isSdi)) return "hint: ST 2022-6 SDI";
  if (packets.every(isFec)) return "hint: ST 2022-1 FEC";
  return audioHint(packets);
}

/** Of an encoding as an announcement names it, `L24/48000/2`, which tells more than packets do. */
export function announcedHint(encoding: string): string {
  const hint = announced.get(encoding.split("/", 2).join("/"));
  return hint === undefined ? encoding : `${encoding}, hint: ${hint}`;
}

/** Payload type 98, and 1,376 bytes of media behind a payload header as long as its own flags say: ST 2022-6. */
function isSdi({ payloadType, content, contentBytes }: RtpPacket): boolean {
  const [first = 0] = content;
  if (payloadType !== 98 || content.length < 4 || first >> 4 !== 0) return false;
  const hasSource = (first & 0x08) !== 0;
  const hasTime = (get16(content, 2) & 0x01e0) !== 0;
  return contentBytes === 1376 + 4 + (hasSource ? 4 : 0) + (hasTime ? 4 : 0);
}

/**
 * Payload type 96 and the FEC header of ST 2022-1, section 7, of which 32 bits are fixed:
 *
 *     | SN base | length | 1, PT | mask, 0 | TS | 0 D 000 000 | offset | NA | 0 |
 */
function isFec({ payloadType, content }: RtpPacket): boolean {
  if (payloadType !== 96 || content.length < 16) return false;
  const isHeader = (get32(content, 4) & 0x80ffffff) >>> 0 === 0x80000000;
  return isHeader && ((content[12] ?? 0) & 0xbf) === 0 && (content[13] ?? 0) > 0 && (content[14] ?? 0) > 0;
}

/**
 * A dynamic payload type, one size, and between neighbours a clock that counts as many samples for each packet as
 * AES67 allows. By chance: 2^-32 for each pair of neighbours.
 */
function audioHint(packets: readonly RtpPacket[]): string | undefined {
  const [first] = packets;
  if (first === undefined || first.payloadType < 96) return undefined;
  const samples = packets.flatMap((packet, i) => {
    const before = packets[i - 1];
    if (before === undefined) return [];
    const steps = (packet.sequence - before.sequence) & 0xffff;
    return [((packet.timestamp - before.timestamp) >>> 0) / steps];
  });
  const [count = 0] = samples;
  const time = packetTimes.get(count);
  const isSteady =
    samples.every((other) => other === count) &&
    packets.every(({ contentBytes, ssrc }) => contentBytes === first.contentBytes && ssrc === first.ssrc);
  const frameBytes = first.contentBytes / count;
  if (time === undefined || !isSteady || frameBytes < 2 || frameBytes > 3 * channelsMax) return undefined;
  const forms = [
    ...(frameBytes % 3 === 0 ? [`L24 × ${frameBytes / 3}`] : []),
    ...(frameBytes % 2 === 0 ? [`L16 × ${frameBytes / 2}`] : []),
  ];
  return forms.length === 0 ? undefined : `hint: AES67 audio, ${forms.join(" or ")}, ${time}`;
}

/** ST 2110-30 level C has 64. */
const channelsMax = 64;
