// What the rest of mcr calls: the shim's functions with TypeScript's types, errors thrown as SystemError.
// Handles are opaque; whoever opens one closes it. No other folder imports bun:ffi.
import { type Pointer, ptr, read, toArrayBuffer } from "bun:ffi";
import { encode, instrumentCounters, type Struct } from "./layouts.ts";
import { extractLibrary, type Library, openLibrary } from "./library.ts";
import { checked, SystemError } from "./system-error.ts";

declare const kind: unique symbol;
type Handle<Kind extends string> = Pointer & { readonly [kind]: Kind };
export type RelayHandle = Handle<"relay">;
export type RingHandle = Handle<"ring">;
export type TableHandle = Handle<"table">;
export type RingOptions = Struct<"mcr_ring_options">;
export type EgressOptions = Struct<"mcr_egress_options">;
export type AddressRange = Struct<"mcr_address_range">;
export type GeneratorHandle = Handle<"generator">;
export type ReceiverHandle = Handle<"receiver">;
export type StreamSpec = Struct<"mcr_stream_spec">;
/** Without what points into memory: that is given beside it. */
export type GeneratorOptions = Omit<
  Struct<"mcr_generator_options">,
  "streams" | "stream_count" | "body" | "body_bytes"
>;
export type ReceiverOptions = Omit<Struct<"mcr_receiver_options">, "streams" | "stream_count">;
export type Interface = Struct<"mcr_interface">;

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
}

/** A stream that could not be opened: which one, and the kernel's reason. */
export class StreamError extends SystemError {
  constructor(
    errno: number,
    readonly stream: number,
  ) {
    super(errno);
  }
}

/** Live 64-bit counters, by number of the word; undefined beyond the end. A BigUint64Array is one. */
export interface CounterArea {
  at(word: number): bigint | undefined;
}

export type RunResult = "again" | "stopped";

function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

