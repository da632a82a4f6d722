// One stream's trouble stays its own: missing interfaces, failing joins, failing egresses, missing permission.

import { expect, test } from "bun:test";
import { expectAccounted } from "../support/accounting.ts";
import { executable, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver } from "../support/traffic.ts";

const good = ruleText({
  name: "good",
  ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
  egress: ['interface = "veth2", group = "239.10.1.1", port = 6001'],
});

/** Sends through the rule "good" and proves that nothing happened to it. */
async function expectGoodRelays(topology: Topology): Promise<void> {
  const countPerStream = 2_000;
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { group: "239.10.1.1", port: 6001 },
    expect: countPerStream,
    deadlineSeconds: 30,
  });
  await send(topology, "gen-ns", {
    interfaceAddress: address.gen,
    group: "239.1.1.1",
    port: 5001,
    ratePps: 10_000,
    countPerStream,
    sizeBytes: 1024,
  });
  const received = await receiver.finished();
  expect(received.received).toBe(countPerStream);
  expect(faultsOf(received)).toEqual(noFaults);
}

test("a rule whose interface is missing waits, and begins by itself when it appears", async () => {
  await using topology = await openTopology("chain");
  const late = ruleText({
    name: "late",
    ingress: 'interface = "veth5", group = "239.1.1.9", port = 5009',
    egress: ['interface = "veth2"'],
  });
  await using relay = await startRelay(topology, `${good}\n${late}`);
  const waiting = await relay.rule("late");
  expect(waiting.state).toBe("waiting");
  expect(waiting.reason).toBe("interface veth5 does not exist (ip link shows the ones that do)");
  await expectGoodRelays(topology);

  await topology.output("relay-ns", ["ip", "link", "add", "veth5", "type", "veth", "peer", "name", "veth6"]);
  await topology.output("relay-ns", ["ip", "link", "set", "veth6", "up"]);
  await topology.output("relay-ns", ["ip", "link", "set", "veth5", "up"]);
  await relay.waitForState("late", "active");
  await topology.output("relay-ns", ["ip", "link", "delete", "veth5"]);
  await relay.waitForState("late", "waiting");
  await expectGoodRelays(topology);
}, 60_000);

test("a failing join says group, interface, reason and cure, is retried, and harms nothing else", async () => {
  await using topology = await openTopology("chain");
  // Below 68 bytes the kernel speaks no IPv4 on an interface (RFC 791), so it takes no group there.
  await topology.output("relay-ns", ["ip", "link", "set", "lo", "mtu", "67"]);
  const bad = ruleText({
    name: "bad",
    ingress: 'interface = "lo", group = "239.1.1.9", port = 5009',
    egress: ['interface = "veth2"'],
  });
  await using relay = await startRelay(topology, `${good}\n${bad}`);
  const failed = await relay.rule("bad");
  expect(failed.state).toBe("failed");
  expect(failed.reason).toMatch(
    /^cannot join 239\.1\.1\.9 on lo: .*\(E[A-Z]+\); .*ip address add.*; next try at /,
  );
  expect(relay.process.stderr).toMatch(
    /error \[Ingress\] cannot join 239\.1\.1\.9 on lo: .*rule "bad"; next try in 1 s/,
  );
  const { igmp } = await relay.stats();
  expect(igmp).toMatchObject({ succeeded: 1, active_groups: 1 });
  expect(igmp.attempted).toBe(igmp.succeeded + igmp.failed);
  await expectGoodRelays(topology);

  await topology.output("relay-ns", ["ip", "link", "set", "lo", "mtu", "65536"]);
  await relay.waitForState("bad", "active", 15_000);
}, 60_000);

test("groups spill over to more sockets where the limit is lower than usual", async () => {
  await using topology = await openTopology("chain");
  await topology.output("relay-ns", ["sh", "-c", "echo 3 > /proc/sys/net/ipv4/igmp_max_memberships"]);
  const wall = ruleText({
    name: "wall",
    ingress: 'interface = "veth1", group = "239.1.2.1-239.1.2.40", port = 5001',
    egress: ['interface = "veth2"'],
  });
  await using relay = await startRelay(topology, `${good}\n${wall}`);
  expect((await relay.stats()).igmp).toEqual({ attempted: 41, succeeded: 41, failed: 0, active_groups: 41 });
}, 30_000);

