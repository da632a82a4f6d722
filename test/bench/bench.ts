// `make bench`: mcr beside socat, the kernel's multicast router and the bare wire, in one run. Every round measures
// each load on every system in a shuffled order; a round in which the host took too much time is thrown away. Prints
// medians with their spread, and writes them with `--write` to RESULTS.md and loss.svg beside this file. Ends with the
// targets of targets.ts, and with 1 when a figure is below its floor or could not be measured.
//   bench.ts [--quick] [--rounds N] [--write] [--only PART]…

import { appendFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "../../src/table.ts";
import { whyNoTopology } from "../support/topology.ts";
import { askingFigures, formatAsking } from "./asking.ts";
import { startBurners } from "./cpu.ts";
import { groupFigures } from "./groups.ts";
import { idleFigures } from "./idle.ts";
import { type LatencyTrial, measureLatency } from "./latency.ts";
import {
  askingLoads,
  costLoads,
  type Load,
  latencyLoads,
  losslessLoads,
  profileLoads,
  risingLoads,
  saturatingLoads,
  wideLoads,
} from "./load.ts";
import { losslessFigures } from "./lossless.ts";
import { measure, type Trial } from "./measure.ts";
import { type Panel, plot } from "./plot.ts";
import { reloadFigures } from "./reload.ts";
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
  type Spread,
  shuffled,
  spreadOver,
} from "./report.ts";
import { startupFigures } from "./startup.ts";
import { askedNames, comparedNames, profileNames, type SystemName, systemNames } from "./systems.ts";
import {
  type FigureName,
  type Figures,
  formatTargets,
  isFailure,
  judge,
  type Part,
  parts,
  systemsJudged,
} from "./targets.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    write: { type: "boolean", default: false },
    only: { type: "string", multiple: true },
  },
});
const rounds = values.quick ? 3 : Number(values.rounds);
const ran = new Set(
  parts.filter((part) => {
    const isAsked = values.only?.includes(part) ?? true;
    return isAsked && !(values.quick && ["rising", "asking"].includes(part));
  }),
);

async function bench(): Promise<number> {
  const obstacle = whyNoTopology() ?? unknownPart();
  if (obstacle !== undefined) {
    console.error(obstacle);
    return 1;
  }
  using _burners = startBurners();
  const texts: string[] = [];
  const cost = ran.has("cost") ? await runRounds(wanted("cost", costLoads), measure) : [];
  if (ran.has("cost"))
    texts.push(
      `CPU time per packet in, µs, median (min–max) of the good ones of ${rounds} rounds\n${formatCosts(cost)}`,
    );
  const latency = ran.has("latency")
    ? await runRounds(latencyLoads, measureLatency, { systems: systemNames })
    : [];
  if (ran.has("latency")) texts.push(`One-way latency, µs, from send to receive\n${formatLatency(latency)}`);
  if (ran.has("latency") && !values.quick) {
    const profiles = await runRounds(profileLoads, measure, { systems: ["none", "mcr", ...profileNames] });
    texts.push(`CPU time per packet in, µs, by profile\n${formatProfiles(profiles)}`);
  }
  const saturation = ran.has("saturation")
    ? await runRounds(saturatingLoads, measure, { systems: ["none", "mcr", "socat"] })
    : [];
  if (ran.has("saturation"))
    texts.push(`Packets out per second of the relay's CPU, thousands\n${formatSaturation(saturation)}`);
  if (ran.has("rising")) {
    const rising = await runRounds(risingLoads, measure, { systems: ["none", "mcr", "socat", "smcroute"] });
    texts.push(`Loss at rising rates, 10 streams\n${formatLoss(rising)}`);
    if (values.write) await writeFile(join(import.meta.dir, "loss.svg"), plot(panelsOf(rising)));
  }
  const asking = ran.has("asking") ? await runRounds(askingLoads, measure, { systems: askedNames }) : [];
  if (ran.has("asking"))
    texts.push(`mcr asked for all it tells, one question after the other\n${formatAsking(asking)}`);
  const figures = new Map([...askingFigures(asking), ...(await measureFigures())]);
  const judged = judge({ cost, latency, saturation, figures }, ran);
  texts.push(`Targets, by the median\n${formatTargets(judged)}`);
  console.log(`\n${texts.join("\n")}`);
  if (values.write) await appendFile(join(import.meta.dir, "RESULTS.md"), formatResults(texts));
  const failures = judged.filter(isFailure);
  for (const { target, verdict } of failures) console.error(`${target.row}: ${verdict}`);
  return failures.length === 0 ? 0 : 1;
}

