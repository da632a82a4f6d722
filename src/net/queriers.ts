// Who asks for members on the interfaces where rules join groups: a query ring for each (c/query.c), beside its capture
// and for as long. A switch that snoops passes a group on only while somebody asks, so when the last query came, and
// from whom, is evidence. The last one is remembered by the interface's name, also while that is gone.
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import type { QueryRingHandle, RawPacket, Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { readIgmp } from "../wire/membership.ts";
import type { Address } from "./address.ts";

/** A member that nobody has asked for so long is forgotten: RFC 3376 section 8.4, with the usual timers. */
export const membershipMs = 260_000;
const nsPerMs = 1_000_000;

export type QuerierShim = Pick<Shim, "openQueryRing" | "readQueryRing" | "closeQueryRing">;

export interface LastQuery {
  /** Kernel receive time, since 1970. */
  readonly timeMs: number;
  /** 0.0.0.0: of a switch that asks for want of a router. */
  readonly from: Address;
  /** Of IGMP. */
  readonly version: number;
}

export interface Listening {
  readonly last: LastQuery | undefined;
  /** Without a gap; undefined: nobody listens now. */
  readonly sinceMs: number | undefined;
}

interface Network {
  ring: { readonly handle: QueryRingHandle; readonly ifindex: number; readonly sinceMs: number } | undefined;
  last: LastQuery | undefined;
  /** When `last` was read from the ring; by the clock that is never set. */
  heardAtMs: number;
  /** Somebody asks, as far as can be told. */
  hasQuerier: boolean;
  hasFailed: boolean;
}

export interface QueriersDependencies {
  readonly shim: QuerierShim;
  readonly log: Log;
  readonly clock: Clock;
  /** Another one asks than before, or nobody has for `membershipMs`. */
  readonly onChange: (change: "heard" | "silent", interfaceName: string, last: LastQuery) => void;
}

export class Queriers {
  readonly #networks = new Map<string, Network>();

  constructor(readonly deps: QueriersDependencies) {}

  /** Listens on those of the wanted interfaces that are captured now, and forgets all that are not wanted. */
  listen(wanted: ReadonlySet<string>, captured: ReadonlyMap<string, { readonly ifindex: number }>): void {
    this.take();
    for (const [name, network] of this.#networks) {
      const isWanted = wanted.has(name);
      if (!isWanted || network.ring?.ifindex !== captured.get(name)?.ifindex) this.#close(network);
      if (!isWanted) this.#networks.delete(name);
    }
    for (const name of wanted) {
      const network = this.#networks.get(name) ?? newNetwork();
      this.#networks.set(name, network);
      const ifindex = captured.get(name)?.ifindex;
      if (!network.ring && ifindex !== undefined) this.#open(name, network, ifindex);
    }
  }

  /** What has come since the last call. Costs no system call. */
  take(): void {
    const elapsedMs = this.deps.clock.elapsedMs();
    for (const [name, network] of this.#networks) {
      const { ring, last, hasQuerier } = network;
      const heard = ring && newestQuery(this.deps.shim.readQueryRing(ring.handle));
      if (heard) {
        network.last = heard;
        network.heardAtMs = elapsedMs;
        network.hasQuerier = true;
        if (!hasQuerier || heard.from !== last?.from) this.#tellHeard(name, heard);
      } else if (last && hasQuerier && elapsedMs - network.heardAtMs > membershipMs) {
        network.hasQuerier = false;
        this.#tellSilent(name, last);
      }
    }
  }

  /** Somewhere nobody listens who should; `listen` tries again. */
  get hasFailure(): boolean {
    return [...this.#networks.values()].some(({ ring, hasFailed }) => !ring && hasFailed);
  }

  /** By name, in no order. */
  get all(): ReadonlyMap<string, Listening> {
    return new Map(
      [...this.#networks].map(([name, { ring, last }]) => [name, { last, sinceMs: ring?.sinceMs }]),
    );
  }

  close(): void {
    for (const network of this.#networks.values()) this.#close(network);
  }

  #open(name: string, network: Network, ifindex: number): void {
    const { shim, log, clock } = this.deps;
    try {
      network.ring = { handle: shim.openQueryRing(ifindex), ifindex, sinceMs: clock.nowMs() };
      network.hasFailed = false;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (!network.hasFailed)
        log.warning("Network", `cannot listen for IGMP queries on ${name}: ${error.message}; rules run on`);
      network.hasFailed = true;
    }
  }

  #close(network: Network): void {
    if (network.ring) this.deps.shim.closeQueryRing(network.ring.handle);
    network.ring = undefined;
  }

  /** Two that ask in turn, until one gives way, are no line each. */
  #tellHeard(name: string, last: LastQuery): void {
    const { log, onChange } = this.deps;
    log.writeRepeating(
      `querier ${name}`,
      "Network",
      "info",
      `querier on ${name}: ${last.from} (IGMPv${last.version})`,
    );
    onChange("heard", name, last);
  }

  #tellSilent(name: string, last: LastQuery): void {
    const { log, onChange } = this.deps;
    const silence = `no IGMP query on ${name} for ${membershipMs / 1000} s, the last one came from ${last.from}`;
    log.warning("Network", `${silence}: a switch that snoops passes nothing on without a querier`);
    onChange("silent", name, last);
  }
}

/** @param packets the newest one first; some may be damaged. */
function newestQuery(packets: readonly RawPacket[]): LastQuery | undefined {
  for (const { bytes, time_ns } of packets) {
    const query = readIgmp(bytes)?.find(({ kind }) => kind === "query");
    const timeMs = Math.floor(time_ns / nsPerMs);
    if (query) return { timeMs, from: bytes.subarray(12, 16).join("."), version: query.version };
  }
  return undefined;
}

function newNetwork(): Network {
  return { ring: undefined, last: undefined, heardAtMs: 0, hasQuerier: false, hasFailed: false };
}
