// Under overload nothing vanishes: what was sent is what the relay matched and what found its ring full; what it
// matched is what it sent and what its egresses dropped, by name; what it sent has arrived. Also while rules change.

import { expect, test } from "bun:test";
import type { RuleSnapshot, Stats } from "../../src/control/protocol.ts";
import { expectAtRest, expectNoMoreOutThanIn, ringDropped } from "../support/accounting.ts";
import { linkCounters } from "../support/link.ts";
import { type RelayUnderTest, ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import {
  faultsOf,
  noFaults,
  type Receiver,
  type Sender,
  startReceiver,
  startSender,
} from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

/** A rule that carries nothing here and is another one at every reload. */
function bystander(turn: number): string {
  return ruleText({
    name: "bystander",
    ingress: 'interface = "veth1", group = "239.1.9.9", port = 5999',
    egress: [`interface = "veth2", group = "239.10.9.9", port = ${7000 + (turn % 2)}`],
  });
}

/** Reloads until stop(), which returns how often; `fileOf` gives the file of each turn. Every snapshot must add up. */
function reloadInLoop(relay: RelayUnderTest, fileOf: (turn: number) => string, copies: number) {
  let isStopping = false;
  const loop = async () => {
    let turn = 0;
    for (; !isStopping; turn += 1) {
      await relay.write(fileOf(turn));
      expect(await relay.reload()).toMatchObject({ ok: true, errors: [] });
      expectNoMoreOutThanIn(await relay.stats(), copies);
    }
    return turn;
  };
  const ended = loop();
  return {
    stop() {
      isStopping = true;
      return ended;
    },
  };
}

/** The relay has worked off all that was sent. */
async function settled(relay: RelayUnderTest, arrived: number, copies = 1): Promise<Stats> {
  return waitFor(
    () => relay.stats(),
    (stats) => {
      const { totals } = stats;
      const isRead = totals.packets + ringDropped(stats) === arrived;
      return isRead && totals.sent_packets + totals.egress_dropped === totals.matched * copies;
    },
    { what: `the relay to account for ${arrived} packets`, deadlineMs: 20_000, intervalMs: 50 },
  );
}

// -- a ring that is full

const streams = 10;
const ingress = { group: "239.1.1.1", port: 5001, streams };
const egress = { group: "239.10.1.1", port: 6001, streams };

/** More than two rings of 64 MiB hold, at this size. */
const stallPackets = 120_000;
const sizeBytes = 1200;

/** The relay stands still while more is sent than its ring holds. */
async function stall(relay: RelayUnderTest, sender: Sender, packets = stallPackets): Promise<void> {
  const until = sender.sentSoFar() + packets;
  relay.process.kill("SIGSTOP");
  try {
    await waitUntil(() => sender.sentSoFar() >= until, {
      what: `${packets} packets to be sent`,
      deadlineMs: 20_000,
    });
  } finally {
    relay.process.kill("SIGCONT");
  }
}

async function openOverload(topology: Topology, relay: RelayUnderTest) {
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    deadlineSeconds: 90,
  });
  const before = await linkCounters(topology, "gen-ns", "veth0");
  const sender = await startSender(topology, "gen-ns", {
    ...{ ...ingress, interfaceAddress: address.gen, ratePps: 100_000, burst: 32, unbounded: true, sizeBytes },
  });
  sender.go();
  await waitUntil(() => receiver.receivedSoFar() > 0, { what: "the first packet", deadlineMs: 10_000 });
  return {
    sender,
    /** Ends the traffic and proves that every packet of it is accounted for. */
    async finish() {
      const sent = await sender.stop();
      const after = await linkCounters(topology, "gen-ns", "veth0");
      const linkDropped = after.tx.dropped - before.tx.dropped;
      expect(after.tx.packets - before.tx.packets).toBeGreaterThanOrEqual(sent.sent - linkDropped);
      const stats = await settled(relay, sent.sent - linkDropped);
      expect(ringDropped(stats)).toBeGreaterThan(0);
      expect(stats.totals.matched + ringDropped(stats) + linkDropped).toBe(sent.sent);
      expect(stats.totals.ingress_dropped).toBe(ringDropped(stats));
      const received = await receiver.stop();
      expect(received.received + received.socket_drops).toBe(stats.totals.sent_packets);
      expect(faultsOf(received)).toEqual({ ...noFaults, socket_drops: received.socket_drops });
      return stats;
    },
  };
}

