// RTP and RTCP (RFC 3550), and hints of what RTP carries. The header:
//
//   0          1      2          4           8      12
//   | V P X CC | M PT | sequence | timestamp | SSRC | CSRC, 4 * CC | extension | payload …
import { get16, get32 } from "./bytes.ts";
import { type FlowFacts, type Recognised, readEach, type Sample } from "./flow.ts";
import { mediaHint, type RtpPacket } from "./media.ts";
import { isTs, programsOf } from "./mpeg-ts.ts";

const headerBytes = 12;
/** Two packets of one SSRC, so near each other, are of one stream: MAX_DROPOUT of appendix A.1. */
const distanceMax = 3000;

/**
 * Two packets of one SSRC, the later one a little ahead.
 * By chance: 2^-4 for both versions, 2^-32 for the SSRC, 2^-4.4 for the distance; 2^-40 for each pair of neighbours.
 */
export function rtp({ samples }: FlowFacts): Recognised | undefined {
  const packets = samples.map(readRtp).filter((packet): packet is RtpPacket => packet !== undefined);
  const last = packets.at(-1);
  if (last === undefined || !packets.some((packet, i) => isNext(packets[i - 1], packet))) return undefined;
  const streams = packets.filter(({ content, contentBytes }) => isTs(content, contentBytes));
  return {
    kind: "rtp",
    payloadType: last.payloadType,
    ssrc: last.ssrc,
    programs: programsOf(streams.map(({ content }) => content)),
    detail: mediaHint(packets),
  };
}

/**
 * A sender report to transport feedback, and a length that fits the datagram's, section 6.4, in every sample.
 * By chance: 2^-7 for version and type, and for the length a quarter of the datagram's in 65,536; 2^-15 at 1,500 bytes.
 */
export function rtcp({ samples }: FlowFacts): Recognised | undefined {
  return readEach(samples, (sample) => isRtcp(sample) || undefined) && { kind: "rtcp" };
}

function readRtp(sample: Sample): RtpPacket | undefined {
  const { payload, bytes } = sample;
  const first = payload[0] ?? 0;
  if (payload.length < headerBytes || first >> 6 !== 2 || isRtcp(sample)) return undefined;
  let start = headerBytes + (first & 0x0f) * 4;
  if ((first & 0x10) !== 0) start += 4 + get16(payload, start + 2) * 4;
  if (start > payload.length) return undefined;
  return {
    payloadType: (payload[1] ?? 0) & 0x7f,
    sequence: get16(payload, 2),
    timestamp: get32(payload, 4),
    ssrc: get32(payload, 8),
    content: payload.subarray(start),
    contentBytes: bytes - start,
  };
}

/** RTP may share its port with RTCP: RFC 5761. */
function isRtcp({ payload, bytes }: Sample): boolean {
  const [first = 0, type = 0] = payload;
  if (payload.length < 8 || first >> 6 !== 2 || type < 200 || type > 207) return false;
  return (get16(payload, 2) + 1) * 4 <= bytes;
}

function isNext(before: RtpPacket | undefined, packet: RtpPacket): boolean {
  if (before?.ssrc !== packet.ssrc) return false;
  const steps = (packet.sequence - before.sequence) & 0xffff;
  return steps > 0 && steps <= distanceMax;
}
