// Fragments meet those of their own datagram and no others: not of another interface, VLAN or program, not of another
// worker; and what never becomes whole costs no other datagram and is counted, frame by frame.

import { describe, expect, test } from "bun:test";
import { cpus } from "node:os";
import { expectEveryPacket } from "../support/accounting.ts";
import { type Datagram, dot1q, fragmentsOf, frameOf, testPayload } from "../support/frames.ts";
import { type Frame, startInjector } from "../support/records.ts";
import { executable, type RelayUnderTest, ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";
import { openTap } from "../support/wire.ts";

const ingress = { group: "239.1.1.1", port: 5001 };
const egress = { group: "239.10.1.1", port: 6001 };
const flow = { source: "10.0.0.1", destination: ingress.group, port: ingress.port };
const sizeBytes = 3000;

function datagram(sequence: number): Datagram {
  return { ...flow, id: sequence & 0xffff, payload: testPayload(0, sequence, sizeBytes) };
}

function sequences(first: number, count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

async function ingressCounts(relay: RelayUnderTest, name: string) {
  const found = (await relay.stats()).interfaces.find((each) => each.interface === name);
  if (!found) throw new Error(`mcr stats lists no interface ${name}`);
  return found;
}

test("a main and a backup interface that carry the same datagrams fragment by fragment both give every one", async () => {
  const count = 1000;
  const together = 20;
  await using topology = await openTopology("chain");
  const main = await openTap(topology, "tap0", "10.0.2.1");
  const backup = await openTap(topology, "tap1", "10.0.3.1");
  const rules = [
    streamRules(ingress, egress, { from: "tap0" }),
    ruleText({
      name: "backup",
      ingress: `interface = "tap1", group = "${ingress.group}", port = ${ingress.port}`,
      egress: ['interface = "veth2", group = "239.10.1.2", port = 6002'],
    }),
  ];
  await using relay = await startRelay(topology, rules.join("\n"), { workers: 1 });
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { ...egress, streams: 2 },
    anyStream: true,
    expect: count * 2,
    deadlineSeconds: 30,
  });
  for (let first = 0; first < count; first += together) {
    const datagrams = sequences(first, together).map((sequence) => fragmentsOf(datagram(sequence)));
    // The first fragment of each on both, then the second, then the third.
    for (const nth of [0, 1, 2])
      for (const wire of [main, backup])
        await wire.inject(datagrams.flatMap((fragments) => fragments[nth] ?? []));
  }
  const received = await receiver.finished();
  expect(received.streams.map((stream) => stream.received)).toEqual([count, count]);
  expect(faultsOf(received)).toEqual(noFaults);
  for (const name of ["tap0", "tap1"])
    expect(await ingressCounts(relay, name)).toMatchObject({ packets: count, matched: count });
}, 60_000);

test("two relays on one interface both give every datagram that comes in fragments", async () => {
  const countPerStream = 1000;
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, streamRules(ingress, egress));
  const other = ruleText({
    name: "other",
    ingress: `interface = "veth1", group = "${ingress.group}", port = ${ingress.port}`,
    egress: ['interface = "veth2", group = "239.10.1.2", port = 6002'],
  });
  await topology.run("relay-ns", ["sh", "-c", "cat > /run/other.toml"], { stdin: other });
  const second = topology.spawn("relay-ns", [executable, "run", "-i", "other", "/run/other.toml"]);
  await second.waitForOutput(/running 1 rule of/, 15_000);
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { ...egress, streams: 2 },
    anyStream: true,
    expect: countPerStream * 2,
    deadlineSeconds: 15,
  });
  await send(topology, "gen-ns", {
    ...{ ...ingress, interfaceAddress: address.gen },
    ...{ countPerStream, ratePps: 1_000, sizeBytes },
  });
  const received = await receiver.finished();
  expect(received.streams.map((stream) => stream.received)).toEqual([countPerStream, countPerStream]);
  expect(faultsOf(received)).toEqual(noFaults);
  expect((await relay.stats()).totals).toMatchObject({ matched: countPerStream, ingress_dropped: 0 });
}, 60_000);

