// Whether one build is worse than another by more than chance. Each row is measured on the build before, on the build
// after, and on the build before once more: how far those two, which are the same, lie apart is the noise of this run.

import { type Spread, spreadOf } from "./report.ts";

export const entrants = ["before", "after", "before again"] as const;
export type Entrant = (typeof entrants)[number];

/** Worse by more than this fails, where the run is quiet enough to tell. */
export const worseMax = 0.03;

export type Values = Readonly<Record<Entrant, readonly number[]>>;

export type Verdict = "ok" | "within the noise" | "WORSE" | "NOT MEASURED";

export interface Comparison {
  readonly spreads: Readonly<Record<Entrant, Spread | undefined>>;
  /** Of the medians. */
  readonly afterOverBefore: number | undefined;
  readonly againOverBefore: number | undefined;
  readonly verdict: Verdict;
}

/** @param values of the good rounds of one row. */
export function compare(values: Values, better: "more" | "less"): Comparison {
  const spreads = {
    before: spreadOf(values.before),
    after: spreadOf(values.after),
    "before again": spreadOf(values["before again"]),
  };
  const afterOverBefore = ratioOf(spreads.after, spreads.before);
  const againOverBefore = ratioOf(spreads["before again"], spreads.before);
  return {
    spreads,
    afterOverBefore,
    againOverBefore,
    verdict: verdictOf(afterOverBefore, againOverBefore, better),
  };
}

export function isFailure({ verdict }: Comparison): boolean {
  return verdict === "WORSE" || verdict === "NOT MEASURED";
}

function verdictOf(after: number | undefined, again: number | undefined, better: "more" | "less"): Verdict {
  if (after === undefined || again === undefined) return "NOT MEASURED";
  const worse = better === "less" ? after - 1 : 1 - after;
  if (worse <= worseMax) return "ok";
  // Which of the two builds that are the same came out ahead is chance.
  const noise = Math.max(again, 1 / again) - 1;
  return worse <= noise ? "within the noise" : "WORSE";
}

/** Undefined also where a figure is none: a cost that drowns in what the wire itself costs. */
function ratioOf(over: Spread | undefined, under: Spread | undefined): number | undefined {
  if (!over || !under || over.median <= 0 || under.median <= 0) return undefined;
  return over.median / under.median;
}
