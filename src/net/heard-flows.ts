// What the flows of a scan are, from the packets that the shim keeps of each (c/flow_table.c): their kind, the sessions
// they announce, whether their checksums are right; and the flows whose UDP lies behind more IPv6 headers, which are
// counted here. All of it is bounded: what finds no room is counted, and a flow that stays unknown is left alone.
import { rawOther } from "../native/layouts.ts";
import type { CountedFlow, RawPacket, ScanWish } from "../native/shim.ts";
import { get16 } from "../wire/bytes.ts";
import { readChecksum } from "../wire/checksum.ts";
import { isTs } from "../wire/mpeg-ts.ts";
import type { Packet } from "../wire/network.ts";
import { type Recognised, recognise, type Sample } from "../wire/recognise.ts";
import { type Address, addressOf } from "./address.ts";

/** Of RFC 2974. */
export const sapPort = 9875;
/** The first packets of each flow that are looked at before it is called anything. */
export const firstSamples = 4;

/** Kept of one flow: the first ones, or of an unknown flow the last ones; and one with the table of its programs. */
const samplesMax = firstSamples + 1;
/** Looked at of one flow that stays unknown, or whose table does not come. */
const looksMax = 64;
/** Kept of all flows: at 1.5 KiB each. */
const keptMax = 16_384;
const tailsMax = 4096;
const announcementsMax = 512;

export interface HeardFlow extends Omit<CountedFlow, "group" | "source" | "is_egress"> {
  readonly group: Address;
  readonly source: Address;
  readonly isEgress: boolean;
  readonly recognised: Recognised;
  readonly checksums: Checksums;
}

/** UDP checksums of the packets that were looked at. */
export interface Checksums {
  readonly checked: number;
  /** A receiver drops these. */
  readonly wrong: number;
  /** Wrong, for the sender's system left them to a device that never wrote them. */
  readonly unwritten: number;
}

interface Place {
  readonly interface: number;
  readonly vlan: number;
  readonly isEgress: boolean;
  readonly group: Address;
  readonly source: Address;
  readonly port: number;
}

interface Known extends Place {
  /** In the shim's table; rawOther: only here. */
  position: number;
  samples: readonly Sample[];
  fresh: Sample[];
  looks: number;
  recognised: Recognised;
  checksums: Checksums;
}

type Counters = Pick<CountedFlow, "packets" | "bytes" | "first_ns" | "last_ns" | "bytes_min" | "bytes_max">;

export class HeardFlows {
  readonly #known = new Map<string, Known>();
  /** By position in the shim's table. */
  readonly #counted: Known[] = [];
  /** Counted here. */
  readonly #tails = new Map<Known, Counters>();
  readonly #fresh = new Set<Known>();
  readonly #announcements = new Map<string, Uint8Array>();
  #kept = 0;
  #refused = 0;

  /** How many of the shim's table are known here. */
  get count(): number {
    return this.#counted.length;
  }

  /** The flows behind those that are known. */
  add(flows: readonly CountedFlow[]): void {
    for (const flow of flows) {
      const known = this.#at(placeOf(flow));
      known.position = this.#counted.push(known) - 1;
    }
  }

  /** A packet of the flow at this position of the shim's table. */
  hear(packet: RawPacket): void {
    const known = this.#counted[packet.flow];
    if (known) this.#look(known, packet, packet.bytes.subarray(packet.payload), packet.payload_bytes);
  }

  /** UDP behind more headers of IPv6. False: it is malformed. */
  hearTail(packet: RawPacket, { body, bodyBytes, isFragment, source, destination }: Packet): boolean {
    const udpBytes = get16(body, 4);
    // The UDP header of a first fragment counts the whole datagram.
    if (body.length < 8 || udpBytes < 8 || (udpBytes > bodyBytes && !isFragment)) return false;
    const place = {
      ...{ interface: packet.interface, vlan: packet.vlan, isEgress: packet.is_egress === 1 },
      ...{ group: addressOf(destination), source: addressOf(source), port: get16(body, 2) },
    };
    const known = this.#known.get(keyOf(place));
    if ((!known || !this.#tails.has(known)) && this.#tails.size >= tailsMax) {
      this.#refused += 1;
      return true;
    }
    const flow = known ?? this.#at(place);
    const bytes = udpBytes - 8;
    const before = this.#tails.get(flow);
    this.#tails.set(flow, added(before, oneDatagram(bytes, packet.time_ns)));
    if (flow.looks < firstSamples || flow.port === sapPort) this.#look(flow, packet, body.subarray(8), bytes);
    return true;
  }

  /** Says what flows are whose packets have come, and which more of them it takes to say so. */
  recognise(): readonly ScanWish[] {
    const wishes = [...this.#fresh].flatMap((known) => {
      this.#update(known);
      return known.position === rawOther ? [] : wishesFor(known);
    });
    this.#fresh.clear();
    return wishes;
  }

