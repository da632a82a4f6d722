// `make bench`: mcr beside socat, the kernel's multicast router and the bare wire, in one run. Every round measures
// each load on every system in a shuffled order; a round in which the host took too much time is thrown away. Prints
// medians with their spread, and writes them with `--write` to RESULTS.md and loss.svg beside this file.
//   bench.ts [--quick] [--rounds N] [--write]

import { appendFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "../../src/table.ts";
import { whyNoTopology } from "../support/topology.ts";
import { startBurners } from "./cpu.ts";
import { type LatencyTrial, measureLatency } from "./latency.ts";
import {
  costLoads,
  headlineLoads,
  type Load,
  latencyLoads,
  profileLoads,
  risingLoads,
  saturatingLoads,
} from "./load.ts";
import { measure, type Trial } from "./measure.ts";
import { type Panel, plot } from "./plot.ts";
import {
  costUs,
  type Figure,
  formatSpread,
  hostLine,
  isGood,
  lossPercent,
  outKppsPerCore,
  type Round,
  ratioOver,
  spreadOver,
} from "./report.ts";
import { profileNames, type SystemName, systemNames } from "./systems.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    write: { type: "boolean", default: false },
  },
});
const rounds = values.quick ? 3 : Number(values.rounds);

const latencySystems = [...systemNames, ...profileNames] as const;

async function bench(): Promise<number> {
  const obstacle = whyNoTopology();
  if (obstacle !== undefined) {
    console.error(obstacle);
    return 1;
  }
  using _burners = startBurners();
  const cost = await runRounds(values.quick ? headlineLoads : costLoads, measure);
  const texts = [
    `CPU time per packet in, µs, median (min–max) of the good ones of ${rounds} rounds\n${formatCosts(cost)}`,
  ];
  if (!values.quick) {
    const latency = await runRounds(latencyLoads, measureLatency, latencySystems);
    texts.push(`One-way latency, µs, from send to receive\n${formatLatency(latency)}`);
    const profiles = await runRounds(profileLoads, measure, ["none", "mcr", ...profileNames]);
    texts.push(`CPU time per packet in, µs, by profile\n${formatProfiles(profiles)}`);
    const saturated = await runRounds(saturatingLoads, measure);
    texts.push(`Packets out per second of the relay's CPU, thousands\n${formatSaturation(saturated)}`);
    const rising = await runRounds(risingLoads, measure);
    texts.push(`Loss at rising rates, 10 streams\n${formatLoss(rising)}`);
    if (values.write) await writeFile(join(import.meta.dir, "loss.svg"), plot(panelsOf(rising)));
  }
  console.log(`\n${texts.join("\n")}`);
  if (values.write) await appendFile(join(import.meta.dir, "RESULTS.md"), formatResults(texts));
  return 0;
}

