// What the rest of mcr calls: the shim's functions with TypeScript's types, errors thrown as SystemError.
// Handles are opaque; whoever opens one closes it. No other folder imports bun:ffi.
import { type Pointer, ptr, read, toArrayBuffer } from "bun:ffi";
import { randomBytes } from "node:crypto";
import { constants as osConstants } from "node:os";
import { constants } from "./abi.ts";
import { type Handle, opened } from "./handle.ts";
import {
  type Decoded,
  decode,
  encode,
  layouts,
  queriesMax,
  rawPacketBytes,
  type Struct,
  scanFlowsMax,
} from "./layouts.ts";
import { extractLibrary, type Library, openLibrary } from "./library.ts";
import { checked, SystemError } from "./system-error.ts";

export type RelayHandle = Handle<"relay">;
export type RingHandle = Handle<"ring">;
export type TableHandle = Handle<"table">;
export type LinkHandle = Handle<"link">;
export type LinkOptions = Struct<"mcr_link_options">;
export type ExclusiveHandle = Handle<"exclusive">;
export type RingOptions = Struct<"mcr_ring_options">;
export type EgressOptions = Struct<"mcr_egress_options">;
export type AddressRange = Struct<"mcr_address_range">;
export type ExclusiveEntry = Struct<"mcr_exclusive_entry">;
/** In the order of enum mcr_exclusive_method: the first that works is taken. */
export const exclusiveMethods = ["tcx", "nft"] as const;
export type ExclusiveMethod = (typeof exclusiveMethods)[number];
export const exclusiveKinds = {
  port: constants.MCR_EXCLUSIVE_PORT,
  anyPort: constants.MCR_EXCLUSIVE_ANY_PORT,
  fragment: constants.MCR_EXCLUSIVE_FRAGMENT,
} as const;
export type QueryRingHandle = Handle<"query ring">;
export type Interface = Decoded<"mcr_interface">;
export type ScanHandle = Handle<"scan">;
export type ScanState = Decoded<"mcr_scan_state">;
export type CountedFlow = Decoded<"mcr_scan_flow">;
export type ScanWish = Struct<"mcr_scan_wish">;
/** As it came, from its network header on; nothing of it was read. */
export type RawPacket = Decoded<"mcr_raw_packet"> & { readonly bytes: Uint8Array };

export interface ScanOptions {
  /** Only the IPv4 that arrives here anyway, and of each packet the beginning. */
  readonly ingressOnly?: boolean;
  /** The first packets of each flow that `takeScanPackets` gives. */
  readonly samples?: number;
  /** It gives all packets to this port. */
  readonly wholePort?: number;
}

/** The parts of one rule table; indices are checked by the shim. */
export interface TableParts {
  readonly epoch: number;
  readonly rings: readonly {
    readonly ring: RingHandle;
    readonly worker: number;
    readonly interface: number;
  }[];
  readonly matches: readonly Struct<"mcr_match_spec">[];
  readonly flows: readonly Struct<"mcr_flow_spec">[];
  readonly actions: readonly Struct<"mcr_action_spec">[];
  readonly egresses: readonly Struct<"mcr_egress_spec">[];
  readonly origins: readonly Struct<"mcr_origin_spec">[];
}

/** An interface that could not be listened on: its position in the list, and the kernel's reason. */
export class ListenError extends SystemError {
  constructor(
    errno: number,
    readonly index: number,
  ) {
    super(errno);
  }
}

/** Live 64-bit counters, by number of the word; undefined beyond the end. A BigUint64Array is one. */
export interface CounterArea {
  at(word: number): bigint | undefined;
}

export type RunResult = "again" | "stopped";

/** Room for the answer of one netlink request: a list of some 400 neighbours, and the most that is ever made. */
const netlinkBytes = 32_768;
const netlinkBytesMax = 8_388_608;

function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

/** A copy: the memory goes on changing. */
function rawPacket(room: ArrayBuffer, at: number): RawPacket {
  const head = decode("mcr_raw_packet", new DataView(room, at, layouts.mcr_raw_packet.size));
  const start = at + layouts.mcr_raw_packet.size;
  return { ...head, bytes: new Uint8Array(room, start, head.captured).slice() };
}

export class Shim {
  readonly #c: Library;

  /** @param path of the extracted library: workers share the main thread's copy. */
  constructor(readonly path: string = extractLibrary()) {
    this.#c = openLibrary(path);
  }

  // -- relay.c

