// What arrived at the far end, cut into datagrams and compared with what the model expects: every byte of the payload,
// every field of the headers, each exactly once, each flow in order. A fault is a sentence and the frame it is about.

import type { RecordedFrame } from "../support/records.ts";
import { type Expected, expectedMac } from "./model.ts";
import {
  addressText,
  ethernetBytes,
  etherType,
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

/** Smaller payloads carry no number of their own, generator.ts. */
const numberedBytesMin = 8;

export interface Arrival {
  readonly mac: Uint8Array;
  readonly senderMac: Uint8Array;
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly port: number;
  readonly ttl: number;
  readonly tos: number;
  readonly identification: number;
  readonly dontFragment: boolean;
  readonly payload: Uint8Array;
  /** Its place in the super-frame it came in. */
  readonly segment: number;
  readonly wasFragmented: boolean;
}

export interface Fault {
  readonly what: string;
  /** Of the frame that was sent. */
  readonly frame: number | undefined;
}

/** Frames in, datagrams and what is wrong with a frame itself out. Holds fragments from one call to the next. */
export class Assembler {
  readonly #held = new Map<string, { packet: Uint8Array; frame: Uint8Array; offset: number }[]>();
  readonly faults: string[] = [];

  /** Nothing for what is not UDP, and for a fragment that is not the last one. */
  take({ bytes, offload }: RecordedFrame): readonly Arrival[] {
    if (read16(bytes, 12) !== etherType.ipv4 || bytes[ethernetBytes + 9] !== protocol.udp) return [];
    const packet = bytes.subarray(ethernetBytes);
    if (packet[0] !== 0x45) return this.#fault("an IPv4 header with options or another version");
    const total = read16(packet, 2);
    if (total !== packet.length) return this.#fault(`IPv4 says ${total} bytes, ${packet.length} came`);
    if (sumWords(packet, 0, ipv4Bytes) !== 0xffff) return this.#fault("a wrong IPv4 header checksum");
    const fragment = read16(packet, 6);
    if ((fragment & 0x3fff) !== 0) return this.#takeFragment(bytes, packet, fragment);
    const body = packet.subarray(ipv4Bytes);
    if (!this.#hasSoundUdp(bytes, body, offload)) return [];
    const payload = body.subarray(udpBytes);
    const isSuper = offload.gsoType !== gso.none;
    if (isSuper && (offload.gsoType !== gso.udp || offload.gsoSize === 0 || offload.gsoSize > 1_472))
      return this.#fault(`offload type ${offload.gsoType} of ${offload.gsoSize} bytes`);
    const segmentBytes = isSuper ? offload.gsoSize : Math.max(payload.length, 1);
    const count = Math.max(Math.ceil(payload.length / segmentBytes), 1);
    if (count > 64) return this.#fault(`${count} segments in one frame`);
    return Array.from({ length: count }, (_, i) =>
      arrivalOf(bytes, body, payload.subarray(i * segmentBytes, (i + 1) * segmentBytes), i),
    );
  }

  /** The kernel sends fragments of a datagram in order and one after the other; the checksum is whole. */
  #takeFragment(frame: Uint8Array, packet: Uint8Array, fragment: number): readonly Arrival[] {
    const key = `${read32(packet, 12)} ${read32(packet, 16)} ${read16(packet, 4)}`;
    const offset = (fragment & 0x1fff) * 8;
    const list = this.#held.get(key) ?? [];
    const due = list.reduce((total, each) => total + each.packet.length - ipv4Bytes, 0);
    if (offset !== due) return this.#fault(`a fragment at ${offset} where ${due} was due`);
    list.push({ packet, frame, offset });
    this.#held.set(key, list);
    if ((fragment & 0x2000) !== 0) return [];
    this.#held.delete(key);
    const body = Buffer.concat(list.map((each) => each.packet.subarray(ipv4Bytes)));
    const first = list[0]?.frame ?? frame;
    const whole = { flags: 0 };
    if (!this.#hasSoundUdp(first, body, whole)) return [];
    return [{ ...arrivalOf(first, body, body.subarray(udpBytes), 0), wasFragmented: true }];
  }

  /** Length and checksum: whole, or left to the device with the sum it needs. */
  #hasSoundUdp(
    frame: Uint8Array,
    body: Uint8Array,
    offload: { readonly flags: number; readonly checksumStart?: number; readonly checksumOffset?: number },
  ): boolean {
    const length = read16(body, 4);
    const packet = frame.subarray(ethernetBytes);
    const pseudo = pseudoSum(read32(packet, 12), read32(packet, 16), length);
    const isPartial = (offload.flags & needsChecksum) !== 0;
    if (length !== body.length) this.#fault(`UDP says ${length} bytes, ${body.length} came`);
    else if (
      isPartial &&
      (offload.checksumStart !== ethernetBytes + ipv4Bytes || offload.checksumOffset !== 6)
    )
      this.#fault(`a checksum to be written at ${offload.checksumStart} + ${offload.checksumOffset}`);
    else if (isPartial && read16(body, 6) !== pseudo) this.#fault("a wrong sum for the device");
    else if (!isPartial && read16(body, 6) === 0) this.#fault("no UDP checksum");
    else if (!isPartial && sumWords(body, 0, length, pseudo) !== 0xffff) this.#fault("a wrong UDP checksum");
    else return true;
    return false;
  }

  #fault(what: string): readonly Arrival[] {
    this.faults.push(what);
    return [];
  }
}

