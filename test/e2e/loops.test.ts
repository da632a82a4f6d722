// What comes back: to the relay that has sent it, over one switch, and through another relay that faces it. Copies are
// counted on the wire and at receivers; then the relays have to say the same.

import { expect, test } from "bun:test";
import { type Datagram, frameOf, superFrameOf, testPayload } from "../support/frames.ts";
import { startInjector, startRecorder } from "../support/records.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { openTopology, type Topology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver, startSender } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const group = "239.1.1.1";
const stream = { group, port: 5001 };
/** The longest that a loop may last, in any profile but `throughput`. */
const endsMs = 5_000;
const timeoutMs = 60_000;
/** Of Ethernet, IPv4 and UDP. */
const headerBytes = 42;
const destinationAt = 30;

function rule(name: string, from: string, to: string, takes = group, sends = takes, more = ""): string {
  return ruleText({
    name,
    ingress: `interface = "${from}", group = "${takes}", port = ${stream.port}`,
    egress: [`interface = "${to}", group = "${sends}"${more}`],
  });
}
/** Only frames carry a hop mark. */
function frameRule(name: string, from: string, to: string): string {
  return rule(name, from, to, group, group, ', path = "frame"');
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
  const there = frameRule("there", "veth1", "veth2");
  const back = frameRule("back", "veth2", "veth1");
  return [
    await startRelay(topology, there, { namespace: "relay-1-ns", settings }),
    await startRelay(topology, back, { namespace: "relay-2-ns", settings }),
  ] as const;
}

/** Datagrams of the stream that come out of the switch at the sink's port; super-frames are counted as what they hold. */
async function watchWire(topology: Topology) {
  const recorder = await startRecorder(topology, "sink-ns", "veth3");
  const groupBytes = group.split(".").map(Number);
  let packets = 0;
  let read = 0;
  const count = () => {
    for (const { bytes, offload } of recorder.frames.slice(read)) {
      if (!groupBytes.every((byte, at) => bytes[destinationAt + at] === byte)) continue;
      packets += offload.gsoSize === 0 ? 1 : Math.ceil((bytes.length - headerBytes) / offload.gsoSize);
    }
    read = recorder.frames.length;
    return packets;
  };
  const quiet = (deadlineMs: number) =>
    waitFor(
      async () => {
        const before = count();
        // As long as a loop would take to bring dozens.
        await Bun.sleep(200);
        return count() - before;
      },
      (more) => more === 0,
      { what: "the wire to be quiet", deadlineMs, intervalMs: 0 },
    );
  return { count, quiet };
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
    const wire = await watchWire(topology);
    await send(topology, "gen-ns", { ...stream, interfaceAddress: "10.0.0.1", countPerStream: 20, ttl: 1 });
    const isDropped = async () => (await relay.rule("b")).looped === 20;
    await waitUntil(isDropped, { what: "20 packets to have come back" });
    await wire.quiet(endsMs);
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
    const wire = await watchWire(topology);
    await send(topology, "gen-ns", { ...stream, interfaceAddress: "10.0.0.1", countPerStream: 1 });
    await wire.quiet(endsMs);
    const looped = [await loopedOn(there), await loopedOn(back)];
    expect(looped.toSorted()).toEqual([0, 1]);
    const dropping = looped[0] === 1 ? there : back;
    await dropping.process.waitForOutput(/1 packets on veth[12] had gone round through other relays/);
    const name = looped[0] === 1 ? "there" : "back";
    const explained = await dropping.run("explain", name, "--seconds", "1");
    expect(explained.stdout).toContain("through other relays");
    expect(explained.stdout).not.toContain("no link is broken");

    // From now on it is known: a few rounds, and it is gone.
    const before = wire.count();
    await send(topology, "gen-ns", { ...stream, interfaceAddress: "10.0.0.1", countPerStream: 1 });
    const more = async () => (await loopedOn(there)) + (await loopedOn(back)) === 2;
    await waitUntil(more, { what: "the second packet to be dropped" });
    await wire.quiet(endsMs);
    expect(wire.count() - before).toBeLessThanOrEqual(4);
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
    const wire = await watchWire(topology);
    sender.go();
    const now = () => ({ packets: wire.count(), sent: sender.sentSoFar() });
    // At first packets pile up; then each is seen twice at the sink: as it was sent, and once more from the circle.
    await waitFor(
      async () => {
        const before = now();
        await Bun.sleep(500);
        const after = now();
        return (after.packets - before.packets) / (after.sent - before.sent);
      },
      (copies) => copies < 4,
      { what: "the wire to carry but the stream", deadlineMs: endsMs, intervalMs: 0 },
    );
    const sent = await sender.finished();
    await wire.quiet(endsMs);
    const received = await receiver.stop();
    expect(received.received).toBe(sent.sent);
    expect(received).toMatchObject({ corrupt: 0, wrong_stream: 0, socket_drops: 0 });
    expect((await loopedOn(there)) + (await loopedOn(back))).toBeGreaterThanOrEqual(sent.sent);
  },
  timeoutMs,
);

const count = 3_000;
const counted = (start: number, step: number) => (i: number) => (start + i * step) & 0xffff;
/** In super-frames of so many; 1: single frames. */
const senders: readonly (readonly [string, (i: number) => number, number])[] = [
  ["counts its Identification through every mark", counted(0xb400 - 1_000, 1), 1],
  ["counts in steps of 64", counted(0xb400, 64), 1],
  ["counts in super-frames", counted(0xb400, 1), 20],
  ["keeps an Identification that is a mark of 7 hops", () => 0xb5c0, 1],
  ["keeps an Identification that is a mark of 1 hop", () => 0xb440, 1],
  ["keeps a mark of 6 hops in super-frames", () => 0xb580, 4],
];

test.each(senders)(
  "a sender that %s loses nothing through two relays in a row",
  async (_, identificationOf, segments) => {
    await using topology = await openTopology("hops", "2");
    const rules = frameRule("pass", "veth1", "veth2");
    await using first = await startRelay(topology, rules, { namespace: "relay-1-ns" });
    await using second = await startRelay(topology, rules, { namespace: "relay-2-ns" });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: "10.0.2.2",
      streams: stream,
      expect: count,
      deadlineSeconds: 20,
    });
    const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
    const size = 100;
    const frames = Array.from({ length: count / segments }, (_, frame) => {
      const sequence = frame * segments;
      const payloads = Array.from({ length: segments }, (_, i) => testPayload(0, sequence + i, size));
      const datagram: Datagram = {
        source: "10.0.0.1",
        destination: group,
        port: stream.port,
        id: identificationOf(sequence),
        isAtomic: true,
        payload: new Uint8Array(Buffer.concat(payloads)),
      };
      return segments === 1 ? frameOf(datagram) : superFrameOf(datagram, size);
    });
    for (let i = 0; i < frames.length; i += 100) await injector.inject(frames.slice(i, i + 100));
    const received = await receiver.finished();
    expect(faultsOf(received)).toEqual(noFaults);
    expect(received.received).toBe(count);
    for (const relay of [first, second]) {
      expect((await relay.stats()).totals).toMatchObject({ matched: count, sent_packets: count });
      expect(await loopedOn(relay)).toBe(0);
    }
  },
  timeoutMs,
);