test("a fragment of another VLAN is no part of an untagged datagram, whole or not", async () => {
  const count = 20;
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, streamRules(ingress, egress), { workers: 1 });
  const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: count,
    deadlineSeconds: 10,
  });
  const strange = (sequence: number) => {
    const of = { ...datagram(sequence), payload: new Uint8Array(sizeBytes).fill(0xee) };
    return fragmentsOf(of, { tags: [{ tpid: dot1q, id: 99 }] }).slice(-1);
  };
  const withStranger = sequences(0, count).flatMap((sequence) => {
    const [first, second, third] = fragmentsOf(datagram(sequence));
    return [first, second, strange(sequence)[0], third].flatMap((frame) => frame ?? []);
  });
  // Their own last fragment never comes.
  const unfinished = sequences(count, count).flatMap((sequence) => [
    ...fragmentsOf(datagram(sequence)).slice(0, 2),
    ...strange(sequence),
  ]);
  await injector.inject([...withStranger, ...unfinished]);
  const received = await receiver.finished();
  expect({ received: received.received, ...faultsOf(received) }).toEqual({ received: count, ...noFaults });
  // Two of each unfinished one, and the strangers, which may wait for their own rest before they are counted.
  const odd = count * 2 + count * 2;
  const { packets, dropped } = await waitFor(
    () => ingressCounts(relay, "veth1"),
    ({ dropped: { tagged, fragment_late } }) => tagged + fragment_late >= odd,
    { what: "every fragment that is left over to be counted", deadlineMs: 10_000, intervalMs: 50 },
  );
  expect(dropped.tagged + dropped.fragment_late).toBe(odd);
  expect(dropped.fragment_late).toBeGreaterThanOrEqual(count * 2);
  expect(packets).toBe(count + odd);
}, 60_000);

describe("6,000 first fragments whose rest never comes", () => {
  const lone = 6_000;
  const whole = 500;
  const between = 2;

  async function crossBeside(destination: string) {
    const topology = await openTopology("chain");
    const relay = await startRelay(topology, streamRules(ingress, egress), { workers: 1 });
    const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      expect: whole,
      deadlineSeconds: 15,
    });
    // 48 bytes behind the IP header of the first fragment.
    const orphan = (id: number): readonly Frame[] =>
      fragmentsOf(
        { ...flow, source: "10.0.0.77", destination, id, payload: new Uint8Array(80) },
        {},
        48,
      ).slice(0, 1);
    const ahead = lone - whole * between;
    await injector.inject(sequences(0, ahead).flatMap(orphan));
    for (const first of sequences(0, whole / 20).map((turn) => turn * 20))
      await injector.inject(
        sequences(first, 20).flatMap((sequence) => [
          ...sequences(ahead + sequence * between, between).flatMap(orphan),
          ...fragmentsOf(datagram(sequence)),
        ]),
      );
    const received = await receiver.finished();
    expect({ received: received.received, ...faultsOf(received) }).toEqual({
      received: whole,
      ...noFaults,
    });
    return {
      relay,
      async [Symbol.asyncDispose]() {
        await relay[Symbol.asyncDispose]();
        await topology[Symbol.asyncDispose]();
      },
    };
  }

  test("to an address that no rule has cost none of 500 datagrams that come among them", async () => {
    await using crossed = await crossBeside("239.200.0.1");
    expect((await crossed.relay.stats()).totals).toMatchObject({ matched: whole, ingress_dropped: 0 });
  }, 60_000);

  test("to a group that is relayed, from another source, cost none either, and each is counted", async () => {
    await using crossed = await crossBeside(ingress.group);
    const { packets, dropped } = await waitFor(
      () => ingressCounts(crossed.relay, "veth1"),
      (counts) => counts.dropped.fragment_late + counts.dropped.fragment_full >= lone,
      { what: "every fragment to be given up", deadlineMs: 10_000, intervalMs: 50 },
    );
    expect(dropped.fragment_late + dropped.fragment_full).toBe(lone);
    // Most give way to newer ones; the last of them wait until they are late.
    expect(dropped.fragment_full).toBeGreaterThan(0);
    expect(dropped.fragment_late).toBeGreaterThan(0);
    expect(packets).toBe(whole + lone);
  }, 60_000);
});