function arrivalOf(frame: Uint8Array, body: Uint8Array, payload: Uint8Array, segment: number): Arrival {
  const packet = frame.subarray(ethernetBytes);
  return {
    mac: frame.subarray(0, 6),
    senderMac: frame.subarray(6, 12),
    source: read32(packet, 12),
    destination: read32(packet, 16),
    sourcePort: read16(body, 0),
    port: read16(body, 2),
    ttl: packet[8] ?? 0,
    tos: packet[1] ?? 0,
    // The device counts it up from segment to segment.
    identification: (read16(packet, 4) + segment) & 0xffff,
    dontFragment: (read16(packet, 6) & 0x4000) !== 0,
    payload,
    segment,
    wasFragmented: false,
  };
}

/** Compares over a whole run: it remembers the stable port and the last Identification of each egress. */
export class Comparer {
  /** Of each egress, laneOf: how many came as frames; undefined once that could not be told. */
  readonly frames = new Map<string, number | undefined>();
  readonly #workers: number;
  readonly #macs: { readonly sender: Uint8Array; readonly host: Uint8Array };
  readonly #stablePorts = new Map<string, number>();
  /** The last Identification of each worker, as far as they can be told apart. */
  readonly #plainLast = new Map<string, number[]>();

  constructor(workers: number, macs: { readonly sender: Uint8Array; readonly host: Uint8Array }) {
    this.#workers = workers;
    this.#macs = macs;
  }

