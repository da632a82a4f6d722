// An MTU that is lower for a moment, under traffic: what did not fit meanwhile is counted or goes in fragments, and
// then everything is as before, frames, runs and states.

import { test } from "bun:test";
import type { RuleSnapshot } from "../../src/control/protocol.ts";
import { expectAccounted, expectIntact } from "../support/accounting.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const stream = { group: "239.1.1.1", port: 5001 };
const target = { group: "239.10.1.1", port: 6001 };
/** Beyond an MTU of 1,300, and rising, so that runs are short. */
const sizes = [1300, 1350, 1400, 1400, 1400, 1400];

async function setMtu(topology: Topology, mtu: number): Promise<void> {
  await topology.output("relay-ns", ["ip", "link", "set", "veth2", "mtu", String(mtu)]);
}

/** All in one call, well within a tick of the relay. */
async function blink(topology: Topology): Promise<void> {
  const script =
    "for i in 1 2 3 4 5; do ip link set veth2 mtu 1300; sleep 0.02; ip link set veth2 mtu 1500; done";
  await topology.output("relay-ns", ["sh", "-c", script]);
}

async function egressOf(relay: RelayUnderTest): Promise<RuleSnapshot["egress"][number]> {
  const [only] = (await relay.rule("only")).egress;
  if (!only) throw new Error("the rule has an egress");
  return only;
}

const lowForTwoSeconds = async (topology: Topology) => {
  await setMtu(topology, 1300);
  await Bun.sleep(2_000);
  await setMtu(topology, 1500);
};

const cases = [
  ['source = "keep"', "frame", "within a tick", blink],
  ["ttl = 1", "frame", "within a tick", blink],
  ['path = "socket"', "socket", "within a tick", blink],
  ['source = "keep"', "frame", "for two seconds", lowForTwoSeconds],
  ["ttl = 1", "frame", "for two seconds", lowForTwoSeconds],
  ['path = "socket"', "socket", "for two seconds", lowForTwoSeconds],
] as const;

test.each(cases)(
  "an egress with %s goes on by the %s path, in runs, after an MTU that was lower %s",
  async (keys, path, _, lower) => {
    await using topology = await openTopology("chain");
    // The far end takes a source that it cannot route back to.
    for (const name of ["all", "veth3"])
      await topology.output("sink-ns", ["sh", "-c", `echo 0 > /proc/sys/net/ipv4/conf/${name}/rp_filter`]);
    await topology.run("sink-ns", ["ip", "route", "add", "default", "dev", "veth3"]);
    const rule = ruleText({
      name: "only",
      ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
      egress: [`interface = "veth2", group = "${target.group}", port = ${target.port}, ${keys}`],
    });
    await using relay = await startRelay(topology, rule, { workers: 1 });
    const receiver = await startReceiver(topology, "sink-ns", {
      ...{ interfaceAddress: address.sink, streams: target, deadlineSeconds: 100 },
    });
    const sender = await startSender(topology, "gen-ns", {
      ...{ ...stream, interfaceAddress: address.gen, sizeBytes: sizes },
      ...{ ratePps: 5_000, burst: 24, unbounded: true },
    });
    sender.go();
    await waitUntil(() => receiver.receivedSoFar() > 0, { what: "the first packet" });
    await lower(topology);

    // Nothing is lost any more, and frames and runs are what they were.
    const sample = async () => ({
      egress: await egressOf(relay),
      workers: (await relay.stats()).workers,
    });
    const lost = ({ dropped }: Awaited<ReturnType<typeof egressOf>>) =>
      dropped.full + dropped.error + dropped.unavailable;
    await waitFor(
      async () => {
        const before = await sample();
        await Bun.sleep(300);
        return { before, after: await sample() };
      },
      ({ before, after }) =>
        after.egress.state === "active" &&
        after.egress.path === path &&
        after.egress.sent_packets > before.egress.sent_packets &&
        lost(after.egress) === lost(before.egress) &&
        after.egress.frame_packets - before.egress.frame_packets ===
          (path === "frame" ? after.egress.sent_packets - before.egress.sent_packets : 0) &&
        (after.workers[0]?.run_packets ?? 0) > (before.workers[0]?.run_packets ?? 0),
      { what: "everything to be as before", deadlineMs: 15_000, intervalMs: 50 },
    );

    const sent = await sender.stop();
    await waitFor(
      () => relay.rule("only"),
      ({ packets }) => packets === sent.sent,
      { what: `the relay to have counted ${sent.sent} packets` },
    );
    const received = await receiver.stop();
    expectIntact(received);
    expectAccounted({ sent, received, stats: await relay.stats() });
  },
  60_000,
);
