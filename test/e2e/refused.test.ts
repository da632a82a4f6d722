// Frames that no rule may take: another host's, of another kind of tag, of no rule, not as they should be. Each is
// dropped under its own name, as so many datagrams as it holds; and none has an effect on what comes after it.

import { describe, expect, test } from "bun:test";
import type { IngressReason } from "../../src/stats/reasons.ts";
import {
  type Datagram,
  dot1ad,
  dot1q,
  frameOf,
  type Link,
  superFrameOf,
  testPayload,
  withByte,
} from "../support/frames.ts";
import { type Frame, startInjector } from "../support/records.ts";
import { type RelayUnderTest, ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { faultsOf, noFaults, send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";
import { openTap } from "../support/wire.ts";

const ingress = { group: "239.1.1.1", port: 5001 };
const egress = { group: "239.10.1.1", port: 6001 };
const flow = { source: "10.0.0.1", destination: ingress.group, port: ingress.port };
const sizeBytes = 200;

function datagrams(first: number, count: number, stream = 0): readonly Datagram[] {
  return Array.from({ length: count }, (_, i) => ({
    ...flow,
    payload: testPayload(stream, first + i, sizeBytes),
  }));
}

/** `count` datagrams in one frame. */
function together(first: number, count: number, link: Link = {}, port = flow.port): Frame {
  const payloads = datagrams(first, count).map(({ payload }) => payload);
  return superFrameOf({ ...flow, port, payload: new Uint8Array(Buffer.concat(payloads)) }, sizeBytes, link);
}

function tagged(tpid: number, id: number): Link {
  return { tags: [{ tpid, id }] };
}

/** When so many packets are counted on this interface, or the deadline is over. */
async function counted(relay: RelayUnderTest, name: string, packets: number) {
  const read = async () => {
    const found = (await relay.stats()).interfaces.find((each) => each.interface === name);
    if (!found) throw new Error(`mcr stats lists no ${name}`);
    return found;
  };
  await waitFor(read, (now) => now.packets >= packets, {
    what: `${packets} packets to be counted`,
    deadlineMs: 3_000,
    intervalMs: 50,
  }).catch(() => undefined);
  return read();
}

/** Injects, then one good datagram behind it all, which must arrive; tells what the relay sent on, and what it counted. */
async function take(frames: readonly Frame[], { due = 0, packets = 0 }) {
  await using topology = await openTopology("chain");
  // A tap hands over what it is given; a veth without offloads would cut super-frames, and mend their headers.
  const injector = await openTap(topology, "tap0", "10.0.2.1");
  await using relay = await startRelay(topology, streamRules(ingress, egress, { from: "tap0" }), {
    workers: 1,
  });
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: due + 1,
    deadlineSeconds: 10,
    lingerMs: 500,
  });
  const [last] = datagrams(1_000_000, 1);
  await injector.inject([...frames, ...(last ? [frameOf(last)] : [])]);
  expect(injector.refused()).toEqual([]);
  const received = await receiver.finished();
  return {
    faults: faultsOf(received),
    received: received.received,
    counts: await counted(relay, "tap0", packets + 1),
  };
}

test("a frame to another host's hardware address is not relayed, whatever group it names", async () => {
  const count = 100;
  const frames = datagrams(0, count).map((each) => frameOf(each, { mac: "02:00:00:00:00:99" }));
  const { received, counts } = await take(frames, { packets: count });
  expect(received).toBe(1);
  expect(counts).toMatchObject({ packets: count + 1, matched: 1, dropped: { other_host: count } });
}, 30_000);

describe("a rule for untagged packets", () => {
  const count = 10;
  const cases: readonly (readonly [string, Link, "taken" | "dropped"])[] = [
    ["802.1Q, id 0: a priority only", tagged(dot1q, 0), "taken"],
    ["802.1Q, id 0 and priority 7", tagged(dot1q, 7 << 13), "taken"],
    ["802.1Q, id 5", tagged(dot1q, 5), "dropped"],
    ["802.1ad, id 0", tagged(dot1ad, 0), "dropped"],
    ["802.1ad, id 5", tagged(dot1ad, 5), "dropped"],
  ];

  test.each(cases)(
    "and packets with a tag of %s",
    async (_, link, fate) => {
      const frames = datagrams(0, count).map((each) => frameOf(each, link));
      const due = fate === "taken" ? count : 0;
      const { received, faults, counts } = await take(frames, { due, packets: count });
      expect({ received, ...faults }).toEqual({ received: due + 1, ...noFaults });
      expect(counts).toMatchObject({
        packets: count + 1,
        matched: due + 1,
        dropped: { tagged: count - due },
      });
    },
    30_000,
  );
});

describe("a super-frame that is dropped counts as the ten datagrams it held", () => {
  const held = 10;
  const cases: readonly (readonly [string, IngressReason, Frame])[] = [
    ["of another VLAN", "tagged", together(0, held, tagged(dot1q, 99))],
    ["that no rule wants", "no_match", together(0, held, {}, 5999)],
    // The low byte of the header's checksum.
    ["whose IP header does not add up", "bad_checksum", withByte(together(0, held), 25, (old) => old ^ 1)],
    ["whose UDP length is beyond its end", "malformed", withByte(together(0, held), 38, () => 0xff)],
    ["to another host", "other_host", together(0, held, { mac: "02:00:00:00:00:99" })],
  ];

  test.each(cases)(
    "%s",
    async (_, reason, frame) => {
      const { received, counts } = await take([frame], { packets: held });
      expect(received).toBe(1);
      expect(counts).toMatchObject({ packets: held + 1, matched: 1, dropped: { [reason]: held } });
    },
    30_000,
  );
});

test("datagrams to port 0 do not end the runs of others on the socket path", async () => {
  const countPerStream = 4_000;
  await using topology = await openTopology("chain");
  const rule = ruleText({
    name: "any port",
    ingress: `interface = "veth1", group = "${ingress.group}"`,
    egress: ['interface = "veth2", path = "socket"'],
  });
  await using relay = await startRelay(topology, rule, { workers: 1 });
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: ingress,
    expect: countPerStream,
    deadlineSeconds: 15,
  });
  const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
  const toNobody = 32;
  await injector.inject(datagrams(0, toNobody).map((each) => frameOf({ ...each, port: 0 })));
  await counted(relay, "veth1", toNobody);
  const inRuns = async () =>
    (await relay.stats()).workers.reduce((sum, { run_packets }) => sum + run_packets, 0);
  const before = await inRuns();
  await send(topology, "gen-ns", {
    ...{ ...ingress, interfaceAddress: address.gen },
    ...{ countPerStream, ratePps: 8_000, burst: 16, run: 8 },
  });
  const received = await receiver.finished();
  expect({ received: received.received, ...faultsOf(received) }).toEqual({
    received: countPerStream,
    ...noFaults,
  });
  expect(await inRuns()).toBeGreaterThan(before + countPerStream / 2);
}, 30_000);
