// One-way latency through a relay, from `mcr send` to `mcr receive`, which share one clock. Both run on the
// generator's CPU, the relay on its own. Without a relay the receiver listens at the relay's end of the first link:
// what sending, one veth and the receiver's own wake-up take.

import * as v from "valibot";
import { executable } from "../support/relay.ts";
import { openTopology } from "../support/topology.ts";
import { generatorCpu, onCpu, watchSteal } from "./cpu.ts";
import type { Load } from "./load.ts";
import { ingressOf, type SystemName, sinkStreams, startSystem } from "./systems.ts";

export interface LatencyTrial {
  readonly p50Us: number;
  readonly p99Us: number;
  readonly sent: number;
  /** Distinct datagrams. */
  readonly received: number;
  readonly duplicated: number;
  /** Dropped by the receiver's own sockets. */
  readonly sinkDrops: number;
  /** Share of the wall time that the host took away. */
  readonly stolen: number;
}

const ReceivedSchema = v.object({
  received: v.number(),
  duplicated: v.number(),
  socket_drops: v.number(),
  latency: v.nullable(v.object({ p50_ns: v.number(), p99_ns: v.number() })),
});

/** Undefined when nothing arrived, or the system cannot carry this load. */
export async function measureLatency(
  system: SystemName,
  load: Load,
  program?: string,
): Promise<LatencyTrial | undefined> {
  await using topology = await openTopology("chain");
  await using running = await startSystem(system, topology, load, program);
  if (!running) return undefined;
  const atRelay = system === "none";
  const streams = atRelay
    ? Array.from({ length: load.streams }, (_, i) => ingressOf(i))
    : sinkStreams(system, load);
  const receiver = topology.spawn(atRelay ? "relay-ns" : "sink-ns", [
    ...onCpu(generatorCpu),
    ...[executable, "receive", "--json", "--interface", atRelay ? "veth1" : "veth3"],
    // Ends by itself where packets were lost.
    ...["--expect", String(load.ratePps * load.seconds), "--deadline", `${load.seconds + 3}s`],
    ...streams.map(({ group, port }) => `${group}:${port}`),
  ]);
  await receiver.waitForOutput(/ready/, 15_000);
  const stolen = watchSteal();
  await topology.output("gen-ns", [
    ...onCpu(generatorCpu),
    ...[executable, "send", "--json", "--interface", "veth0", `239.1.1.1:5001+${load.streams}`],
    ...[
      "--total-rate",
      String(load.ratePps),
      "--burst",
      String(load.burst),
      "--size",
      String(load.sizeBytes),
    ],
    ...["--count", String((load.ratePps * load.seconds) / load.streams)],
  ]);
  const stolenShare = stolen();
  const { stdout } = await receiver.exited;
  const { latency, received, duplicated, socket_drops } = v.parse(ReceivedSchema, JSON.parse(stdout));
  if (!latency) return undefined;
  const { p50_ns, p99_ns } = latency;
  return {
    ...{ p50Us: p50_ns / 1000, p99Us: p99_ns / 1000, stolen: stolenShare },
    ...{ sent: load.ratePps * load.seconds, received, duplicated, sinkDrops: socket_drops },
  };
}
