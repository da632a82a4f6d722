// Framings of market data: a packet header and messages whose lengths add up to the datagram. Only those that are told
// from other traffic by more than 30 bits, in every sample; the exchange's own name for the framing is the detail.
import { get16, get32, get64, holds, little16, little32, little64, textOf } from "./bytes.ts";
import { type FlowFacts, type Recognised, readEach, type Sample } from "./flow.ts";

/** What a packet says of its stream. */
interface Framed {
  /** The same in all packets of a stream: a session, a channel. */
  readonly stream: string;
  /** Messages that were looked at; a heartbeat has none. */
  readonly messages: number;
  readonly detail?: string | undefined;
}

interface Framing {
  readonly name: string;
  readonly read: (sample: Sample) => Framed | undefined;
  /** Where one packet alone says too little: how many it takes, and one of them with a message. */
  readonly packetsMin?: number;
}

/** Those with a magic first. */
const framings: readonly Framing[] = [
  { name: "B3 UMDF", read: readUmdf },
  { name: "CME MDP 3.0", read: readMdp },
  { name: "MoldUDP64", read: readMold },
  { name: "IEX-TP", read: readIex },
  { name: "NYSE XDP", read: readXdp },
  { name: "OPRA", read: readOpra },
  { name: "Cboe PITCH", read: readPitch, packetsMin: 2 },
];

export function marketData({ samples }: FlowFacts): Recognised | undefined {
  for (const { name, read, packetsMin = 1 } of framings) {
    const packets = readEach(samples, read);
    if (packets === undefined || packets.length < packetsMin) continue;
    const [first] = packets;
    if (packets.some(({ stream }) => stream !== first.stream)) continue;
    if (packetsMin > 1 && packets.every(({ messages }) => messages === 0)) continue;
    const detail = packets.map((packet) => packet.detail).find((text) => text !== undefined);
    return { kind: "market-data", detail: [name, ...(detail === undefined ? [] : [detail])].join(", ") };
  }
  return undefined;
}

/** One of a packet's messages, by where it begins: its length with everything that is before the next one. */
type Measure = (at: number) => number | undefined;

/**
 * Messages from `start` on, as far as they were captured; undefined when one is shorter than its header, when they end
 * before or behind the datagram, or when they are not as many as it counts. Each moves on, so this ends.
 */
function countMessages(
  { payload, bytes }: Sample,
  { start, headerBytes, count }: { start: number; headerBytes: number; count?: number },
  measure: Measure,
): number | undefined {
  let messages = 0;
  let at = start;
  for (; at < bytes && at + headerBytes <= payload.length; messages += 1) {
    const length = measure(at) ?? 0;
    if (length < headerBytes) return undefined;
    at += length;
  }
  if (at > bytes || (at < bytes && payload.length >= bytes)) return undefined;
  const isCounted = count === undefined || (at === bytes ? messages === count : messages < count);
  return isCounted ? messages : undefined;
}

/**
 * A session of ten letters and digits, a sequence below 2^48, and as many messages as it counts, which fill the
 * datagram. By chance: 2^-20 for the session, 2^-16 each for the sequence and the count.
 *
 *     | session, 10 | sequence, 8 | count, 2 | length, 2 | message | …
 *
 * Count 0 is a heartbeat, 0xffff the end of the session.
 */
function readMold(sample: Sample): Framed | undefined {
  const { payload, bytes } = sample;
  const session = textOf(payload.subarray(0, 10));
  if (payload.length < 20 || !/^ *[0-9A-Za-z]+ *$/.test(session) || get64(payload, 10) >= 2 ** 48)
    return undefined;
  const count = get16(payload, 18);
  const stream = `session ${session.trim()}`;
  if (count === 0 || count === 0xffff)
    return bytes === 20 ? { stream, messages: 0, detail: stream } : undefined;
  let isItch = true;
  const messages = countMessages(sample, { start: 20, headerBytes: 3, count }, (at) => {
    const length = get16(payload, at);
    isItch &&= itchLengths.get(payload[at + 2] ?? 0) === length;
    return length + 2;
  });
  if (!messages) return undefined;
  return { stream, messages, detail: isItch ? `${stream}, ITCH 5.0` : stream };
}

/** Nasdaq TotalView-ITCH 5.0: a message of each type has one length. */
const itchLengths: ReadonlyMap<number, number> = new Map(
  Object.entries({
    ...{ S: 12, R: 39, H: 25, Y: 20, L: 26, V: 35, W: 12, K: 28, J: 35, h: 21, A: 36, F: 40 },
    ...{ E: 31, C: 36, X: 23, D: 19, U: 35, P: 44, Q: 40, B: 19, I: 50, N: 20, O: 48 },
  }).map(([type, length]) => [type.charCodeAt(0), length]),
);

/** From 2005 to 2099: what a clock of a packet that is sent now may say. */
const secondsMin = 1_104_537_600;
const secondsMax = 4_102_444_800;

function isTime(seconds: number, nanoseconds = 0): boolean {
  return seconds >= secondsMin && seconds < secondsMax && nanoseconds < 1e9;
}

/**
 * A plausible time, schema 1 and a small version in every message, and messages that fill the datagram. By chance:
 * 2^-2.6 for the time, and for each message 2^-16 for the schema and 2^-18 for template and version; 2^-16 for lengths.
 * Little-endian:
 *
 *     | sequence, 4 | time in ns, 8 | size, 2 | block, 2 | template, 2 | schema, 2 | version, 2 | message | …
 */