test("a relay that stands still drops in its ring, and counts every frame of it", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, streamRules(ingress, egress), { workers: 2 });
  const load = await openOverload(topology, relay);
  for (let i = 0; i < 3; i += 1) await stall(relay, load.sender);
  const stats = await load.finish();
  expect(stats.interfaces.map(({ interface: name }) => name)).toEqual(["veth1"]);
  expect(relay.process.stderr).toMatch(/frames on veth1 found the ring full/);
  const final = await relay.stop();
  const line = `dropped_ring=${ringDropped(stats)} `;
  expect(final.stderr).toContain(line);
}, 120_000);

test("the same while other rules change, and while these rules change", async () => {
  await using topology = await openTopology("chain");
  const fixed = streamRules(ingress, egress);
  await using relay = await startRelay(topology, `${fixed}\n${bystander(0)}`, { workers: 2 });
  const load = await openOverload(topology, relay);
  const others = reloadInLoop(relay, (turn) => `${fixed}\n${bystander(turn)}`, 1);
  await stall(relay, load.sender);
  expect(await others.stop()).toBeGreaterThan(0);
  const changed = fixed.replaceAll('interface = "veth2"', 'interface = "veth2", ttl = 2');
  const all = reloadInLoop(relay, (turn) => (turn % 2 === 0 ? changed : fixed), 1);
  await stall(relay, load.sender);
  expect(await all.stop()).toBeGreaterThan(0);
  await load.finish();
}, 120_000);

// -- an egress that is full, or gone

const ratePps = 15_000;

/** One stream to two sinks, each behind an interface of its own: 239.10.1.1 on veth2, 239.10.1.2 on veth4. */
function twoSinks(ttl = 1): string {
  return ruleText({
    name: "both",
    ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
    egress: [
      `interface = "veth2", group = "239.10.1.1", port = 6001, ttl = ${ttl}`,
      `interface = "veth4", group = "239.10.1.2", port = 6001, ttl = ${ttl}`,
    ],
  });
}

interface TwoSinks {
  readonly sender: Sender;
  readonly first: Receiver;
  readonly second: Receiver;
}

async function openTwoSinks(topology: Topology): Promise<TwoSinks> {
  const [first, second] = await Promise.all(
    [1, 2].map((sink) =>
      startReceiver(topology, `sink-${sink}-ns`, {
        interfaceAddress: `10.0.${sink}.2`,
        streams: { group: `239.10.1.${sink}`, port: 6001 },
        deadlineSeconds: 90,
      }),
    ),
  );
  if (!first || !second) throw new Error("two receivers");
  const sender = await startSender(topology, "gen-ns", {
    ...{ interfaceAddress: address.gen, group: "239.1.1.1", port: 5001 },
    ...{ ratePps, unbounded: true, sizeBytes },
  });
  sender.go();
  await waitUntil(() => first.receivedSoFar() > 0 && second.receivedSoFar() > 0, {
    what: "both sinks to get packets",
    deadlineMs: 10_000,
  });
  return { sender, first, second };
}

/** Slower than the stream; what it holds is out within 0.1 s. */
function slowDown(topology: Topology): Promise<string> {
  const shaper = ["tbf", "rate", "40mbit", "burst", "100kb", "limit", "400kb"];
  return topology.output("relay-ns", ["tc", "qdisc", "replace", "dev", "veth2", "root", ...shaper]);
}

/** Frames that a link may hold, net.core.netdev_max_backlog: one that is deleted takes them with it. */
const backlogMax = 1_000;

/**
 * Ends the traffic; the second sink has all of it, the first what the relay says it sent there, less what a link took
 * with it that was `deleted`.
 */
async function finishTwoSinks(
  relay: RelayUnderTest,
  { sender, first, second }: TwoSinks,
  { deleted = 0 }: { readonly deleted?: number } = {},
): Promise<Stats> {
  const sent = await sender.stop();
  const stats = await settled(relay, sent.sent, 2);
  const { totals } = stats;
  expect(totals.matched).toBe(sent.sent);
  const toFirst = totals.sent_packets - sent.sent;
  const toFirstMin = toFirst - deleted * backlogMax;
  await waitFor(
    () => first.receivedSoFar(),
    (received) => received >= toFirstMin,
    { what: `${toFirstMin} packets at the first sink` },
  );
  const [atFirst, atSecond] = await Promise.all([first.stop(), second.stop()]);
  expect(atSecond.received).toBe(sent.sent);
  expect(faultsOf(atSecond)).toEqual(noFaults);
  expect(atFirst.received).toBeGreaterThanOrEqual(toFirstMin);
  expect(atFirst.received).toBeLessThanOrEqual(toFirst);
  expect(faultsOf(atFirst)).toEqual(noFaults);
  return stats;
}

