// Exclusive ingress: the relay gets every packet, the host's own programs none of the exclusive stream and all of any
// other; by a tcx link and by nftables, which is what a process without CAP_BPF gets.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { Shim } from "../../src/native/shim.ts";
import { probeExclusive } from "../../src/net/exclusive.ts";
import { expectEveryPacket } from "../support/accounting.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver, startSender } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

/** Capabilities that the relay has to do without. */
function without(...capabilities: readonly string[]): readonly string[] {
  const list = capabilities.map((name) => `-${name}`).join(",");
  return ["setpriv", `--bounding-set=${list}`, `--inh-caps=${list}`, "--"];
}
const withoutTcx = ["bpf", "sys_admin"] as const;

const probed = probeExclusive(new Shim());
if (!("method" in probed) || probed.method !== "tcx")
  console.warn("tcx is not tested: this kernel or this user has none");
const methods = [
  ...("method" in probed && probed.method === "tcx" ? ([["tcx", []]] as const) : []),
  ["nft", without(...withoutTcx)] as const,
];

const LinksSchema = v.object({
  links: v.array(
    v.object({ link: v.string(), verdict: v.string(), text: v.string(), cure: v.nullable(v.string()) }),
  ),
});

const group = "239.1.1.1";
const port = 5001;
const otherPort = 5002;

/** 239.1.1.1:5001 → 239.10.1.1:6001 */
function rule(isExclusive: boolean): string {
  return ruleText({
    name: "a",
    ingress: `interface = "veth1", group = "${group}", port = ${port}, exclusive = ${isExclusive}`,
    egress: ['interface = "veth2", group = "239.10.1.1", port = 6001'],
  });
}
const ruleB = ruleText({
  name: "b",
  ingress: 'interface = "veth1", group = "239.1.1.2", port = 5003',
  egress: ['interface = "veth2", group = "239.10.1.2", port = 6003'],
});

/** A plain socket of a program on the relay's host. */
function startLocal(topology: Topology, to: number) {
  return startReceiver(topology, "relay-ns", {
    interfaceAddress: address.relayIngress,
    streams: { group, port: to },
    anyStream: true,
    deadlineSeconds: 60,
  });
}

/** What both local sockets get of `count` packets to each port, sent from `namespace`, and that the sink gets all. */
async function cross(
  topology: Topology,
  { namespace = "gen-ns", interfaceAddress = address.gen as string, relayed = true, firstSequence = 0 } = {},
): Promise<{ readonly local: number; readonly localOther: number; readonly count: number }> {
  const count = 2_000;
  const [local, localOther] = [await startLocal(topology, port), await startLocal(topology, otherPort)];
  const sink = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { group: "239.10.1.1", port: 6001 },
    ...(relayed ? { expect: count } : {}),
    deadlineSeconds: 30,
  });
  await send(topology, namespace, {
    interfaceAddress,
    group,
    port,
    streams: 2,
    groupStep: 0,
    ratePps: 10_000,
    countPerStream: count,
    firstSequence,
  });
  if (relayed) {
    const received = await sink.finished();
    expect(received.received).toBe(count);
    expect(faultsOf(received)).toEqual(noFaults);
  }
  const results = [await local.stop(), await localOther.stop()];
  return { local: results[0]?.received ?? -1, localOther: results[1]?.received ?? -1, count };
}

test.each(methods)(
  "by %s: all is relayed, the host's stack gets none of it, and kill -9 restores it",
  async (method, prefix) => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, rule(true), { prefix });
    expect(relay.process.stderr).toContain(`exclusive on veth1 by ${method}`);
    expect(await relay.rule("a")).toMatchObject({ exclusive: method, exclusive_reason: null });
    expect((await relay.run("show")).stdout).toContain(`exclusive by ${method}`);

    const exclusive = await cross(topology);
    expect(exclusive).toMatchObject({ local: 0, localOther: exclusive.count });
    const { totals, interfaces } = await relay.stats();
    expect(totals).toMatchObject({ matched: exclusive.count, sent_packets: exclusive.count });
    // Both ports come into the ring: it lies before what is dropped.
    expect(interfaces[0]).toMatchObject({ packets: 2 * exclusive.count, matched: exclusive.count });

    // What the host sends to its own members is in no ring, so it is left alone.
    const own = await cross(topology, {
      namespace: "relay-ns",
      interfaceAddress: address.relayIngress,
      relayed: false,
    });
    expect(own).toMatchObject({ local: own.count, localOther: own.count });

    relay.process.kill("SIGKILL");
    await relay.process.exited;
    const restored = await cross(topology, { relayed: false });
    expect(restored).toMatchObject({ local: restored.count, localOther: restored.count });
  },
  60_000,
);

