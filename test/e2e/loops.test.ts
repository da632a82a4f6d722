// What comes back: to the relay that has sent it, over one switch, and through another relay that faces it. Copies are
// counted on the wire and at receivers; then the relays have to say the same.

import { expect, test } from "bun:test";
import { linkCounters } from "../support/link.ts";
import { type Frame, noOffload, startInjector } from "../support/records.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { openTopology, type Topology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver, startSender } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const group = "239.1.1.1";
const stream = { group, port: 5001 };
/** The longest that a loop may last, in any profile but `throughput`. */
const endsMs = 5_000;
const timeoutMs = 60_000;

function rule(name: string, from: string, to: string, takes: string = group, sends: string = takes): string {
  return ruleText({
    name,
    ingress: `interface = "${from}", group = "${takes}", port = ${stream.port}`,
    egress: [`interface = "${to}", group = "${sends}"`],
  });
}

/** The two networks of topo/loop.sh as one: a cable from switch to switch. */
async function openOneNetwork(): Promise<Topology> {
  const topology = await openTopology("loop");
  const script = [
    "ip link add a3 type veth peer name b3",
    "ip link set a3 master br-a up",
    "ip link set b3 master br-b up",
  ].join(" && ");
  await topology.output("switch-ns", ["sh", "-c", script]);
  await waitUntil(
    async () => {
      const ports = await topology.output("switch-ns", ["bridge", "-o", "link", "show"]);
      return ports.split("\n").filter((line) => line.includes("state forwarding")).length === 8;
    },
    { what: "both ends of the cable to forward" },
  );
  return topology;
}

/** Two relays side by side, one for each direction. */
async function startFacing(topology: Topology, settings = "") {
  const there = rule("there", "veth1", "veth2");
  const back = rule("back", "veth2", "veth1");
  return [
    await startRelay(topology, there, { namespace: "relay-1-ns", settings }),
    await startRelay(topology, back, { namespace: "relay-2-ns", settings }),
  ] as const;
}

/** Packets that have come out of the switch at the sink's port. */
async function onTheWire(topology: Topology): Promise<number> {
  return (await linkCounters(topology, "sink-ns", "veth3")).rx.packets;
}

/** Waits until no packet comes any more for as long as a loop would take to bring dozens. */
async function waitForQuiet(topology: Topology, deadlineMs: number): Promise<void> {
  await waitFor(
    async () => {
      const before = await onTheWire(topology);
      await Bun.sleep(200);
      return (await onTheWire(topology)) - before;
    },
    (packets) => packets === 0,
    { what: "the wire to be quiet", deadlineMs, intervalMs: 0 },
  );
}

async function loopedOn(relay: RelayUnderTest): Promise<number> {
  const { interfaces } = await relay.stats();
  return interfaces.reduce((sum, { dropped }) => sum + dropped.looped, 0);
}

test(
  "what a rule sends does not come back to it over a switch that joins its two interfaces",
  async () => {
    await using topology = await openOneNetwork();
    await using relay = await startRelay(topology, rule("a", "veth1", "veth2"), { namespace: "relay-1-ns" });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.1.3",
      streams: stream,
      expect: 20,
      lingerMs: 1_000,
    });
    await send(topology, "gen-ns", { ...stream, interfaceAddress: "10.0.0.1", countPerStream: 20, ttl: 1 });
    const received = await receiver.finished();
    // The generator's packets, and exactly one copy of each.
    expect(faultsOf(received)).toEqual({ ...noFaults, duplicated: 20 });
    expect(received.received).toBe(20);

    const { totals, interfaces } = await relay.stats();
    expect(totals).toMatchObject({ matched: 20, sent_packets: 20, ingress_dropped: 0 });
    expect(interfaces[0]?.dropped.looped).toBe(20);
    expect(await relay.rule("a")).toMatchObject({ looped: 20, egress: [{ returned_packets: 20 }] });
    await relay.process.waitForOutput(
      /rule "a": egress veth2 239\.1\.1\.1:5001: \d+ packets came back to rule "a" on veth1/,
    );
    const explained = await relay.run("explain", "a", "--seconds", "1");
    expect(explained.stdout).toContain("came back from its own egress veth2 239.1.1.1:5001");
    expect(explained.stdout).not.toContain("no link is broken");
    const shown = await relay.run("show");
    expect(shown.stdout).toContain("looped 20");
    expect(shown.stdout).toContain("20 of the packets sent came back");
  },
  timeoutMs,
);

