// Frames of the old offload type (virtio gso_type 3), which a guest may send through a tap and no packet ring can
// describe: each of them is lost and counted, and that is all that it costs.

import { describe, expect, test } from "bun:test";
import { type Datagram, frameOf, oldTypeFrameOf, testPayload } from "../support/frames.ts";
import type { Frame } from "../support/records.ts";
import { type RelayUnderTest, ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { faultsOf, noFaults, startReceiver } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";
import { injectPaced, openTap } from "../support/wire.ts";

const profiles = ["balanced", "throughput", "latency"];
const ingress = { group: "239.1.1.1", port: 5001 };
const egress = { group: "239.10.1.1", port: 6001 };
const rule = streamRules(ingress, egress, { from: "tap0" });

const flow = { source: "10.0.2.9", destination: ingress.group, port: ingress.port };

function ordinary(first: number, count: number, size = 300): readonly Frame[] {
  return Array.from({ length: count }, (_, i): Frame => {
    const datagram: Datagram = { ...flow, payload: testPayload(0, first + i, size) };
    return frameOf(datagram);
  });
}

const odd = oldTypeFrameOf({ ...flow, payload: new Uint8Array(5000) });

/** On tap0: what the ring lost, and how much of it because of its offload type. */
async function lostOf(relay: RelayUnderTest) {
  const { interfaces } = await relay.stats();
  const found = interfaces.find((each) => each.interface === "tap0");
  return { ring: found?.dropped.ring, undescribed: found?.undescribed };
}

async function link(topology: Topology, state: "up" | "down"): Promise<void> {
  await topology.output("relay-ns", ["ip", "link", "set", "tap0", state]);
}

describe.each(profiles)("with profile %s", (profile) => {
  test("a ring to which nothing else comes is not opened anew: a worker has taken note of each", async () => {
    const count = 150;
    await using topology = await openTopology("chain");
    const tap = await openTap(topology, "tap0", "10.0.2.1");
    await using relay = await startRelay(topology, rule, {
      settings: `profile = "${profile}"`,
      workers: 1,
    });
    // Longer than a ring may only drop.
    await injectPaced(
      tap,
      Array.from({ length: count }, () => odd),
      40,
    );
    await waitFor(
      () => lostOf(relay),
      ({ ring, undescribed }) => ring === count && undescribed === count,
      { what: "each of them to be counted" },
    );
    const { interfaces } = await relay.stats();
    expect(interfaces.map(({ reopened }) => reopened)).toEqual([0]);
  }, 30_000);

  test("one such frame costs no other packet, before or after the link went down and up and the rules changed", async () => {
    const each = 1000;
    await using topology = await openTopology("chain");
    const tap = await openTap(topology, "tap0", "10.0.2.1");
    await using relay = await startRelay(topology, rule, {
      settings: `profile = "${profile}"\n`,
      workers: 1,
    });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      expect: each * 3,
      deadlineSeconds: 45,
    });
    const arrived: number[] = [];
    const cross = async (turn: number) => {
      await injectPaced(tap, ordinary(turn * each, each), 500);
      const due = each * (turn + 1);
      // What does not come is counted below, turn by turn.
      await waitFor(
        () => receiver.receivedSoFar(),
        (count) => count >= due,
        { what: "the packets of this turn", deadlineMs: 3_000 },
      ).catch(() => undefined);
      arrived.push(receiver.receivedSoFar() - arrived.reduce((sum, count) => sum + count, 0));
    };

    await tap.inject([odd]);
    await cross(0);

    await link(topology, "down");
    await relay.waitForState("stream-0", "waiting");
    await link(topology, "up");
    await waitUntil(async () => (await relay.rule("stream-0")).state !== "waiting", {
      what: "the rule to run again",
    });
    await cross(1);

    const other = ruleText({
      name: "other",
      ingress: 'interface = "tap0", group = "239.1.1.7", port = 5007',
      egress: ['interface = "veth2"'],
    });
    await relay.write(`[relay]\n${await settingsOf(relay)}${rule}\n${other}`);
    expect(await relay.reload()).toMatchObject({ ok: true, added: ["other"] });
    await cross(2);

    expect(arrived).toEqual([each, each, each]);
    expect(faultsOf(await receiver.finished())).toEqual(noFaults);
    expect(await lostOf(relay)).toEqual({ ring: 1, undescribed: 1 });
    expect(relay.process.stderr).toMatch(/offload/);
  }, 90_000);
});

/** The lines of [relay] in the relay's own file. */
async function settingsOf({ file }: RelayUnderTest): Promise<string> {
  const text = await Bun.file(file).text();
  return text.slice(text.indexOf("\n") + 1, text.indexOf("[[rule]]"));
}

describe.each(profiles)("with profile %s", (profile) => {
  test("200 such frames in a ring full of an earlier lap send nothing again, and each is counted once", async () => {
    const lap = 6_000;
    const oddCount = 200;
    const between = 10;
    await using topology = await openTopology("chain");
    const tap = await openTap(topology, "tap0", "10.0.2.1");
    await using relay = await startRelay(topology, rule, {
      settings: `profile = "${profile}"\nring_bytes = 33_554_432\n`,
      workers: 1,
    });
    const total = lap + oddCount * between;
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      expect: total,
      deadlineSeconds: 30,
    });
    // Time hands a block over before it is full: each burst takes one at least, of 256 or 32. A smaller ring would be
    // gone through sooner, and would be full whenever the host looks elsewhere for some ms.
    await injectPaced(tap, ordinary(0, lap, 1300), 6_000);
    const mixed = Array.from({ length: oddCount }, (_, i) => [
      odd,
      ...ordinary(lap + i * between, between, 1300),
    ]);
    await injectPaced(tap, mixed.flat(), 3_000);
    const received = await receiver.finished();
    expect({ received: received.received, ...faultsOf(received) }).toEqual({
      received: total,
      ...noFaults,
    });
    expect(await lostOf(relay)).toEqual({ ring: oddCount, undescribed: oddCount });
  }, 90_000);
});
