// A neighbour that reads raw packets and knows nothing of offloads, behind a veth: what it sees of an egress that is
// plain, and of one that is not; and that a plain egress counts what a full queue drops datagram by datagram.

import { describe, expect, test } from "bun:test";
import { expectEveryPacket, expectIntact } from "../support/accounting.ts";
import { startRecorder } from "../support/records.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

const ingress = { group: "239.1.1.1", port: 5001 };
const egress = { group: "239.10.1.1", port: 6001 };
const payloadBytes = 1316;
const count = 4_000;
const ethernetBytes = 14;
const oneFrame = ethernetBytes + 28 + payloadBytes;

function ruleWith(keys: string): string {
  return ruleText({
    name: "only",
    ingress: `interface = "veth1", group = "${ingress.group}", port = ${ingress.port}`,
    egress: [`interface = "veth2", group = "${egress.group}", port = ${egress.port}, ${keys}`],
  });
}

/** Sends through the rule, and returns what a plain packet socket beside the receiver saw of it. */
async function seenOf(topology: Topology, keys: string) {
  await using relay = await startRelay(topology, ruleWith(keys), { workers: 1 });
  const reader = await startRecorder(topology, "sink-ns", "veth3", { withoutOffload: true });
  const receiver = await startReceiver(topology, "sink-ns", {
    ...{ interfaceAddress: address.sink, streams: egress, expect: count, deadlineSeconds: 30 },
  });
  const sent = await send(topology, "gen-ns", {
    ...{ ...ingress, interfaceAddress: address.gen, sizeBytes: payloadBytes },
    ...{ ratePps: 10_000, countPerStream: count, burst: 8 },
  });
  const received = await receiver.finished();
  expectEveryPacket({ sent, received, stats: await relay.stats() });
  expect(await reader.stop()).toMatchObject({ dropped: 0, undescribed: 0 });
  const frames = reader.frames.filter(({ bytes }) => isUdpToGroup(bytes)).map(({ bytes }) => bytes);
  const identifications = frames.map((bytes) => bytes.toHex().slice(36, 40));
  return {
    seen: {
      frames: frames.length,
      understood: frames.filter(({ length }) => length === oneFrame).length,
      repeated: identifications.filter((each, i) => each === identifications[i - 1]).length,
      longest: Math.max(...frames.map(({ length }) => length)),
    },
    shown: (await relay.run("show")).stdout,
  };
}

/** Of an IPv4 frame: the protocol, and the first byte of the destination. */
function isUdpToGroup(bytes: Uint8Array): boolean {
  return bytes[ethernetBytes + 9] === 17 && (bytes[ethernetBytes + 16] ?? 0) >> 4 === 14;
}

describe.each(["frame", "socket"] as const)("a plain reader behind the %s path", (path) => {
  test("understands every datagram of a plain egress, each with another Identification than the one before", async () => {
    await using topology = await openTopology("chain");
    const { seen, shown } = await seenOf(topology, `path = "${path}", plain = true`);
    expect(seen).toEqual({ frames: count, understood: count, repeated: 0, longest: oneFrame });
    expect(shown).toContain(`path ${path}, plain`);
  }, 60_000);

  test("sees what leaves together as one long frame otherwise", async () => {
    await using topology = await openTopology("chain");
    const { seen } = await seenOf(topology, `path = "${path}"`);
    expect(seen.longest).toBeGreaterThanOrEqual(2 * payloadBytes);
    expect(seen.frames).toBeLessThan(count);
    expect(seen.understood).toBeLessThan(count);
  }, 60_000);
});

test.each(["frame", "socket"] as const)(
  "a queue that is full for some datagrams of a burst counts each that it drops, by the %s path",
  async (path) => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, ruleWith(`path = "${path}", plain = true`), {
      workers: 1,
    });
    const shaper = ["tbf", "rate", "20mbit", "burst", "10kb", "limit", "20kb"];
    await topology.output("relay-ns", ["tc", "qdisc", "add", "dev", "veth2", "root", ...shaper]);
    const receiver = await startReceiver(topology, "sink-ns", {
      ...{ interfaceAddress: address.sink, streams: egress, deadlineSeconds: 60 },
    });
    const sent = await send(topology, "gen-ns", {
      ...{ ...ingress, interfaceAddress: address.gen, sizeBytes: payloadBytes },
      ...{ ratePps: 10_000, countPerStream: count, burst: 64 },
    });
    const { egress: egresses } = await waitFor(
      () => relay.rule("only"),
      ({ packets, egress: [only] }) =>
        packets === sent.sent && only !== undefined && only.sent_packets + only.dropped.full === packets,
      { what: "every packet to be sent or counted as full", deadlineMs: 10_000, intervalMs: 50 },
    );
    const taken = egresses[0]?.sent_packets ?? 0;
    await waitFor(
      () => receiver.receivedSoFar(),
      (received) => received >= taken,
      { what: `the ${taken} packets taken to arrive`, deadlineMs: 20_000, intervalMs: 50 },
    );
    const received = await receiver.stop();
    expectIntact(received);
    expect(received.received).toBe(taken);
    expect(taken).toBeGreaterThan(0);
    expect(egresses[0]?.dropped.full).toBeGreaterThan(0);
  },
  60_000,
);
