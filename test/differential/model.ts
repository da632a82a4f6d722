// What mcr does to each frame, in plain words of TypeScript: the README and the RFCs once more, one frame at a time, no
// rings, no batches, no speed. Written without a look at the shim, so that one mistake is not made twice. Pure: frames
// go in; expected datagrams of every egress and every counter come out.
//
// Where the README leaves something open, this is what was decided:
//
//   question                                             | here
//   -----------------------------------------------------|---------------------------------------------------------
//   what never reaches mcr, and is counted nowhere       | no IPv4 behind the outermost tag; fewer than 34 bytes of
//                                                        | Ethernet and IPv4; not UDP; a group that no rule names
//   order of judgement                                   | other_host, tagged, malformed IPv4, its checksum, fragment,
//                                                        | malformed UDP, UDP checksum, no_match
//   a wrong IPv4 header checksum                         | bad_checksum
//   lengths that say more than has come                  | malformed; `truncated` is only what mcr itself cut
//   bytes behind UDP's length, inside IPv4's             | not part of the payload
//   datagrams of a super-frame that lies about lengths   | by what lies behind its headers
//   TTL 0 on arrival                                     | relayed with a TTL of its own, `expired` with keep, decrement
//   a reassembled datagram's TTL, DSCP                   | of the fragment with offset 0
//   what remains of a datagram that was refused          | begins a new one
//   a fragment with a contradicting end                  | is malformed alone; the datagram goes on
//   Identification of a plain egress                     | counts on by itself in each worker
//   a kept packet beyond the MTU                         | `error`
//   a datagram beside one beyond the MTU                 | either path, as long as the order is kept
//   port 0 where the egress has no port of its own       | relayed on frames; a socket refuses it: `error`

import type { Frame } from "../support/records.ts";
import {
  ethernetBytes,
  etherType,
  groupMac,
  gso,
  hasBytes,
  ipv4Bytes,
  needsChecksum,
  protocol,
  pseudoSum,
  read16,
  read32,
  sumWords,
  udpBytes,
} from "./packet.ts";
import { type EgressRule, egressInterface, isGroup, type RelayRule } from "./rules.ts";

export type Reason =
  | "ring"
  | "no_match"
  | "tagged"
  | "malformed"
  | "truncated"
  | "bad_checksum"
  | "fragment_late"
  | "fragment_overlap"
  | "fragment_full"
  | "fragment_malformed"
  | "other_host"
  | "looped";

/** One datagram at the far end. */
export interface Expected {
  /** Of the frame that made it due, counted from 0; for a reassembled one the last fragment. */
  readonly frame: number;
  /** Datagrams of one flow that are not reassembled come in this order. */
  readonly flow: string | undefined;
  readonly egress: Destination;
  readonly source: number;
  /** Undefined: the stable port of the egress. */
  readonly sourcePort: number | undefined;
  readonly destination: number;
  readonly port: number;
  readonly ttl: number;
  readonly dscp: number;
  readonly payload: Uint8Array;
  /** That it takes when nothing beyond the MTU is near it. */
  readonly path: "frame" | "socket";
}

/** An egress of a stream. */
export interface Destination {
  readonly rule: number;
  readonly index: number;
  readonly spec: EgressRule;
}

export interface EgressCount {
  sent: number;
  sentBytes: number;
  error: number;
  expired: number;
}

interface RuleCount {
  packets: number;
  bytes: number;
  readonly egress: readonly EgressCount[];
}

/** A UDP datagram that is whole, of a frame or of fragments. */
interface Packet {
  readonly frame: number;
  readonly isReassembled: boolean;
  readonly source: number;
  readonly destination: number;
  readonly ttl: number;
  readonly tos: number;
  /** UDP header and what follows, as long as IPv4 says. */
  readonly body: Uint8Array;
  readonly isPartial: boolean;
  /** Of a segment; 0: not a super-frame. */
  readonly segmentBytes: number;
  /** How many it counts as. */
  readonly datagrams: number;
}