function readMdp(sample: Sample): Framed | undefined {
  const { payload } = sample;
  if (payload.length < 22 || !isTime(little64(payload, 4) / 1e9)) return undefined;
  const messages = countMessages(sample, { start: 12, headerBytes: 10 }, (at) => {
    const size = little16(payload, at);
    const [template, version] = [little16(payload, at + 4), little16(payload, at + 8)];
    const isMdp = little16(payload, at + 6) === 1 && template > 0 && template < 256 && version < 64;
    return isMdp && little16(payload, at + 2) + 10 <= size ? size : undefined;
  });
  return messages ? { stream: "", messages } : undefined;
}

/**
 * A plausible time, the magic of SBE and schema 2 in every message, and messages that fill the datagram.
 * By chance: 2^-2.6 for the time, 2^-32 for each message, 2^-16 for lengths. Little-endian:
 *
 *     | channel, 1 | 0 | version, 2 | sequence, 4 | time in ns, 8 | length, 2 | 0xeb50 | block, template, schema, version | …
 */
function readUmdf(sample: Sample): Framed | undefined {
  const { payload } = sample;
  if (payload.length < 28 || !isTime(little64(payload, 8) / 1e9)) return undefined;
  const messages = countMessages(sample, { start: 16, headerBytes: 12 }, (at) =>
    little16(payload, at + 2) === 0xeb50 && little16(payload, at + 8) === 2
      ? little16(payload, at)
      : undefined,
  );
  const channel = `channel ${payload[0] ?? 0}`;
  return messages ? { stream: channel, messages, detail: channel } : undefined;
}

/**
 * Version 1, a protocol of 0x80xx, a plausible time, the datagram's length, and messages that fill it.
 * By chance: 2^-24 for version and protocol, 2^-2.6 for the time, 2^-16 for the length. Little-endian:
 *
 *     | 1 | 0 | protocol, 2 | channel, 4 | session, 4 | length, 2 | count, 2 | offset, 8 | sequence, 8 | time in ns, 8 | …
 */
function readIex(sample: Sample): Framed | undefined {
  const { payload, bytes } = sample;
  if (payload.length < 40 || !holds(payload, 0, "\x01\x00") || payload[3] !== 0x80) return undefined;
  if (little16(payload, 12) + 40 !== bytes || !isTime(little64(payload, 32) / 1e9)) return undefined;
  const header = { start: 40, headerBytes: 2, count: little16(payload, 14) };
  const messages = countMessages(sample, header, (at) => little16(payload, at) + 2);
  const channel = `channel ${little32(payload, 4)}`;
  return messages === undefined ? undefined : { stream: channel, messages, detail: channel };
}

/** Heartbeat, failover, original, sequence reset, retransmissions, refreshes: the delivery flags of XDP. */
const xdpFlags: ReadonlySet<number> = new Set([1, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21]);

/**
 * The datagram's length, a delivery flag, a plausible time, and as many messages as it counts, which fill it.
 * By chance: 2^-16 for the length, 2^-4.5 for the flag, 2^-2.6 for the time, 2^-8 for the count. Little-endian:
 *
 *     | length, 2 | flag, 1 | count, 1 | sequence, 4 | seconds, 4 | ns, 4 | size, 2 | type, 2 | message | …
 */
function readXdp(sample: Sample): Framed | undefined {
  const { payload, bytes } = sample;
  if (payload.length < 16 || little16(payload, 0) !== bytes || !xdpFlags.has(payload[2] ?? 0))
    return undefined;
  if (!isTime(little32(payload, 8), little32(payload, 12))) return undefined;
  const header = { start: 16, headerBytes: 4, count: payload[3] ?? 0 };
  const messages = countMessages(sample, header, (at) => little16(payload, at));
  return messages === undefined ? undefined : { stream: "", messages };
}

/**
 * The datagram's length, "O", a retransmission indicator, a plausible time. By chance: 2^-16, 2^-8, 2^-7, 2^-2.6.
 *
 *     | version | length, 2 | "O" | " " or "V" | session | sequence, 4 | count | seconds, 4 | ns, 4 | checksum, 2 | …
 */
function readOpra({ payload, bytes }: Sample): Framed | undefined {
  if (payload.length < 21 || get16(payload, 1) !== bytes || payload[3] !== 0x4f) return undefined;
  if (payload[4] !== 0x20 && payload[4] !== 0x56) return undefined;
  const isOpra = isTime(get32(payload, 11), get32(payload, 15));
  return isOpra ? { stream: "", messages: payload[10] ?? 0 } : undefined;
}

/**
 * The datagram's length, a unit, and as many messages as it counts, which fill it, in two packets of one unit.
 * By chance: 2^-16 for the length and 2^-8 for the count of each. Little-endian:
 *
 *     | length, 2 | count, 1 | unit, 1 | sequence, 4 | length, 1 | type, 1 | message | …
 */
function readPitch(sample: Sample): Framed | undefined {
  const { payload, bytes } = sample;
  const [, , count = 0, unit = 0] = payload;
  if (payload.length < 8 || little16(payload, 0) !== bytes || unit === 0) return undefined;
  const messages = countMessages(sample, { start: 8, headerBytes: 2, count }, (at) => {
    const [length = 0, type = 0] = payload.subarray(at, at + 2);
    return type >= 0x20 ? length : undefined;
  });
  return messages === undefined ? undefined : { stream: `unit ${unit}`, messages, detail: `unit ${unit}` };
}
