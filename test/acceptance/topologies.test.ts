// Streams through more than one relay, one link or one sink: nothing lost, doubled, reordered or damaged at the
// receiver, and every relay's counters equal to what was there. Paced; each runs once.

import { describe, expect, test } from "bun:test";
import { offsetAddress } from "../../src/net/address.ts";
import { expectEveryPacket, expectIntact, receivedTogether, sentTogether } from "../support/accounting.ts";
import { cross, crossAll, paced } from "../support/crossing.ts";
import { snoopedGroups } from "../support/igmp.ts";
import { type RelayUnderTest, ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";
import { waitUntil } from "../support/wait.ts";

const streams = 4;
const timeoutMs = 120_000;

/** The streams on link `link` of a path: each link has groups and ports of its own. */
function segment(link: number) {
  return { group: `239.${link + 1}.1.1`, port: 5001 + link * 100, streams };
}

/** A relay in relay-HOP-ns, from the segment before it to the one behind it. */
function startHop(topology: Topology, hop: number): Promise<RelayUnderTest> {
  return startRelay(topology, streamRules(segment(hop - 1), segment(hop)), { namespace: `relay-${hop}-ns` });
}

describe("relays in a row", () => {
  const cases = [
    { name: "baseline", hops: 2, countPerStream: 25_000, ratePps: 25_000, publishedPps: 100_000 },
    { name: "chain_3hop", hops: 3, countPerStream: 12_500, ratePps: 20_000, publishedPps: 250_000 },
  ];
  for (const { name, hops, countPerStream, ratePps, publishedPps } of cases) {
    const count = (countPerStream * streams).toLocaleString("en");
    test(
      `${name}: ${hops} relays carry ${count} packets of 1,400 bytes${paced(ratePps, publishedPps)}`,
      async () => {
        await using topology = await openTopology("hops", String(hops));
        await using stack = new AsyncDisposableStack();
        const relays: RelayUnderTest[] = [];
        for (let hop = 1; hop <= hops; hop += 1) relays.push(stack.use(await startHop(topology, hop)));
        const { sent, received } = await cross(
          topology,
          { ...segment(0), interfaceAddress: "10.0.0.1", ratePps, countPerStream, sizeBytes: 1400 },
          { interfaceAddress: `10.0.${hops}.2`, streams: segment(hops) },
        );
        for (const relay of relays) expectEveryPacket({ sent, received, stats: await relay.stats() });
      },
      timeoutMs,
    );
  }
});

describe("one relay, many sinks", () => {
  const generator = { ...segment(0), interfaceAddress: "10.0.0.1", countPerStream: 12_500, sizeBytes: 1400 };

  test(
    `tree_fanout: each of 3 sinks gets 50,000 packets${paced(15_000, 300_000)}`,
    async () => {
      await using topology = await openTopology("tree");
      const leaves = [1, 2, 3];
      const rules = Array.from({ length: streams }, (_, i) => {
        const egress = `group = "${offsetAddress(segment(1).group, i)}", port = ${segment(1).port + i}`;
        return ruleText({
          name: `stream-${i}`,
          ingress: `interface = "veth1", group = "${offsetAddress(segment(0).group, i)}", port = ${segment(0).port + i}`,
          egress: leaves.map((leaf) => `interface = "veth${leaf * 2}", ${egress}`),
        });
      });
      await using relay = await startRelay(topology, rules.join("\n"));
      const sinks = leaves.map((leaf) => ({
        namespace: `sink-${leaf}-ns`,
        interfaceAddress: `10.0.${leaf}.2`,
        streams: segment(1),
      }));
      const { sent, received } = await crossAll(topology, { ...generator, ratePps: 15_000 }, sinks);
      for (const each of received)
        expect(each.streams.map((stream) => stream.received)).toEqual(
          sent.streams.map((stream) => stream.sent),
        );
      const stats = await relay.stats();
      expectEveryPacket({ sent, received: receivedTogether(received), stats, copies: leaves.length });
    },
    timeoutMs,
  );

  test(
    `multi_downstream: two sinks behind a snooping switch share one group, sent once${paced(2_500)}`,
    async () => {
      await using topology = await openTopology("downstream");
      const stream = { group: "239.10.1.1", port: 6001 };
      await using relay = await startRelay(topology, streamRules({ group: "239.1.1.1", port: 5001 }, stream));
      const sinks = [1, 2].map((sink) => ({
        namespace: `sink-${sink}-ns`,
        interfaceAddress: `10.0.1.${sink + 1}`,
        streams: stream,
      }));
      const receivers = await Promise.all(
        sinks.map(({ namespace, ...sink }) =>
          startReceiver(topology, namespace, { ...sink, expect: 5_000, deadlineSeconds: 15 }),
        ),
      );
      for (const port of ["sink-1", "sink-2"])
        await waitUntil(
          async () => (await snoopedGroups(topology, "bridge-ns", "br-b", port)).includes(stream.group),
          { what: `the bridge to learn the join of ${port}` },
        );
      const sender = await startSender(topology, "gen-ns", {
        ...{ group: "239.1.1.1", port: 5001, interfaceAddress: address.gen },
        ...{ ratePps: 2_500, countPerStream: 5_000 },
      });
      sender.go();
      const sent = await sender.finished();
      const received = await Promise.all(receivers.map((receiver) => receiver.finished()));
      const stats = await relay.stats();
      for (const each of received) expectEveryPacket({ sent, received: each, stats });
    },
    timeoutMs,
  );

  test(
    `high_fanout_50: 5,000 packets to 50 groups, 250,000 out${paced(1_000, 10_000)}`,
    async () => {
      const copies = 50;
      await using topology = await openTopology("chain");
      const egress = Array.from({ length: copies }, (_, i) => ({
        group: offsetAddress("239.10.1.1", i),
        port: 6001 + i,
      }));
      await using relay = await startRelay(
        topology,
        ruleText({
          name: "fan",
          ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
          egress: egress.map(({ group, port }) => `interface = "veth2", group = "${group}", port = ${port}`),
        }),
      );
      const { sent, received } = await cross(
        topology,
        {
          ...{ group: "239.1.1.1", port: 5001, interfaceAddress: address.gen },
          ...{ ratePps: 1_000, countPerStream: 5_000 },
        },
        { interfaceAddress: address.sink, streams: egress, anyStream: true },
        copies,
      );
      expectEveryPacket({ sent, received, stats: await relay.stats(), copies });
      expect(received.streams.map((stream) => stream.received)).toEqual(egress.map(() => 5_000));
    },
    timeoutMs,
  );
});

test(
  `tree_converge: 3 generators of 20,000 packets on 3 interfaces reach one sink${paced(8_000, 30_000)} each`,
  async () => {
    await using topology = await openTopology("converge");
    const count = 20_000;
    const branches = [1, 2, 3];
    const rules = branches.map((branch) =>
      ruleText({
        name: `branch-${branch}`,
        ingress: `interface = "veth${branch * 2 - 1}", group = "239.1.1.${branch}", port = ${5000 + branch}`,
        egress: [`interface = "veth2", group = "239.10.1.${branch}", port = ${6000 + branch}`],
      }),
    );
    await using relay = await startRelay(topology, rules.join("\n"));
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.9.2",
      streams: { group: "239.10.1.1", port: 6001, streams: branches.length },
      expect: count * branches.length,
      deadlineSeconds: 20,
    });
    const senders = await Promise.all(
      branches.map((branch) =>
        startSender(topology, `gen-${branch}-ns`, {
          interfaceAddress: `10.0.${branch}.1`,
          group: `239.1.1.${branch}`,
          port: 5000 + branch,
          firstStream: branch - 1,
          ratePps: 8_000,
          countPerStream: count,
          sizeBytes: 1400,
        }),
      ),
    );
    for (const sender of senders) sender.go();
    const sent = sentTogether(await Promise.all(senders.map((sender) => sender.finished())));
    const received = await receiver.finished();
    const stats = await relay.stats();
    expectEveryPacket({ sent, received, stats });
    expect(stats.interfaces.map((each) => each.matched)).toEqual(branches.map(() => count));
  },
  timeoutMs,
);