/** With `--quick` only those that a row is read from. */
function wanted(part: Part, loads: readonly Load[]): readonly Load[] {
  return values.quick ? loads.filter(({ name }) => systemsJudged(part, name).size > 0) : loads;
}

/** All, or with `--quick` the bare wire and those that a row of this load is read from. */
function wantedSystems(load: Load, systems: readonly SystemName[]): readonly SystemName[] {
  const judged = new Set(parts.flatMap((part) => [...systemsJudged(part, load.name)]));
  const isWanted = (system: SystemName) => system === "none" || judged.has(system);
  return values.quick && judged.size > 0 ? systems.filter(isWanted) : systems;
}

function unknownPart(): string | undefined {
  const unknown = values.only?.find((name) => !parts.some((part) => part === name));
  return unknown && `--only ${unknown}: the parts are ${parts.join(", ")}`;
}

/** What is no comparison with another system. A part that fails leaves its rows unmeasured, and the others go on. */
async function measureFigures(): Promise<Figures> {
  const { quick } = values;
  const measures: Partial<Record<Part, () => Promise<Figures>>> = {
    startup: () => startupFigures(rounds),
    groups: () => groupFigures(quick ? 1 : rounds),
    reload: () => reloadFigures(quick ? 50 : 1000),
    idle: () => idleFigures(quick ? 3 : 10),
    lossless: async () => {
      const wide = await runRounds(wideLoads, measure, { systems: ["none", "mcr"] });
      return losslessFigures(await runRounds(losslessLoads, measure, { systems: ["mcr"], count: 1 }), wide);
    },
  };
  const figures = new Map<FigureName, Spread | undefined>();
  for (const part of ran) {
    const measureThem = measures[part];
    if (!measureThem) continue;
    console.log(`${part} …`);
    try {
      for (const [name, spread] of await measureThem()) figures.set(name, spread);
    } catch (error) {
      console.error(`${part}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return figures;
}

async function runRounds<T extends { readonly stolen: number }>(
  loads: readonly Load[],
  run: (system: SystemName, load: Load) => Promise<T | undefined>,
  {
    systems = comparedNames,
    count = rounds,
  }: { readonly systems?: readonly SystemName[]; readonly count?: number } = {},
): Promise<readonly Round<T>[]> {
  const all: Round<T>[] = [];
  for (let round = 1; round <= count; round += 1) {
    const trials = new Map(loads.map((load) => [load, new Map<SystemName, T>()]));
    const order = shuffled(
      loads.flatMap((load) => wantedSystems(load, systems).map((system) => ({ load, system }))),
    );
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
      `round ${round} of ${count}: ${good.length} of ${measured.length} loads good, at most ${(stolen * 100).toFixed(1)} % of the time stolen`,
    );
  }
  return all;
}

function byLoad<T>(all: readonly Round<T>[]): readonly (readonly [Load, readonly Round<T>[]])[] {
  return [...Map.groupBy(all, ({ load }) => load)];
}

function formatCosts(all: readonly Round<Trial>[]): string {
  const rows = byLoad(all).map(([load, each]) => [
    load.name,
    ...(["mcr", "mcr exclusive", "socat", "smcroute"] as const).map((system) =>
      formatSpread(spreadOver(each, costUs, system), 2),
    ),
    ...(["mcr", "mcr exclusive"] as const).flatMap((system) => [
      formatSpread(ratioOver(each, costUs, "socat", system), 1, "×"),
      formatSpread(ratioOver(each, costUs, "smcroute", system), 2, "×"),
    ]),
  ]);
  const headings = ["LOAD", "MCR", "EXCLUSIVE", "SOCAT", "SMCROUTE"];
  const ratios = ["SOCAT ÷ MCR", "SMCROUTE ÷ MCR", "SOCAT ÷ EXCLUSIVE", "SMCROUTE ÷ EXCLUSIVE"];
  return formatTable([...headings, ...ratios], rows, 200);
}

function formatLatency(all: readonly Round<LatencyTrial>[]): string {
  const of = (figure: (trial: LatencyTrial) => number): Figure<LatencyTrial> => {
    return ({ trials }, system) => {
      const trial = trials.get(system);
      return trial && figure(trial);
    };
  };
  const rows = byLoad(all).flatMap(([load, each]) =>
    systemNames.map((system) => [
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