function droppedOf({ egress }: RuleSnapshot): number {
  return Object.values(egress[0]?.dropped ?? {}).reduce((sum, packets) => sum + packets, 0);
}

test("an egress that is full drops its own copies, counts them, and costs the other egress nothing", async () => {
  await using topology = await openTopology("tree");
  await using relay = await startRelay(topology, twoSinks());
  await slowDown(topology);
  const sinks = await openTwoSinks(topology);
  await waitFor(
    () => relay.rule("both"),
    (rule) => (rule.egress[0]?.dropped.full ?? 0) > 5_000,
    { what: "5,000 packets to find the egress full", deadlineMs: 20_000, intervalMs: 100 },
  );
  const stats = await finishTwoSinks(relay, sinks);
  const { packets, egress } = await relay.rule("both");
  const [slow, free] = egress;
  expect((slow?.sent_packets ?? 0) + (slow?.dropped.full ?? 0)).toBe(packets);
  expect(slow?.dropped).toMatchObject({ error: 0, unavailable: 0 });
  expect(free).toMatchObject({ sent_packets: packets, dropped: { full: 0, error: 0, unavailable: 0 } });
  expect(stats.totals).toMatchObject({ egress_full: slow?.dropped.full ?? 0, egress_error: 0 });
}, 90_000);

test("the same while other rules change, and while this rule changes", async () => {
  await using topology = await openTopology("tree");
  await using relay = await startRelay(topology, `${twoSinks()}\n${bystander(0)}`);
  await slowDown(topology);
  const sinks = await openTwoSinks(topology);
  const full = async () => (await relay.stats()).totals.egress_full;
  for (const fileOf of [
    (turn: number) => `${twoSinks()}\n${bystander(turn)}`,
    (turn: number) => `${twoSinks(1 + (turn % 2))}\n${bystander(0)}`,
  ]) {
    const before = await full();
    const reloads = reloadInLoop(relay, fileOf, 2);
    await waitFor(full, (now) => now > before + 5_000, {
      what: "5,000 more packets to find the egress full",
      deadlineMs: 20_000,
      intervalMs: 100,
    });
    expect(await reloads.stop()).toBeGreaterThan(1);
  }
  const { totals } = await finishTwoSinks(relay, sinks);
  expect(totals).toMatchObject({ egress_error: 0, egress_unavailable: 0 });
}, 90_000);

test.each(["stand", "change"])(
  "an egress that goes down, comes back and is removed under load costs the other nothing; the rules %s",
  async (rules) => {
    await using topology = await openTopology("tree");
    await using relay = await startRelay(topology, `${twoSinks()}\n${bystander(0)}`);
    const sinks = await openTwoSinks(topology);
    const reloads =
      rules === "change"
        ? reloadInLoop(relay, (turn) => `${twoSinks(1 + (turn % 2))}\n${bystander(turn)}`, 2)
        : undefined;
    const waitForEgress = (state: "active" | "waiting") =>
      waitFor(
        () => relay.rule("both"),
        ({ egress }) => egress[0]?.state === state,
        { what: `the egress on veth2 to be ${state}`, deadlineMs: 10_000, intervalMs: 50 },
      );
    await topology.output("relay-ns", ["ip", "link", "set", "veth2", "down"]);
    expect((await waitForEgress("waiting")).egress[0]?.reason).toContain("veth2 is down");
    await topology.output("relay-ns", ["ip", "link", "set", "veth2", "up"]);
    await waitForEgress("active");
    const before = sinks.first.receivedSoFar();
    await waitUntil(() => sinks.first.receivedSoFar() > before, {
      what: "the first sink to get packets again",
    });
    await topology.output("relay-ns", ["ip", "link", "delete", "veth2"]);
    const gone = await waitForEgress("waiting");
    expect(gone.egress[0]?.reason).toContain("veth2 does not exist");
    await reloads?.stop();
    const { totals } = await finishTwoSinks(relay, sinks, { deleted: 1 });
    expect(totals.egress_error + totals.egress_unavailable).toBeGreaterThan(0);
    if (rules === "stand") {
      const rule = await relay.rule("both");
      expect((rule.egress[0]?.sent_packets ?? 0) + droppedOf(rule)).toBe(rule.packets);
    }
  },
  90_000,
);

