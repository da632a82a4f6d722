// Every profile with every fanout and 1, 2 and 8 workers; and what rings by frame must hold as well: super-frames,
// fragments, a worker that naps, a ring that overflows. Counted at the receiver.

import { expect, test } from "bun:test";
import { expectAccounted, expectEveryPacket } from "../support/accounting.ts";
import { type RelayUnderTest, ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import {
  faultsOf,
  noFaults,
  type Receiver,
  type SendOptions,
  type SendResult,
  send,
  startReceiver,
} from "../support/traffic.ts";
import { mayReorder } from "../support/variant.ts";
import { waitUntil } from "../support/wait.ts";

const streams = 10;
const ingress = { group: "239.1.1.1", port: 5001, streams };
const egress = { group: "239.10.1.1", port: 6001, streams };

interface Trial {
  readonly settings: string;
  readonly workers?: number;
  readonly shape?: Partial<SendOptions>;
}

async function relay({ settings, workers = 1, shape = {} }: Trial, isLossless = true) {
  await using topology = await openTopology("chain");
  await using running = await startRelay(topology, streamRules(ingress, egress), { workers, settings });
  const ratePps = shape.ratePps ?? 10_000;
  const countPerStream = shape.countPerStream ?? 320;
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: countPerStream * streams,
    deadlineSeconds: 15,
  });
  const sent = await send(topology, "gen-ns", {
    ...ingress,
    ...shape,
    interfaceAddress: address.gen,
    ratePps,
    countPerStream,
    sizeBytes: shape.sizeBytes ?? 1316,
  });
  if (!isLossless) await drained(running, receiver, sent);
  const received = isLossless ? await receiver.finished() : await receiver.stop();
  return { sent, received, stats: await running.stats(), log: running.process.stderr };
}

/** Every packet is relayed, or dropped by name; and the receiver has what was relayed. */
async function drained(running: RelayUnderTest, receiver: Receiver, { sent }: SendResult): Promise<void> {
  await waitUntil(
    async () => {
      const { totals } = await running.stats();
      const isAccounted = totals.matched + totals.ingress_dropped === sent;
      return isAccounted && receiver.receivedSoFar() === totals.sent_packets;
    },
    { what: "every packet to be relayed or dropped", deadlineMs: 10_000, intervalMs: 50 },
  );
}

const profiles = ["balanced", "throughput", "latency"] as const;
const fanouts = ["flow", "hash", "cpu", "qm"] as const;
const matrix = profiles.flatMap((profile) =>
  fanouts.flatMap((fanout) => [1, 2, 8].map((workers) => [profile, fanout, workers] as const)),
);

test.each(matrix)(
  "%s, fanout %s, %d workers: every packet once",
  async (profile, fanout, workers) => {
    const settings = `profile = "${profile}"\nfanout = "${fanout}"\n`;
    const { sent, received, stats, log } = await relay({ settings, workers });
    expect(stats.workers).toHaveLength(workers);
    expect(log).toContain(`mode ${fanout}, rings for ${workers} workers, profile ${profile}, `);
    expectEveryPacket({ sent, received, stats, isOrdered: !mayReorder({ fanout }) });
  },
  30_000,
);

const shapes: readonly [string, Partial<SendOptions>][] = [
  ["super-frames of 32 datagrams", { sizeBytes: 1000, run: 32, gso: true }],
  ["super-frames of 64,000 bytes", { sizeBytes: 1000, run: 64, gso: true }],
  ["datagrams of 60,000 bytes in fragments", { sizeBytes: 60_000, ratePps: 400, countPerStream: 32 }],
  ["runs of one stream", { run: 8 }],
];
const latency = 'profile = "latency"\n';

test.each(shapes)(
  "latency: %s cross whole",
  async (_, shape) => {
    const { sent, received, stats } = await relay({ settings: latency, shape });
    expectEveryPacket({ sent, received, stats });
    expect(stats.interfaces[0]?.dropped.truncated).toBe(0);
  },
  30_000,
);

test("latency: a worker that naps gets every packet, at a pace within its naps and beyond", async () => {
  for (const ratePps of [20_000, 200]) {
    const settings = `${latency}latency_sleep_us = 50\n`;
    const shape = { ratePps, countPerStream: ratePps / streams };
    expectEveryPacket(await relay({ settings, shape }));
  }
}, 30_000);

test.each(profiles)(
  "%s: what a small ring cannot hold is counted, by packet",
  async (profile) => {
    const settings = `profile = "${profile}"\nring_bytes = 4_194_304\n`;
    const shape = { ratePps: 0, burst: 64, countPerStream: 5_000 };
    const { sent, received, stats } = await relay({ settings, shape }, false);
    expectAccounted({ sent, received, stats });
    expect(faultsOf(received)).toEqual(noFaults);
  },
  40_000,
);

test.each(profiles)(
  "%s: one worker serves several ingress interfaces",
  async (profile) => {
    await using topology = await openTopology("chain");
    const rules = [
      ruleText({
        name: "there",
        ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
        egress: ['interface = "veth2", group = "239.10.1.1", port = 6001'],
      }),
      ruleText({
        name: "back",
        ingress: 'interface = "veth2", group = "239.2.1.1", port = 5001',
        egress: ['interface = "veth1", group = "239.20.1.1", port = 6001'],
      }),
    ];
    await using running = await startRelay(topology, rules.join("\n"), {
      workers: 1,
      settings: `profile = "${profile}"\n`,
    });
    const countPerStream = 5_000;
    const common = { expect: countPerStream, deadlineSeconds: 15 };
    const atSink = await startReceiver(topology, "sink-ns", {
      ...common,
      interfaceAddress: address.sink,
      streams: { group: "239.10.1.1", port: 6001 },
    });
    const atGenerator = await startReceiver(topology, "gen-ns", {
      ...common,
      interfaceAddress: address.gen,
      streams: { group: "239.20.1.1", port: 6001 },
    });
    const pace = { ratePps: 5_000, countPerStream, sizeBytes: 1316, port: 5001 };
    const sent = await Promise.all([
      send(topology, "gen-ns", { ...pace, interfaceAddress: address.gen, group: "239.1.1.1" }),
      send(topology, "sink-ns", { ...pace, interfaceAddress: address.sink, group: "239.2.1.1" }),
    ]);
    const received = [await atSink.finished(), await atGenerator.finished()];
    expect(received.map(faultsOf)).toEqual([noFaults, noFaults]);
    expect(received.map((each) => each.received)).toEqual(sent.map((each) => each.sent));
    const { interfaces } = await running.stats();
    expect(interfaces.map((each) => [each.interface, each.matched])).toEqual([
      ["veth1", countPerStream],
      ["veth2", countPerStream],
    ]);
  },
  30_000,
);

test("a reload says what only a restart changes, and relays on", async () => {
  await using topology = await openTopology("chain");
  const rules = streamRules(ingress, egress);
  await using running = await startRelay(topology, rules);
  await running.write(
    `[relay]\nprofile = "latency"\nfanout = "hash"\nring_bytes = 8_388_608\nlatency_sleep_us = 50\n${rules}`,
  );
  const { ok, notes } = await running.reload();
  expect(ok).toBe(true);
  expect(notes).toEqual([
    "relay.profile is latency in the file and takes effect at the next start",
    "relay.fanout is hash in the file and takes effect at the next start",
    "relay.ring_bytes is 8388608 in the file and takes effect at the next start",
    "relay.latency_sleep_us is 50 in the file and takes effect at the next start",
  ]);
  expect((await running.status()).profile).toBe("balanced");
}, 30_000);