  /** `expected` in the order of the model, `arrivals` in that of the wire. At most `limit` faults. */
  compare(expected: readonly Expected[], arrivals: readonly Arrival[], limit = 20): readonly Fault[] {
    const faults: Fault[] = [];
    const due = new Map<string, { readonly at: number; readonly expected: Expected }[]>();
    expected.forEach((each, at) => {
      const key = keyOf(each);
      const list = due.get(key);
      if (list) list.push({ at, expected: each });
      else due.set(key, [{ at, expected: each }]);
    });
    // What comes beside a datagram beyond the MTU may take the socket with it, so that they stay in order.
    const mixed = new Set(
      expected.filter(({ path, egress }) => path === "socket" && egress.spec.path === "auto").map(laneOf),
    );
    const last = new Map<string, { readonly at: number; readonly frame: number }>();
    for (const arrival of arrivals) {
      if (faults.length >= limit) return faults;
      const list = due.get(keyOf(arrival));
      // Of equal datagrams the first that agrees.
      const differences = ({ expected: each }: { readonly expected: Expected }) =>
        this.#differences(each, arrival, mixed.has(laneOf(each)));
      const index = list?.findIndex((each) => differences(each).length === 0) ?? -1;
      const [found] = list?.splice(Math.max(index, 0), 1) ?? [];
      if (!found) {
        faults.push({ what: `came and was not expected: ${describe(arrival)}`, frame: undefined });
        continue;
      }
      const { frame, flow } = found.expected;
      const lane = laneOf(found.expected);
      this.#countFrames(lane, this.#came(found.expected, mixed.has(lane)));
      for (const what of differences(found)) faults.push({ what: `${what}: ${describe(arrival)}`, frame });
      for (const what of this.#compareSequence(lane, found.expected, arrival)) faults.push({ what, frame });
      // Datagrams without a number may stand for one another.
      if (flow === undefined || arrival.payload.length < numberedBytesMin) continue;
      const before = last.get(`${lane} ${flow}`);
      if (before && before.at > found.at)
        faults.push({ what: `came after one of frame ${before.frame}: ${describe(arrival)}`, frame });
      last.set(`${lane} ${flow}`, { at: found.at, frame });
    }
    for (const list of due.values())
      for (const { expected: missing } of list) {
        if (faults.length >= limit) return faults;
        faults.push({
          what: `never came: ${addressText(missing.destination)}:${missing.port}, ${missing.payload.length} bytes`,
          frame: missing.frame,
        });
      }
    return faults;
  }

  /** What needs no other datagram to be seen. */
  #differences(expected: Expected, arrival: Arrival, isMixed: boolean): readonly string[] {
    const { ttl, dscp, source, sourcePort, egress } = expected;
    const mac = expectedMac(expected) ?? this.#macs.host;
    const came = this.#came(expected, isMixed);
    const faults = [
      arrival.source !== source && `source ${addressText(arrival.source)} for ${addressText(source)}`,
      sourcePort !== undefined &&
        arrival.sourcePort !== sourcePort &&
        `source port ${arrival.sourcePort} for ${sourcePort}`,
      arrival.ttl !== ttl && `TTL ${arrival.ttl} for ${ttl}`,
      arrival.tos !== dscp << 2 && `type of service ${arrival.tos} for ${dscp << 2}`,
      !hasBytes(arrival.mac, mac) && `to the hardware address ${Buffer.from(arrival.mac).toString("hex")}`,
      !hasBytes(arrival.senderMac, this.#macs.sender) && "from another hardware address",
      came === "frame" && arrival.wasFragmented && "fragments",
      came === "frame" && !arrival.dontFragment && "DF is not set",
      came === "frame" && egress.spec.plain && arrival.segment > 0 && "a super-frame of a plain egress",
      came === "frame" && !egress.spec.plain && markFault(arrival),
    ];
    return faults.filter((fault) => fault !== false);
  }

  /** Undefined: either. The kernel numbers a socket's datagrams through every hop mark, so that tells nothing. */
  #came({ path }: Expected, isMixed: boolean): "frame" | "socket" | undefined {
    return isMixed ? undefined : path;
  }

  #countFrames(lane: string, came: "frame" | "socket" | undefined): void {
    const before = this.frames.has(lane) ? this.frames.get(lane) : 0;
    const one = came === "frame" ? 1 : 0;
    this.frames.set(lane, before === undefined || came === undefined ? undefined : before + one);
  }

  /** The stable port is the same in every datagram of an egress; the Identification of a plain one counts. */
  *#compareSequence(lane: string, expected: Expected, arrival: Arrival): Generator<string> {
    if (expected.sourcePort === undefined) {
      const port = this.#stablePorts.get(lane) ?? arrival.sourcePort;
      this.#stablePorts.set(lane, port);
      if (arrival.sourcePort !== port) yield `source port ${arrival.sourcePort}, after ${port}`;
    }
    if (!expected.egress.spec.plain || expected.path === "socket") return;
    const counters = this.#plainLast.get(lane) ?? [];
    this.#plainLast.set(lane, counters);
    const { identification } = arrival;
    const at = counters.findIndex((last) => identification === ((last + 1) & 0xffff));
    if (at >= 0) counters[at] = identification;
    else if (counters.length < this.#workers) counters.push(identification);
    else yield `Identification ${identification} after ${counters.join(" or ")}`;
  }
}

/** Seven bits of signature, three of hops, six that count over the segments. */
function markFault({ identification, segment }: Arrival): string | false {
  const text = `Identification 0x${identification.toString(16)}`;
  const hops = (identification >>> 6) & 7;
  if (hops !== 1) return `${text} is of hop ${hops}`;
  return (identification & 63) !== segment && `${text} of segment ${segment}`;
}

/** An egress of a rule. */
export function laneOf({ egress }: Pick<Expected, "egress">): string {
  return `${egress.rule} ${egress.index}`;
}

/** What tells one datagram from another: where it goes and what is in it. */
function keyOf({ destination, port, payload }: Pick<Arrival, "destination" | "port" | "payload">): string {
  return `${destination} ${port} ${payload.length} ${Bun.hash(payload)}`;
}

function describe({ destination, port, payload, source, sourcePort, segment }: Arrival): string {
  const to = `${addressText(destination)}:${port}`;
  return `${addressText(source)}:${sourcePort} → ${to}, ${payload.length} bytes, segment ${segment}`;
}
