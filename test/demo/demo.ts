// `make demo`: ten streams of real UDP multicast through the executable, between network namespaces of their own.
// Sender and receiver are plain kernel sockets that know nothing of mcr; what they counted is set beside mcr's own
// counters. Ends with 1 on any difference.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Stats } from "../../src/control/protocol.ts";
import { formatTable } from "../../src/table.ts";
import { startRelay } from "../support/relay.ts";
import { address, openTopology, whyNoTopology } from "../support/topology.ts";
import { type ReceiveResult, type SendResult, startReceiver, startSender } from "../support/traffic.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 10 };
const egress = { group: "239.10.1.1", port: 6001, streams: 10 };
const countPerStream = 10_000;
const total = countPerStream * ingress.streams;
/** A terminal shows one line that counts up; anything else a line each second. */
const progressMs = process.stdout.isTTY ? 200 : 1_000;

process.exitCode = await demo();

async function demo(): Promise<number> {
  const obstacle = whyNoTopology();
  if (obstacle !== undefined) {
    console.error(obstacle);
    return 1;
  }
  console.log("gen-ns veth0 ──── veth1 relay-ns veth2 ──── veth3 sink-ns   (topo/chain.sh)");
  await using topology = await openTopology("chain");
  const file = join(import.meta.dir, "rules.toml");
  await using relay = await startRelay(topology, await readFile(file, "utf8"));
  console.log("mcr run rules.toml in relay-ns: 10 streams, 239.1.1.N:5000+N → 239.10.1.N:6000+N\n");

  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: total,
    deadlineSeconds: 30,
  });
  const sender = await startSender(topology, "gen-ns", {
    ...ingress,
    interfaceAddress: address.gen,
    ratePps: 20_000,
    countPerStream,
    sizeBytes: 1024,
  });
  sender.go();
  const progress = setInterval(() => printProgress(receiver.receivedSoFar()), progressMs);
  const sent = await sender.finished();
  const received = await receiver.finished();
  clearInterval(progress);
  printProgress(received.received);
  if (process.stdout.isTTY) console.log();
  const stats = await relay.stats();
  return report(sent, received, stats);
}

function printProgress(received: number): void {
  const [begin, end] = process.stdout.isTTY ? ["\r", ""] : ["", "\n"];
  process.stdout.write(`${begin}${received} of ${total} packets received${end}`);
}

function report(sent: SendResult, received: ReceiveResult, stats: Stats): number {
  const rows = sent.streams.map((stream, i) => {
    const arrived = received.streams[i];
    const count = arrived?.received ?? 0;
    const target = `${arrived?.group}:${arrived?.port}`;
    return [
      `${stream.group}:${stream.port} → ${target}`,
      stream.sent,
      count,
      stream.sent - count,
      arrived?.duplicated ?? 0,
    ];
  });
  const lost = sent.sent - received.received;
  console.log(`\n${formatTable(["STREAM", "SENT", "RECEIVED", "LOST", "DUPLICATED"], rows)}`);

  const { totals } = stats;
  const comparison = [
    ["packets in", sent.sent, totals.matched],
    ["packets out", received.received, totals.sent_packets],
    ["dropped on ingress", lost, totals.ingress_dropped],
    ["dropped on egress", 0, totals.egress_dropped],
  ] as const;
  console.log(formatTable(["", "SENDER AND RECEIVER", "MCR"], comparison));

  const faults = lost + received.duplicated + received.reordered + received.corrupt + received.wrong_stream;
  const differs = comparison.some(([, theirs, ours]) => theirs !== ours);
  if (faults === 0 && !differs) {
    console.log("every packet arrived once, in order and intact, and mcr's counters agree");
    return 0;
  }
  if (received.socket_drops > 0)
    console.error(
      `the receiver itself dropped ${received.socket_drops} packets: this machine was too busy for it`,
    );
  console.error("the demo failed: packets are missing, doubled or damaged, or the counters differ");
  return 1;
}