interface Held {
  readonly key: string;
  readonly source: number;
  /** [from, to), each with its bytes; never overlapping. */
  readonly pieces: { readonly from: number; readonly to: number; readonly bytes: Uint8Array }[];
  first: { readonly ttl: number; readonly tos: number } | undefined;
  /** Where the datagram ends; undefined until the last fragment came. */
  end: number | undefined;
}

const heldMax = 1_024;
const heldOfSourceMax = 64;

export class Model {
  packets = 0;
  matched = 0;
  bytes = 0;
  readonly dropped: Record<Reason, number> = {
    ring: 0,
    no_match: 0,
    tagged: 0,
    malformed: 0,
    truncated: 0,
    bad_checksum: 0,
    fragment_late: 0,
    fragment_overlap: 0,
    fragment_full: 0,
    fragment_malformed: 0,
    other_host: 0,
    looped: 0,
  };
  readonly rules: readonly RuleCount[];
  /** In order of arrival; who compares takes them out. */
  expected: Expected[] = [];
  readonly #rules: readonly RelayRule[];
  readonly #mac: Uint8Array;
  readonly #isTap: boolean;
  readonly #groups: ReadonlySet<number>;
  /** Oldest first. */
  readonly #held = new Map<string, Held>();
  #frames = 0;

  constructor(rules: readonly RelayRule[], ingress: { readonly mac: Uint8Array; readonly isTap: boolean }) {
    this.#rules = rules;
    this.#mac = ingress.mac;
    this.#isTap = ingress.isTap;
    this.#groups = new Set(rules.flatMap(({ streams }) => streams.map(({ group }) => group)));
    this.rules = rules.map(({ egress }) => ({
      packets: 0,
      bytes: 0,
      egress: egress.map(() => ({ sent: 0, sentBytes: 0, error: 0, expired: 0 })),
    }));
  }

