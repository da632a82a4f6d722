// What `mcr top` shows, from one statistics answer to the next: rates by subtraction, and each rule's last minute.
// Pure: times come with the answers. A counter that went back belongs to a relay that was started again.
import type { EgressSnapshot, RuleSnapshot, Stats } from "../control/protocol.ts";
import { sum } from "../numbers.ts";
import { egressReasons, lossReasons, sumOfDrops } from "../stats/reasons.ts";

/** A rate; null: not known before there is a second answer. */
export type PerSecond = number | null;

/** Of one rule; drops are per second and by reason. */
export interface RuleLine {
  readonly name: string;
  readonly ingress: string;
  readonly state: string;
  readonly reason: string | null;
  readonly inPps: PerSecond;
  readonly outPps: PerSecond;
  readonly bitsPerSecond: PerSecond;
  readonly droppedPps: PerSecond;
  readonly droppedTotal: number;
  /** `full 12, error 1`: since the relay runs. */
  readonly reasons: string;
  /** Packets in per second, oldest first. */
  readonly history: readonly number[];
}

/** Of an interface that rules take from, or send out of: the packets of rules, not all that pass there. */
export interface InterfaceLine {
  readonly name: string;
  readonly direction: "in" | "out";
  readonly pps: PerSecond;
  readonly bitsPerSecond: PerSecond;
  readonly droppedPps: PerSecond;
  /** `ring 12`; frames for nobody are no drops here. */
  readonly reasons: string;
}

export interface WorkerLine {
  readonly worker: number;
  readonly cpu: number;
  readonly pps: PerSecond;
  readonly loadPercent: number;
}

export interface TopModel {
  /** Of the newest answer. */
  readonly time: string;
  readonly rules: readonly RuleLine[];
  readonly interfaces: readonly InterfaceLine[];
  readonly workers: readonly WorkerLine[];
  readonly inPps: PerSecond;
  readonly outPps: PerSecond;
  readonly bitsPerSecond: PerSecond;
  readonly droppedPps: PerSecond;
}

export const historyMax = 60;

export class TopHistory {
  #last: Stats | undefined;
  readonly #histories = new Map<string, readonly number[]>();

  /** The first answer has totals and no rates yet; nor have a new rule, or a relay that was started again. */
  next(stats: Stats): TopModel {
    const last = this.#last;
    this.#last = stats;
    const seconds = last === undefined ? 0 : (Date.parse(stats.time) - Date.parse(last.time)) / 1000;
    const rate = (now: number, before: number | undefined): PerSecond =>
      before === undefined || seconds <= 0 || now < before ? null : (now - before) / seconds;
    const rules = stats.rules.map((rule) =>
      this.#rule(
        rule,
        last?.rules.find(({ name }) => name === rule.name),
        rate,
      ),
    );
    this.#forgetAllBut(stats.rules);
    return {
      time: stats.time,
      rules,
      interfaces: [...ingresses(stats), ...egresses(stats)].map((each) => {
        const before = last && (each.direction === "in" ? ingresses(last) : egresses(last));
        const past = before?.find(({ name }) => name === each.name);
        return {
          name: each.name,
          direction: each.direction,
          pps: rate(each.packets, past?.packets),
          bitsPerSecond: eightfold(rate(each.bytes, past?.bytes)),
          droppedPps: rate(total(each.dropped), past && total(past.dropped)),
          reasons: reasonsOf(each.dropped),
        };
      }),
      workers: stats.workers.map((each) => ({
        worker: each.worker,
        cpu: each.cpu,
        pps: rate(each.matched, last?.workers.find(({ worker }) => worker === each.worker)?.matched),
        loadPercent: each.load_percent,
      })),
      inPps: rate(stats.totals.matched, last?.totals.matched),
      outPps: rate(stats.totals.sent_packets, last?.totals.sent_packets),
      bitsPerSecond: eightfold(rate(stats.totals.bytes, last?.totals.bytes)),
      droppedPps: rate(allDrops(stats), last && allDrops(last)),
    };
  }

  #rule(
    rule: RuleSnapshot,
    before: RuleSnapshot | undefined,
    rate: (now: number, before: number | undefined) => PerSecond,
  ): RuleLine {
    const inPps = rate(rule.packets, before?.packets);
    const history = [...(this.#histories.get(rule.name) ?? []), ...(inPps === null ? [] : [inPps])].slice(
      -historyMax,
    );
    this.#histories.set(rule.name, history);
    return {
      name: rule.name,
      ingress: `${rule.interface} ${rule.ingress}`,
      state: worstState(rule),
      reason: rule.reason ?? rule.egress.find(({ reason }) => reason !== null)?.reason ?? null,
      inPps,
      outPps: rate(sent(rule), before && sent(before)),
      bitsPerSecond: eightfold(rate(rule.bytes, before?.bytes)),
      droppedPps: rate(dropped(rule), before && dropped(before)),
      droppedTotal: dropped(rule),
      reasons: reasonsOf(dropsOf(rule.egress)),
      history,
    };
  }

  #forgetAllBut(rules: readonly RuleSnapshot[]): void {
    const names = new Set(rules.map(({ name }) => name));
    for (const name of this.#histories.keys()) if (!names.has(name)) this.#histories.delete(name);
  }
}

/** Its own, unless an egress is worse off. */
function worstState({ state, egress }: RuleSnapshot): string {
  const has = (bad: EgressSnapshot["state"]) => egress.some((each) => each.state === bad);
  if (state === "failed" || has("failed")) return "failed";
  return has("failing") ? "failing" : state;
}

type Reasons = readonly (readonly [reason: string, packets: number])[];

interface InterfaceTotals extends Pick<InterfaceLine, "name" | "direction"> {
  readonly packets: number;
  readonly bytes: number;
  readonly dropped: Reasons;
}

/** What matched, as in the line of totals. */
function ingresses({ interfaces }: Stats): readonly InterfaceTotals[] {
  return interfaces.map(({ interface: name, matched, bytes, dropped }) => ({
    name,
    direction: "in",
    packets: matched,
    bytes,
    dropped: lossReasons.map((reason) => [reason, dropped[reason]]),
  }));
}

function egresses({ rules }: Stats): readonly InterfaceTotals[] {
  const byName = Map.groupBy(
    rules.flatMap(({ egress }) => egress),
    (egress) => egress.interface,
  );
  return [...byName].map(([name, all]) => ({
    name,
    direction: "out",
    packets: sum(all.map(({ sent_packets }) => sent_packets)),
    bytes: sum(all.map(({ sent_bytes }) => sent_bytes)),
    dropped: dropsOf(all),
  }));
}

function dropsOf(egresses: RuleSnapshot["egress"]): Reasons {
  return egressReasons.map((reason) => [reason, sum(egresses.map(({ dropped }) => dropped[reason]))]);
}

function allDrops({ totals }: Stats): number {
  return totals.ingress_dropped + totals.egress_dropped;
}

function eightfold(rate: PerSecond): PerSecond {
  return rate === null ? null : 8 * rate;
}

function sent(rule: RuleSnapshot): number {
  return sum(rule.egress.map((egress) => egress.sent_packets));
}

function dropped(rule: RuleSnapshot): number {
  return sum(rule.egress.map((egress) => sumOfDrops(egress.dropped)));
}

function reasonsOf(counts: Reasons): string {
  return counts
    .filter(([, packets]) => packets > 0)
    .map(([reason, packets]) => `${reason} ${packets}`)
    .join(", ");
}

function total(counts: Reasons): number {
  return sum(counts.map(([, packets]) => packets));
}
