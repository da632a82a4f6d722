// 500 rules under load, one of them another at every reload: what the other 499 lose.

import { ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { startSender, startTap } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";
import { generatorCpu, onCpu } from "./cpu.ts";
import { spreadOf } from "./report.ts";
import { egressOf, ingressOf, rulesOf } from "./systems.ts";
import type { Figures } from "./targets.ts";

const others = 499;

export async function reloadFigures(reloads: number): Promise<Figures> {
  await using topology = await openTopology("chain");
  const fixed = rulesOf({ streams: others, copies: 1 });
  const file = (turn: number) => `${fixed}\n${changing(turn)}`;
  await using relay = await startRelay(topology, file(0));
  const sink = await startTap(topology, "sink-ns", address.sink);
  const sender = await startSender(topology, "gen-ns", {
    ...{ ...ingressOf(0), streams: others, interfaceAddress: address.gen },
    ...{ ratePps: 20_000, unbounded: true, sizeBytes: 1316, burst: 8, prefix: onCpu(generatorCpu) },
  });
  sender.go();
  // The control socket as seen from outside the mount namespace.
  const unix = `/proc/${topology.holderPid}/root/run/mcr/mcr.sock`;
  for (let turn = 1; turn <= reloads; turn += 1) {
    await relay.write(file(turn));
    const answer = await fetch("http://mcr/v1/reload", { method: "POST", unix });
    if (!answer.ok) throw new Error(`reload ${turn}: ${await answer.text()}`);
  }
  const { sent } = await sender.stop();
  await waitFor(
    async () => (await relay.stats()).totals.packets,
    (packets) => packets >= sent,
    { what: `the relay to have read ${sent} packets`, deadlineMs: 10_000, intervalMs: 50 },
  ).catch(() => undefined); // what is missing is in the figure
  const { received, ring_drops } = await sink.stop();
  return new Map([["lost in 499 rules", spreadOf([sent - received - ring_drops])]]);
}

function changing(turn: number): string {
  const { group, port } = ingressOf(others);
  const to = egressOf(others, turn % 2);
  return ruleText({
    name: "changing",
    ingress: `interface = "veth1", group = "${group}", port = ${port}`,
    egress: [`interface = "veth2", group = "${to.group}", port = ${to.port}`],
  });
}
