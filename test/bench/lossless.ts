// What arrives at rates that the links hold: nothing lost, doubled or out of order, whatever the number of streams and
// workers; and 500 streams at 100,000 packets a second.

import type { Trial } from "./measure.ts";
import { costUs, lossPercent, type Round, spreadOf, spreadOver } from "./report.ts";
import type { Figures } from "./targets.ts";

/** Of rounds that were good. The worst one counts: these are promises, not averages. */
export function losslessFigures(loads: readonly Round<Trial>[], wide: readonly Round<Trial>[]): Figures {
  const disorder = (round: Round<Trial>) => {
    const trial = round.trials.get("mcr");
    return trial && trial.duplicated + trial.reordered;
  };
  return new Map([
    ["lost, of all streams", worst(loads, lostPackets)],
    ["duplicated or reordered", worst([...loads, ...wide], disorder)],
    ["lost, 500 streams at 100 kpps", worst(wide, lostPackets)],
    ["µs per packet, 500 streams at 100 kpps", spreadOver(wide, costUs, "mcr")],
  ]);
}

function lostPackets(round: Round<Trial>): number | undefined {
  const trial = round.trials.get("mcr");
  const percent = lossPercent(round, "mcr");
  return trial && percent !== undefined
    ? Math.round((percent / 100) * trial.sent * round.load.copies)
    : undefined;
}

function worst(rounds: readonly Round<Trial>[], of: (round: Round<Trial>) => number | undefined) {
  const values = rounds.flatMap((round) => of(round) ?? []);
  return values.length === 0 ? undefined : spreadOf([Math.max(...values)]);
}