  /** Frames that are held until the rest comes, or 2 s have passed. */
  get heldFrames(): number {
    return [...this.#held.values()].reduce((total, { pieces }) => total + pieces.length, 0);
  }

  /** Says what became of it, for reports. */
  take(frame: Frame): string {
    return this.#judge(frame, this.#frames++);
  }

  /** 2 s have passed: what is held is late. */
  settle(): void {
    for (const held of [...this.#held.values()]) this.#refuse(held, "fragment_late");
  }

  #judge({ bytes, offload }: Frame, frame: number): string {
    // The kernel takes one tag off and hands it over beside the frame.
    const outer = read16(bytes, 12);
    const hasTag = outer === etherType.vlan || outer === etherType.serviceVlan;
    const at = hasTag ? ethernetBytes + 4 : ethernetBytes;
    const packet = bytes.subarray(at);
    const isAdmitted =
      read16(bytes, at - 2) === etherType.ipv4 &&
      packet.length >= ipv4Bytes &&
      packet[9] === protocol.udp &&
      this.#groups.has(read32(packet, 16));
    if (!isAdmitted) return "never reaches mcr";
    const headerBytes = ((packet[0] ?? 0) & 15) * 4;
    const behindHeaders = packet.length - Math.max(headerBytes, ipv4Bytes) - udpBytes;
    // A frame no longer than one segment is not a super-frame for the kernel either.
    const segmentBytes =
      offload.gsoType !== gso.none && behindHeaders > offload.gsoSize ? offload.gsoSize : 0;
    // Only a tap lets it through whole; then no packet socket can be told what it is.
    if (this.#isTap && offload.gsoType === gso.oldUdp && segmentBytes > 0) {
      this.dropped.ring += 1;
      return "lost in the ring";
    }
    const datagrams = segmentBytes > 0 ? Math.ceil(behindHeaders / segmentBytes) : 1;
    if (((bytes[0] ?? 0) & 1) === 0 && !hasBytes(bytes.subarray(0, 6), this.#mac))
      return this.#drop("other_host", datagrams);
    if (hasTag && (outer === etherType.serviceVlan || (read16(bytes, 14) & 0xfff) !== 0))
      return this.#drop("tagged", datagrams);
    const totalBytes = read16(packet, 2);
    if ((packet[0] ?? 0) >> 4 !== 4 || headerBytes < ipv4Bytes) return this.#drop("malformed", datagrams);
    if (totalBytes < headerBytes || totalBytes > packet.length) return this.#drop("malformed", datagrams);
    if (sumWords(packet, 0, headerBytes) !== 0xffff) return this.#drop("bad_checksum", datagrams);
    const piece = packet.subarray(headerBytes, totalBytes);
    const [source, destination] = [read32(packet, 12), read32(packet, 16)];
    const common = { frame, source, destination, ttl: packet[8] ?? 0, tos: packet[1] ?? 0 };
    const fragment = read16(packet, 6);
    const [hasMore, offset] = [(fragment & 0x2000) !== 0, (fragment & 0x1fff) * 8];
    if (hasMore || offset > 0) {
      const key = [source, destination, protocol.udp, read16(packet, 4)].join();
      return this.#takeFragment({ ...common, key, hasMore, offset, headerBytes }, piece);
    }
    return this.#takePacket({
      ...common,
      isReassembled: false,
      body: piece,
      isPartial: (offload.flags & needsChecksum) !== 0,
      segmentBytes,
      datagrams,
    });
  }

  #takePacket(packet: Packet): string {
    const { body, source, destination, datagrams } = packet;
    const udpLength = read16(body, 4);
    if (body.length < udpBytes || udpLength < udpBytes || udpLength > body.length)
      return this.#drop("malformed", datagrams);
    const hasChecksum = !packet.isPartial && read16(body, 6) !== 0;
    if (hasChecksum && sumWords(body, 0, udpLength, pseudoSum(source, destination, udpLength)) !== 0xffff)
      return this.#drop("bad_checksum", datagrams);
    const match = this.#match(destination, read16(body, 2), source);
    if (match === undefined) return this.#drop("no_match", datagrams);
    const payload = body.subarray(udpBytes, udpLength);
    const segmentBytes = packet.segmentBytes > 0 ? packet.segmentBytes : Math.max(payload.length, 1);
    for (let from = 0; from === 0 || from < payload.length; from += segmentBytes)
      this.#relay(packet, match, payload.subarray(from, from + segmentBytes));
    return `relayed by ${this.#rules[match.rule]?.name}`;
  }

  #match(group: number, port: number, source: number): { rule: number; stream: number } | undefined {
    const candidates = this.#rules.flatMap(({ streams, sources }, rule) => {
      const stream = streams.findIndex((each) => each.group === group && (each.port ?? port) === port);
      if (stream < 0 || (sources.length > 0 && !sources.includes(source))) return [];
      return [{ rule, stream, isExact: streams[stream]?.port !== undefined }];
    });
    // The rule that names the port is the nearer one.
    return candidates.find(({ isExact }) => isExact) ?? candidates[0];
  }

  #relay(packet: Packet, { rule, stream }: { rule: number; stream: number }, payload: Uint8Array): void {
    const counts = this.rules[rule];
    if (counts === undefined) throw new Error(`there is no rule ${rule}`);
    this.packets += 1;
    this.matched += 1;
    this.bytes += payload.length;
    counts.packets += 1;
    counts.bytes += payload.length;
    this.#rules[rule]?.egress.forEach((spec, index) => {
      const count = counts.egress[index];
      if (count === undefined) throw new Error(`there is no egress ${index}`);
      const made = this.#make(packet, { rule, index, spec }, stream, payload);
      if (typeof made === "string") count[made] += 1;
      else {
        count.sent += 1;
        count.sentBytes += payload.length;
        this.expected.push(made);
      }
    });
  }

  #make(
    packet: Packet,
    egress: Destination,
    stream: number,
    payload: Uint8Array,
  ): Expected | "error" | "expired" {
    const { spec } = egress;
    const [sourcePort, arrivedAt] = [read16(packet.body, 0), read16(packet.body, 2)];
    const isOfOneGroup = isGroup(spec.destination);
    const port = spec.port === undefined ? arrivedAt : spec.port + stream;
    const fits = ipv4Bytes + udpBytes + payload.length <= egressInterface.mtu;
    const keeps = spec.source === "keep" || typeof spec.ttl === "string" || spec.dscp === "keep";
    const keepsAny = keeps || spec.sourcePort === "keep";
    const path = spec.path === "socket" || !isOfOneGroup || !fits ? "socket" : "frame";
    const ttl =
      spec.ttl === "keep" ? packet.ttl : spec.ttl === "decrement" ? Math.max(packet.ttl - 1, 0) : spec.ttl;
    if (ttl === 0) return "expired";
    if (keepsAny && !fits) return "error";
    if (path === "socket" && port === 0) return "error";
    return {
      frame: packet.frame,
      flow: packet.isReassembled
        ? undefined
        : [packet.source, sourcePort, packet.destination, arrivedAt].join(),
      egress,
      source: spec.source === "keep" ? packet.source : egressInterface.address,
      sourcePort:
        spec.sourcePort === "keep" ? sourcePort : spec.sourcePort === "stable" ? undefined : spec.sourcePort,
      destination: isOfOneGroup ? spec.destination + stream : spec.destination,
      port,
      ttl,
      dscp: spec.dscp === "keep" ? packet.tos >> 2 : spec.dscp,
      payload,
      path,
    };
  }

  #takeFragment(
    fragment: {
      readonly frame: number;
      readonly key: string;
      readonly source: number;
      readonly destination: number;
      readonly ttl: number;
      readonly tos: number;
      readonly hasMore: boolean;
      readonly offset: number;
      readonly headerBytes: number;
    },
    bytes: Uint8Array,
  ): string {
    const { key, source, hasMore, offset, headerBytes } = fragment;
    const to = offset + bytes.length;
    if (bytes.length === 0 || (hasMore && bytes.length % 8 !== 0) || headerBytes + to > 0xffff)
      return this.#drop("fragment_malformed");
    const held = this.#held.get(key) ?? this.#hold(key, source);
    const contradicts =
      (held.end !== undefined && (to > held.end || (!hasMore && to !== held.end))) ||
      (!hasMore && held.pieces.some((piece) => piece.to > to));
    if (contradicts) return this.#drop("fragment_malformed");
    const covered = held.pieces.reduce(
      (total, piece) => total + Math.max(0, Math.min(piece.to, to) - Math.max(piece.from, offset)),
      0,
    );
    if (covered === bytes.length) return this.#drop("fragment_overlap");
    if (covered > 0) {
      this.#drop("fragment_overlap");
      return this.#refuse(held, "fragment_overlap");
    }
    held.pieces.push({ from: offset, to, bytes });
    if (!hasMore) held.end = to;
    if (offset === 0) held.first = { ttl: fragment.ttl, tos: fragment.tos };
    const has = held.pieces.reduce((total, piece) => total + piece.to - piece.from, 0);
    if (has !== held.end || held.first === undefined) return "held";
    this.#held.delete(key);
    const body = new Uint8Array(held.end);
    for (const piece of held.pieces) body.set(piece.bytes, piece.from);
    return this.#takePacket({
      frame: fragment.frame,
      isReassembled: true,
      source,
      destination: fragment.destination,
      ...held.first,
      body,
      isPartial: false,
      segmentBytes: 0,
      datagrams: 1,
    });
  }

  /** A new datagram; the oldest gives way where there are too many. */
  #hold(key: string, source: number): Held {
    const ofSource = [...this.#held.values()].filter((held) => held.source === source);
    const [oldestOfSource] = ofSource;
    if (ofSource.length >= heldOfSourceMax && oldestOfSource) this.#refuse(oldestOfSource, "fragment_full");
    const [oldest] = this.#held.values();
    if (this.#held.size >= heldMax && oldest) this.#refuse(oldest, "fragment_full");
    const held: Held = { key, source, pieces: [], first: undefined, end: undefined };
    this.#held.set(key, held);
    return held;
  }

  /** Every frame of it that is held counts. */
  #refuse(held: Held, reason: Reason): string {
    this.#held.delete(held.key);
    return this.#drop(reason, held.pieces.length);
  }

  #drop(reason: Reason, datagrams = 1): string {
    this.packets += datagrams;
    this.dropped[reason] += datagrams;
    return `${datagrams} ${reason}`;
  }
}

/** What the Ethernet header of an expected datagram says. */
export function expectedMac(expected: Expected): Uint8Array | undefined {
  return isGroup(expected.destination) ? groupMac(expected.destination) : undefined;
}