test("an egress that cannot send is marked, counted, and costs the other egress nothing", async () => {
  await using topology = await openTopology("chain");
  const countPerStream = 2_000;
  await using relay = await startRelay(
    topology,
    ruleText({
      name: "mixed",
      ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
      egress: [
        'interface = "veth9", group = "239.10.1.9", port = 6009',
        'interface = "veth2", group = "239.10.1.1", port = 6001',
        'interface = "veth2", group = "239.10.1.8", port = 6008, source = "192.0.2.1"',
        // The kernel refuses each packet: a broadcast address, and no permission to broadcast (udp(7)).
        'interface = "veth2", address = "10.0.1.255", port = 6007',
      ],
    }),
  );
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { group: "239.10.1.1", port: 6001 },
    expect: countPerStream,
    deadlineSeconds: 30,
  });
  const sent = await send(topology, "gen-ns", {
    interfaceAddress: address.gen,
    group: "239.1.1.1",
    port: 5001,
    ratePps: 10_000,
    countPerStream,
    sizeBytes: 1024,
  });
  const received = await receiver.finished();
  expect(received.received).toBe(countPerStream);
  expect(faultsOf(received)).toEqual(noFaults);
  const { egress, state } = await relay.rule("mixed");
  expect(state).toBe("active");
  expect(egress.map((each) => each.state)).toEqual(["waiting", "active", "failed", "active"]);
  expect(egress.map((each) => each.dropped)).toEqual([
    { full: 0, error: 0, unavailable: countPerStream, expired: 0 },
    { full: 0, error: 0, unavailable: 0, expired: 0 },
    { full: 0, error: 0, unavailable: countPerStream, expired: 0 },
    { full: 0, error: countPerStream, unavailable: 0, expired: 0 },
  ]);
  expect(egress[0]?.reason).toContain("interface veth9 does not exist");
  expect(egress[2]?.reason).toContain("192.0.2.1 is no address of this host (ip address add");
  expect(egress[3]?.last_error).toMatch(/\(EACCES\)/);
  expectAccounted({ sent, received, stats: await relay.stats(), copies: 4 });
}, 60_000);

test("only packets that a rule wants are relayed; the others are counted by name", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(
    topology,
    ruleText({
      name: "picky",
      ingress: `interface = "veth1", group = "239.1.1.1", port = 5001, source = ["${address.gen}"]`,
      egress: ['interface = "veth2", group = "239.10.1.1", port = 6001'],
    }),
  );
  await topology.output("gen-ns", ["ip", "address", "add", "10.0.0.7/24", "dev", "veth0"]);
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { group: "239.10.1.1", port: 6001 },
    expect: 1_000,
    deadlineSeconds: 30,
  });
  const common = {
    interfaceAddress: address.gen,
    group: "239.1.1.1",
    ratePps: 10_000,
    countPerStream: 1_000,
  };
  await send(topology, "gen-ns", { ...common, port: 5002 }); // right group, wrong port
  await send(topology, "gen-ns", { ...common, port: 5001, source: "10.0.0.7" }); // wrong source
  await send(topology, "gen-ns", { ...common, port: 5001 });
  const received = await receiver.finished();
  expect(received.received).toBe(1_000);
  const { totals, interfaces } = await relay.stats();
  expect(totals).toMatchObject({ packets: 3_000, matched: 1_000, sent_packets: 1_000, egress_dropped: 0 });
  expect(interfaces[0]?.dropped).toMatchObject({ no_match: 2_000, ring: 0 });
  expect(totals.ingress_dropped).toBe(0);
}, 60_000);

test("without CAP_NET_RAW one sentence names the cure, exit 77", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, good);
  const refused = await topology.run("relay-ns", [
    "setpriv",
    "--bounding-set=-net_raw",
    "--inh-caps=-net_raw",
    "--",
    executable,
    "run",
    relay.file,
  ]);
  expect(refused.exitCode).toBe(77);
  expect(refused.stdout).toBe("");
  expect(refused.stderr).toMatch(/^mcr: cannot open a packet socket: .*CAP_NET_RAW.*\n$/);
  expect((await topology.run("relay-ns", [executable, "check", relay.file])).exitCode).toBe(0);
}, 30_000);
