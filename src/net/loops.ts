// What comes back to the rules that sent it: the origins that the workers look for (c/mcr.h, mcr_origin_spec), and what
// the log says of packets that were dropped as looped. The relay asks for origins with every rule table, and has the
// counters looked at once a second. Rules that do not change keep their spans, so an edit of one among thousands is
// about as cheap as it was.
import { destinationOf } from "../config/destination.ts";
import type { DraftRule } from "../config/draft.ts";
import { type RuleSpans, ruleSpans } from "../config/feeds.ts";
import { findReturns, type Return, returnsMax } from "../config/returns.ts";
import type { Log } from "../log.ts";
import type { TableParts } from "../native/shim.ts";
import type { Counters } from "../stats/counters.ts";
import { dotted } from "./address.ts";
import { isUsable } from "./interfaces.ts";
import type { RunningEgress, RunningRule } from "./running.ts";
import type { Interfaces } from "./wanted.ts";

/** One egress whose packets may come back to a rule. */
interface Way {
  readonly taker: RunningRule;
  readonly feeder: RunningRule;
  readonly egress: RunningEgress;
}

export class Loops {
  readonly #log: Log;
  readonly #spans = new WeakMap<DraftRule, RuleSpans>();
  /** What `#ways` was found for. */
  #rules: readonly RunningRule[] = [];
  #addresses: readonly string[] = [];
  #ways: readonly Way[] = [];
  #loopedBefore = 0;
  /** How much of it the log has told, by rule and by egress. */
  readonly #told = new WeakMap<RunningRule | RunningEgress, number>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** An egress that has no socket has sent nothing, and one that keeps the source has none of its own. */
  origins(rules: readonly RunningRule[], interfaces: Interfaces): TableParts["origins"] {
    this.#refresh(rules, interfaces);
    return this.#ways.flatMap(({ taker, egress }) => {
      const { origin } = egress;
      return origin ? [{ ...origin, rule: taker.slot, egress: egress.slot }] : [];
    });
  }

  /** One line a minute for each egress whose packets come back, and for each rule that gets them from other relays. */
  warn(counters: Counters, interfaceSlots: readonly number[]): void {
    const looped = interfaceSlots.reduce((sum, slot) => sum + counters.interface(slot).looped, 0);
    if (looped === this.#loopedBefore) return;
    this.#loopedBefore = looped;
    const fresh = new Map<RunningRule, number>();
    for (const rule of this.#rules) {
      const packets = this.#untold(rule, counters.looped(rule.slot));
      if (packets > 0) fresh.set(rule, packets);
    }
    const explained = new Set<RunningRule>();
    for (const [egress, ways] of Map.groupBy(this.#ways, (way) => way.egress)) {
      const packets = this.#untold(egress, counters.returned(egress.slot));
      if (packets === 0) continue;
      const takers = ways.filter(({ taker }) => fresh.has(taker));
      for (const { taker } of takers) explained.add(taker);
      const [way] = takers;
      if (way) this.#write(`loop egress ${egress.slot}`, describeReturn(way, packets));
    }
    for (const [rule, packets] of fresh)
      if (!explained.has(rule)) this.#write(`loop rule ${rule.slot}`, describeHops(rule, packets));
  }

  #write(key: string, text: string): void {
    this.#log.writeRepeating(key, "Ingress", "warning", text);
  }

  #untold(of: RunningRule | RunningEgress, total: number): number {
    const before = this.#told.get(of) ?? 0;
    if (total > before) this.#told.set(of, total);
    return total - before;
  }

  #refresh(rules: readonly RunningRule[], interfaces: Interfaces): void {
    const known = new Map(
      [...interfaces.values()].flatMap((state) =>
        isUsable(state) && state.address !== 0 ? [[state.name, dotted(state.address)] as const] : [],
      ),
    );
    const addresses = [...known].map(([name, address]) => `${name} ${address}`);
    if (rules === this.#rules && Bun.deepEquals(addresses, this.#addresses)) return;
    this.#rules = rules;
    this.#addresses = addresses;
    const { returns, isCut } = findReturns(
      rules.map(({ rule }) => rule),
      (name) => known.get(name),
      (rule) => this.#spansOf(rule),
    );
    this.#ways = returns.flatMap((each) => wayOf(each, rules));
    if (isCut)
      this.#log.warning(
        "RuleDispatch",
        `the rules could feed each other in more than ${returnsMax} ways: what comes back to some of them is not recognised`,
      );
  }

  #spansOf(rule: DraftRule): RuleSpans {
    const known = this.#spans.get(rule);
    if (known) return known;
    const spans = ruleSpans(rule);
    this.#spans.set(rule, spans);
    return spans;
  }
}

function wayOf({ taker, feeder, egress }: Return, rules: readonly RunningRule[]): readonly Way[] {
  const [from, to] = [rules[feeder], rules[taker]];
  const sender = from?.egresses[egress];
  return from && to && sender ? [{ taker: to, feeder: from, egress: sender }] : [];
}

/** What ends it; `mcr explain` says the same. */
export const loopCures = {
  returned:
    "separate the two networks, send to another group or port, or name the real senders in ingress.source; where a router joins them, lower egress.ttl",
  hops: "let one relay of the circle send to another group or port, or name the real senders in its ingress.source; where routers join them, lower egress.ttl",
} as const;

function describeReturn({ taker, feeder, egress }: Way, packets: number): string {
  const { interface: name } = egress.egress;
  const where = `egress ${name} ${destinationOf(feeder.rule, egress.egress)}`;
  const to = `rule "${taker.rule.name}" on ${taker.rule.ingress.interface}`;
  return `rule "${feeder.rule.name}": ${where}: ${packets} packets came back to ${to}, which feeds this egress, and were dropped as looped: ${loopCures.returned}`;
}

function describeHops({ rule }: RunningRule, packets: number): string {
  return `rule "${rule.name}": ${packets} packets on ${rule.ingress.interface} had gone round through other relays, and were dropped as looped: ${loopCures.hops}`;
}