describe.each(["flow", "hash", "cpu", "qm"])('with fanout "%s"', (fanout) => {
  test.each([1, 4])(
    "and %i workers, datagrams in fragments arrive whole among small ones of their flow",
    async (workers) => {
      const streams = 4;
      const countPerStream = 500;
      await using topology = await openTopology("chain");
      const rules = streamRules({ ...ingress, streams }, { ...egress, streams });
      await using relay = await startRelay(topology, rules, { workers, settings: `fanout = "${fanout}"\n` });
      const receiver = await startReceiver(topology, "sink-ns", {
        interfaceAddress: address.sink,
        streams: { ...egress, streams },
        expect: streams * countPerStream,
        deadlineSeconds: 15,
      });
      const sent = await send(topology, "gen-ns", {
        ...{ ...ingress, streams, interfaceAddress: address.gen },
        ...{ countPerStream, ratePps: 4_000, sizeBytes: [sizeBytes, 200, 1400] },
      });
      const received = await receiver.finished();
      // A datagram in fragments may go through another worker than a whole one.
      expectEveryPacket({ sent, received, stats: await relay.stats(), isOrdered: false });
    },
    60_000,
  );
});

test.each(["flow", "hash", "cpu", "qm"])(
  'with fanout "%s" fragments that different CPUs bring meet on one of four workers',
  async (fanout) => {
    const count = 200;
    const together = 20;
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, streamRules(ingress, egress), {
      workers: 4,
      settings: `fanout = "${fanout}"\n`,
    });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      expect: count,
      deadlineSeconds: 10,
    });
    // On a veth the receiving side works on the CPU of the sender.
    const [firsts, others] = await Promise.all(
      [0, cpus().length - 1].map(async (cpu) => {
        const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
        const pin = ["taskset", "--pid", "--cpu-list", String(cpu), String(injector.process.pid)];
        await topology.output("gen-ns", pin);
        return injector;
      }),
    );
    for (let first = 0; first < count; first += together) {
      const datagrams = sequences(first, together).map((sequence) => fragmentsOf(datagram(sequence)));
      await firsts?.inject(datagrams.flatMap(([fragment]) => fragment ?? []));
      await others?.inject(datagrams.flatMap(([, ...rest]) => rest));
    }
    const received = await receiver.finished();
    expect({ received: received.received, ...faultsOf(received) }).toEqual({ received: count, ...noFaults });
    expect((await relay.stats()).totals).toMatchObject({ packets: count, ingress_dropped: 0 });
  },
  30_000,
);

test("a whole datagram between the fragments of another goes through at once", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, streamRules(ingress, egress), { workers: 1 });
  const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: 2,
    deadlineSeconds: 10,
  });
  const [first, ...rest] = fragmentsOf(datagram(0));
  const small = frameOf({ ...flow, payload: testPayload(0, 1, 200) });
  await injector.inject([...(first ? [first] : []), small]);
  await waitFor(
    () => receiver.receivedSoFar(),
    (count) => count === 1,
    { what: "the small one, which is whole" },
  );
  await injector.inject(rest);
  const received = await receiver.finished();
  expect({ received: received.received, ...faultsOf(received) }).toEqual({
    received: 2,
    ...{ ...noFaults, reordered: 1 },
  });
  expect((await relay.stats()).totals).toMatchObject({ packets: 2, matched: 2 });
}, 60_000);
