// The relay against the model, for half a minute: every pair of profile, workers, ingress and disturbance. `make
// differential` goes on for as long as it is told.

import { expect, setDefaultTimeout, test } from "bun:test";
import { coverPairs } from "../support/pairwise.ts";
import { whyNoTopology } from "../support/topology.ts";
import { variant } from "../support/variant.ts";
import { disturbances, profiles, type RunOptions, run } from "./run.ts";
import { tellFailure } from "./tell.ts";

setDefaultTimeout(60_000);

const combinations = profiles.flatMap((profile) =>
  [1, 4].flatMap((workers) =>
    (["veth", "tap"] as const).flatMap((ingress) =>
      disturbances.map((disturbance) => ({ profile, workers, ingress, disturbance })),
    ),
  ),
);
// The model knows which path each egress takes by itself, and frames with offloads.
const netTest = test.skipIf(
  whyNoTopology() !== undefined || variant.path !== "auto" || variant.offloads === "off",
);

let seed = 1;
for (const combination of coverPairs(combinations)) {
  const { profile, workers, ingress, disturbance } = combination;
  const options: RunOptions = {
    ...combination,
    seed: seed++,
    firstRound: 0,
    rounds: 3,
    framesPerRound: 1_500,
    // Waiting for what is late takes 2 s, so not in every run.
    heldEvery: seed % 3 === 2 ? 3 : 99,
  };
  const what = {
    none: "",
    reload: ", reloaded",
    add: ", its rules changed",
    stop: ", stopped and continued",
  };
  netTest(
    `every datagram and every counter is the model's: ${profile}, workers ${workers}, ${ingress}${what[disturbance]}`,
    async () => {
      const { failure } = await run(options);
      expect(failure === undefined ? "agrees" : tellFailure(failure)).toBe("agrees");
    },
  );
}