test(
  "check warns where both interfaces are ports of one bridge, or have addresses of one network",
  async () => {
    await using topology = await openTopology("loop");
    await using relay = await startRelay(topology, rule("a", "veth1", "veth2"), { namespace: "relay-1-ns" });
    const check = async () => {
      const { exitCode, stdout } = await relay.run("check", relay.file);
      expect(exitCode).toBe(0);
      return stdout;
    };
    expect(await check()).not.toContain("warning");
    await topology.output("relay-1-ns", ["ip", "address", "add", "10.0.1.101/24", "dev", "veth1"]);
    expect(await check()).toContain(
      'warning: rule "a": egress veth2 239.1.1.1:5001 sends what rule "a" takes on veth1, and they look like one network: both have an address of 10.0.1.0/24',
    );
    await topology.output("relay-1-ns", ["ip", "address", "flush", "dev", "veth1"]);
    expect(await check()).not.toContain("warning");
    const script = "ip link add br0 type bridge; ip link set veth1 master br0; ip link set veth2 master br0";
    await topology.output("relay-1-ns", ["sh", "-c", script]);
    expect(await check()).toContain("both are ports of bridge br0");
    const { stdout } = await relay.run("check", relay.file, "--json");
    expect(JSON.parse(stdout)).toMatchObject({ ok: true, warnings: [expect.stringContaining("br0")] });
  },
  timeoutMs,
);

test(
  "two rules that feed each other over a switch pass a packet on once",
  async () => {
    await using topology = await openOneNetwork();
    const there = rule("a", "veth1", "veth2", group, "239.2.1.1");
    const back = rule("b", "veth1", "veth2", "239.2.1.1", group);
    await using relay = await startRelay(topology, `${there}\n${back}`, { namespace: "relay-1-ns" });
    await send(topology, "gen-ns", { ...stream, interfaceAddress: "10.0.0.1", countPerStream: 20, ttl: 1 });
    const isDropped = async () => (await relay.rule("b")).looped === 20;
    await waitUntil(isDropped, { what: "20 packets to have come back" });
    await waitForQuiet(topology, endsMs);
    expect((await relay.stats()).totals).toMatchObject({ matched: 20, sent_packets: 20 });
    expect(await relay.rule("a")).toMatchObject({ looped: 0, egress: [{ returned_packets: 20 }] });
    await relay.process.waitForOutput(
      /egress veth2 239\.2\.1\.1:5001: \d+ packets came back to rule "b" on veth1/,
    );
  },
  timeoutMs,
);

test(
  "a chain of two rules through one switch carries every packet",
  async () => {
    await using topology = await openOneNetwork();
    const first = rule("first", "veth1", "veth2", group, "239.2.1.1");
    const second = rule("second", "veth1", "veth2", "239.2.1.1", "239.3.1.1");
    await using relay = await startRelay(topology, `${first}\n${second}`, { namespace: "relay-1-ns" });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.1.3",
      streams: { group: "239.3.1.1", port: stream.port },
      expect: 1_000,
    });
    await send(topology, "gen-ns", {
      ...stream,
      interfaceAddress: "10.0.0.1",
      countPerStream: 1_000,
      ratePps: 2_000,
      ttl: 1,
    });
    const received = await receiver.finished();
    expect(faultsOf(received)).toEqual(noFaults);
    expect(received.received).toBe(1_000);
    expect(await loopedOn(relay)).toBe(0);
  },
  timeoutMs,
);

test(
  "a packet that two relays pass to each other stops going round",
  async () => {
    await using topology = await openTopology("loop");
    const [there, back] = await startFacing(topology);
    await using _there = there;
    await using _back = back;
    await send(topology, "gen-ns", { ...stream, interfaceAddress: "10.0.0.1", countPerStream: 1 });
    await waitForQuiet(topology, endsMs);
    const looped = [await loopedOn(there), await loopedOn(back)];
    expect(looped.toSorted()).toEqual([0, 1]);
    const dropping = looped[0] === 1 ? there : back;
    await dropping.process.waitForOutput(/1 packets on veth[12] had gone round through other relays/);
    const name = looped[0] === 1 ? "there" : "back";
    const explained = await dropping.run("explain", name, "--seconds", "1");
    expect(explained.stdout).toContain("through other relays");
    expect(explained.stdout).not.toContain("no link is broken");

    // From now on it is known: a few rounds, and it is gone.
    const before = await onTheWire(topology);
    await send(topology, "gen-ns", { ...stream, interfaceAddress: "10.0.0.1", countPerStream: 1 });
    const more = async () => (await loopedOn(there)) + (await loopedOn(back)) === 2;
    await waitUntil(more, { what: "the second packet to be dropped" });
    await waitForQuiet(topology, endsMs);
    expect((await onTheWire(topology)) - before).toBeLessThanOrEqual(4);
  },
  timeoutMs,
);