  /** With the counters that the shim has now. */
  all(counted: readonly CountedFlow[]): readonly HeardFlow[] {
    this.add(counted.slice(this.#counted.length));
    const inTable = counted.flatMap((flow, position): HeardFlow[] => {
      const known = this.#counted[position];
      return known ? [heardFlow(known, added(this.#tails.get(known), flow))] : [];
    });
    const alone = [...this.#tails].flatMap(([known, counters]) =>
      known.position === rawOther ? [heardFlow(known, counters)] : [],
    );
    return [...inTable, ...alone];
  }

  /** Datagrams of RFC 2974, of each session the newest. */
  get announcements(): readonly Uint8Array[] {
    return [...this.#announcements.values()];
  }

  /** Packets of flows and announcements that found no room. */
  get refused(): number {
    return this.#refused;
  }

  #at(place: Place): Known {
    const key = keyOf(place);
    const known = this.#known.get(key) ?? {
      ...place,
      ...{ position: rawOther, samples: [], fresh: [], looks: 0 },
      ...{ recognised: { kind: "unknown" as const }, checksums: { checked: 0, wrong: 0, unwritten: 0 } },
    };
    this.#known.set(key, known);
    return known;
  }

  #look(known: Known, packet: RawPacket, captured: Uint8Array, bytes: number): void {
    const payload = captured.subarray(0, bytes);
    known.looks += 1;
    known.checksums = checkedWith(known.checksums, packet);
    if (known.port === sapPort) this.#keepAnnouncement(known, payload);
    if (known.fresh.length < samplesMax) known.fresh.push({ payload, bytes });
    this.#fresh.add(known);
  }

  #update(known: Known): void {
    const samples = [...known.samples, ...known.fresh];
    const isEarly = known.samples.length < firstSamples;
    const next = recognise({ ...known, samples });
    const isSame = next.kind === known.recognised.kind;
    if (isEarly || isOpen(known.recognised) || isSame) known.recognised = next;
    const kept = isOpen(known.recognised) ? samples.slice(-firstSamples) : samples.slice(0, samplesMax);
    const room = this.#kept - known.samples.length + kept.length <= keptMax;
    this.#kept += (room ? kept.length : 0) - known.samples.length;
    known.samples = room ? kept : [];
    known.fresh = [];
  }

  /** One sender announces many sessions in one flow; the hash tells them apart, RFC 2974 section 3. */
  #keepAnnouncement(place: Place, payload: Uint8Array): void {
    if (payload.length < 8) return;
    const key = `${place.interface} ${place.vlan} ${place.source} ${get16(payload, 2)}`;
    if (this.#announcements.has(key) || this.#announcements.size < announcementsMax)
      this.#announcements.set(key, payload);
    else this.#refused += 1;
  }
}

/** RTP may share the port of RTCP, RFC 5761. */
function isOpen({ kind }: Recognised): boolean {
  return kind === "unknown" || kind === "rtcp";
}

/** A transport packet that begins the table with PID 0: sync byte, start, PID. */
const programTable = { step: 188, word: 0x4740_0000, mask: 0xff5f_ff00 };
const anyPacket = { offset: 0, step: 4, word: 0, mask: 0 };

function wishesFor({ position: flow, recognised, samples, looks }: Known): readonly ScanWish[] {
  if (looks >= looksMax) return [{ flow, packets: 0, ...anyPacket }];
  if (isOpen(recognised)) return [{ flow, packets: firstSamples, ...anyPacket }];
  const last = samples.at(-1);
  if (!last || recognised.programs !== undefined || looks < firstSamples) return [];
  // Behind the header of RTP, where it is not bare.
  const offset = last.bytes % programTable.step;
  const carriesTs = isTs(last.payload.subarray(offset), last.bytes - offset);
  return carriesTs ? [{ flow, packets: 1, offset, ...programTable }] : [];
}

function checkedWith({ checked, wrong, unwritten }: Checksums, packet: RawPacket): Checksums {
  const found = packet.checksum_known ? "right" : readChecksum(packet.bytes, packet.bytes.length);
  if (found === "unknown" || found === "absent") return { checked, wrong, unwritten };
  return {
    checked: checked + 1,
    wrong: wrong + Number(found !== "right"),
    unwritten: unwritten + Number(found === "partial"),
  };
}

function placeOf({ interface: position, vlan, is_egress, group, source, port }: CountedFlow): Place {
  return {
    ...{ interface: position, vlan, isEgress: is_egress === 1, port },
    ...{ group: addressOf(group), source: addressOf(source) },
  };
}

function keyOf({ interface: position, vlan, isEgress, group, source, port }: Place): string {
  return `${position} ${vlan} ${isEgress} ${group} ${source} ${port}`;
}

function heardFlow(known: Known, counters: Counters): HeardFlow {
  const { interface: position, vlan, isEgress, group, source, port, recognised, checksums } = known;
  return { interface: position, vlan, isEgress, group, source, port, recognised, checksums, ...counters };
}

function oneDatagram(bytes: number, time_ns: number): Counters {
  return {
    ...{ packets: 1, bytes, first_ns: time_ns, last_ns: time_ns },
    ...{ bytes_min: bytes, bytes_max: bytes },
  };
}

function added(a: Counters | undefined, b: Counters): Counters {
  return {
    packets: (a?.packets ?? 0) + b.packets,
    bytes: (a?.bytes ?? 0) + b.bytes,
    first_ns: Math.min(a?.first_ns ?? b.first_ns, b.first_ns),
    last_ns: Math.max(a?.last_ns ?? b.last_ns, b.last_ns),
    bytes_min: Math.min(a?.bytes_min ?? b.bytes_min, b.bytes_min),
    bytes_max: Math.max(a?.bytes_max ?? b.bytes_max, b.bytes_max),
  };
}
