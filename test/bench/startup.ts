// From the start of the executable with 500 rules to the first packet at the sink, while the generator sends. What it
// takes to enter the namespace, and until the end of the receiver is seen, is in the figure.

import { executable, type RelayUnderTest, startRelay } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";
import { waitUntil } from "../support/wait.ts";
import { spreadOf } from "./report.ts";
import { egressOf, ingressOf, rulesOf } from "./systems.ts";
import type { Figures } from "./targets.ts";

const ruleCount = 500;

export async function startupFigures(rounds: number): Promise<Figures> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) times.push(await msToFirstPacket());
  return new Map([["ms to the first packet", spreadOf(times)]]);
}

async function msToFirstPacket(): Promise<number> {
  await using topology = await openTopology("chain");
  // Written, checked and stopped before the clock runs: only its file is of use.
  await using prepared: RelayUnderTest = await startRelay(
    topology,
    rulesOf({ streams: ruleCount, copies: 1 }),
  );
  await prepared.stop();
  const last = ruleCount - 1;
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egressOf(last, 0),
    ...{ expect: 1, lingerMs: 0, deadlineSeconds: 20 },
  });
  const sender = await startSender(topology, "gen-ns", {
    ...{ ...ingressOf(last), interfaceAddress: address.gen, ratePps: 2_000, unbounded: true },
  });
  sender.go();
  await waitUntil(() => sender.sentSoFar() > 0, { what: "the first packet to be sent" });
  const began = performance.now();
  const relay = topology.spawn("relay-ns", [executable, "run", prepared.file]);
  await receiver.finished();
  const ms = performance.now() - began;
  relay.kill("SIGTERM");
  await Promise.all([relay.exited, sender.stop()]);
  return ms;
}
