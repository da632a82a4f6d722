// The floors and aims: what passes, what fails, what is said of a figure that is not there.

import { describe, expect, test } from "bun:test";
import type { Load } from "./load.ts";
import type { Trial } from "./measure.ts";
import type { Round } from "./report.ts";
import type { SystemName } from "./systems.ts";
import {
  type Figures,
  isFailure,
  judge,
  type Part,
  parts,
  type Results,
  systemsJudged,
  targets,
} from "./targets.ts";

const nothing: Results = { cost: [], latency: [], saturation: [], figures: new Map() };

function verdicts(results: Results, part: Part) {
  const judged = judge(results, new Set([part]));
  return new Map(judged.map(({ target, verdict }) => [target.row, verdict]));
}

function withFigures(figures: Figures): Results {
  return { ...nothing, figures };
}

function exactly(value: number) {
  return { median: value, min: value, max: value };
}

/** A round in which every system but the wire cost so many µs of CPU a packet. */
function costRound(name: string, costs: Partial<Record<SystemName, number>>): Round<Trial> {
  const load: Load = { name, streams: 1, copies: 1, ratePps: 1000, burst: 8, sizeBytes: 100, seconds: 1 };
  const all: Partial<Record<SystemName, number>> = { none: 0, ...costs };
  const trials = (["none", "mcr", "socat"] as const).flatMap((system): [SystemName, Trial][] => {
    const us = all[system];
    if (us === undefined) return [];
    const trial: Trial = {
      ...{ system, load, sent: 1000, received: 1000, duplicated: 0, reordered: 0, sinkDrops: 0 },
      ...{
        sendCpuNs: 1e6,
        relayCpuNs: us * 1e6,
        workerCpuNs: 0,
        interruptCpuNs: 0,
        seconds: 1,
        stolen: 0,
        answersPerSecond: 0,
      },
    };
    return [[system, trial]];
  });
  return { load, trials: new Map(trials) };
}

describe("a target", () => {
  test("is judged by floor and aim, where more is better and where less is", () => {
    const row = "CPU per packet, socat ÷ mcr: 1 stream";
    for (const [socat, verdict] of [
      [6, "aim reached"],
      [5, "floor held"],
      [3.9, "BELOW FLOOR"],
    ] as const) {
      const cost = [costRound("1 stream", { mcr: 1, socat })];
      expect(verdicts({ ...nothing, cost }, "cost").get(row)).toBe(verdict);
    }
    for (const [ms, verdict] of [
      [200, "aim reached"],
      [500, "floor held"],
      [501, "BELOW FLOOR"],
    ] as const) {
      const results = withFigures(new Map([["ms to the first packet", exactly(ms)]]));
      expect([...verdicts(results, "startup").values()]).toEqual([verdict]);
    }
  });

  test("of no loss is missed by one packet", () => {
    const lost = (packets: number) => withFigures(new Map([["lost in 499 rules", exactly(packets)]]));
    expect([...verdicts(lost(0), "reload").values()]).toEqual(["aim reached"]);
    expect([...verdicts(lost(1), "reload").values()]).toEqual(["BELOW FLOOR"]);
  });

  test("that is an aim only cannot fail", () => {
    const results = withFigures(
      new Map([
        ["groups joined", exactly(5000)],
        ["seconds to join", exactly(3)],
      ]),
    );
    expect([...verdicts(results, "groups").values()]).toEqual(["aim reached", "aim missed"]);
  });
});

describe("a figure that is not there", () => {
  test("fails where the run should have it", () => {
    for (const part of parts) {
      const judged = judge(nothing, new Set([part]));
      for (const each of judged) expect(isFailure(each)).toBe(each.verdict === "NOT MEASURED");
    }
    expect(verdicts(nothing, "startup").get("start to first relayed packet, 500 rules")).toBe("NOT MEASURED");
    const cost = [costRound("1 stream", { mcr: 1 })];
    expect(verdicts({ ...nothing, cost }, "cost").get("CPU per packet, socat ÷ mcr: 1 stream")).toBe(
      "NOT MEASURED",
    );
  });

  test("is not asked of parts that did not run", () => {
    expect(judge(nothing, new Set())).toEqual([]);
  });
});

test("what a row is read from is told by part and load", () => {
  expect(systemsJudged("cost", "50 streams")).toEqual(new Set(["socat", "mcr", "mcr exclusive", "smcroute"]));
  expect(systemsJudged("cost", "10 streams to 10 egresses")).toEqual(new Set(["socat", "mcr"]));
  expect(systemsJudged("cost", "10 streams, 64 bytes")).toEqual(new Set());
  expect(systemsJudged("latency", "50 streams")).toEqual(new Set());
});

test("every row has a name of its own, and no aim lies below its floor", () => {
  expect(new Set(targets.map(({ row }) => row)).size).toBe(targets.length);
  for (const { floor, aim, better } of targets)
    if (floor !== undefined) expect(better === "more" ? aim >= floor : aim <= floor).toBe(true);
});
