// `make bench-compare BEFORE=path/to/mcr`: another build of mcr beside this one, in one run. A round measures each load
// on the build before, the build after, and the build before once more, in shuffled order; verdict.ts tells when a row
// is worse. Ends with 1 when one is, or when the build after sends a packet twice. Sender and receiver are the same for
// all three: the traffic programs, and the build after where latency is measured.
//   compare.ts --before PATH [--after PATH] [--rounds N] [--rows WORDS,WORDS…]

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "../../src/table.ts";
import { executable } from "../support/relay.ts";
import { whyNoTopology } from "../support/topology.ts";
import { startBurners } from "./cpu.ts";
import { type LatencyTrial, measureLatency } from "./latency.ts";
import { costLoads, type Load, latencyLoads, saturatingLoads } from "./load.ts";
import { measure, type Trial } from "./measure.ts";
import { costUs, formatSpread, hostLine, isGood, outKppsPerCore, shuffled } from "./report.ts";
import type { SystemName } from "./systems.ts";
import { type Comparison, compare, type Entrant, entrants, isFailure } from "./verdict.ts";

/** What one load gave on one build. */
interface Trials {
  readonly load: Load;
  /** With the bare wire, which all builds share. */
  readonly traffic: Map<SystemName, Trial>;
  readonly latency: Map<SystemName, LatencyTrial>;
}

interface Row {
  readonly name: string;
  readonly kind: "traffic" | "latency";
  readonly load: Load;
  readonly system: SystemName;
  readonly better: "more" | "less";
  readonly digits: number;
  readonly figure: (trials: Trials) => number | undefined;
}

interface Tally {
  readonly values: number[];
  due: number;
  lost: number;
  duplicated: number;
}

/** A load is measured again, so many times in all, when the host took too much of the time. */
const triesMax = 3;

const oneByOne = "10 streams, 10 kpps, bursts of 1";
const allRows: readonly Row[] = [
  ...["1 stream", "10 streams", "50 streams"].map((load) => costRow(load, "mcr")),
  ...["1 stream", "10 streams", "50 streams"].map((load) => costRow(load, "mcr exclusive")),
  ...["10 streams to 10 egresses", "10 streams to 50 egresses"].map((load) => costRow(load, "mcr")),
  ...["10 streams", oneByOne].map((load) => costRow(load, "mcr latency")),
  ...saturatingLoads.map(saturationRow),
  ...latencyRows("mcr"),
  ...latencyRows("mcr latency"),
];

const { values: given } = parseArgs({
  options: {
    before: { type: "string", default: "" },
    after: { type: "string", default: executable },
    rounds: { type: "string", default: "11" },
    rows: { type: "string", default: "" },
  },
});

