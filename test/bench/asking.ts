// What it costs the data plane that mcr is asked: the workers' CPU time per packet at a rate that is held, and what leaves
// per second of it when the sender sends all it can, each beside an mcr that is left alone in the same round while
// another one is asked as much.

import { formatTable } from "../../src/table.ts";
import { askingLoads } from "./load.ts";
import type { Trial } from "./measure.ts";
import {
  type Figure,
  formatSpread,
  lossPercent,
  type Round,
  ratioOver,
  spreadOf,
  spreadOver,
} from "./report.ts";
import { askedNames } from "./systems.ts";
import type { Figures } from "./targets.ts";

const [paced, saturating] = askingLoads;

export function askingFigures(all: readonly Round<Trial>[]): Figures {
  const [held, flooded] = [paced, saturating].map((load) => all.filter((round) => round.load === load));
  const lost = (held ?? []).flatMap((round) => lossPercent(round, "mcr asked") ?? []);
  return new Map([
    ["CPU per packet, asked ÷ another", ratioOver(held ?? [], workerUs, "mcr asked", "another mcr asked")],
    [
      "packets out per core, asked ÷ another",
      ratioOver(flooded ?? [], outKpps, "mcr asked", "another mcr asked"),
    ],
    ["lost while asked", lost.length === 0 ? undefined : spreadOf([Math.max(...lost)])],
  ]);
}

export function formatAsking(all: readonly Round<Trial>[]): string {
  const rows = askingLoads.flatMap((load) => {
    const rounds = all.filter((round) => round.load === load);
    const figure = load === paced ? workerUs : outKpps;
    return askedNames.map((system) => [
      load.name,
      system,
      formatSpread(spreadOver(rounds, answers, system), 0),
      load === paced ? formatSpread(spreadOver(rounds, workerUs, system), 2) : "",
      load === paced ? "" : formatSpread(spreadOver(rounds, outKpps, system), 0),
      ...(["mcr alone", "another mcr asked"] as const).map((other) =>
        askedNames.indexOf(system) <= askedNames.indexOf(other)
          ? ""
          : formatSpread(ratioOver(rounds, figure, system, other), 2, "×"),
      ),
      formatSpread(spreadOver(rounds, lossPercent, system), 2, " %"),
    ]);
  });
  const headings = [
    "LOAD",
    "",
    "ANSWERS/S",
    "µs PER PACKET",
    "KPPS OUT PER CORE",
    "÷ ALONE",
    "÷ ANOTHER",
    "LOST",
  ];
  return formatTable(headings, rows, 200);
}

/** CPU time of the workers per packet that came in. */
const workerUs: Figure<Trial> = ({ trials }, system) => {
  const trial = trials.get(system);
  return trial && trial.workerCpuNs / trial.sent / 1000;
};

/** Thousands of packets out per second of the workers' CPU. */
const outKpps: Figure<Trial> = ({ trials }, system) => {
  const trial = trials.get(system);
  return trial && (trial.received / trial.workerCpuNs) * 1e6;
};

const answers: Figure<Trial> = ({ trials }, system) => trials.get(system)?.answersPerSecond;
