// Trials → figures: medians over the good rounds with their spread, and the ratios between systems of one round each.

import { cpus, release } from "node:os";
import type { Load } from "./load.ts";
import type { Trial } from "./measure.ts";
import type { SystemName } from "./systems.ts";

/** Rounds in which the host took more of the time than this say nothing about the relay. */
export const stolenMax = 0.1;

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const [min] = sorted;
  const max = sorted.at(-1);
  const low = sorted[Math.floor((sorted.length - 1) / 2)];
  const high = sorted[Math.ceil((sorted.length - 1) / 2)];
  if (min === undefined || max === undefined || low === undefined || high === undefined) return undefined;
  return { median: (low + high) / 2, min, max };
}

/** The trials of one load in one round, by system. */
export interface Round<T> {
  readonly load: Load;
  readonly trials: ReadonlyMap<SystemName, T>;
}

export function isGood({ trials }: Round<{ readonly stolen: number }>): boolean {
  return [...trials.values()].every(({ stolen }) => stolen <= stolenMax);
}

/** CPU time per packet that came in, in µs, less what generator and bare wire cost without a relay. */
export function costUs({ trials }: Round<Trial>, system: SystemName): number | undefined {
  const trial = trials.get(system);
  const bare = trials.get("none");
  return trial && bare && allInUs(trial) - allInUs(bare);
}

function allInUs({ sendCpuNs, relayCpuNs, interruptCpuNs, sent }: Trial): number {
  return (sendCpuNs + relayCpuNs + interruptCpuNs) / sent / 1000;
}

/** Packets out per second of the relay's own CPU, in thousands. smcroute works in the sender's context: no figure. */
export function outKppsPerCore({ trials }: Round<Trial>, system: SystemName): number | undefined {
  const trial = trials.get(system);
  if (!trial || trial.relayCpuNs === 0 || system === "smcroute" || system === "none") return undefined;
  return (trial.received / (trial.relayCpuNs + trial.interruptCpuNs)) * 1e6;
}

/** Percent of what had to arrive and did not, the sink's own drops apart. */
export function lossPercent({ load, trials }: Round<Trial>, system: SystemName): number | undefined {
  const trial = trials.get(system);
  if (!trial || system === "none") return undefined;
  const due = trial.sent * load.copies;
  return (Math.max(0, due - trial.received - trial.sinkDrops) / due) * 100;
}

export type Figure<T> = (round: Round<T>, system: SystemName) => number | undefined;

export function spreadOver<T>(
  rounds: readonly Round<T>[],
  figure: Figure<T>,
  system: SystemName,
): Spread | undefined {
  return spreadOf(rounds.flatMap((round) => figure(round, system) ?? []));
}

/** One system over another, round by round. */
export function ratioOver<T>(
  rounds: readonly Round<T>[],
  figure: Figure<T>,
  over: SystemName,
  under: SystemName,
): Spread | undefined {
  return spreadOf(
    rounds.flatMap((round) => {
      const [a, b] = [figure(round, over), figure(round, under)];
      return a === undefined || b === undefined || b <= 0 ? [] : a / b;
    }),
  );
}

export function formatSpread(spread: Spread | undefined, digits: number, unit = ""): string {
  if (!spread) return "–";
  const [median, min, max] = [spread.median, spread.min, spread.max].map((value) => value.toFixed(digits));
  return `${median}${unit} (${min}–${max})`;
}

export function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

/** When and where. */
export function hostLine(): string {
  const [cpu] = cpus();
  const when = new Date().toISOString().slice(0, 16).replace("T", " ");
  return `${when} UTC, Linux ${release()}, ${cpus().length} × ${cpu?.model.trim()}`;
}