async function benchCompare(): Promise<number> {
  const rounds = Number(given.rounds);
  const words = given.rows.split(",");
  const rows = allRows.filter(({ name }) => words.some((word) => name.includes(word)));
  const obstacle = whyNoTopology() ?? whyNoRun(rounds, rows);
  if (obstacle !== undefined) {
    console.error(obstacle);
    return 1;
  }
  const before = resolve(given.before);
  const programs = { before, after: resolve(given.after), "before again": before };
  using _burners = startBurners();
  const tallies = new Map(rows.map((row) => [row, talliesOf()]));
  for (let round = 1; round <= rounds; round += 1) {
    const began = performance.now();
    const bad: string[] = [];
    for (const [load, ofLoad] of shuffled([...Map.groupBy(rows, (row) => row.load)])) {
      const measured = await measureLoad(load, ofLoad, programs);
      if (measured) for (const row of ofLoad) addUp(row, measured, tallies.get(row));
      else bad.push(load.name);
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    const tooBad = bad.length === 0 ? "" : `; the host took too much time of: ${bad.join("; ")}`;
    console.log(`round ${round} of ${rounds}: ${seconds} s${tooBad}`);
  }
  const compared = rows.map((row) => compareRow(row, tallies.get(row) ?? talliesOf()));
  console.log(`\n${hostLine()}\nbefore: ${programs.before}\nafter:  ${programs.after}\n`);
  console.log(format(compared));
  return compared.some(({ isBad }) => isBad) ? 1 : 0;
}

function whyNoRun(rounds: number, rows: readonly Row[]): string | undefined {
  if (given.before === "")
    return "--before: the build to compare with is missing (make bench-compare BEFORE=path/to/mcr)";
  const missing = [given.before, given.after].find((path) => !existsSync(path));
  if (missing !== undefined) return `${missing}: there is no such file`;
  if (!Number.isInteger(rounds) || rounds < 1) return `--rounds ${given.rounds}: not a number of rounds`;
  if (rows.length > 0) return undefined;
  return `--rows: the rows are\n${allRows.map(({ name }) => `  ${name}`).join("\n")}`;
}

/** Every system that a row of this load is read from, on each build. Undefined when the host took too much time. */
async function measureLoad(
  load: Load,
  rows: readonly Row[],
  programs: Readonly<Record<Entrant, string>>,
): Promise<ReadonlyMap<Entrant, Trials> | undefined> {
  const systems = (kind: Row["kind"]) =>
    new Set(rows.flatMap((row) => (row.kind === kind ? row.system : [])));
  for (let tries = 0; tries < triesMax; tries += 1) {
    const measured = new Map(
      entrants.map((entrant): [Entrant, Trials] => [
        entrant,
        { load, traffic: new Map(), latency: new Map() },
      ]),
    );
    const jobs: (() => Promise<void>)[] = [];
    for (const [entrant, { traffic, latency }] of measured) {
      const program = programs[entrant];
      for (const system of systems("traffic"))
        jobs.push(async () => keep(traffic, system, await measure(system, load, program)));
      for (const system of systems("latency"))
        jobs.push(async () => keep(latency, system, await measureLatency(system, load, program)));
    }
    if (systems("traffic").size > 0)
      jobs.push(async () => {
        const bare = await measure("none", load);
        for (const { traffic } of measured.values()) keep(traffic, "none", bare);
      });
    for (const job of shuffled(jobs)) await job();
    const isAllGood = [...measured.values()].every(
      ({ traffic, latency }) => isGood({ load, trials: traffic }) && isGood({ load, trials: latency }),
    );
    if (isAllGood) return measured;
  }
  return undefined;
}

function keep<T>(trials: Map<SystemName, T>, system: SystemName, trial: T | undefined): void {
  if (trial) trials.set(system, trial);
}

function talliesOf(): Record<Entrant, Tally> {
  const tally = (): Tally => ({ values: [], due: 0, lost: 0, duplicated: 0 });
  return { before: tally(), after: tally(), "before again": tally() };
}

function addUp(
  { figure, kind, system }: Row,
  measured: ReadonlyMap<Entrant, Trials>,
  tallies: Record<Entrant, Tally> | undefined,
): void {
  for (const [entrant, trials] of measured) {
    const [tally, value, trial] = [tallies?.[entrant], figure(trials), trials[kind].get(system)];
    if (!tally || !trial) continue;
    if (value !== undefined) tally.values.push(value);
    const due = trial.sent * trials.load.copies;
    tally.due += due;
    tally.lost += Math.max(0, due - trial.received - trial.sinkDrops);
    tally.duplicated += trial.duplicated;
  }
}

interface Compared extends Comparison {
  readonly row: Row;
  readonly tallies: Readonly<Record<Entrant, Tally>>;
  readonly isBad: boolean;
}

function compareRow(row: Row, tallies: Readonly<Record<Entrant, Tally>>): Compared {
  const values = {
    before: tallies.before.values,
    after: tallies.after.values,
    "before again": tallies["before again"].values,
  };
  const comparison = compare(values, row.better);
  return { ...comparison, row, tallies, isBad: isFailure(comparison) || tallies.after.duplicated > 0 };
}

function format(compared: readonly Compared[]): string {
  const ratio = (value: number | undefined) => value?.toFixed(3) ?? "–";
  const lines = compared.map(({ row, spreads, tallies, afterOverBefore, againOverBefore, verdict }) => [
    row.name,
    tallies.after.values.length,
    ...entrants.map((entrant) => formatSpread(spreads[entrant], row.digits)),
    ...[ratio(afterOverBefore), ratio(againOverBefore)],
    entrants
      .map((entrant) => `${((tallies[entrant].lost / tallies[entrant].due) * 100).toFixed(3)}`)
      .join(" "),
    entrants.map((entrant) => tallies[entrant].duplicated).join(" "),
    tallies.after.duplicated > 0 ? "SENT TWICE" : verdict,
  ]);
  const headings = ["ROW", "ROUNDS", ...entrants.map((entrant) => entrant.toUpperCase())];
  const more = ["AFTER ÷ BEFORE", "AGAIN ÷ BEFORE", "LOST %", "TWICE", "VERDICT"];
  return formatTable([...headings, ...more], lines, 240);
}

function costRow(loadName: string, system: SystemName): Row {
  return {
    ...{ kind: "traffic", load: loadOf(loadName), system, better: "less", digits: 2 },
    name: `CPU per packet, µs, ${system}: ${loadName}`,
    figure: ({ load, traffic }) => costUs({ load, trials: traffic }, system),
  };
}

function saturationRow(load: Load): Row {
  return {
    ...{ kind: "traffic", load, system: "mcr", better: "more", digits: 0 },
    name: `packets out per core, thousands, mcr: ${load.name}`,
    figure: ({ traffic }) => outKppsPerCore({ load, trials: traffic }, "mcr"),
  };
}

function latencyRows(system: SystemName): readonly Row[] {
  return (["p50", "p99"] as const).map((quantile) => ({
    ...{ kind: "latency", load: loadOf(oneByOne), system, better: "less", digits: 0 },
    name: `latency ${quantile}, µs, ${system}: ${oneByOne}`,
    figure: ({ latency }) => latency.get(system)?.[`${quantile}Us`],
  }));
}

function loadOf(name: string): Load {
  const load = [...costLoads, ...latencyLoads].find((each) => each.name === name);
  if (!load) throw new Error(`there is no load "${name}"`);
  return load;
}

process.exitCode = await benchCompare();