  openRelay(workerCount: number): RelayHandle {
    return opened((error) => this.#c.mcr_relay_open(workerCount, error));
  }

  /**
   * The counters of one worker: layouts.ts `counterArea` tells what lies where. Not an array over that memory: the
   * collector would take its reserved size for used memory, and let that much garbage gather before it runs.
   */
  counters(relay: RelayHandle, worker: number): CounterArea {
    const start = this.#c.mcr_counters(relay, worker) as Pointer | null;
    if (start === null) throw new RangeError(`no worker ${worker}`);
    const words = Number(this.#c.mcr_counters_bytes()) / 8;
    return { at: (word) => (word >= 0 && word < words ? read.u64(start, word * 8) : undefined) };
  }

  resetRuleCounters(relay: RelayHandle, slot: number): void {
    checked(this.#c.mcr_rule_counters_reset(relay, slot));
  }

  resetEgressCounters(relay: RelayHandle, slot: number): void {
    checked(this.#c.mcr_egress_counters_reset(relay, slot));
  }

  publish(relay: RelayHandle, table: TableHandle): void {
    this.#c.mcr_relay_publish(relay, table);
  }

  epochSeen(relay: RelayHandle): number {
    return this.#c.mcr_relay_epoch_seen(relay);
  }

  stop(relay: RelayHandle): void {
    this.#c.mcr_relay_stop(relay);
  }

  /** The CPUs this process may run on. */
  cpus(): readonly number[] {
    const cpus = new Uint32Array(1024);
    return [...cpus.subarray(0, checked(this.#c.mcr_cpus(cpus, cpus.length)))];
  }

  // -- forward.c

  pinWorker(worker: number, cpu: number): void {
    checked(this.#c.mcr_worker_pin(worker, cpu));
  }

  /** Blocks for about budgetMs: worker threads only. */
  runWorker(relay: RelayHandle, worker: number, budgetMs: number): RunResult {
    return checked(this.#c.mcr_worker_run(relay, worker, budgetMs)) === 1 ? "stopped" : "again";
  }

  // -- ring.c

  /** Throws EPERM where this process may not open packet sockets. */
  checkPermission(): void {
    checked(this.#c.mcr_ring_permitted());
  }

  /** Those of one interface stand side by side; each is there, or the reason why not. */
  openRings(options: readonly RingOptions[]): readonly (RingHandle | SystemError)[] {
    const rings = new BigUint64Array(options.length);
    const errors = new Int32Array(options.length);
    if (options.length > 0)
      this.#c.mcr_rings_open(encode("mcr_ring_options", options), options.length, rings, errors);
    return [...rings].map((ring, i) =>
      ring === 0n ? new SystemError(-(errors[i] ?? 0)) : (Number(ring) as RingHandle),
    );
  }

  /** What the kernel may queue by frame; 0: by block. */
  ringReceiveBytes(ring: RingHandle): number {
    return this.#c.mcr_ring_receive_bytes(ring);
  }

  ringFanoutId(ring: RingHandle): number {
    return this.#c.mcr_ring_fanout_id(ring);
  }

  filterRing(ring: RingHandle, ranges: readonly AddressRange[]): void {
    checked(this.#c.mcr_ring_filter(ring, encode("mcr_address_range", ranges), ranges.length));
  }

  /** Frames that the kernel dropped since the last call. */
  takeRingDrops(ring: RingHandle): number {
    return checked(Number(this.#c.mcr_ring_drops(ring)));
  }

  /** Blocks or frames that a worker has ever taken: it only grows. */
  ringTaken(ring: RingHandle): number {
    return Number(this.#c.mcr_ring_taken(ring));
  }

  /** Its interface has not been taken from this namespace since the ring was opened. */
  isRingBound(ring: RingHandle): boolean {
    return this.#c.mcr_ring_is_bound(ring) !== 0;
  }

  /** Frames that lie in the ring, captured and not sent yet; by frame 1 stands for any number. */
  ringUnread(ring: RingHandle): number {
    return Number(this.#c.mcr_ring_unread(ring));
  }

  /** Only when no worker reads the ring any more: the frames that are left in it, which are lost. */
  discardRing(ring: RingHandle): number {
    return Number(this.#c.mcr_ring_discard(ring));
  }

  closeRing(ring: RingHandle): void {
    this.#c.mcr_ring_close(ring);
  }

  // -- exclusive.c

  /** Throws where this process cannot use the method on this kernel. */
  probeExclusive(method: ExclusiveMethod): void {
    checked(this.#c.mcr_exclusive_probe(exclusiveMethods.indexOf(method)));
  }

  /** Drops nothing yet. */
  openExclusive(ifindex: number, method: ExclusiveMethod): ExclusiveHandle {
    return opened((error) => this.#c.mcr_exclusive_open(ifindex, exclusiveMethods.indexOf(method), error));
  }

  /** In one step; when it throws, what was dropped before still is. */
  setExclusive(exclusive: ExclusiveHandle, entries: readonly ExclusiveEntry[]): void {
    const bytes = encode("mcr_exclusive_entry", entries);
    checked(this.#c.mcr_exclusive_set(exclusive, bytes, entries.length));
  }

  closeExclusive(exclusive: ExclusiveHandle): void {
    this.#c.mcr_exclusive_close(exclusive);
  }

  // -- table.c

  buildTable(relay: RelayHandle, parts: TableParts): TableHandle {
    const rings = encode("mcr_ring_spec", parts.rings);
    const matches = encode("mcr_match_spec", parts.matches);
    const flows = encode("mcr_flow_spec", parts.flows);
    const actions = encode("mcr_action_spec", parts.actions);
    const egresses = encode("mcr_egress_spec", parts.egresses);
    const origins = encode("mcr_origin_spec", parts.origins);
    const spec = encode("mcr_table_spec", [
      {
        rings: ptr(rings),
        matches: ptr(matches),
        flows: ptr(flows),
        actions: ptr(actions),
        egresses: ptr(egresses),
        origins: ptr(origins),
        ring_count: parts.rings.length,
        match_count: parts.matches.length,
        flow_count: parts.flows.length,
        action_count: parts.actions.length,
        egress_count: parts.egresses.length,
        origin_count: parts.origins.length,
        epoch: parts.epoch,
      },
    ]);
    const table = opened<TableHandle>((error) => this.#c.mcr_table_build(relay, spec, error));
    // The pointers in spec do not keep these alive for the collector; this use after the call does.
    [rings, matches, flows, actions, egresses, origins].forEach((part) => void part.byteLength);
    return table;
  }

  freeTable(table: TableHandle): void {
    this.#c.mcr_table_free(table);
  }

  // -- egress.c

  openEgress(options: EgressOptions): number {
    return checked(this.#c.mcr_egress_open(encode("mcr_egress_options", [options])));
  }

  egressPort(fd: number): number {
    return checked(this.#c.mcr_egress_port(fd));
  }

  // -- link.c

  openLink(relay: RelayHandle, options: LinkOptions): LinkHandle {
    const bytes = encode("mcr_link_options", [options]);
    return opened((error) => this.#c.mcr_link_open(relay, bytes, error));
  }

  /** 0, or the errno with which the device has refused frames. */
  linkRefusal(link: LinkHandle): number {
    return this.#c.mcr_link_refusal(link);
  }

  closeLink(link: LinkHandle): void {
    this.#c.mcr_link_close(link);
  }

  // -- member.c

  openMember(): number {
    return checked(this.#c.mcr_member_open());
  }

  join(fd: number, ifindex: number, group: Uint8Array, source: Uint8Array): void {
    checked(this.#c.mcr_member_join(fd, ifindex, group, source));
  }

  leave(fd: number, ifindex: number, group: Uint8Array, source: Uint8Array): void {
    checked(this.#c.mcr_member_leave(fd, ifindex, group, source));
  }

  // -- query.c

  /** Hears IGMP queries from now on. */
  openQueryRing(ifindex: number): QueryRingHandle {
    return opened((error) => this.#c.mcr_query_ring_open(ifindex, error));
  }

  /** The queries since the last call, the newest one first, and no more than `queriesMax` of them. No system call. */
  readQueryRing(ring: QueryRingHandle): readonly RawPacket[] {
    const packets = new Uint8Array(queriesMax * rawPacketBytes);
    const count = this.#c.mcr_query_ring_read(ring, packets);
    const slot = (index: number) =>
      rawPacket(packets.buffer, ((count - 1 - index) % queriesMax) * rawPacketBytes);
    return Array.from({ length: Math.min(count, queriesMax) }, (_, index) => slot(index));
  }

  closeQueryRing(ring: QueryRingHandle): void {
    this.#c.mcr_ring_close(ring);
  }

  // -- scan.c

  /** Listens from now on. Throws ListenError where one interface is to blame. */
  openScan(
    ifindexes: readonly number[],
    { ingressOnly = false, samples = 0, wholePort = 0 }: ScanOptions = {},
  ): ScanHandle {
    const indexes = new Uint32Array(ifindexes);
    const options = encode("mcr_scan_options", [
      {
        ifindexes: ptr(indexes),
        seed: randomBytes(8).readBigUInt64LE(),
        interface_count: indexes.length,
        flows_max: scanFlowsMax,
        ingress_only: Number(ingressOnly),
        samples,
        whole_port: wholePort,
      },
    ]);
    const failed = new Uint32Array(1);
    try {
      return opened((error) => this.#c.mcr_scan_open(options, failed, error));
    } catch (error) {
      const index = failed[0] ?? ifindexes.length;
      if (!(error instanceof SystemError) || index >= ifindexes.length) throw error;
      throw new ListenError(error.errno, index);
    } finally {
      void indexes.byteLength;
    }
  }

  /** Blocks for about budgetMs; 0: takes what has come. */
  runScan(scan: ScanHandle, budgetMs: number): void {
    checked(this.#c.mcr_scan_run(scan, budgetMs));
  }

  scanState(scan: ScanHandle): ScanState {
    return this.#structs("mcr_scan_state", this.#c.mcr_scan_state(scan), 1)[0] as ScanState;
  }

  /** From the position `first` on: flows are added behind, and stay where they are. */
  scanFlows(scan: ScanHandle, first = 0): readonly CountedFlow[] {
    const { size } = layouts.mcr_scan_flow;
    const start = Number(this.#c.mcr_scan_flows(scan)) + first * size;
    return this.#structs("mcr_scan_flow", start as Pointer, this.scanState(scan).flow_count - first);
  }

  /** The packets that were kept since the last call. */
  takeScanPackets(scan: ScanHandle): readonly RawPacket[] {
    const count = this.scanState(scan).packet_count;
    if (count === 0) return [];
    const room = toArrayBuffer(this.#c.mcr_scan_packets(scan) as Pointer, 0, count * rawPacketBytes);
    const packets = Array.from({ length: count }, (_, i) => rawPacket(room, i * rawPacketBytes));
    this.#c.mcr_scan_release(scan);
    return packets;
  }

  wishForPackets(scan: ScanHandle, wishes: readonly ScanWish[]): void {
    if (wishes.length > 0)
      checked(this.#c.mcr_scan_wish(scan, encode("mcr_scan_wish", wishes), wishes.length));
  }

  closeScan(scan: ScanHandle): void {
    this.#c.mcr_scan_close(scan);
  }

  #structs<Name extends keyof typeof layouts>(
    name: Name,
    start: Pointer | bigint | null,
    count: number,
  ): Decoded<Name>[] {
    if (count === 0) return [];
    const { size } = layouts[name];
    const view = new DataView(toArrayBuffer(start as Pointer, 0, size * count));
    return Array.from({ length: count }, (_, i) => decode(name, view, i * size));
  }

  // -- system.c

  /** The interface as it is now, or undefined when there is none of this name. */
  readInterface(name: string): Interface | undefined {
    const out = new Uint8Array(layouts.mcr_interface.size);
    if (this.#c.mcr_interface_read(cString(name), out) < 0) return undefined;
    return decode("mcr_interface", new DataView(out.buffer));
  }

  /** One datagram to a Unix socket, "@name" being an abstract one. Never blocks: EAGAIN when the reader is behind. */
  notify(path: string, message: string): void {
    const bytes = Buffer.from(message);
    checked(this.#c.mcr_notify(cString(path), bytes, bytes.length));
  }

  /** CLOCK_MONOTONIC, µs. */
  monotonicUs(): number {
    return Number(this.#c.mcr_monotonic_us());
  }

  close(fd: number): void {
    this.#c.mcr_close(fd);
  }

  /** Who has connected to a Unix socket, and whether `gid` is one of its groups. */
  readPeer(
    fd: number,
    gid: number,
  ): { readonly pid: number; readonly uid: number; readonly isInGroup: boolean } {
    const out = new Uint8Array(layouts.mcr_peer.size);
    checked(this.#c.mcr_peer_read(fd, gid, out));
    const { pid, uid, in_group } = decode("mcr_peer", new DataView(out.buffer));
    return { pid, uid, isInGroup: in_group === 1 };
  }

  // -- netlink.c

  /** One request to NETLINK_ROUTE and the messages of its answer. EINTR: what is listed changed meanwhile. */
  netlink(request: Uint8Array): Uint8Array {
    for (let bytes = netlinkBytes; ; bytes *= 4) {
      const answer = new Uint8Array(bytes);
      const result = this.#c.mcr_netlink(request, request.length, answer, bytes);
      if (result === -osConstants.errno.EMSGSIZE && bytes < netlinkBytesMax) continue;
      return answer.subarray(0, checked(result));
    }
  }
}
