// The scenarios of one relay in the chain: workers, sizes, bursts, many streams, rules that come later, stops. The
// receiver checks every byte of every packet; nothing may be lost, doubled, reordered or damaged.

import { describe, expect, test } from "bun:test";
import { expectEveryPacket, expectIntact } from "../support/accounting.ts";
import { cross, paced } from "../support/crossing.ts";
import { joinedGroups } from "../support/igmp.ts";
import { ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { type SendOptions, send, startReceiver, startSender } from "../support/traffic.ts";
import { mayReorder, relayLines, variant } from "../support/variant.ts";
import { waitUntil } from "../support/wait.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 8 };
const egress = { group: "239.10.1.1", port: 6001, streams: 8 };

interface Load extends Partial<SendOptions> {
  readonly workers?: number;
}

/** Eight streams, 20,000 packets of 1,024 bytes at 20,000 a second, unless the load says otherwise. */
async function expectWhole({ workers, ...shape }: Load): Promise<void> {
  const { streams = 8, digest = false } = shape;
  await using topology = await openTopology("chain");
  const rules = streamRules({ ...ingress, streams }, { ...egress, streams });
  await using relay = await startRelay(topology, rules, workers === undefined ? {} : { workers });
  const { sent, received } = await cross(
    topology,
    {
      ...{ ...ingress, interfaceAddress: address.gen, ratePps: 20_000, countPerStream: 2_500 },
      ...shape,
    },
    { interfaceAddress: address.sink, streams: { ...egress, streams }, digest },
  );
  expectEveryPacket({ sent, received, stats: await relay.stats() });
  // Payloads in a row: other bytes where their order is another; each has been verified on its own all the same.
  if (!digest || mayReorder(variant.settings)) return;
  const digests = sent.streams.map((stream) => stream.sha256);
  expect(digests).not.toContain(undefined);
  expect(new Set(digests).size).toBe(streams);
  expect(received.streams.map((stream) => stream.sha256)).toEqual(digests);
}

describe("multi_worker: workers on one interface", () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])(
    `%d forward 8 streams once and in order${paced(20_000, 100_000)}`,
    (workers) => expectWhole({ sizeBytes: 1400, workers }),
    60_000,
  );
});

describe("payload_integrity", () => {
  test.each([1, 5])(
    `%d streams, 75,000 packets of 1,400 bytes: the same SHA-256 at both ends${paced(25_000, 50_000)}`,
    (streams) =>
      expectWhole({
        ...{ streams, sizeBytes: 1400, countPerStream: 75_000 / streams, ratePps: 25_000 },
        digest: true,
      }),
    60_000,
  );
});

describe("edge_cases", () => {
  test.each([46, 64, 1400, 1472])(
    `20,000 packets of %d bytes${paced(20_000)}`,
    (sizeBytes) => expectWhole({ sizeBytes }),
    60_000,
  );
  test.each([1, 8, 32, 512])(
    "20,000 packets in bursts of %d, each as fast as the kernel takes it",
    (burst) => expectWhole({ burst, sizeBytes: 200 }),
    60_000,
  );
});

describe("multi_stream_scaling: 4 workers, 2,000/s and 10,000 packets a stream up to 20 streams", () => {
  /** Beyond, 40,000/s together, and as many packets as that is in some seconds. */
  const ratePpsMax = 40_000;
  test.each([1, 2, 5, 10, 20, 50, 100, 150])(
    "%d streams, at most 40,000/s in all (published up to 300,000/s; the bare veth carries 280,000/s here)",
    async (streams) => {
      const countPerStream = streams <= 20 ? 10_000 : 100_000 / streams;
      await expectWhole({
        ...{ streams, workers: 4, countPerStream: Math.floor(countPerStream) },
        ...{ ratePps: Math.min(2_000 * streams, ratePpsMax), sizeBytes: 1024 },
      });
    },
    60_000,
  );
});

