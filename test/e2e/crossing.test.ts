// What mcr exists for: streams that the kernel would not let through, and switches that want a real join.

import { expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { snoopedGroups } from "../support/igmp.ts";
import { linkCounters } from "../support/link.ts";
import { startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { send, startReceiver } from "../support/traffic.ts";
import { waitUntil } from "../support/wait.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 2 };
const egress = { group: "239.10.1.1", port: 6001, streams: 2 };
const countPerStream = 5_000;
const generated = { ...ingress, ratePps: 10_000, countPerStream, sizeBytes: 1024 };
const expected = { expect: countPerStream * 2, deadlineSeconds: 30 };

test("a stream crosses two snooping bridges, because the join is real", async () => {
  await using topology = await openTopology("bridges");
  await using relay = await startRelay(topology, streamRules(ingress, egress));
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    ...expected,
  });
  await waitUntil(
    async () =>
      (await snoopedGroups(topology, "bridge-a-ns", "br-a", "relay")).length === ingress.streams &&
      (await snoopedGroups(topology, "bridge-b-ns", "br-b", "sink")).length === egress.streams,
    { what: "the bridges to learn the joins" },
  );
  const before = await linkCounters(topology, "bystander-ns", "veth4");
  const sent = await send(topology, "gen-ns", { ...generated, interfaceAddress: address.gen });
  expectEveryPacket({ sent, received: await receiver.finished(), stats: await relay.stats() });
  // A port behind which nobody joined got none of it: the bridge does snoop.
  const after = await linkCounters(topology, "bystander-ns", "veth4");
  expect(after.rx.bytes - before.rx.bytes).toBeLessThan(countPerStream * 1024);
}, 60_000);

/** A source the relay host has no route back to, and the strict reverse-path check. */
const unroutable = "192.168.168.55";

async function openUnroutable() {
  const topology = await openTopology("chain");
  await topology.output("gen-ns", ["ip", "address", "add", `${unroutable}/32`, "dev", "veth0"]);
  for (const name of ["all", "veth1"])
    await topology.output("relay-ns", ["sh", "-c", `echo 1 > /proc/sys/net/ipv4/conf/${name}/rp_filter`]);
  return topology;
}

test("a stream whose source cannot be routed back crosses with rp_filter on", async () => {
  await using topology = await openUnroutable();
  await using relay = await startRelay(topology, streamRules(ingress, egress));
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    ...expected,
  });
  const sent = await send(topology, "gen-ns", {
    ...generated,
    interfaceAddress: address.gen,
    source: unroutable,
  });
  const received = await receiver.finished();
  expectEveryPacket({ sent, received, stats: await relay.stats() });
  expect(received.streams[0]?.source).toStartWith(`${address.relayEgress}:`);
}, 60_000);

test("a plain UDP socket in its place receives nothing of that stream", async () => {
  await using topology = await openUnroutable();
  const receiver = await startReceiver(topology, "relay-ns", {
    interfaceAddress: address.relayIngress,
    streams: ingress,
    deadlineSeconds: 30,
  });
  const sent = await send(topology, "gen-ns", {
    ...generated,
    interfaceAddress: address.gen,
    source: unroutable,
  });
  expect(sent.sent).toBe(countPerStream * 2);
  expect((await receiver.stop()).received).toBe(0);
}, 60_000);