describe("two relays back to back", () => {
  const stream = { group: "239.1.1.1", port: 5001 };
  const generator = { ...stream, interfaceAddress: "10.0.0.1", ratePps: 5_000, countPerStream: 5_000 };

  test(
    "each relaying both ways do not amplify: neither hears what it has sent itself",
    async () => {
      await using topology = await openTopology("hops", "2");
      const bothWays = [
        ["veth1", "veth2"],
        ["veth2", "veth1"],
      ].map(([ingress, egress]) =>
        ruleText({
          name: `${ingress} to ${egress}`,
          ingress: `interface = "${ingress}", group = "${stream.group}", port = ${stream.port}, source = ["10.0.0.1", "10.0.1.1", "10.0.1.2"]`,
          egress: [`interface = "${egress}"`],
        }),
      );
      await using first = await startRelay(topology, bothWays.join("\n"), { namespace: "relay-1-ns" });
      await using second = await startRelay(topology, bothWays.join("\n"), { namespace: "relay-2-ns" });
      const sink = { interfaceAddress: "10.0.2.2", streams: stream, lingerMs: 500 };
      const { sent, received } = await cross(topology, generator, sink);
      for (const relay of [first, second]) expectEveryPacket({ sent, received, stats: await relay.stats() });
    },
    timeoutMs,
  );

  test(
    "side by side, one for each direction, do not amplify: sources keep the directions apart",
    async () => {
      await using topology = await openTopology("loop");
      // One carries a → b, the other b → a, one group on both sides: a loop, if either took what the other sends.
      const rule = (ingress: string, egress: string, source: string) =>
        ruleText({
          name: "one-way",
          ingress: `interface = "${ingress}", group = "${stream.group}", port = ${stream.port}, source = ["${source}"]`,
          egress: [`interface = "${egress}"`],
        });
      const there = rule("veth1", "veth2", "10.0.0.1");
      const back = rule("veth2", "veth1", "10.0.1.3");
      await using first = await startRelay(topology, there, { namespace: "relay-1-ns" });
      await using second = await startRelay(topology, back, { namespace: "relay-2-ns" });
      const sink = { interfaceAddress: "10.0.1.3", streams: stream, lingerMs: 500 };
      const forth = await cross(topology, generator, sink);
      expectEveryPacket({ ...forth, stats: await first.stats() });
      // The other heard every copy, and none came from the source it was told.
      const heard = await second.stats();
      expect(heard.totals).toMatchObject({ packets: 5_000, matched: 0, sent_packets: 0 });
      expect(heard.interfaces[0]?.dropped.no_match).toBe(5_000);

      const answer = await cross(
        topology,
        { ...generator, namespace: "sink-ns", interfaceAddress: "10.0.1.3" },
        { ...sink, namespace: "gen-ns", interfaceAddress: "10.0.0.1" },
      );
      expectIntact(answer.received);
      expect(answer.received.received).toBe(answer.sent.sent);
      expect((await second.stats()).totals).toMatchObject({ matched: 5_000, sent_packets: 5_000 });
      expect((await first.stats()).totals).toMatchObject({ matched: 5_000, sent_packets: 5_000 });
    },
    timeoutMs,
  );

  test(
    "what a relay sends to a group has a TTL of 1, so no router carries it further",
    async () => {
      await using topology = await openTopology("chain");
      await using relay = await startRelay(topology, streamRules(stream, { ...stream, port: 6001 }));
      const sink = topology.spawn("sink-ns", [
        "socat",
        "-u",
        `UDP4-RECVFROM:6001,ip-add-membership=${stream.group}:${address.sink},ip-recvttl`,
        "SYSTEM:echo ttl=$SOCAT_IP_TTL >&2",
      ]);
      const joined = async () =>
        (await topology.output("sink-ns", ["cat", "/proc/net/igmp"])).includes("010101EF");
      await waitUntil(joined, { what: "socat to have joined" });
      const sender = await startSender(topology, "gen-ns", { ...generator, countPerStream: 1, ttl: 32 });
      sender.go();
      expect(await sink.waitForOutput(/ttl=\d+/)).toBe("ttl=1");
      expect((await relay.stats()).totals.sent_packets).toBe(1);
    },
    timeoutMs,
  );
});

test(
  "an interface that is plugged in after the start, taken away and plugged in again, relays each time",
  async () => {
    await using topology = await openTopology("late");
    const ingress = { group: "239.1.1.1", port: 5001, streams: 1 };
    const egress = { group: "239.10.1.1", port: 6001, streams: 1 };
    await using relay = await startRelay(topology, streamRules(ingress, egress));
    expect(await relay.rule("stream-0")).toMatchObject({ state: "waiting" });
    for (const turn of [1, 2]) {
      await topology.output("relay-ns", ["topo/late.sh", "plug"]);
      await relay.waitForState("stream-0", "active");
      const { sent, received } = await cross(
        topology,
        { ...ingress, interfaceAddress: address.gen, ratePps: 10_000, countPerStream: 10_000 },
        { interfaceAddress: address.sink, streams: egress },
      );
      expectIntact(received);
      expect(received.received).toBe(sent.sent);
      expect((await relay.stats()).totals.sent_packets).toBe(turn * 10_000);
      await topology.output("relay-ns", ["topo/late.sh", "unplug"]);
      await relay.waitForState("stream-0", "waiting");
    }
  },
  timeoutMs,
);
