// Reads the counters that the workers write: slot of a worker, or the sum over all workers. Reading disturbs nobody.
// What lies where is drawn in c/mcr.h; the names are those of its structs.
import { counterArea } from "../native/layouts.ts";
import type { CounterArea } from "../native/shim.ts";
import { type AddedLatency, sumOfLatencies } from "./latency.ts";

type Kind = "worker" | "interface" | "rule" | "egress";
type Counts<K extends Kind> = Readonly<Record<(typeof counterArea)[K][number], number>>;

const wordBytes = 8;
const nsPerMs = 1_000_000;
const { bytes, interfacesMax, rulesMax, egressesMax } = counterArea;
const start: Readonly<Record<Kind, number>> = {
  worker: 0,
  interface: bytes.worker,
  rule: bytes.worker + interfacesMax * bytes.interface,
  egress: bytes.worker + interfacesMax * bytes.interface + rulesMax * bytes.rule,
};
const latencyStart = start.egress + egressesMax * bytes.egress;

export type InterfaceCounts = Counts<"interface">;
export type RuleCounts = Counts<"rule">;
export type EgressCounts = Counts<"egress">;
export type WorkerCounts = Counts<"worker">;

export interface Traffic {
  readonly packets: number;
  readonly bytes: number;
}

/** Last values, not sums: the newest or highest of the workers stands for all. */
const lastValues: ReadonlySet<string> = new Set(["last_ns", "sampled_ns", "last_errno"]);

export class Counters {
  /** @param areas one per worker, each as c/mcr.h draws it. */
  constructor(readonly areas: readonly CounterArea[]) {}

  interface(slot: number, worker?: number): InterfaceCounts {
    return this.#read("interface", slot, worker);
  }
  rule(slot: number, worker?: number): RuleCounts {
    return this.#read("rule", slot, worker);
  }
  egress(slot: number, worker?: number): EgressCounts {
    return this.#read("egress", slot, worker);
  }
  worker(worker: number): WorkerCounts {
    return this.#read("worker", 0, worker);
  }

  /** What mcr added to the way of this rule's packets, of all workers. */
  latency(slot: number): AddedLatency {
    return sumOfLatencies(this.areas.map((area) => readLatency(area, slot)));
  }
  /** The same of all rules there ever were. */
  latencyOfAll(): AddedLatency {
    return this.latency(rulesMax);
  }

  /** When the last packet of this rule arrived, ms since 1970; 0 when there was none. */
  lastPacketMs(slot: number): number {
    return Math.max(0, ...this.areas.map((area) => this.#word(area, "rule", slot, 2))) / nsPerMs;
  }

  /** Packets this egress refused so far, full and error, and the last errno. Cheap: it is asked for every egress. */
  egressRefused(slot: number): { readonly packets: number; readonly errno: number } {
    let packets = 0;
    let errno = 0;
    for (const area of this.areas) {
      packets += this.#word(area, "egress", slot, 2) + this.#word(area, "egress", slot, 3);
      errno = Math.max(errno, this.#word(area, "egress", slot, 5));
    }
    return { packets, errno };
  }

  /** Packets that came back to the rule, and those of them that the egress had sent. Cheap as well. */
  looped(ruleSlot: number): number {
    return this.#sum("rule", ruleSlot, counterArea.rule.indexOf("looped"));
  }
  returned(egressSlot: number): number {
    return this.#sum("egress", egressSlot, counterArea.egress.indexOf("returned_packets"));
  }

  /** Cheap, as `egressRefused`: asked for everything once a second. */
  ruleTraffic(slot: number): Traffic {
    return this.#traffic("rule", slot);
  }
  egressTraffic(slot: number): Traffic {
    return this.#traffic("egress", slot);
  }

  /** Both begin with their packets and bytes. */
  #traffic(kind: Kind, slot: number): Traffic {
    let packets = 0;
    let bytes = 0;
    for (const area of this.areas) {
      packets += this.#word(area, kind, slot, 0);
      bytes += this.#word(area, kind, slot, 1);
    }
    return { packets, bytes };
  }

  #sum(kind: Kind, slot: number, index: number): number {
    return this.areas.reduce((sum, area) => sum + this.#word(area, kind, slot, index), 0);
  }

  #word(area: CounterArea, kind: Kind, slot: number, index: number): number {
    return wordAt(area, (start[kind] + slot * bytes[kind]) / wordBytes + index);
  }

  #read<K extends Kind>(kind: K, slot: number, worker?: number): Counts<K> {
    const areas = worker === undefined ? this.areas : this.areas.slice(worker, worker + 1);
    const first = (start[kind] + slot * bytes[kind]) / wordBytes;
    const names: readonly (typeof counterArea)[K][number][] = counterArea[kind];
    // The last first: a worker counts a packet before it counts what became of it, so there is no more of that (mcr.h).
    const entries = [...names.entries()].reverse().map(([index, name]) => {
      const values = areas.map((area) => wordAt(area, first + index));
      const total = lastValues.has(name) ? Math.max(0, ...values) : values.reduce((sum, n) => sum + n, 0);
      return [name, total];
    });
    return Object.fromEntries(entries.reverse());
  }
}

function readLatency(area: CounterArea, slot: number): AddedLatency | undefined {
  const first = (latencyStart + slot * bytes.addedLatency) / wordBytes;
  if (wordAt(area, first) === 0) return undefined;
  const buckets = first + counterArea.addedLatency.length;
  return {
    sum_ns: wordAt(area, first + 1),
    max_ns: wordAt(area, first + 2),
    buckets: Array.from({ length: counterArea.addedLatencyBuckets }, (_, b) => wordAt(area, buckets + b)),
  };
}

function wordAt(area: CounterArea, index: number): number {
  return Number(area.at(index) ?? 0n);
}
