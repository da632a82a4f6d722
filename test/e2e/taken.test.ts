// An interface that is taken from the relay's namespace and is back, with the same index, before anybody has looked: the
// kernel has unbound every packet socket on it for good, and tells nobody.

import { expect, test } from "bun:test";
import { ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

const stream = { group: "239.1.1.1", port: 5001 };
const target = { group: "239.10.1.1", port: 6001 };
const count = 100;

/** In one call, well within a tick of the relay. */
async function takeAway(topology: Topology, name: string, ipAddress: string): Promise<void> {
  const script = [
    "ip netns add elsewhere-ns",
    `ip link set ${name} netns elsewhere-ns`,
    `ip -n elsewhere-ns link set ${name} netns relay-ns`,
    `ip address add ${ipAddress}/24 dev ${name}`,
    `ip link set ${name} up`,
  ].join(" && ");
  const index = `cat /sys/class/net/${name}/ifindex`;
  const [before, after] = (
    await topology.output("relay-ns", ["sh", "-c", `${index} && ${script} && ${index}`])
  ).split("\n");
  expect(after).toBe(before ?? "");
}

test.each(["balanced", "latency"])(
  "an ingress interface that was away for a moment is captured from again (%s)",
  async (profile) => {
    await using topology = await openTopology("chain");
    const rule = ruleText({
      name: "only",
      ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
      egress: [`interface = "veth2", group = "${target.group}", port = ${target.port}`],
    });
    await using relay = await startRelay(topology, rule, { settings: `profile = "${profile}"` });
    await takeAway(topology, "veth1", address.relayIngress);
    await relay.process.waitForOutput(/capturing on veth1[\s\S]*capturing on veth1/);
    await waitFor(
      () => topology.output("relay-ns", ["cat", "/proc/net/igmp"]),
      (groups) => groups.includes("010101EF"),
      { what: "the group to be joined again" },
    );
    await waitFor(
      () => relay.rule("only"),
      ({ state }) => state === "active" || state === "silent",
      { what: "the rule to run" },
    );
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: target,
      expect: count,
      deadlineSeconds: 5,
    });
    await send(topology, "gen-ns", { ...stream, interfaceAddress: address.gen, countPerStream: count });
    const received = await receiver.finished();
    expect(received.received).toBe(count);
    expect(faultsOf(received)).toEqual(noFaults);
  },
  30_000,
);

test.each(["ttl = 1", 'ttl = "keep"'])(
  "an egress interface that was away for a moment is sent out of again (%s)",
  async (keys) => {
    await using topology = await openTopology("chain");
    const rule = ruleText({
      name: "only",
      ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
      egress: [`interface = "veth2", group = "${target.group}", port = ${target.port}, ${keys}`],
    });
    await using relay = await startRelay(topology, rule);
    await takeAway(topology, "veth2", address.relayEgress);
    const sent = async () => {
      await send(topology, "gen-ns", {
        ...stream,
        interfaceAddress: address.gen,
        countPerStream: count,
        ttl: 8,
      });
      const [egress] = (await relay.rule("only")).egress;
      return egress?.frame_packets ?? 0;
    };
    // The first of them find out.
    await waitFor(sent, (packets) => packets >= count, {
      what: "frames to leave",
      deadlineMs: 10_000,
      intervalMs: 500,
    });
  },
  30_000,
);
