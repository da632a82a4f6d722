// One trial: one system, one load, in a chain of its own. What it costs is the CPU time of everybody but the sink:
// generator (in whose context a veth does the receiving), relay, and the kernel's interrupt threads.

import { address, openTopology } from "../support/topology.ts";
import { startSender, startTap } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";
import { generatorCpu, interruptThreads, meterCpu, onCpu, watchSteal, workerThreads } from "./cpu.ts";
import type { Load } from "./load.ts";
import { type SystemName, startSystem } from "./systems.ts";

export interface Trial {
  readonly system: SystemName;
  readonly load: Load;
  readonly sent: number;
  /** Distinct datagrams at the sink, in all copies. */
  readonly received: number;
  readonly duplicated: number;
  /** Behind a later one of its stream. */
  readonly reordered: number;
  /** Dropped by the sink's own ring. */
  readonly sinkDrops: number;
  readonly sendCpuNs: number;
  readonly relayCpuNs: number;
  /** Of it, mcr's workers. */
  readonly workerCpuNs: number;
  readonly interruptCpuNs: number;
  readonly seconds: number;
  /** Share of the wall time that the host took away. */
  readonly stolen: number;
  /** What an mcr that is asked has answered while packets came. */
  readonly answersPerSecond: number;
}

/** The relay is done when the sink has seen nothing new for so long. */
const quietMs = 300;

/** Undefined when this system cannot carry this load. */
export async function measure(system: SystemName, load: Load, program?: string): Promise<Trial | undefined> {
  await using topology = await openTopology("chain");
  await using running = await startSystem(system, topology, load, program);
  if (!running) return undefined;
  const sink = await startTap(topology, "sink-ns", address.sink);
  const sender = await startSender(topology, "gen-ns", {
    interfaceAddress: address.gen,
    group: "239.1.1.1",
    port: 5001,
    streams: load.streams,
    ratePps: load.ratePps,
    durationSeconds: load.seconds,
    burst: load.burst,
    sizeBytes: load.sizeBytes,
    ttl: 8,
    prefix: onCpu(generatorCpu),
  });
  const stolen = watchSteal();
  const [relayNs, workerNs, interruptNs] = [
    meterCpu(running.pids),
    meterCpu(running.pids, workerThreads),
    meterCpu(interruptThreads),
  ];
  const answersBefore = running.answers;
  sender.go();
  const sent = await sender.finished();
  const answersPerSecond = (running.answers - answersBefore) / sent.seconds;
  let last = { count: -1, atMs: 0 };
  await waitFor(
    () => {
      const count = sink.receivedSoFar();
      if (count !== last.count) last = { count, atMs: performance.now() };
      return performance.now() - last.atMs;
    },
    (silentMs) => silentMs >= quietMs,
    { what: "the sink to have seen the last packet", deadlineMs: 30_000, intervalMs: 20 },
  );
  const stolenShare = stolen();
  const [relayCpuNs, workerCpuNs, interruptCpuNs] = [relayNs(), workerNs(), interruptNs()];
  const received = await sink.stop();
  return {
    system,
    load,
    sent: sent.sent,
    received: received.received,
    duplicated: received.duplicated,
    reordered: received.reordered,
    sinkDrops: received.ring_drops,
    sendCpuNs: sent.cpu_ns,
    relayCpuNs,
    workerCpuNs,
    interruptCpuNs,
    seconds: sent.seconds,
    stolen: stolenShare,
    answersPerSecond,
  };
}
