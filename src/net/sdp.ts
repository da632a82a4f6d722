// Announced sessions: SAP datagrams (RFC 2974) and the session descriptions in them (SDP, RFC 8866), as far as names
// and streams go. Everything is what somebody on the network wrote: lengths first, text made printable, sizes bounded.
import { type Address, isMulticast, offsetAddress, parseAddress } from "./address.ts";

export interface Session {
  readonly name: string;
  readonly streams: readonly AnnouncedStream[];
}

export interface AnnouncedStream {
  readonly group: Address;
  readonly port: number;
  /** video, audio, application … */
  readonly media: string;
  /** Of its first payload type: `L24/48000/2`. */
  readonly encoding?: string | undefined;
}

/** Text longer than this is no name. */
const nameMax = 48;
const streamsMax = 64;

/** Undefined for what is no announcement, is one that was withdrawn, or cannot be read (encrypted, compressed). */
export function parseAnnouncement(datagram: Uint8Array): Session | undefined {
  const [flags = 0, authenticationWords = 0] = datagram;
  const isVersion1 = flags >> 5 === 1;
  if (!isVersion1 || (flags & (deletion | encrypted | compressed)) !== 0) return undefined;
  const start = 4 + ((flags & ipv6Origin) === 0 ? 4 : 16) + authenticationWords * 4;
  if (start >= datagram.length) return undefined;
  const text = new TextDecoder().decode(datagram.subarray(start));
  // A payload type may come first, ended by a zero byte; without one it is SDP.
  const end = text.startsWith("v=0") ? 0 : text.indexOf("\0") + 1;
  return text.startsWith("v=0", end) ? parseSession(text.slice(end)) : undefined;
}

const ipv6Origin = 0x10;
const deletion = 0x04;
const encrypted = 0x02;
const compressed = 0x01;

export function parseSession(text: string): Session | undefined {
  let name = "";
  let media: Media | undefined;
  let common: readonly Address[] = [];
  const found: (Media & { groups: readonly Address[]; encoding?: string | undefined })[] = [];
  for (const line of text.split(/\r?\n|\r|\0/)) {
    const value = line.slice(2);
    if (line.startsWith("s=")) name ||= printableName(value);
    else if (line.startsWith("m=")) {
      media = readMedia(value);
      if (media && found.length < streamsMax) found.push({ ...media, groups: [] });
    } else if (line.startsWith("c=")) {
      const groups = readConnection(value);
      const last = found.at(-1);
      if (media === undefined) common = groups;
      else if (last) last.groups = groups;
    } else if (line.startsWith("a=rtpmap:")) {
      const last = found.at(-1);
      if (media && last) last.encoding ??= readEncoding(value, last.payloadType);
    }
  }
  const streams = found.flatMap(({ kind, port, groups, encoding }) =>
    (groups.length > 0 ? groups : common).map((group) => ({ group, port, media: kind, encoding })),
  );
  return name === "" && streams.length === 0 ? undefined : { name, streams: streams.slice(0, streamsMax) };
}

interface Media {
  readonly kind: string;
  readonly port: number;
  /** The first of those it lists, as text. */
  readonly payloadType: string;
}

/** `video 5004 RTP/AVP 33`, `audio 5004/2 RTP/AVP 96 97`: of several port pairs the first. */
function readMedia(value: string): Media | undefined {
  const [, kind = "", portText = "", payloadType = ""] =
    /^([\w-]{1,16}) (\d{1,5})(?:\/\d+)? (?:\S+ (\d{1,3})\b)?/.exec(`${value} `) ?? [];
  const port = Number(portText);
  return kind !== "" && port >= 1 && port <= 65_535 ? { kind, port, payloadType } : undefined;
}

/** `rtpmap:97 L24/48000/2`; undefined for another payload type. */
function readEncoding(value: string, payloadType: string): string | undefined {
  const [, type, encoding] = /^rtpmap:(\d{1,3}) ([\w.-]{1,32}\/\d{1,9}(?:\/\d{1,3})?)\s*$/.exec(value) ?? [];
  return type === payloadType ? encoding : undefined;
}

/** `IN IP4 239.1.1.1/32`, with `/3` behind the TTL for three groups in a row; IPv6 has no TTL. */
function readConnection(value: string): readonly Address[] {
  const [, family, text = "", first, second] =
    /^IN IP([46]) ([^\s/]{1,45})(?:\/(\d{1,3}))?(?:\/(\d{1,3}))?\s*$/.exec(value) ?? [];
  const address = parseAddress(text);
  if (address === undefined || !isMulticast(address)) return [];
  const count = Math.min(streamsMax, Math.max(1, Number((family === "4" ? second : first) ?? 1)));
  const groups: Address[] = [address];
  while (groups.length < count) {
    const last = groups.at(-1) ?? address;
    if (last === "239.255.255.255" || last.endsWith("ffff")) break;
    groups.push(offsetAddress(last, 1));
  }
  return groups;
}

export function printableName(text: string): string {
  const clean = text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ").trim();
  return Array.from(clean.slice(0, nameMax * 2))
    .slice(0, nameMax)
    .join("");
}
