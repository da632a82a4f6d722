// What `mcr top` shows, from one statistics answer to the next: rates by subtraction, and each rule's last minute.
// Pure: times come with the answers. A counter that went back belongs to a relay that was started again.
import type { RuleSnapshot, Stats } from "../control/protocol.ts";
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

export interface InterfaceLine {
  readonly name: string;
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
      interfaces: stats.interfaces.map((each) => {
        const before = last?.interfaces.find((other) => other.interface === each.interface);
        return {
          name: each.interface,
          pps: rate(each.packets, before?.packets),
          bitsPerSecond: eightfold(rate(each.bytes, before?.bytes)),
          droppedPps: rate(losses(each.dropped), before && losses(before.dropped)),
          reasons: reasonsOf(lossReasons.map((reason) => [reason, each.dropped[reason]])),
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
      state: rule.egress.some(({ state }) => state === "failed") ? "failed" : rule.state,
      reason: rule.reason ?? rule.egress.find(({ reason }) => reason !== null)?.reason ?? null,
      inPps,
      outPps: rate(sent(rule), before && sent(before)),
      bitsPerSecond: eightfold(rate(rule.bytes, before?.bytes)),
      droppedPps: rate(dropped(rule), before && dropped(before)),
      droppedTotal: dropped(rule),
      reasons: reasonsOf(
        egressReasons.map((reason) => [reason, sum(rule.egress.map((egress) => egress.dropped[reason]))]),
      ),
      history,
    };
  }

  #forgetAllBut(rules: readonly RuleSnapshot[]): void {
    const names = new Set(rules.map(({ name }) => name));
    for (const name of this.#histories.keys()) if (!names.has(name)) this.#histories.delete(name);
  }
}

function losses(counts: Stats["interfaces"][number]["dropped"]): number {
  return sum(lossReasons.map((reason) => counts[reason]));
}

/** What the ring lost and what the egresses did. */
function allDrops({ totals, interfaces }: Stats): number {
  return totals.egress_dropped + sum(interfaces.map(({ dropped: { ring } }) => ring));
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

function reasonsOf(counts: readonly (readonly [reason: string, packets: number])[]): string {
  return counts
    .filter(([, packets]) => packets > 0)
    .map(([reason, packets]) => `${reason} ${packets}`)
    .join(", ");
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
