// One ingress, many egresses: every copy arrives, to groups and to hosts.

import { expect, test } from "bun:test";
import { offsetAddress } from "../../src/net/address.ts";
import { expectEveryPacket } from "../support/accounting.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { send, startReceiver } from "../support/traffic.ts";

const ingress = 'interface = "veth1", group = "239.1.1.1", port = 5001';
const generated = { group: "239.1.1.1", port: 5001, interfaceAddress: address.gen, sizeBytes: 1024 };

test.each([1, 3, 50])(
  "each of %d egresses gets every packet",
  async (copies) => {
    const egress = Array.from({ length: copies }, (_, i) => ({
      group: offsetAddress("239.10.1.1", i),
      port: 6001 + i,
    }));
    await using topology = await openTopology("chain");
    await using relay = await startRelay(
      topology,
      ruleText({
        name: "fan",
        ingress,
        egress: egress.map(({ group, port }) => `interface = "veth2", group = "${group}", port = ${port}`),
      }),
    );
    const countPerStream = 2_000;
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      anyStream: true,
      expect: countPerStream * copies,
      deadlineSeconds: 60,
    });
    const sent = await send(topology, "gen-ns", { ...generated, ratePps: 1_000, countPerStream });
    const received = await receiver.finished();
    const stats = await relay.stats();
    expectEveryPacket({ sent, received, stats, copies });
    expect(received.streams.map((stream) => stream.received)).toEqual(egress.map(() => countPerStream));
    const [rule] = stats.rules;
    expect(rule?.egress.map((each) => each.sent_packets)).toEqual(egress.map(() => countPerStream));
    // Each egress sends from one stable port of its own.
    expect(received.streams.map((stream) => stream.source_changes)).toEqual(egress.map(() => 0));
    const sources = rule?.egress.map((each) => `${address.relayEgress}:${each.source_port}`) ?? [];
    expect(received.streams.map((stream) => stream.source)).toEqual(sources);
  },
  60_000,
);

test("a group goes to a host as unicast and to a group at the same time", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(
    topology,
    ruleText({
      name: "mixed",
      ingress,
      egress: [
        `interface = "veth2", address = "${address.sink}", port = 7001`,
        'interface = "veth2", group = "239.10.1.1", port = 6001, source_port = 4001, ttl = 9, dscp = 34',
      ],
    }),
  );
  const countPerStream = 10_000;
  const common = {
    interfaceAddress: address.sink,
    anyStream: true,
    expect: countPerStream,
    deadlineSeconds: 30,
  };
  const unicast = await startReceiver(topology, "sink-ns", {
    ...common,
    streams: { group: address.sink, port: 7001 },
    unicast: true,
  });
  const multicast = await startReceiver(topology, "sink-ns", {
    ...common,
    streams: { group: "239.10.1.1", port: 6001 },
  });
  const sent = await send(topology, "gen-ns", { ...generated, ratePps: 10_000, countPerStream });
  const received = await unicast.finished();
  const stats = await relay.stats();
  const grouped = await multicast.finished();
  const both = { ...grouped, received: grouped.received + received.received };
  expectEveryPacket({ sent, received: both, stats, copies: 2 });
  expect(received.received).toBe(countPerStream);
  expect(grouped.streams[0]?.source).toBe(`${address.relayEgress}:4001`);
}, 60_000);

test("ranges of one rule pair up one to one", async () => {
  const streams = 50;
  await using topology = await openTopology("chain");
  await using relay = await startRelay(
    topology,
    ruleText({
      name: "wall",
      ingress: 'interface = "veth1", group = "239.1.1.1-239.1.1.50", port = "5001-5050"',
      egress: ['interface = "veth2", group = "239.10.1.1-239.10.1.50", port = "6001-6050"'],
    }),
  );
  const countPerStream = 200;
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { group: "239.10.1.1", port: 6001, streams },
    expect: countPerStream * streams,
    deadlineSeconds: 30,
  });
  const sent = await send(topology, "gen-ns", { ...generated, streams, ratePps: 20_000, countPerStream });
  expectEveryPacket({ sent, received: await receiver.finished(), stats: await relay.stats() });
}, 60_000);
