// A slow link, by frames and by sockets. The kernel refuses in two ways, a device queue that holds little (ENOBUFS)
// and a socket that has sent all its buffer may hold (EAGAIN): either way what was taken arrives, and the rest is
// counted as `full`, packet by packet, at the egress that it was for.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { expectAccounted, expectIntact } from "../support/accounting.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { type SendOptions, send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

const stream = { group: "239.1.1.1", port: 5001 };
/** Both behind the same link: they share its queue, and on the frame path its socket. */
const egresses = [
  { group: "239.10.1.1", port: 6001 },
  { group: "239.10.1.2", port: 6002 },
];
const countPerStream = 40_000;
const shapes: readonly (readonly [string, Partial<SendOptions>])[] = [
  ["runs", { burst: 32, sizeBytes: 1200 }],
  ["sizes that rise", { burst: 32, sizeBytes: [100, 300, 500, 700, 900, 1100, 1300] }],
];
const limits = [
  { limit: "200kb", refuses: "the queue" },
  { limit: "400mb", refuses: "the socket" },
] as const;

const cases = (["frame", "socket"] as const).flatMap((path) =>
  limits.flatMap(({ limit, refuses }) =>
    shapes.map(([name, shape]) => ({ path, limit, refuses, name, shape })),
  ),
);

/** What the queue holds stays in it when its rate changes. */
async function setRate(topology: Topology, verb: "add" | "change", rate: string, limit: string) {
  const shaper = ["tbf", "rate", rate, "burst", "200kb", "limit", limit];
  await topology.output("relay-ns", ["tc", "qdisc", verb, "dev", "veth2", "root", ...shaper]);
}

const QueueSchema = v.array(v.object({ kind: v.string(), drops: v.number() }));

/** Frames that the queue has dropped. */
async function queueDrops(topology: Topology): Promise<number> {
  const argv = ["tc", "-json", "-statistics", "qdisc", "show", "dev", "veth2"];
  const queues = v.parse(QueueSchema, JSON.parse(await topology.output("relay-ns", argv)));
  return queues.find(({ kind }) => kind === "tbf")?.drops ?? Number.NaN;
}

test.each(cases)(
  "$path path, $name: what $refuses refuses is counted, and what it took arrives",
  async ({ path, limit, refuses, shape }) => {
    await using topology = await openTopology("chain");
    const rule = ruleText({
      name: "both",
      ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
      egress: egresses.map(
        ({ group, port }) => `interface = "veth2", group = "${group}", port = ${port}, path = "${path}"`,
      ),
    });
    await using relay = await startRelay(topology, rule, { workers: 1 });
    await setRate(topology, "add", "20mbit", limit);
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egresses,
      anyStream: true,
      deadlineSeconds: 60,
    });
    const sent = await send(topology, "gen-ns", {
      ...{ ...stream, ...shape, interfaceAddress: address.gen },
      ...{ ratePps: 20_000, countPerStream },
    });
    const { egress } = await waitFor(
      () => relay.rule("both"),
      ({ packets, egress: all }) =>
        packets === sent.sent && all.every((each) => each.sent_packets + each.dropped.full === packets),
      { what: "every packet to be sent or counted as full", deadlineMs: 10_000, intervalMs: 50 },
    );
    await setRate(topology, "change", "200mbit", limit);
    const taken = egress.reduce((sum, each) => sum + each.sent_packets, 0);
    await waitFor(
      () => receiver.receivedSoFar(),
      (received) => received >= taken,
      { what: `the ${taken} packets taken to arrive`, deadlineMs: 20_000, intervalMs: 50 },
    );
    const received = await receiver.stop();
    expectIntact(received);
    expect(received.streams.map((each) => each.received)).toEqual(egress.map((each) => each.sent_packets));
    expectAccounted({ sent, received, stats: await relay.stats(), copies: egresses.length });
    for (const each of egress) {
      expect(each).toMatchObject({ state: "active", path });
      expect(each.frame_packets).toBe(path === "frame" ? each.sent_packets : 0);
      expect(each.dropped.full).toBeGreaterThan(countPerStream / 10);
      expect({ ...each.dropped, full: 0 }).toEqual({ full: 0, error: 0, unavailable: 0, expired: 0 });
    }
    // Who refused is who was meant to.
    const drops = await queueDrops(topology);
    if (refuses === "the socket") expect(drops).toBe(0);
    else expect(drops).toBeGreaterThan(0);
  },
  60_000,
);
