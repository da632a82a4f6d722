// What mcr has to reach, and what it aims at, as data; and how the figures of a run are held against it. A row that the
// run should have measured and has not fails like one below its floor.

import { formatTable } from "../../src/table.ts";
import type { LatencyTrial } from "./latency.ts";
import type { Trial } from "./measure.ts";
import {
  costUs,
  type Figure,
  formatSpread,
  outKppsPerCore,
  type Round,
  ratioOver,
  type Spread,
  spreadOver,
} from "./report.ts";
import { type SystemName, systemNames } from "./systems.ts";

/** The parts of a run. */
export const parts = [
  "cost",
  "latency",
  "saturation",
  "rising",
  "lossless",
  "startup",
  "groups",
  "reload",
  "idle",
  "asking",
] as const;
export type Part = (typeof parts)[number];

/** How a row is read out of the results: from the trials of one load, or a figure that a part gives by name. */
type Reading =
  | { readonly kind: "cost"; readonly load: string; readonly over: string; readonly under: string }
  | { readonly kind: "saturation"; readonly load: string; readonly over: string; readonly under: string }
  | { readonly kind: "latency"; readonly load: string; readonly system: string }
  | { readonly kind: "figure"; readonly name: FigureName };

export const figureNames = [
  "lost, of all streams",
  "duplicated or reordered",
  "lost, 500 streams at 100 kpps",
  "µs per packet, 500 streams at 100 kpps",
  "groups joined",
  "seconds to join",
  "lost in 499 rules",
  "ms to the first packet",
  "idle CPU",
  "resident MB",
  "CPU per packet, asked ÷ another",
  "packets out per core, asked ÷ another",
  "lost while asked",
] as const;
export type FigureName = (typeof figureNames)[number];
export type Figures = ReadonlyMap<FigureName, Spread | undefined>;

interface Target {
  readonly row: string;
  readonly part: Part;
  readonly reading: Reading;
  readonly better: "more" | "less";
  readonly unit: string;
  readonly digits: number;
  /** Absent: this row has an aim only. */
  readonly floor?: number;
  readonly aim: number;
}

const ratio = { better: "more", unit: "×", digits: 2 } as const;
const none = { better: "less", unit: "", digits: 0, floor: 0, aim: 0 } as const;

function costRow(load: string, over: string, under: string, floor: number, aim: number): Target {
  return {
    ...{ ...ratio, floor, aim, row: `CPU per packet, ${over} ÷ ${under}: ${load}`, part: "cost" },
    reading: { kind: "cost", load, over, under },
  };
}

function saturationRow(load: string, floor: number, aim: number): Target {
  const reading = { kind: "saturation", load, over: "mcr", under: "socat" } as const;
  const row = `packets out per core, mcr ÷ socat: ${load}`;
  return { ...ratio, floor, aim, row, part: "saturation", reading };
}

function latencyRow(system: string, floor: number, aim: number): Target {
  return {
    ...{ row: `latency p50 at 10 kpps: ${system}`, part: "latency", better: "less" },
    ...{ unit: " µs", digits: 0, floor, aim },
    reading: { kind: "latency", load: "10 streams, 10 kpps, bursts of 1", system },
  };
}

function figure(name: FigureName): Reading {
  return { kind: "figure", name };
}

export const targets: readonly Target[] = [
  {
    ...{ ...none, row: "lost: 1 to 1000 streams, paced", part: "lossless" },
    reading: figure("lost, of all streams"),
  },
  {
    ...{ ...none, row: "duplicated or reordered, 1 to 8 workers", part: "lossless" },
    reading: figure("duplicated or reordered"),
  },
  costRow("1 stream", "socat", "mcr", 4, 6),
  costRow("10 streams", "socat", "mcr", 4, 6),
  costRow("50 streams", "socat", "mcr", 4, 6),
  costRow("1 stream", "socat", "mcr exclusive", 6, 10),
  costRow("10 streams", "socat", "mcr exclusive", 6, 10),
  costRow("50 streams", "socat", "mcr exclusive", 6, 10),
  costRow("10 streams to 10 egresses", "socat", "mcr", 7, 12),
  costRow("10 streams to 50 egresses", "socat", "mcr", 7, 12),
  costRow("10 streams, 50 kpps, bursts of 32", "smcroute", "mcr exclusive", 1, 1.3),
  costRow("50 streams", "smcroute", "mcr exclusive", 0.7, 1),
  saturationRow("1 stream, as fast as the sender can", 7, 12),
  saturationRow("10 streams, as fast as the sender can", 5, 8),
  saturationRow("200 streams, as fast as the sender can", 2.5, 4),
  latencyRow("mcr", 1000, 600),
  latencyRow("mcr latency", 100, 40),
  {
    ...{ ...none, row: "lost: 500 streams, 100 kpps", part: "lossless" },
    reading: figure("lost, 500 streams at 100 kpps"),
  },
  {
    ...{ row: "CPU per packet: 500 streams, 100 kpps", part: "lossless", better: "less" },
    ...{ unit: " µs", digits: 2, aim: 2.8, reading: figure("µs per packet, 500 streams at 100 kpps") },
  },
  {
    ...{ row: "groups joined of 5,000, stock sysctls", part: "groups", better: "more" },
    ...{ unit: "", digits: 0, floor: 5000, aim: 5000, reading: figure("groups joined") },
  },
  {
    ...{ row: "from the start until they are joined", part: "groups", better: "less" },
    ...{ unit: " s", digits: 2, aim: 1, reading: figure("seconds to join") },
  },
  {
    ...{ ...none, row: "lost in 499 rules while the 500th is reloaded", part: "reload" },
    reading: figure("lost in 499 rules"),
  },
  {
    ...{ row: "start to first relayed packet, 500 rules", part: "startup", better: "less" },
    ...{ unit: " ms", digits: 0, floor: 500, aim: 200, reading: figure("ms to the first packet") },
  },
  {
    ...{ row: "idle CPU, 2 workers, 500 rules", part: "idle", better: "less" },
    ...{ unit: " %", digits: 2, floor: 2, aim: 1, reading: figure("idle CPU") },
  },
  {
    ...{ row: "resident memory, rings apart, 2 workers, 500 rules", part: "idle" },
    ...{ better: "less", unit: " MB", digits: 0, floor: 80, aim: 60, reading: figure("resident MB") },
  },
  {
    ...{ row: "CPU per packet of the workers, asked ÷ another", part: "asking" },
    ...{ better: "less", unit: "×", digits: 2, floor: 1.15, aim: 1.05 },
    reading: figure("CPU per packet, asked ÷ another"),
  },
  {
    ...{ ...ratio, row: "packets out per core of the workers, asked ÷ another", part: "asking" },
    ...{ floor: 0.85, aim: 0.95, reading: figure("packets out per core, asked ÷ another") },
  },
  {
    ...{ ...none, row: "lost while asked without pause", part: "asking" },
    ...{ unit: " %", digits: 2 },
    reading: figure("lost while asked"),
  },
];