test(
  "a live stream between two relays that face each other arrives whole, and only a few copies of it",
  async () => {
    await using topology = await openTopology("loop");
    const [there, back] = await startFacing(topology);
    await using _there = there;
    await using _back = back;
    const ratePps = 200;
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.1.3",
      streams: stream,
    });
    const sender = await startSender(topology, "gen-ns", {
      ...stream,
      interfaceAddress: "10.0.0.1",
      durationSeconds: 8,
      ratePps,
    });
    sender.go();
    const wire = async () => ({ packets: await onTheWire(topology), sent: sender.sentSoFar() });
    // At first packets pile up; then each is seen twice at the sink: as it was sent, and once more from the circle.
    await waitFor(
      async () => {
        const before = await wire();
        await Bun.sleep(500);
        const after = await wire();
        return (after.packets - before.packets) / (after.sent - before.sent);
      },
      (copies) => copies < 4,
      { what: "the wire to carry but the stream", deadlineMs: endsMs, intervalMs: 0 },
    );
    const sent = await sender.finished();
    await waitForQuiet(topology, endsMs);
    const received = await receiver.stop();
    expect(received.received).toBe(sent.sent);
    expect(received).toMatchObject({ corrupt: 0, wrong_stream: 0, socket_drops: 0 });
    expect((await loopedOn(there)) + (await loopedOn(back))).toBeGreaterThanOrEqual(sent.sent);
  },
  timeoutMs,
);

/** An IPv4/UDP frame from 10.0.0.1 with this Identification and DF, and a line of text. */
function frameOf(identification: number, text: string): Frame {
  const payload = new TextEncoder().encode(text);
  const bytes = new Uint8Array(42 + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x01, 0, 0x5e, 1, 1, 1, 2, 0, 0, 0, 0, 1, 8, 0]); // 239.1.1.1, 02:…:01, IPv4
  view.setUint8(14, 0x45);
  view.setUint16(16, 28 + payload.length);
  view.setUint16(18, identification);
  view.setUint16(20, 0x4000); // DF
  view.setUint8(22, 8); // TTL
  view.setUint8(23, 17);
  bytes.set([10, 0, 0, 1, 239, 1, 1, 1], 26);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(24, ~sum & 0xffff);
  view.setUint16(34, 4000);
  view.setUint16(36, stream.port);
  view.setUint16(38, 8 + payload.length); // no checksum: RFC 768
  bytes.set(payload, 42);
  return { bytes, offload: noOffload };
}

const count = 3_000;
const counted = (start: number, step: number) => (i: number) => (start + i * step) & 0xffff;
const senders: readonly (readonly [string, (i: number) => number])[] = [
  ["counts its Identification through every mark", counted(0xb400 - 1_000, 1)],
  ["counts in steps of 64", counted(0xb400, 64)],
  ["keeps an Identification that is a mark of 7 hops", () => 0xb5c0],
  ["keeps an Identification that is a mark of 1 hop", () => 0xb440],
];

test.each(senders)(
  "a sender that %s loses nothing through two relays in a row",
  async (_, identificationOf) => {
    await using topology = await openTopology("hops", "2");
    const rules = rule("pass", "veth1", "veth2");
    await using first = await startRelay(topology, rules, { namespace: "relay-1-ns" });
    await using second = await startRelay(topology, rules, { namespace: "relay-2-ns" });
    const sink = topology.spawn("sink-ns", [
      "socat",
      ...[
        "-u",
        "-b",
        "2048",
        `UDP4-RECV:${stream.port},ip-add-membership=${group}:10.0.2.2,rcvbuf=4194304`,
        "-",
      ],
    ]);
    const joined = async () =>
      (await topology.output("sink-ns", ["cat", "/proc/net/igmp"])).includes("010101EF");
    await waitUntil(joined, { what: "socat to have joined" });
    const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
    for (let i = 0; i < count; i += 100) {
      const batch = Array.from({ length: 100 }, (_, j) => frameOf(identificationOf(i + j), `${i + j}\n`));
      await injector.inject(batch);
    }
    await injector.finish();
    const lines = await waitFor(
      () => sink.stdout.trimEnd().split("\n"),
      (all) => all.length >= count,
      { what: `${count} packets at the sink`, deadlineMs: 10_000 },
    );
    expect(lines).toEqual(Array.from({ length: count }, (_, i) => String(i)));
    for (const relay of [first, second]) {
      expect((await relay.stats()).totals).toMatchObject({ matched: count, sent_packets: count });
      expect(await loopedOn(relay)).toBe(0);
    }
  },
  timeoutMs,
);
