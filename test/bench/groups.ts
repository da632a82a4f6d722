// 5,000 groups on one interface under the kernel's own limits (igmp_max_memberships is 20): how many the kernel has
// joined, and how long after the start of the executable.

import { joinedGroups } from "../support/igmp.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { openTopology } from "../support/topology.ts";
import { spreadOf } from "./report.ts";
import type { Figures } from "./targets.ts";

const rules = ruleText({
  name: "wall",
  ingress: 'interface = "veth1", group = "239.1.0.1-239.1.19.136", port = 5001',
  egress: ['interface = "veth2", group = "239.10.0.1-239.10.19.136", port = 6001'],
});

export async function groupFigures(rounds: number): Promise<Figures> {
  const [joined, seconds]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    await using topology = await openTopology("chain");
    const began = performance.now();
    await using _relay = await startRelay(topology, rules); // which says so when all joins are settled
    seconds.push((performance.now() - began) / 1000);
    joined.push((await joinedGroups(topology, "relay-ns", "veth1")).length);
  }
  return new Map([
    ["groups joined", spreadOf(joined)],
    ["seconds to join", spreadOf(seconds)],
  ]);
}
