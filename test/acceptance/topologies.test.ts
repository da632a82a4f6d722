// Streams through more than one relay, one link and one sink: nothing lost and nothing twice at the receiver, and every
// relay's counters equal to what was there. Paced at a rate that the bare links carry on two cores; runs once.

import { describe, expect, test } from "bun:test";
import { offsetAddress } from "../../src/net/address.ts";
import { expectEveryPacket } from "../support/accounting.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { openTopology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver, startSender } from "../support/traffic.ts";

const streams = 4;
const countPerStream = 12_500;
const total = streams * countPerStream;

/** Stream i of a segment: each link of a path has groups and ports of its own. */
function segment(hop: number) {
  return { group: `239.${hop}.1.1`, port: 5001 + hop * 100, streams };
}

function hopRules(from: number, to: number, ingress: string, egress: string): string {
  return Array.from({ length: streams }, (_, i) => {
    const [a, b] = [segment(from), segment(to)];
    return ruleText({
      name: `stream-${i}`,
      ingress: `interface = "${ingress}", group = "${offsetAddress(a.group, i)}", port = ${a.port + i}`,
      egress: [`interface = "${egress}", group = "${offsetAddress(b.group, i)}", port = ${b.port + i}`],
    });
  }).join("\n");
}

describe("a chain of three relays", () => {
  test("carries 50,000 packets of 1,400 bytes at 20,000 a second through every hop", async () => {
    await using topology = await openTopology("hops", "3");
    const namespace = (hop: number) => `relay-${hop}-ns`;
    const start = (hop: number) =>
      startRelay(topology, hopRules(hop, hop + 1, "veth1", "veth2"), { namespace: namespace(hop) });
    await using first = await start(1);
    await using second = await start(2);
    await using third = await start(3);
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.3.2",
      streams: segment(4),
      expect: total,
      deadlineSeconds: 60,
    });
    const sent = await send(topology, "gen-ns", {
      ...segment(1),
      interfaceAddress: "10.0.0.1",
      ratePps: 20_000,
      countPerStream,
      sizeBytes: 1400,
    });
    const received = await receiver.finished();
    for (const relay of [first, second, third])
      expectEveryPacket({ sent, received, stats: await relay.stats() });
  }, 120_000);
});

describe("a tree of three sinks", () => {
  test("gives each sink every packet", async () => {
    await using topology = await openTopology("tree");
    const sinks = [1, 2, 3];
    const rules = Array.from({ length: streams }, (_, i) => {
      const [a, b] = [segment(1), segment(2)];
      return ruleText({
        name: `stream-${i}`,
        ingress: `interface = "veth1", group = "${offsetAddress(a.group, i)}", port = ${a.port + i}`,
        egress: sinks.map(
          (sink) =>
            `interface = "veth${sink * 2}", group = "${offsetAddress(b.group, i)}", port = ${b.port + i}`,
        ),
      });
    });
    await using relay = await startRelay(topology, rules.join("\n"));
    const receivers = await Promise.all(
      sinks.map((sink) =>
        startReceiver(topology, `sink-${sink}-ns`, {
          interfaceAddress: `10.0.${sink}.2`,
          streams: segment(2),
          expect: total,
          deadlineSeconds: 60,
        }),
      ),
    );
    const sent = await send(topology, "gen-ns", {
      ...segment(1),
      interfaceAddress: "10.0.0.1",
      ratePps: 20_000,
      countPerStream,
      sizeBytes: 1400,
    });
    const results = await Promise.all(receivers.map((receiver) => receiver.finished()));
    for (const received of results) {
      expect(faultsOf(received)).toEqual(noFaults);
      expect(received.streams.map((stream) => stream.received)).toEqual(
        sent.streams.map((stream) => stream.sent),
      );
    }
    const stats = await relay.stats();
    expect(stats.totals).toMatchObject({
      packets: total,
      matched: total,
      sent_packets: total * sinks.length,
      ingress_dropped: 0,
      egress_dropped: 0,
    });
  }, 120_000);

  test("serves two sinks on one and the same group", async () => {
    await using topology = await openTopology("tree");
    await using relay = await startRelay(
      topology,
      ruleText({
        name: "both",
        ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
        egress: ['interface = "veth2"', 'interface = "veth4"'],
      }),
    );
    const common = { streams: { group: "239.1.1.1", port: 5001 }, expect: 5_000, deadlineSeconds: 30 };
    const one = await startReceiver(topology, "sink-1-ns", { ...common, interfaceAddress: "10.0.1.2" });
    const two = await startReceiver(topology, "sink-2-ns", { ...common, interfaceAddress: "10.0.2.2" });
    await send(topology, "gen-ns", {
      interfaceAddress: "10.0.0.1",
      group: "239.1.1.1",
      port: 5001,
      ratePps: 2_500,
      countPerStream: 5_000,
    });
    for (const received of [await one.finished(), await two.finished()]) {
      expect(received.received).toBe(5_000);
      expect(faultsOf(received)).toEqual(noFaults);
    }
    expect((await relay.stats()).totals.sent_packets).toBe(10_000);
  }, 60_000);
});

