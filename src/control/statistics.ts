// What a relay has counted since its start: the workers' counters, what removed rules leave to totals and metrics, and
// what only time tells: rates, load, when drops begin and end. relay.ts feeds it, answers.ts reads it.
import type { Clock } from "../clock.ts";
import type { RunningRule } from "../net/running.ts";
import type { Counters } from "../stats/counters.ts";
import { DropWatch } from "../stats/drops.ts";
import { cumulativeBuckets, samplesOf } from "../stats/latency.ts";
import { LoadMeter } from "../stats/load.ts";
import { Rates } from "../stats/rates.ts";
import { Retired } from "../stats/retired.ts";
import type { Events } from "./events.ts";
import { type MetricsSource, PastCounts, type RuleMetrics } from "./metrics.ts";
import type { RuleSnapshot, Stats } from "./protocol.ts";
import { type DropPlace, dropCounters, ruleSnapshot, type Source, statsSnapshot } from "./snapshot.ts";

/** The load of a worker is that of so long. */
const loadWindowMs = 5_000;

/** What counts at this moment. */
export type Counting = Pick<Source, "rules" | "leaving" | "interfaces">;

export class Statistics {
  readonly #load: LoadMeter;
  readonly #retired: Retired;
  readonly #past = new PastCounts();
  readonly #rates: Rates;
  readonly #drops = new DropWatch<DropPlace>();

  constructor(
    readonly counters: Counters,
    /** CPU of each worker, in order. */
    readonly cpus: readonly number[],
    readonly clock: Clock,
  ) {
    this.#load = new LoadMeter(counters, loadWindowMs, clock.elapsedMs());
    this.#rates = new Rates(clock.elapsedMs);
    this.#retired = new Retired(counters);
  }

  /** Once a tick: takes down what time will tell of, and tells which drops began or ended. */
  take({ rules, interfaces }: Counting, events: Events): void {
    const elapsedMs = this.clock.elapsedMs();
    this.#load.take(elapsedMs);
    if (this.#rates.isDue) this.#rates.sample(trafficOf(rules, this.counters));
    if (!events.hasListeners) {
      this.#drops.forget();
      return;
    }
    const counters = dropCounters(rules, interfaces, this.counters);
    for (const { change, place, packets } of this.#drops.look(counters, elapsedMs))
      events.tell({ event: "drops", change, ...place, packets });
  }

  /** Keeps the counts of a rule that no worker counts for any more. */
  retire(running: RunningRule): void {
    this.#past.add(this.#metricsOf(running));
    for (const { slot } of running.egresses) this.#retired.add(slot);
  }

  ruleSnapshots(rules: readonly RunningRule[]): readonly RuleSnapshot[] {
    return rules.map((running) => ruleSnapshot(running, this.counters, this.#rates));
  }

  stats(counting: Counting, igmp: Stats["igmp"], devices: Source["devices"] = []): Stats {
    const source = {
      ...counting,
      devices,
      counters: this.counters,
      rates: this.#rates,
      retired: this.#retired.workers,
      cpus: this.cpus,
      loadPercent: this.#load.percent(this.clock.elapsedMs()),
    };
    return statsSnapshot(source, igmp, this.clock.nowMs());
  }

  /** What metrics tell of rules, with what they told of those that are gone. */
  ruleMetrics(
    { rules, leaving }: Pick<Counting, "rules" | "leaving">,
    stats: Stats,
  ): Pick<MetricsSource, "rules" | "leaving" | "past"> {
    const snapshots = new Map(stats.rules.map((rule) => [rule.name, rule]));
    return {
      rules: rules.map((running) => this.#metricsOf(running, snapshots.get(running.rule.name))),
      leaving: leaving.map((running) => this.#metricsOf(running)),
      past: this.#past,
    };
  }

  #metricsOf(running: RunningRule, rule = ruleSnapshot(running, this.counters)): RuleMetrics {
    const latency = this.counters.latency(running.slot);
    const cumulative = cumulativeBuckets(latency);
    return { rule, latency: { sum_ns: latency.sum_ns, samples: samplesOf(latency), cumulative } };
  }
}

function* trafficOf(
  rules: readonly RunningRule[],
  counters: Counters,
): Generator<[what: object, packets: number, bytes: number]> {
  for (const running of rules) {
    const { packets, bytes } = counters.ruleTraffic(running.slot);
    yield [running, packets, bytes];
    for (const egress of running.egresses) {
      const sent = counters.egressTraffic(egress.slot);
      yield [egress, sent.packets, sent.bytes];
    }
  }
}
