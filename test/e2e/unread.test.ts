// What lies in a ring unread when the ring has to go: its interface was deleted, is another one of the same name, or
// lost its last rule. The relay stands still while packets are captured and while the change is made, so none of them
// is read before it; and each has so many places to go to that the main thread is at it before the workers are done.
// Sent at once: a block is handed over every millisecond, full or not, and a ring must hold them all.

import { describe, expect, test } from "bun:test";
import type { Stats } from "../../src/control/protocol.ts";
import { sumOfDrops } from "../../src/stats/reasons.ts";
import { expectIntact } from "../support/accounting.ts";
import { linkCounters } from "../support/link.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { type Receiver, send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

const streams = 2;
const copies = 30;
const ingress = { group: "239.1.1.1", port: 5001, streams };
/** Of these the sink receives the first copy. */
const egress = { group: "239.10.1.1", port: 6001, streams };
const rules = [1, 2]
  .map((stream) =>
    ruleText({
      name: `stream-${stream}`,
      ingress: `interface = "veth1", group = "239.1.1.${stream}", port = ${5000 + stream}`,
      egress: Array.from(
        { length: copies },
        (_, copy) => `interface = "veth2", group = "239.10.${copy + 1}.${stream}", port = ${6000 + stream}`,
      ),
    }),
  )
  .join("\n");

/** By frame a ring of this size has 960 slots. */
const profiles = [
  { profile: "balanced", countPerStream: 2_000 },
  { profile: "throughput", countPerStream: 2_000 },
  { profile: "latency", countPerStream: 400 },
] as const;

interface Load {
  readonly topology: Topology;
  readonly relay: RelayUnderTest;
  readonly countPerStream: number;
}

/** Sends; the link takes all of it. Sizes that change at each packet make no runs. */
async function sendAll({ topology, countPerStream }: Load, firstSequence = 0): Promise<void> {
  const before = await linkCounters(topology, "gen-ns", "veth0");
  const sent = await send(topology, "gen-ns", {
    ...{ ...ingress, interfaceAddress: address.gen, firstSequence },
    ...{ ratePps: 0, countPerStream, sizeBytes: [1100, 1200, 1300] },
  });
  const { tx } = await linkCounters(topology, "gen-ns", "veth0");
  expect(tx.dropped).toBe(before.tx.dropped);
  expect(tx.packets - before.tx.packets).toBeGreaterThanOrEqual(sent.sent);
}

/** While the relay stands still, packets are captured and `change` happens. */
async function captureUnread(load: Load, change: () => Promise<unknown>): Promise<void> {
  load.relay.process.kill("SIGSTOP");
  try {
    await sendAll(load);
    await change();
  } finally {
    load.relay.process.kill("SIGCONT");
  }
}

function openReceiver(topology: Topology): Promise<Receiver> {
  return startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    deadlineSeconds: 60,
  });
}

/** Every packet has come to be counted, and every copy of those that matched; the sink has what it was sent. */
async function expectAccountedFor(relay: RelayUnderTest, receiver: Receiver, sent: number): Promise<Stats> {
  const stats = await waitFor(
    () => relay.stats(),
    ({ totals, interfaces }) =>
      totals.packets + (interfaces[0]?.dropped.ring ?? 0) === sent &&
      totals.sent_packets + totals.egress_dropped === totals.matched * copies,
    { what: `the relay to account for ${sent} packets`, deadlineMs: 10_000, intervalMs: 50 },
  );
  const { totals, interfaces } = stats;
  expect(totals.matched + sumOfDrops(interfaces[0]?.dropped ?? {})).toBe(sent);
  expect(totals.egress_dropped).toBe(0);
  const received = await receiver.stop();
  expectIntact(received);
  expect(received.received).toBe(totals.matched);
  expect(interfaces.map((each) => each.interface)).toEqual(["veth1"]);
  return stats;
}

function deleteIngress(topology: Topology): Promise<string> {
  return topology.output("relay-ns", ["ip", "link", "delete", "veth1"]);
}

async function createIngress(topology: Topology): Promise<void> {
  const script = [
    "ip link add veth0 type veth peer name veth1 netns relay-ns",
    `ip address add ${address.gen}/24 dev veth0`,
    "ip link set veth0 up",
    `ip -n relay-ns address add ${address.relayIngress}/24 dev veth1`,
    "ip -n relay-ns link set veth1 up",
  ];
  await topology.output("gen-ns", ["sh", "-ec", script.join("\n")]);
}

describe.each(profiles)("by the profile $profile, what lies in the ring", ({ profile, countPerStream }) => {
  const all = countPerStream * streams;

  async function open(topology: Topology): Promise<Load & { readonly receiver: Receiver }> {
    const settings = `profile = "${profile}"\n`;
    const relay = await startRelay(topology, rules, { workers: 2, settings });
    return { topology, relay, countPerStream, receiver: await openReceiver(topology) };
  }

  test("of an interface that is deleted is relayed, all of it", async () => {
    await using topology = await openTopology("chain");
    const load = await open(topology);
    await using relay = load.relay;
    await captureUnread(load, () => deleteIngress(topology));
    await relay.waitForState("stream-1", "waiting");
    const { totals } = await expectAccountedFor(relay, load.receiver, all);
    expect(totals.matched).toBe(all);
    expect((await relay.status()).interfaces).toEqual([]);
  }, 60_000);

  test("of an interface that is another one of the same name is relayed, and so is what that one gets", async () => {
    await using topology = await openTopology("chain");
    const load = await open(topology);
    await using relay = load.relay;
    await captureUnread(load, async () => {
      await deleteIngress(topology);
      await createIngress(topology);
    });
    await waitFor(
      () => relay.process.stderr.match(/capturing on veth1/g)?.length,
      (captures) => captures === 2,
      { what: "the new veth1 to be captured" },
    );
    await waitFor(
      () => relay.stats(),
      ({ totals }) => totals.packets === all,
      { what: "the old ring to be read" },
    );
    await relay.waitForState("stream-1", "active");
    await sendAll(load, countPerStream);
    const { totals } = await expectAccountedFor(relay, load.receiver, 2 * all);
    expect(totals.matched).toBe(2 * all);
  }, 60_000);

  test("of an interface that lost its last rule is counted as what no rule wants", async () => {
    await using topology = await openTopology("chain");
    const load = await open(topology);
    await using relay = load.relay;
    await captureUnread(load, async () => {
      await relay.write(rules.replaceAll('"veth1"', '"veth9"'));
      relay.process.kill("SIGHUP");
    });
    await relay.process.waitForOutput("reload: 0 added, 0 removed, 2 changed, 0 unchanged");
    const { totals, interfaces } = await expectAccountedFor(relay, load.receiver, all);
    expect(interfaces[0]?.dropped).toMatchObject({ ring: 0, no_match: all - totals.matched });
  }, 60_000);

  test("at the stop is relayed, all of it", async () => {
    await using topology = await openTopology("chain");
    const load = await open(topology);
    await using relay = load.relay;
    await captureUnread(load, async () => relay.process.kill("SIGTERM"));
    const { exitCode, stderr } = await relay.process.exited;
    expect(exitCode).toBe(0);
    expect(stderr).toContain(`interface=veth1 packets=${all} matched=${all} `);
    expect(stderr).toContain(`[STATS:Egress] sent=${all * copies} `);
    const received = await load.receiver.stop();
    expectIntact(received);
    expect(received.received).toBe(all);
  }, 60_000);
});