async function runRounds<T extends { readonly stolen: number }>(
  loads: readonly Load[],
  run: (system: SystemName, load: Load) => Promise<T | undefined>,
  systems: readonly SystemName[] = systemNames,
): Promise<readonly Round<T>[]> {
  const all: Round<T>[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const trials = new Map(loads.map((load) => [load, new Map<SystemName, T>()]));
    const order = shuffled(loads.flatMap((load) => systems.map((system) => ({ load, system }))));
    for (const { load, system } of order) {
      const trial = await run(system, load);
      if (trial) trials.get(load)?.set(system, trial);
    }
    const measured = loads.map((load): Round<T> => ({ load, trials: trials.get(load) ?? new Map() }));
    const good = measured.filter(isGood);
    all.push(...good);
    const stolen = Math.max(
      ...measured.flatMap((each) => [...each.trials.values()].map((trial) => trial.stolen)),
    );
    console.log(
      `round ${round} of ${rounds}: ${good.length} of ${measured.length} loads good, at most ${(stolen * 100).toFixed(1)} % of the time stolen`,
    );
  }
  return all;
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

function byLoad<T>(all: readonly Round<T>[]): readonly (readonly [Load, readonly Round<T>[]])[] {
  return [...Map.groupBy(all, ({ load }) => load)];
}

function formatCosts(all: readonly Round<Trial>[]): string {
  const rows = byLoad(all).map(([load, each]) => [
    load.name,
    ...(["mcr", "socat", "smcroute"] as const).map((system) =>
      formatSpread(spreadOver(each, costUs, system), 2),
    ),
    formatSpread(ratioOver(each, costUs, "socat", "mcr"), 1, "×"),
    formatSpread(ratioOver(each, costUs, "smcroute", "mcr"), 2, "×"),
  ]);
  return formatTable(["LOAD", "MCR", "SOCAT", "SMCROUTE", "SOCAT ÷ MCR", "SMCROUTE ÷ MCR"], rows, 160);
}

function formatLatency(all: readonly Round<LatencyTrial>[]): string {
  const of = (figure: (trial: LatencyTrial) => number): Figure<LatencyTrial> => {
    return ({ trials }, system) => {
      const trial = trials.get(system);
      return trial && figure(trial);
    };
  };
  const rows = byLoad(all).flatMap(([load, each]) =>
    latencySystems.map((system) => [
      load.name,
      system === "none" ? "bare wire, one link" : system,
      formatSpread(
        spreadOver(
          each,
          of(({ p50Us }) => p50Us),
          system,
        ),
        0,
      ),
      formatSpread(
        spreadOver(
          each,
          of(({ p99Us }) => p99Us),
          system,
        ),
        0,
      ),
    ]),
  );
  return formatTable(["LOAD", "THROUGH", "P50", "P99"], rows, 160);
}

function formatProfiles(all: readonly Round<Trial>[]): string {
  const rows = byLoad(all).flatMap(([load, each]) =>
    (["mcr", ...profileNames] as const).map((system) => [
      load.name,
      system,
      formatSpread(spreadOver(each, costUs, system), 2),
      formatSpread(spreadOver(each, lossPercent, system), 2, " %"),
    ]),
  );
  return formatTable(["LOAD", "THROUGH", "µs", "LOST"], rows, 160);
}

function formatSaturation(all: readonly Round<Trial>[]): string {
  const rows = byLoad(all).map(([load, each]) => [
    load.name,
    ...(["mcr", "socat"] as const).map((system) => formatSpread(spreadOver(each, outKppsPerCore, system), 0)),
    formatSpread(ratioOver(each, outKppsPerCore, "mcr", "socat"), 1, "×"),
  ]);
  return formatTable(["LOAD", "MCR", "SOCAT", "MCR ÷ SOCAT"], rows, 160);
}

function formatLoss(all: readonly Round<Trial>[]): string {
  const rows = byLoad(all).map(([load, each]) => [
    load.name,
    ...(["mcr", "socat", "smcroute"] as const).flatMap((system) => [
      formatSpread(spreadOver(each, lossPercent, system), 2, " %"),
      formatSpread(spreadOver(each, costUs, system), 2),
    ]),
  ]);
  const headings = ["RATE", "MCR LOST", "µs", "SOCAT LOST", "µs", "SMCROUTE LOST", "µs"];
  return formatTable(headings, rows, 160);
}

function panelsOf(all: readonly Round<Trial>[]): readonly Panel[] {
  const lines = (figure: Figure<Trial>) =>
    new Map(
      (["mcr", "socat", "smcroute"] as const).map((system) => [
        system,
        byLoad(all).flatMap(([load, each]) => {
          const spread = spreadOver(each, figure, system);
          return spread ? [{ kpps: load.ratePps / 1000, value: spread.median }] : [];
        }),
      ]),
    );
  return [
    { title: "Lost", unit: "% of 10 streams", lines: lines(lossPercent) },
    { title: "CPU time", unit: "µs per packet in", lines: lines(costUs) },
  ];
}

function formatResults(texts: readonly string[]): string {
  return `
## ${hostLine()}

\`make bench\`, ${rounds} rounds

\`\`\`
${texts.join("\n")}\`\`\`
`;
}

process.exitCode = await bench();
