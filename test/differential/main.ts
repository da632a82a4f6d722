// make differential: runs of every profile, with one worker and four, through both kinds of ingress and every
// disturbance, until the time is over. With a run's own options it repeats that run, as the command of a failure does.

import { parseArgs } from "node:util";
import * as v from "valibot";
import { disturbances, profiles, type RunOptions } from "./run.ts";
import { runAndTell } from "./tell.ts";

const number = v.pipe(v.string(), v.transform(Number), v.integer(), v.minValue(0));
const OptionsSchema = v.object({
  seconds: v.optional(number),
  seed: v.optional(number),
  profile: v.optional(v.picklist(profiles)),
  workers: v.optional(number),
  ingress: v.optional(v.picklist(["veth", "tap"])),
  disturbance: v.optional(v.picklist(disturbances)),
  "first-round": v.optional(number, "0"),
  rounds: v.optional(number),
  frames: v.optional(number, "3000"),
  "held-every": v.optional(number, "4"),
  only: v.optional(
    v.pipe(
      v.string(),
      v.transform((text) => text.split("-").map(Number)),
      v.tuple([v.number(), v.number()]),
    ),
  ),
});

const text = { type: "string" } as const;
const { values } = parseArgs({
  options: {
    seconds: text,
    seed: text,
    profile: text,
    workers: text,
    ingress: text,
    disturbance: text,
    "first-round": text,
    rounds: text,
    frames: text,
    "held-every": text,
    only: text,
  },
});
const given = v.parse(OptionsSchema, values);
const deadline = performance.now() + (given.seconds ?? 60) * 1_000;
let seed = given.seed ?? Date.now() % 1_000_000;
let isSound = true;
for (const options of combinations()) {
  isSound = await runAndTell(options);
  if (!isSound || performance.now() > deadline) break;
}
process.exitCode = isSound ? 0 : 1;

/** The one that is asked for, once; else each in turn, without end, every time with another seed. */
function* combinations(): Generator<RunOptions> {
  const isOne = given.rounds !== undefined;
  do {
    for (const disturbance of given.disturbance ? [given.disturbance] : disturbances)
      for (const profile of given.profile ? [given.profile] : profiles)
        for (const workers of given.workers ? [given.workers] : [1, 4])
          for (const ingress of given.ingress ? [given.ingress] : (["veth", "tap"] as const)) {
            yield {
              ...{ seed, profile, workers, ingress, disturbance },
              firstRound: given["first-round"],
              rounds: given.rounds ?? 8,
              framesPerRound: given.frames,
              heldEvery: given["held-every"],
              ...(given.only ? { only: given.only } : {}),
            };
            seed += 1;
          }
  } while (!isOne);
}