// -- all of it at once

const wideStreams = 4;
const wide = { group: "239.1.1.1", port: 5001, streams: wideStreams };
const wideSinks = [1, 2].map((sink) => ({ group: `239.10.${sink}.1`, port: 6001, streams: wideStreams }));
const wideRule = ruleText({
  name: "both",
  ingress: 'interface = "veth1", group = "239.1.1.1-239.1.1.4", port = "5001-5004"',
  egress: ["veth2", "veth4"].map(
    (name, i) =>
      `interface = "${name}", group = "239.10.${i + 1}.1-239.10.${i + 1}.4", port = "6001-6004", path = "frame"`,
  ),
});

/** The same twice in a row, and not because nothing has come yet. */
async function atRest(relay: RelayUnderTest): Promise<Stats> {
  let before = -1;
  return waitFor(
    () => relay.stats(),
    ({ totals }) => {
      const isSame = totals.packets === before;
      before = totals.packets;
      return isSame && totals.sent_packets + totals.egress_dropped === totals.matched * 2;
    },
    { what: "the relay to have sent or dropped all it has", deadlineMs: 10_000, intervalMs: 50 },
  );
}

test("rings that overflow, an egress that is full and reloads without end: every snapshot adds up", async () => {
  await using topology = await openTopology("tree");
  const file = (turn: number) => `${wideRule}\n${bystander(turn)}`;
  const settings = "ring_bytes = 4_194_304\n"; // of two such rings none holds 8,000 packets
  await using relay = await startRelay(topology, file(0), { workers: 2, settings });
  await slowDown(topology);
  const receivers = await Promise.all(
    wideSinks.map((streams, i) =>
      startReceiver(topology, `sink-${i + 1}-ns`, {
        ...{ interfaceAddress: `10.0.${i + 1}.2`, streams, deadlineSeconds: 60 },
      }),
    ),
  );
  const before = await linkCounters(topology, "gen-ns", "veth0");
  const sender = await startSender(topology, "gen-ns", {
    ...{ ...wide, interfaceAddress: address.gen, ratePps: 30_000, burst: 32, unbounded: true, sizeBytes },
  });
  sender.go();
  await waitUntil(() => receivers.every((each) => each.receivedSoFar() > 0), { what: "the first packets" });

  // One snapshot falls into the reload, which is as old as the signal, and one behind it.
  let turn = 0;
  const turns = async (count: number, check: (stats: Stats) => void) => {
    for (const last = turn + count; turn < last; ) {
      turn += 1;
      await relay.write(file(turn));
      relay.process.kill("SIGHUP");
      check(await relay.stats());
      expect(await relay.reload()).toMatchObject({ ok: true, errors: [] });
      check(await relay.stats());
    }
  };
  const underWay = (stats: Stats) => expectNoMoreOutThanIn(stats, 2);
  for (let round = 0; round < 3; round += 1) {
    await Promise.all([stall(relay, sender, 8_000), turns(4, underWay)]);
    await turns(2, underWay);
    sender.process.kill("SIGSTOP");
    const { totals } = await atRest(relay);
    await turns(2, (stats) => {
      expectAtRest(stats, 2);
      expect(stats.totals).toEqual(totals);
    });
    sender.process.kill("SIGCONT");
  }

  const sent = await sender.stop();
  const { tx } = await linkCounters(topology, "gen-ns", "veth0");
  const stats = await settled(relay, sent.sent - (tx.dropped - before.tx.dropped), 2);
  expectAtRest(stats, 2);
  expect(ringDropped(stats)).toBeGreaterThan(0);
  expect(stats.totals.egress_full).toBeGreaterThan(0);
  expect(stats.totals).toMatchObject({ egress_error: 0, egress_unavailable: 0, egress_expired: 0 });
  const { egress: sides } = await relay.rule("both");
  for (const [i, receiver] of receivers.entries()) {
    const received = await receiver.stop();
    expect(received.received + received.socket_drops).toBe(sides[i]?.sent_packets ?? -1);
    // Two CPUs take turns at the shaper of the first side, and each hands on to the far end by a queue of its own: two
    // plain senders through it are reordered as well.
    const reordered = i === 0 ? received.reordered : 0;
    expect(faultsOf(received)).toEqual({ ...noFaults, reordered, socket_drops: received.socket_drops });
  }
}, 60_000);