describe("fault_tolerance: SIGTERM at 50,000/s", () => {
  test.each([1, 3])(
    "%d of it, 0.1 s apart: ends with 0 within 2 s, and its final statistics are what arrived",
    async (signals) => {
      await using topology = await openTopology("chain");
      await using relay = await startRelay(topology, streamRules(ingress, egress));
      const receiver = await startReceiver(topology, "sink-ns", {
        ...{ interfaceAddress: address.sink, streams: egress, deadlineSeconds: 20 },
      });
      const sender = await startSender(topology, "gen-ns", {
        ...{ ...ingress, interfaceAddress: address.gen, ratePps: 50_000, unbounded: true },
      });
      sender.go();
      await waitUntil(() => receiver.receivedSoFar() > 25_000, { what: "25,000 packets" });
      const began = performance.now();
      for (let i = 0; i < signals; i += 1) {
        if (i > 0) await Bun.sleep(100); // the distance is the test
        relay.process.kill("SIGTERM");
      }
      const { exitCode, stderr } = await relay.process.exited;
      expect(exitCode).toBe(0);
      expect(performance.now() - began).toBeLessThan(2_000);
      expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual([]);
      await sender.stop();
      const received = await receiver.stop();
      expectIntact(received);
      const number = (pattern: RegExp) => Number(pattern.exec(stderr)?.[1]);
      expect(number(/\[STATS:Ingress\] interface=veth1 packets=\d+ matched=(\d+) /)).toBe(received.received);
      expect(number(/\[STATS:Egress\] sent=(\d+) /)).toBe(received.received);
      expect(stderr).toContain("[STATS:IGMP] attempted=8 succeeded=8 failed=0 active_groups=8");
      // Every stream was relayed from its first packet to its last without a gap.
      expect(received.streams.flatMap((stream) => stream.missing)).toEqual([]);
    },
    60_000,
  );
});

test("dynamic_rules: rules that are added relay from their first packet on, and what came before is counted", async () => {
  const rule = (n: number) =>
    ruleText({
      name: `rule-${n}`,
      ingress: `interface = "veth1", group = "239.1.1.${n}", port = ${5000 + n}`,
      egress: [`interface = "veth2", group = "239.10.1.${n}", port = ${6000 + n}`],
    });
  await using topology = await openTopology("chain");
  // The first rule holds the group, on another port, so that the packets of the first phase reach the relay at all.
  const holder = rule(1).replace("port = 5001", "port = 5999");
  await using relay = await startRelay(topology, holder);
  const countPerStream = 10_000;
  const phase = (streams: number) =>
    send(topology, "gen-ns", {
      interfaceAddress: address.gen,
      group: "239.1.1.1",
      port: 5001,
      streams,
      ratePps: 20_000,
      countPerStream,
    });
  await phase(1);
  await waitUntil(async () => (await relay.stats()).interfaces[0]?.dropped.no_match === countPerStream, {
    what: "the packets without a rule to be counted",
  });

  for (const streams of [1, 2]) {
    const settings = `[relay]\n${relayLines('control = "/run/mcr/mcr.sock"\n', variant)}`;
    await relay.write(settings + Array.from({ length: streams }, (_, i) => rule(i + 1)).join("\n"));
    expect(await relay.reload()).toMatchObject({ ok: true });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: { group: "239.10.1.1", port: 6001, streams },
      expect: countPerStream * streams,
      deadlineSeconds: 30,
    });
    await phase(streams);
    const received = await receiver.finished();
    expect(received.streams.map((stream) => stream.received)).toEqual(
      Array.from({ length: streams }, () => countPerStream),
    );
  }
  const { totals, igmp } = await relay.stats();
  expect(totals).toMatchObject({ packets: 4 * countPerStream, matched: 3 * countPerStream });
  expect(totals.sent_packets).toBe(3 * countPerStream);
  expect(igmp.active_groups).toBe(2);
}, 60_000);