function opened<H extends Pointer>(open: (error: Int32Array) => Pointer | bigint | null): H {
  const error = new Int32Array(1);
  const handle = open(error) as H | null;
  if (handle === null) throw new SystemError(-(error[0] ?? 0));
  return handle;
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

  openRing(options: RingOptions): RingHandle {
    const bytes = encode("mcr_ring_options", [options]);
    return opened((error) => this.#c.mcr_ring_open(bytes, error));
  }

  ringFanoutId(ring: RingHandle): number {
    return this.#c.mcr_ring_fanout_id(ring);
  }

  filterRing(ring: RingHandle, ranges: readonly AddressRange[]): void {
    checked(this.#c.mcr_ring_filter(ring, encode("mcr_address_range", ranges), ranges.length));
  }

  /** Frames dropped because the ring was full, since the last call. */
  takeRingDrops(ring: RingHandle): number {
    return checked(Number(this.#c.mcr_ring_drops(ring)));
  }

  closeRing(ring: RingHandle): void {
    this.#c.mcr_ring_close(ring);
  }

  // -- rules.c

  buildTable(relay: RelayHandle, parts: TableParts): TableHandle {
    const rings = encode("mcr_ring_spec", parts.rings);
    const matches = encode("mcr_match_spec", parts.matches);
    const flows = encode("mcr_flow_spec", parts.flows);
    const actions = encode("mcr_action_spec", parts.actions);
    const egresses = encode("mcr_egress_spec", parts.egresses);
    const spec = encode("mcr_table_spec", [
      {
        rings: ptr(rings),
        matches: ptr(matches),
        flows: ptr(flows),
        actions: ptr(actions),
        egresses: ptr(egresses),
        ring_count: parts.rings.length,
        match_count: parts.matches.length,
        flow_count: parts.flows.length,
        action_count: parts.actions.length,
        egress_count: parts.egresses.length,
        epoch: parts.epoch,
      },
    ]);
    const table = opened<TableHandle>((error) => this.#c.mcr_table_build(relay, spec, error));
    // The pointers in spec do not keep these alive for the collector; this use after the call does.
    [rings, matches, flows, actions, egresses].forEach((part) => void part.byteLength);
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

  // -- generator.c

  openGenerator(
    options: GeneratorOptions,
    streams: readonly StreamSpec[],
    body: Uint8Array,
  ): GeneratorHandle {
    const specs = encode("mcr_stream_spec", streams);
    const bodyBytes = body.length === 0 ? new Uint8Array(1) : body;
    const pointers = { streams: ptr(specs), body: ptr(bodyBytes) };
    const counts = { stream_count: streams.length, body_bytes: body.length };
    const spec = encode("mcr_generator_options", [{ ...options, ...pointers, ...counts }]);
    const generator = opened<GeneratorHandle>((error) => this.#c.mcr_generator_open(spec, error));
    // As in buildTable: alive until here.
    [specs, bodyBytes].forEach((part) => void part.byteLength);
    return generator;
  }

  /** Blocks for about budgetMs. True when all is sent. */
  runGenerator(generator: GeneratorHandle, budgetMs: number): boolean {
    return checked(this.#c.mcr_generator_run(generator, budgetMs)) === 1;
  }

  /** Live: the counters of layouts.ts, then the packets sent of each stream. */
  generatorCounters(generator: GeneratorHandle, streams: number): BigUint64Array {
    const bytes = instrumentCounters.bytes.generator + 8 * streams;
    return this.#words(this.#c.mcr_generator_counters(generator), bytes);
  }

  closeGenerator(generator: GeneratorHandle): void {
    this.#c.mcr_generator_close(generator);
  }

  // -- receiver.c

  /** Throws StreamError where one stream is to blame. */
  openReceiver(options: ReceiverOptions, streams: readonly StreamSpec[]): ReceiverHandle {
    const specs = encode("mcr_stream_spec", streams);
    const counts = { streams: ptr(specs), stream_count: streams.length };
    const spec = encode("mcr_receiver_options", [{ ...options, ...counts }]);
    const failed = new Uint32Array(1);
    try {
      return opened((error) => this.#c.mcr_receiver_open(spec, failed, error));
    } catch (error) {
      const stream = failed[0] ?? streams.length;
      if (!(error instanceof SystemError) || stream >= streams.length) throw error;
      throw new StreamError(error.errno, stream);
    } finally {
      void specs.byteLength;
    }
  }

  /** Blocks for about budgetMs. True when what was expected came. */
  runReceiver(receiver: ReceiverHandle, budgetMs: number): boolean {
    return checked(this.#c.mcr_receiver_run(receiver, budgetMs)) === 1;
  }

  /** Live: the counters of layouts.ts for each stream in turn. */
  receiverCounters(receiver: ReceiverHandle, streams: number): BigUint64Array {
    return this.#words(this.#c.mcr_receiver_counters(receiver), instrumentCounters.bytes.stream * streams);
  }

  /** Live: the head and the buckets of layouts.ts. */
  receiverLatency(receiver: ReceiverHandle): BigUint64Array {
    const { bytes, latencyBuckets } = instrumentCounters;
    return this.#words(this.#c.mcr_receiver_latency(receiver), bytes.latency + 8 * latencyBuckets);
  }

  receiverBufferBytes(receiver: ReceiverHandle): number {
    return checked(this.#c.mcr_receiver_buffer_bytes(receiver));
  }

  closeReceiver(receiver: ReceiverHandle): void {
    this.#c.mcr_receiver_close(receiver);
  }

  #words(start: Pointer | bigint | null, bytes: number): BigUint64Array {
    return new BigUint64Array(toArrayBuffer(start as Pointer, 0, bytes));
  }

  // -- system.c

  /** The interface as it is now, or undefined when there is none of this name. */
  readInterface(name: string): Interface | undefined {
    const out = new Uint32Array(4);
    if (this.#c.mcr_interface_read(cString(name), out) < 0) return undefined;
    const [ifindex = 0, flags = 0, mtu = 0, address = 0] = out;
    return { ifindex, flags, mtu, address };
  }

  close(fd: number): void {
    this.#c.mcr_close(fd);
  }
}
