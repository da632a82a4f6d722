// What became of packets behind `sent`: the drops of an egress interface and of its queue, as the kernel has counted
// them since the interface and the queue were made; `ip -s link` and `tc -s qdisc` show the same numbers. Their unit is
// the kernel's: a super-frame that is dropped whole is one drop. What a queue refused at once mcr counts as `full`, and
// the queue counts it too. Asked for by who shows it, and read at most once a second: relay.ts owns it.
import { SystemError } from "../native/system-error.ts";
import {
  ask,
  decodeAttributes,
  linkBody,
  type Message,
  messageTypes,
  type NetlinkShim,
  textOf,
  wordAt,
} from "./netlink.ts";

/** The queue of an interface: the root of its queueing disciplines, which counts for all below it. */
export interface QueueDrops {
  /** tbf, fq_codel, noqueue … */
  readonly kind: string;
  readonly dropped: number;
  readonly overlimits: number;
  readonly requeues: number;
  readonly backlog_packets: number;
  readonly backlog_bytes: number;
}

export interface DeviceDrops {
  readonly interface: string;
  /** veth, vxlan, tun …, as `ip -d link` shows it; null for a network card. */
  readonly type: string | null;
  /** tx_dropped of rtnl_link_stats64: thrown away without a fault of the device. */
  readonly dropped: number;
  /** tx_errors: not sent because the device, or a tunnel's route, failed. */
  readonly errors: number;
  /** Null where the kernel tells of none. */
  readonly qdisc: QueueDrops | null;
}

/** An interface as it is asked for. */
export interface Device {
  readonly name: string;
  readonly ifindex: number;
}

const readMs = 1_000;

/** linux/if_link.h, linux/pkt_sched.h, linux/gen_stats.h */
const link = { bodyBytes: 16, info: 18, kind: 1, stats64: 23, txErrors: 40, txDropped: 56 } as const;
const queue = { bodyBytes: 20, kind: 1, stats2: 7, queueStats: 3 } as const;
const rootParent = 0xffff_ffff;

export class DeviceDropsReader {
  #read = new Map<string, { readonly atMs: number; readonly drops: DeviceDrops | undefined }>();

  constructor(
    readonly shim: NetlinkShim,
    readonly elapsedMs: () => number,
  ) {}

  /** Those that could be read, in the order of the devices. */
  of(devices: readonly Device[]): readonly DeviceDrops[] {
    const nowMs = this.elapsedMs();
    const before = this.#read;
    this.#read = new Map();
    return devices.flatMap((device) => {
      const key = `${device.ifindex} ${device.name}`;
      const known = before.get(key);
      const isFresh = known !== undefined && nowMs - known.atMs < readMs;
      const entry = isFresh ? known : { atMs: nowMs, drops: readDrops(this.shim, device) };
      this.#read.set(key, entry);
      return entry.drops ?? [];
    });
  }
}

/** Undefined where the interface has gone, or the kernel does not tell. */
function readDrops(shim: NetlinkShim, { name, ifindex }: Device): DeviceDrops | undefined {
  try {
    const counts = decodeLink(ask(shim, { type: messageTypes.getLink, body: linkBody(ifindex) }), ifindex);
    if (counts === undefined) return undefined;
    return { interface: name, ...counts, qdisc: readQueue(shim, ifindex) ?? null };
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return undefined;
  }
}

function readQueue(shim: NetlinkShim, ifindex: number): QueueDrops | undefined {
  try {
    return decodeQueue(ask(shim, { type: messageTypes.getQdisc, body: queueBody(ifindex) }), ifindex);
  } catch (error) {
    // A kernel without queueing disciplines, or an interface without one.
    if (!(error instanceof SystemError)) throw error;
    return undefined;
  }
}

/** struct tcmsg */
function queueBody(ifindex: number): Uint8Array {
  const body = new Uint8Array(queue.bodyBytes);
  const view = new DataView(body.buffer);
  view.setUint32(4, ifindex, true);
  view.setUint32(12, rootParent, true);
  return body;
}

export function decodeLink(
  messages: readonly Message[],
  ifindex: number,
): Pick<DeviceDrops, "type" | "dropped" | "errors"> | undefined {
  for (const { type, payload } of messages) {
    if (type !== messageTypes.newLink || wordAt(payload, 4, 4) !== ifindex) continue;
    const attributes = decodeAttributes(payload, link.bodyBytes);
    const kind = decodeAttributes(attributes.get(link.info) ?? new Uint8Array()).get(link.kind);
    const stats = attributes.get(link.stats64);
    const errors = wordAt(stats, link.txErrors, 8);
    const dropped = wordAt(stats, link.txDropped, 8);
    if (errors !== undefined && dropped !== undefined) return { type: textOf(kind) || null, dropped, errors };
  }
  return undefined;
}

export function decodeQueue(messages: readonly Message[], ifindex: number): QueueDrops | undefined {
  for (const { type, payload } of messages) {
    const isRoot = wordAt(payload, 4, 4) === ifindex && wordAt(payload, 12, 4) === rootParent;
    if (type !== messageTypes.newQdisc || !isRoot) continue;
    const attributes = decodeAttributes(payload, queue.bodyBytes);
    // struct gnet_stats_queue
    const stats = decodeAttributes(attributes.get(queue.stats2) ?? new Uint8Array()).get(queue.queueStats);
    const [packets, bytes, dropped, requeues, overlimits] = [0, 4, 8, 12, 16].map((at) =>
      wordAt(stats, at, 4),
    );
    if (packets === undefined || bytes === undefined || dropped === undefined) continue;
    return {
      kind: textOf(attributes.get(queue.kind)),
      dropped,
      overlimits: overlimits ?? 0,
      requeues: requeues ?? 0,
      backlog_packets: packets,
      backlog_bytes: bytes,
    };
  }
  return undefined;
}