test.each(methods)(
  "by %s: a reload turns it on and off under traffic, loses nothing, and touches no other rule",
  async (method, prefix) => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, rule(false) + ruleB, { prefix });
    const before = await relay.rule("b");
    const sink = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: { group: "239.10.1.1", port: 6001 },
      deadlineSeconds: 60,
    });
    const sender = await startSender(topology, "gen-ns", {
      interfaceAddress: address.gen,
      group,
      port,
      ratePps: 5_000,
      unbounded: true,
    });
    sender.go();
    await waitUntil(() => sink.receivedSoFar() > 0, { what: "the first packet" });
    for (const isExclusive of [true, false, true]) {
      await relay.write(rule(isExclusive) + ruleB);
      expect(await relay.reload()).toMatchObject({ ok: true, changed: ["a"], unchanged: 1 });
      expect(await relay.rule("a")).toMatchObject({ exclusive: isExclusive ? method : "off" });
      const local = await startLocal(topology, port);
      const sentBefore = sender.sentSoFar();
      await waitUntil(() => sender.sentSoFar() > sentBefore + 2_000, { what: "2,000 packets more" });
      const { received } = await local.stop();
      if (isExclusive) expect(received).toBe(0);
      else expect(received).toBeGreaterThan(0);
    }
    expect((await relay.rule("b")).since).toBe(before.since);
    const sent = await sender.stop();
    const stats = await waitFor(
      () => relay.stats(),
      ({ totals }) => totals.packets === sent.sent,
      { what: "every packet to be counted" },
    );
    // The rule was changed thrice, so its own counters began anew; totals tell all.
    expect(stats.totals).toMatchObject({ matched: sent.sent, sent_packets: sent.sent, egress_dropped: 0 });
    const received = await sink.stop();
    expect(received.received).toBe(sent.sent);
    expect(faultsOf(received)).toEqual(noFaults);
  },
  60_000,
);

async function plug(topology: Topology, verb: "plug" | "unplug"): Promise<void> {
  await topology.output("gen-ns", ["sh", "topo/late.sh", verb]);
}

test.each(methods)(
  "by %s: an interface that goes and comes back is exclusive again",
  async (method, prefix) => {
    await using topology = await openTopology("late");
    await using relay = await startRelay(topology, rule(true), { prefix });
    expect(await relay.rule("a")).toMatchObject({ state: "waiting", exclusive: "waiting" });
    for (let round = 0; round < 2; round += 1) {
      await plug(topology, "plug");
      await relay.waitForState("a", "active");
      expect((await relay.rule("a")).exclusive).toBe(method);
      expect(await cross(topology)).toMatchObject({ local: 0, localOther: 2_000 });
      await plug(topology, "unplug");
      await relay.waitForState("a", "waiting");
      expect((await relay.rule("a")).exclusive).toBe("waiting");
    }
  },
  60_000,
);

test("without CAP_NET_ADMIN the rule is relayed, and one sentence says why it is not exclusive", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rule(true), { prefix: without(...withoutTcx, "net_admin") });
  const { exclusive, exclusive_reason: reason, state } = await relay.rule("a");
  expect([state, exclusive]).toEqual(["active", "refused"]);
  expect(reason).toMatch(
    /^ingress veth1 is relayed, but not exclusive: tcx: .*\(EPERM\), nft: .*\(EPERM\); run as root, or give the process CAP_NET_ADMIN .*, or leave exclusive out$/,
  );
  expect(relay.process.stderr).toContain(`warning [Ingress] ${reason}`);
  expect((await relay.run("show")).stdout).toContain(`  ${reason}\n`);
  expect(await cross(topology)).toMatchObject({ local: 2_000, localOther: 2_000 });
}, 60_000);

test.each([
  ["is there", [], "ok", /^exclusive by (tcx|nft): programs of this host receive none of it$/, null],
  [
    "cannot be had",
    without(...withoutTcx, "net_admin"),
    "warn",
    /^ingress veth1 is relayed, but not exclusive: tcx: .*\(EPERM\), nft: .*\(EPERM\)$/,
    /^run as root, or give the process CAP_NET_ADMIN .*, or leave exclusive out$/,
  ],
] as const)(
  "mcr explain tells it where it %s",
  async (_, prefix, verdict, text, cure) => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, rule(true), { prefix });
    const sender = await startSender(topology, "gen-ns", {
      ...{ interfaceAddress: address.gen, group, port, ratePps: 500, unbounded: true },
    });
    sender.go();
    const { exitCode, stdout } = await relay.run("explain", "a", "--json", "--seconds", "1");
    expect(exitCode).toBe(0);
    const { links } = v.parse(LinksSchema, JSON.parse(stdout));
    const found = links.find(({ link }) => link === "exclusive");
    expect(found?.verdict).toBe(verdict);
    expect(found?.text).toMatch(text);
    if (cure === null) expect(found?.cure).toBeNull();
    else expect(found?.cure ?? "").toMatch(cure);
    await sender.stop();
  },
  60_000,
);

test("mcr check says by what means, or why not, and takes the file either way", async () => {
  await using topology = await openTopology("chain");
  await using relay: RelayUnderTest = await startRelay(topology, rule(true), {
    prefix: without(...withoutTcx),
  });
  const check = async (...prefix: readonly string[]) =>
    topology.run("relay-ns", [...prefix, "dist/mcr", "check", relay.file]);
  const nft = await check(...without(...withoutTcx));
  expect([nft.exitCode, nft.stdout]).toEqual([
    0,
    expect.stringContaining("\nexclusive ingress: by nft\n") as string,
  ]);
  expect(nft.stdout).toMatch(/a +veth1 239\.1\.1\.1:5001 +1 +exclusive/);
  const none = await check(...without(...withoutTcx, "net_admin"));
  expect(none.exitCode).toBe(0);
  expect(none.stdout).toMatch(
    /\nexclusive ingress: not here, rules would be relayed without it: .*CAP_NET_ADMIN.*\n/,
  );
}, 60_000);

test("fragments of a stream cross whole while it is exclusive", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rule(true));
  const sink = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { group: "239.10.1.1", port: 6001 },
    expect: 1_000,
    deadlineSeconds: 30,
  });
  const sent = await send(topology, "gen-ns", {
    interfaceAddress: address.gen,
    group,
    port,
    ratePps: 1_000,
    countPerStream: 1_000,
    sizeBytes: 5_000,
  });
  expectEveryPacket({ sent, received: await sink.finished(), stats: await relay.stats() });
}, 60_000);
