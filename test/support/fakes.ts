// Stand-ins for unit tests: a shim that behaves as the kernel does, a log that is read back, counters that are
// written by hand, rules from the few keys a test is about. Nothing here opens a socket.

import { constants } from "node:os";
import * as v from "valibot";
import type { Clock } from "../../src/clock.ts";
import { type Egress, type Rule, RuleSchema } from "../../src/config/schema.ts";
import { Log, type LogSettings } from "../../src/log.ts";
import { counterArea } from "../../src/native/layouts.ts";
import type {
  AddressRange,
  CounterArea,
  EgressOptions,
  LinkHandle,
  QueryRingHandle,
  RingHandle,
  RingOptions,
} from "../../src/native/shim.ts";
import { SystemError } from "../../src/native/system-error.ts";
import type { RingShim } from "../../src/net/capture.ts";
import type { InterfaceState } from "../../src/net/interfaces.ts";
import type { MemberShim } from "../../src/net/memberships.ts";
import { type EgressShim, RunningEgress, RunningRule } from "../../src/net/running.ts";

export type ErrnoName = keyof typeof constants.errno;

export function systemError(name: ErrnoName): SystemError {
  return new SystemError(constants.errno[name]);
}

// -- rules and interfaces

export const startMs = Date.UTC(2026, 0, 2, 3, 4, 5);

/** A rule as the file would give it: canonical, with its defaults filled in. */
export function ruleOf(rule: {
  readonly name?: string;
  readonly ingress?: Readonly<Record<string, unknown>>;
  readonly egress?: readonly Readonly<Record<string, unknown>>[];
}): Rule {
  return v.parse(RuleSchema, {
    name: rule.name ?? "studio-a",
    ingress: rule.ingress ?? { interface: "veth1", group: "239.1.1.1", port: 5001 },
    egress: rule.egress ?? [{ interface: "veth2" }],
  });
}

export function egressOf(egress: Readonly<Record<string, unknown>> = {}): Egress {
  const [first] = ruleOf({ egress: [{ interface: "veth2", ...egress }] }).egress;
  if (!first) throw new Error("a rule has an egress");
  return first;
}

/** The rule in slot `slot`, its egresses in the slots from `egressSlot` on; no socket is open yet. */
export function runningRule(rule: Rule, slot = 0, egressSlot = 0): RunningRule {
  const egresses = rule.egress.map((egress, index) => new RunningEgress(egress, egressSlot + index, startMs));
  return new RunningRule(rule, slot, egresses, startMs);
}

/** 10.0.1.1 as the shim gives it: the four bytes in network order, read as a little-endian number. */
export const veth2Address = 0x0101000a;
/** 02:00:00:00:00:01 as the shim gives it. */
export const veth2Mac = 0x0100_0000_0002;

export function interfaceState(changes: Partial<InterfaceState> = {}): InterfaceState {
  return {
    name: "veth2",
    ifindex: 4,
    mtu: 1500,
    address: veth2Address,
    mac: veth2Mac,
    type: 1,
    isUp: true,
    hasCarrier: true,
    ...changes,
  };
}

// -- time

/** Stands still until a test moves it. */
export class FakeClock implements Clock {
  /** What has elapsed; it need not begin at 0. */
  ms = startMs;
  /** By how much somebody has set the time of day. */
  setByMs = 0;
  readonly nowMs = () => this.ms + this.setByMs;
  readonly elapsedMs = () => this.ms;
}

// -- log

export interface RecordedLog {
  readonly log: Log;
  /** As the journal gets them, without the line end: `<6>[Ingress] …`. */
  readonly lines: string[];
  readonly clock: FakeClock;
}

export function recordedLog(settings: Partial<LogSettings> = {}): RecordedLog {
  const lines: string[] = [];
  const clock = new FakeClock();
  return {
    lines,
    clock,
    log: new Log(
      { level: "info", format: "text", facility: {}, ...settings },
      {
        write: (line) => void lines.push(line.slice(0, -1)),
        clock,
        isJournal: true,
      },
    ),
  };
}

// -- counters

type Kind = "worker" | "interface" | "rule" | "egress";
const { bytes, interfacesMax, rulesMax, egressesMax } = counterArea;
const interfaceStart = bytes.worker;
const ruleStart = interfaceStart + interfacesMax * bytes.interface;
const egressStart = ruleStart + rulesMax * bytes.rule;
const start: Readonly<Record<Kind, number>> = {
  worker: 0,
  interface: interfaceStart,
  rule: ruleStart,
  egress: egressStart,
};
const egressSlotsHere = 64;
const latencyStart = egressStart + egressesMax * bytes.egress;

