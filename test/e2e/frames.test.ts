// Frames as kernels really make them, with every offload left on: super-frames, fragments, partial checksums.

import { expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { type SendOptions, send, startReceiver } from "../support/traffic.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 2 };
const egress = { group: "239.10.1.1", port: 6001, streams: 2 };

const shapes: readonly [string, Partial<SendOptions>][] = [
  ["small datagrams of 46 bytes", { sizeBytes: 46 }],
  ["datagrams that fill the MTU", { sizeBytes: 1472 }],
  ["runs of one stream", { sizeBytes: 1316, run: 8 }],
  ["super-frames of 32 datagrams (UDP_SEGMENT)", { sizeBytes: 1000, run: 32, gso: true }],
  ["datagrams of 5,000 bytes in fragments", { sizeBytes: 5000, ratePps: 4_000 }],
  ["datagrams of 60,000 bytes in fragments", { sizeBytes: 60_000, ratePps: 400 }],
];

test.each(shapes)(
  "%s cross whole",
  async (_, shape) => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, streamRules(ingress, egress));
    const ratePps = shape.ratePps ?? 20_000;
    const countPerStream = Math.ceil(ratePps / 2 / 32) * 32;
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      expect: countPerStream * ingress.streams,
      deadlineSeconds: 30,
    });
    const sent = await send(topology, "gen-ns", {
      ...ingress,
      ...shape,
      interfaceAddress: address.gen,
      ratePps,
      countPerStream,
    });
    const received = await receiver.finished();
    expectEveryPacket({ sent, received, stats: await relay.stats() });
    expect(received.checksum_errors).toBe(0);
  },
  60_000,
);