describe("three generators on three interfaces of one relay", () => {
  test("converge on one sink without a loss", async () => {
    await using topology = await openTopology("converge");
    const sources = [1, 2, 3];
    const rules = sources.map((source) =>
      ruleText({
        name: `source-${source}`,
        ingress: `interface = "veth${source * 2 - 1}", group = "239.1.1.${source}", port = ${5000 + source}`,
        egress: [`interface = "veth2", group = "239.10.1.${source}", port = ${6000 + source}`],
      }),
    );
    await using relay = await startRelay(topology, rules.join("\n"));
    const count = 20_000;
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.9.2",
      streams: { group: "239.10.1.1", port: 6001, streams: sources.length },
      anyStream: true,
      expect: count * sources.length,
      deadlineSeconds: 60,
    });
    const senders = await Promise.all(
      sources.map((source) =>
        startSender(topology, `gen-${source}-ns`, {
          interfaceAddress: `10.0.${source}.1`,
          group: `239.1.1.${source}`,
          port: 5000 + source,
          ratePps: 8_000,
          countPerStream: count,
          sizeBytes: 1400,
        }),
      ),
    );
    for (const sender of senders) sender.go();
    await Promise.all(senders.map((sender) => sender.finished()));
    const received = await receiver.finished();
    expect(faultsOf(received)).toEqual(noFaults);
    expect(received.streams.map((stream) => stream.received)).toEqual(sources.map(() => count));
    const stats = await relay.stats();
    expect(stats.interfaces.map((each) => each.matched)).toEqual(sources.map(() => count));
    expect(stats.totals).toMatchObject({
      sent_packets: received.received,
      egress_dropped: 0,
      ingress_dropped: 0,
    });
  }, 60_000);
});

describe("two relays back to back", () => {
  test("do not amplify: neither relays what it or the other has sent", async () => {
    await using topology = await openTopology("loop");
    // One carries a → b, the other b → a, with one group on both sides: a loop, if either heard its own.
    const rule = (ingress: string, egress: string) =>
      ruleText({
        name: "loop",
        ingress: `interface = "${ingress}", group = "239.1.1.1", port = 5001, source = ["10.0.0.1"]`,
        egress: [`interface = "${egress}"`],
      });
    await using first = await startRelay(topology, rule("veth1", "veth2"), { namespace: "relay-1-ns" });
    await using second = await startRelay(topology, rule("veth2", "veth1"), { namespace: "relay-2-ns" });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.1.3",
      streams: { group: "239.1.1.1", port: 5001 },
      expect: 5_000,
      deadlineSeconds: 30,
      lingerMs: 500,
    });
    await send(topology, "gen-ns", {
      interfaceAddress: "10.0.0.1",
      group: "239.1.1.1",
      port: 5001,
      ratePps: 5_000,
      countPerStream: 5_000,
    });
    const received = await receiver.finished();
    expect(faultsOf(received)).toEqual(noFaults);
    expect(received.received).toBe(5_000);
    expect((await first.stats()).totals).toMatchObject({ matched: 5_000, sent_packets: 5_000 });
    // It heard every copy, and none came from the source it was told.
    const heard = await second.stats();
    expect(heard.totals).toMatchObject({ packets: 5_000, matched: 0, sent_packets: 0 });
    expect(heard.interfaces[0]?.dropped.no_match).toBe(5_000);
  }, 60_000);
});

describe("a VXLAN tunnel between two relays", () => {
  test("carries multicast in at one end and out at the other", async () => {
    await using topology = await openTopology("tunnel", "vxlan");
    await using near = await startRelay(topology, hopRules(1, 2, "veth1", "tunnel1"), {
      namespace: "relay-1-ns",
    });
    await using far = await startRelay(
      topology,
      ruleText({
        name: "exit",
        ingress: 'interface = "tunnel2", group = "239.2.1.1-239.2.1.4", port = "5201-5204"',
        egress: ['interface = "veth2", group = "239.3.1.1-239.3.1.4", port = "5301-5304"'],
      }),
      { namespace: "relay-2-ns" },
    );
    // Groups cross a unicast tunnel only where its forwarding table says so: the default entry, to the other end.
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.2.2",
      streams: segment(3),
      expect: total,
      deadlineSeconds: 60,
    });
    const sent = await send(topology, "gen-ns", {
      ...segment(1),
      interfaceAddress: "10.0.0.1",
      ratePps: 15_000,
      countPerStream,
      sizeBytes: 1400,
    });
    const received = await receiver.finished();
    for (const relay of [near, far]) expectEveryPacket({ sent, received, stats: await relay.stats() });
  }, 120_000);
});