/** The counter area of one worker, as far as tests use it. */
export class FakeCounterArea implements CounterArea {
  readonly words = new BigUint64Array((egressStart + egressSlotsHere * bytes.egress) / 8);
  /** The histograms lie far behind, one for each rule there may ever be. */
  readonly #latencyWords = new Map<number, bigint>();

  at(word: number): bigint | undefined {
    return this.words.at(word) ?? this.#latencyWords.get(word);
  }

  setLatency(
    slot: number,
    head: { readonly sum_ns?: number; readonly max_ns?: number },
    buckets: Readonly<Record<number, number>>,
  ): this {
    const first = (latencyStart + slot * bytes.addedLatency) / 8;
    const samples = Object.values(buckets).reduce((sum, count) => sum + count, 0);
    const words = [samples, head.sum_ns ?? 0, head.max_ns ?? 0];
    words.forEach((value, index) => void this.#latencyWords.set(first + index, BigInt(value)));
    for (const [bucket, count] of Object.entries(buckets))
      this.#latencyWords.set(first + words.length + Number(bucket), BigInt(count));
    return this;
  }

  set<K extends Kind>(
    kind: K,
    slot: number,
    counts: Readonly<Partial<Record<(typeof counterArea)[K][number], number>>>,
  ): this {
    const names: readonly string[] = counterArea[kind];
    for (const [name, value] of Object.entries<number | undefined>(counts))
      this.words[(start[kind] + slot * bytes[kind]) / 8 + names.indexOf(name)] = BigInt(value ?? 0);
    return this;
  }
}

// -- shims

/**
 * Memberships as the kernel keeps them (net/ipv4/igmp.c): per socket at most `groupsMax` groups, per group at most
 * `sourcesMax` sources, a group of a socket from any source or from named ones, never both.
 */
export class FakeMembers implements MemberShim {
  groupsMax = 20;
  sourcesMax = 10;
  /** Sockets opened so far. */
  opened = 0;
  /** `join 3 239.1.1.1 *`: what was asked, in order, without the socket. */
  readonly calls: string[] = [];
  /** Interfaces that are no more. */
  readonly gone = new Set<number>();
  /** Groups that are accepted and then not listed. */
  readonly unlisted = new Set<string>();
  /** Refuses joins of a group for a reason of its own. */
  readonly refused = new Map<string, ErrnoName>();
  /** fd → `ifindex group` → sources, or "any". */
  readonly sockets = new Map<number, Map<string, Set<string> | "any">>();

  openMember(): number {
    this.opened += 1;
    const fd = 100 + this.opened;
    this.sockets.set(fd, new Map());
    return fd;
  }

  close(fd: number): void {
    if (!this.sockets.delete(fd)) throw new Error(`descriptor ${fd} is not open`);
  }

  join(fd: number, ifindex: number, group: Uint8Array, source: Uint8Array): void {
    const [key, from] = this.#read("join", ifindex, group, source);
    const held = this.#socket(fd);
    const error = this.refused.get(ipv4Of(group));
    if (error) throw systemError(error);
    if (this.gone.has(ifindex)) throw systemError("ENODEV");
    const sources = held.get(key);
    if (!sources && held.size >= this.groupsMax) throw systemError("ENOBUFS");
    if (from === undefined) {
      if (sources) throw systemError("EADDRINUSE");
      held.set(key, "any");
      return;
    }
    if (sources === "any") throw systemError("EINVAL");
    if (sources?.has(from)) throw systemError("EADDRNOTAVAIL");
    if (sources && sources.size >= this.sourcesMax) throw systemError("ENOBUFS");
    held.set(key, new Set(sources).add(from));
  }

  leave(fd: number, ifindex: number, group: Uint8Array, source: Uint8Array): void {
    const [key, from] = this.#read("leave", ifindex, group, source);
    const held = this.#socket(fd);
    if (this.gone.has(ifindex)) throw systemError("ENODEV");
    const sources = held.get(key);
    if (!sources) throw systemError("EADDRNOTAVAIL");
    if (from === undefined || sources === "any") {
      if (from !== undefined || sources !== "any") throw systemError("EINVAL");
      held.delete(key);
      return;
    }
    if (!sources.delete(from)) throw systemError("EADDRNOTAVAIL");
    if (sources.size === 0) held.delete(key);
  }

  /** Groups in each open socket, in the order the sockets were opened. */
  get groupsPerSocket(): readonly number[] {
    return [...this.sockets.values()].map((groups) => groups.size);
  }

  /** What /proc/net/igmp would list; `names` tells which interface has which index. */
  listed(names: ReadonlyMap<number, string>): ReadonlyMap<string, ReadonlySet<string>> {
    const listed = new Map([...names.values()].map((name) => [name, new Set(["224.0.0.1"])]));
    for (const groups of this.sockets.values())
      for (const key of groups.keys()) {
        const [ifindex = "", group = ""] = key.split(" ");
        if (!this.unlisted.has(group)) listed.get(names.get(Number(ifindex)) ?? "")?.add(group);
      }
    return listed;
  }

