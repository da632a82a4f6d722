// Tells what came of a run, and makes a failing one smaller by repeating parts of its round.

import { type Failure, type RunOptions, type RunResult, run } from "./run.ts";

/** One line for a run without a fault; for another all that is known of it. False when it failed. */
export async function runAndTell(options: RunOptions): Promise<boolean> {
  const result = await run(options);
  console.log(lineOf(options, result));
  if (result.failure === undefined) return true;
  console.log(tellFailure(result.failure));
  const least = await shrink(options, result.failure);
  if (least) console.log(`The least of it that fails on its own, ${tellFailure(least)}`);
  return false;
}

export function tellFailure({ round, sentences, command }: Failure): string {
  const more = sentences.length > 25 ? [`… and ${sentences.length - 25} more`] : [];
  const list = [...sentences.slice(0, 25), ...more].map((sentence) => `  ${sentence}`);
  return [`round ${round}:`, ...list, `  again: ${command}`].join("\n");
}

export function lineOf(
  options: RunOptions,
  { frames, datagrams, refused, seconds, failure }: RunResult,
): string {
  const { seed, profile, workers, ingress, disturbance } = options;
  const verdict = failure === undefined ? "agrees" : "DIFFERS";
  const counts = `${frames} frames (${refused} refused), ${datagrams} datagrams in ${seconds.toFixed(1)} s`;
  return `seed ${seed} ${profile} ${workers} ${ingress} ${disturbance}: ${counts}: ${verdict}`;
}

const halvings = 13;

/** Halves the part that fails for as long as a half fails on its own; undefined when no part does. */
async function shrink(options: RunOptions, failure: Failure): Promise<Failure | undefined> {
  let least: Failure | undefined;
  let part: readonly [number, number] = options.only ?? [0, options.framesPerRound * 2];
  const fails = async (from: number, to: number) => {
    const only = [from, to] as const;
    const again = await run({ ...options, firstRound: failure.round, rounds: 1, only });
    if (again.failure === undefined) return false;
    least = again.failure;
    part = only;
    return true;
  };
  const { frame } = failure;
  // What comes after the frame had no part in it.
  if (frame !== undefined) await fails(part[0], part[0] + frame + 1);
  for (let runs = 0; runs < halvings && part[1] - part[0] > 1; runs += 1) {
    const middle = Math.floor((part[0] + part[1]) / 2);
    if (!(await fails(middle, part[1])) && !(await fails(part[0], middle))) break;
  }
  return least;
}
