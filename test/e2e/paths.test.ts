// The two ways to send, frames of mcr's own and the kernel's sockets, give the receiver the same: a plain UDP socket
// compares every datagram, with the links' offloads as they are and with all of them off.

import { describe, expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { turnOffloadsOff } from "../support/link.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { type SendOptions, send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 2 };
const egress = { group: "239.10.1.1", port: 6001, streams: 2 };

/** One rule for both streams; `keys` go to its egress. */
function ruleWith(keys: string): string {
  return ruleText({
    name: "both",
    ingress: 'interface = "veth1", group = "239.1.1.1-239.1.1.2", port = "5001-5002"',
    egress: [`interface = "veth2", group = "239.10.1.1-239.10.1.2", port = "6001-6002", ${keys}`],
  });
}

async function crossBoth(topology: Topology, relay: RelayUnderTest, shape: Partial<SendOptions>) {
  const ratePps = shape.ratePps ?? 10_000;
  const run = shape.run ?? 1;
  const countPerStream = Math.ceil(ratePps / 4 / run) * run;
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: countPerStream * ingress.streams,
    deadlineSeconds: 30,
  });
  const sent = await send(topology, "gen-ns", {
    ...{ ...ingress, ...shape, interfaceAddress: address.gen },
    ...{ ratePps, countPerStream },
  });
  const received = await receiver.finished();
  const stats = await relay.stats();
  expectEveryPacket({ sent, received, stats });
  expect(received.checksum_errors).toBe(0);
  const [only] = stats.rules[0]?.egress ?? [];
  if (!only) throw new Error("the rule has an egress");
  return { received, egress: only };
}

const shapes: readonly (readonly [string, Partial<SendOptions>, fitsFrame: boolean])[] = [
  ["46 bytes", { sizeBytes: 46 }, true],
  ["64 bytes in runs of 8", { sizeBytes: 64, run: 8 }, true],
  ["1,400 bytes in runs of 64", { sizeBytes: 1400, run: 64 }, true],
  ["1,472 bytes in runs of 512", { sizeBytes: 1472, run: 512, ratePps: 20_000 }, true],
  ["1,473 bytes, beyond the MTU", { sizeBytes: 1473, ratePps: 4_000 }, false],
];

describe.each(["on", "off"] as const)("with the links' offloads %s", (offloads) => {
  describe.each(["frame", "socket"] as const)("the %s path", (path) => {
    test.each(shapes)(
      "carries %s",
      async (_, shape, fitsFrame) => {
        await using topology = await openTopology("chain");
        if (offloads === "off") await turnOffloadsOff(topology);
        await using relay = await startRelay(topology, ruleWith(`path = "${path}"`));
        const { egress } = await crossBoth(topology, relay, shape);
        expect(egress).toMatchObject({ path, path_reason: null });
        expect(egress.frame_packets).toBe(path === "frame" && fitsFrame ? egress.sent_packets : 0);
      },
      60_000,
    );
  });
});

test("frames are the path of a group, sockets that of a host, and mcr show says so", async () => {
  await using topology = await openTopology("chain");
  const rule = ruleText({
    name: "both",
    ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
    egress: [
      'interface = "veth2", group = "239.10.1.1", port = 6001',
      `interface = "veth2", address = "${address.sink}", port = 7001`,
    ],
  });
  await using relay = await startRelay(topology, rule);
  const { egress } = await relay.rule("both");
  expect(egress.map(({ path, path_reason }) => [path, path_reason])).toEqual([
    ["frame", null],
    ["socket", "unicast"],
  ]);
  expect((await relay.run("show")).stdout).toContain("path socket: unicast");
  expect((await relay.stop()).stderr).toContain("sending frames out of veth2");
}, 30_000);

test("a packet's source, source port, TTL and DSCP are kept where the rule says so", async () => {
  await using topology = await openTopology("chain");
  // The far end takes a source that it cannot route back to.
  for (const name of ["all", "veth3"])
    await topology.output("sink-ns", ["sh", "-c", `echo 0 > /proc/sys/net/ipv4/conf/${name}/rp_filter`]);
  await topology.run("sink-ns", ["ip", "route", "add", "default", "dev", "veth3"]);
  const keys = 'source = "keep", source_port = "keep", ttl = "decrement", dscp = "keep"';
  await using relay = await startRelay(topology, ruleWith(keys));
  const { received, egress } = await crossBoth(topology, relay, { sizeBytes: 1316, run: 4, ttl: 2 });
  expect(egress).toMatchObject({ path: "frame", dropped: { expired: 0 } });
  expect(received.streams[0]?.source).toStartWith(`${address.gen}:`);
}, 60_000);

test("a packet whose TTL runs out is dropped and counted", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, ruleWith('ttl = "decrement"'));
  const sent = await send(topology, "gen-ns", {
    ...{ ...ingress, interfaceAddress: address.gen, ttl: 1 },
    ...{ ratePps: 5_000, countPerStream: 100, sizeBytes: 100 },
  });
  const { egress } = await waitFor(
    () => relay.rule("both"),
    ({ packets }) => packets === sent.sent,
    { what: "every packet to have arrived", deadlineMs: 5_000, intervalMs: 50 },
  );
  expect(egress[0]).toMatchObject({ sent_packets: 0, dropped: { expired: sent.sent } });
}, 30_000);

test("a new address and a new MAC of the interface are in the next headers", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, ruleWith('path = "frame"'));
  const before = await crossBoth(topology, relay, { sizeBytes: 200 });
  expect(before.received.streams[0]?.source).toStartWith(`${address.relayEgress}:`);
  const ip = (...argv: readonly string[]) => topology.output("relay-ns", ["ip", ...argv]);
  await ip("link", "set", "veth2", "address", "02:00:00:00:77:77");
  await ip("address", "delete", `${address.relayEgress}/24`, "dev", "veth2");
  await ip("address", "add", "10.0.1.77/24", "dev", "veth2");
  const source = await waitFor(
    async () => {
      const receiver = await startReceiver(topology, "sink-ns", {
        interfaceAddress: address.sink,
        streams: egress,
        expect: 2,
        deadlineSeconds: 2,
      });
      await send(topology, "gen-ns", {
        ...{ ...ingress, interfaceAddress: address.gen },
        ...{ ratePps: 1_000, countPerStream: 1, sizeBytes: 100 },
      });
      return (await receiver.finished()).streams[0]?.source ?? "";
    },
    (seen) => seen.startsWith("10.0.1.77:"),
    { what: "the new address to be used", deadlineMs: 10_000, intervalMs: 100 },
  );
  expect(source).toEndWith(`:${(await relay.rule("both")).egress[0]?.source_port}`);
}, 60_000);

test("a forced frame where none can leave fails that egress alone, and says why", async () => {
  await using topology = await openTopology("chain");
  const rule = ruleText({
    name: "both",
    ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
    egress: ['interface = "veth2", port = 6001', 'interface = "lo", path = "frame"'],
  });
  await using relay = await startRelay(topology, rule);
  const { egress, state } = await relay.rule("both");
  expect(state).not.toBe("failed");
  expect(egress.map((each) => each.state)).toEqual(["active", "failed"]);
  expect(egress[1]?.reason).toBe(
    "cannot send frames out of lo, which the rule asks for: lo is not Ethernet-like",
  );
}, 30_000);