  #read(verb: string, ifindex: number, group: Uint8Array, source: Uint8Array) {
    const key = `${ifindex} ${ipv4Of(group)}`;
    const from = source.every((byte) => byte === 0) ? undefined : ipv4Of(source);
    this.calls.push(`${verb} ${key} ${from ?? "*"}`);
    return [key, from] as const;
  }

  #socket(fd: number): Map<string, Set<string> | "any"> {
    const held = this.sockets.get(fd);
    if (!held) throw new Error(`descriptor ${fd} is not open`);
    return held;
  }
}

/** 16 bytes back to text; anything but a mapped IPv4 address is a mistake here. */
export function ipv4Of(address: Uint8Array): string {
  const mapped = address.length === 16 && address.subarray(0, 12).toHex() === "00000000000000000000ffff";
  if (!mapped) throw new Error(`${address.toHex()} is not an IPv4 address`);
  return address.subarray(12).join(".");
}

function isRingHandle(value: number): value is RingHandle {
  return Number.isSafeInteger(value) && value > 0;
}

/** A handle that no C function ever sees. */
export function ringHandle(value: number): RingHandle {
  if (!isRingHandle(value)) throw new Error(`${value} is no handle`);
  return value;
}

function isLinkHandle(value: number): value is LinkHandle {
  return isRingHandle(value);
}

export function linkHandle(value: number): LinkHandle {
  if (!isLinkHandle(value)) throw new Error(`${value} is no handle`);
  return value;
}

function isQueryRingHandle(value: number): value is QueryRingHandle {
  return isRingHandle(value);
}

export function queryRingHandle(value: number): QueryRingHandle {
  if (!isQueryRingHandle(value)) throw new Error(`${value} is no handle`);
  return value;
}

export class FakeRings implements RingShim {
  /** Fails at the ring of this number, counted from 0. */
  failAt: number | undefined;
  fanoutId = 7;
  readonly opened: RingOptions[] = [];
  readonly closed: RingHandle[] = [];
  readonly filters: { readonly ring: RingHandle; readonly ranges: readonly AddressRange[] }[] = [];
  readonly drops = new Map<RingHandle, number>();
  readonly unread = new Map<RingHandle, number>();

  openRings(options: readonly RingOptions[]): readonly (RingHandle | SystemError)[] {
    return options.map((each) => this.openRing(each));
  }
  openRing(options: RingOptions): RingHandle | SystemError {
    if (this.opened.length === this.failAt) return systemError("ENOMEM");
    this.opened.push(options);
    return ringHandle(this.opened.length);
  }
  /** 0: rings by block. */
  receiveBytes = 0;
  ringReceiveBytes(): number {
    return this.receiveBytes;
  }

  ringFanoutId(): number {
    return this.fanoutId;
  }
  filterRing(ring: RingHandle, ranges: readonly AddressRange[]): void {
    this.filters.push({ ring, ranges });
  }
  takeRingDrops(ring: RingHandle): number {
    const drops = this.drops.get(ring) ?? 0;
    this.drops.delete(ring);
    return drops;
  }
  /** Blocks or frames that workers took. */
  readonly taken = new Map<RingHandle, number>();
  ringTaken(ring: RingHandle): number {
    return this.taken.get(ring) ?? 0;
  }
  /** Their interface was taken away. */
  readonly unbound = new Set<RingHandle>();
  isRingBound(ring: RingHandle): boolean {
    return !this.unbound.has(ring);
  }
  ringUnread(ring: RingHandle): number {
    return this.unread.get(ring) ?? 0;
  }
  discardRing(ring: RingHandle): number {
    return this.ringUnread(ring);
  }
  closeRing(ring: RingHandle): void {
    if (this.closed.includes(ring)) throw new Error(`ring ${ring} is closed twice`);
    this.closed.push(ring);
  }
}

export class FakeEgresses implements EgressShim {
  /** The next open fails so. */
  refusal: ErrnoName | undefined;
  readonly opened: EgressOptions[] = [];
  readonly closed: number[] = [];

  openEgress(options: EgressOptions): number {
    if (this.refusal) throw systemError(this.refusal);
    this.opened.push(options);
    return 200 + this.opened.length;
  }
  /** 40001 for the first socket, 40002 for the second … unless one was asked for. */
  egressPort(fd: number): number {
    return this.opened[fd - 201]?.source_port || 40_000 + fd - 200;
  }
  close(fd: number): void {
    this.closed.push(fd);
  }
}