export interface Results {
  readonly cost: readonly Round<Trial>[];
  readonly latency: readonly Round<LatencyTrial>[];
  readonly saturation: readonly Round<Trial>[];
  readonly figures: Figures;
}

export type Verdict = "aim reached" | "floor held" | "BELOW FLOOR" | "aim missed" | "NOT MEASURED";

export interface Judged {
  readonly target: Target;
  readonly spread: Spread | undefined;
  readonly verdict: Verdict;
}

/** The rows of what ran, each with its verdict, by the median. */
export function judge(results: Results, ran: ReadonlySet<Part>): readonly Judged[] {
  return targets
    .filter(({ part }) => ran.has(part))
    .map((target) => {
      const spread = read(target.reading, results);
      return { target, spread, verdict: spread ? verdictOf(target, spread) : "NOT MEASURED" };
    });
}

/** What a row of this load and part is read from. */
export function systemsJudged(part: Part, load: string): ReadonlySet<string> {
  return new Set(
    targets.flatMap(({ part: of, reading }) =>
      of !== part || reading.kind === "figure" || reading.load !== load ? [] : systemsOf(reading),
    ),
  );
}

export function isFailure({ verdict }: Judged): boolean {
  return verdict === "BELOW FLOOR" || verdict === "NOT MEASURED";
}

export function formatTargets(judged: readonly Judged[]): string {
  const rows = judged.map(({ target: { row, unit, digits, floor, aim, better }, spread, verdict }) => {
    const bound = (value: number | undefined) =>
      value === undefined ? "" : `${value === 0 ? "" : better === "more" ? "≥ " : "≤ "}${value}${unit}`;
    return [row, formatSpread(spread, digits, unit), bound(floor), bound(aim), verdict];
  });
  return formatTable(["TARGET", "MEASURED", "FLOOR", "AIM", "VERDICT"], rows, 160);
}

function verdictOf({ better, floor, aim }: Target, { median }: Spread): Verdict {
  const reaches = (bound: number) => (better === "more" ? median >= bound : median <= bound);
  if (reaches(aim)) return "aim reached";
  if (floor === undefined) return "aim missed";
  return reaches(floor) ? "floor held" : "BELOW FLOOR";
}

function systemsOf(reading: Exclude<Reading, { readonly kind: "figure" }>): readonly string[] {
  return reading.kind === "latency" ? [reading.system] : [reading.over, reading.under];
}

function read(reading: Reading, { cost, latency, saturation, figures }: Results): Spread | undefined {
  switch (reading.kind) {
    case "cost":
      return ratioOf(cost, costUs, reading);
    case "saturation":
      return ratioOf(saturation, outKppsPerCore, reading);
    case "latency": {
      const system = systemOf(reading.system);
      const rounds = latency.filter(({ load }) => load.name === reading.load);
      return system && spreadOver(rounds, ({ trials }, of) => trials.get(of)?.p50Us, system);
    }
    case "figure":
      return figures.get(reading.name);
  }
}

function ratioOf(
  all: readonly Round<Trial>[],
  figureOf: Figure<Trial>,
  { load, over, under }: { readonly load: string; readonly over: string; readonly under: string },
): Spread | undefined {
  const [a, b] = [systemOf(over), systemOf(under)];
  const rounds = all.filter((round) => round.load.name === load);
  return a && b && ratioOver(rounds, figureOf, a, b);
}

function systemOf(name: string): SystemName | undefined {
  return systemNames.find((system) => system === name);
}
