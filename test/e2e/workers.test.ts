// Two workers on one interface: the fanout group gives each flow to one of them, so nothing is doubled or reordered.

import { expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { send, startReceiver } from "../support/traffic.ts";

test.each([1, 10])(
  "two workers forward %d streams once and in order",
  async (streams) => {
    const ingress = { group: "239.1.1.1", port: 5001, streams };
    const egress = { group: "239.10.1.1", port: 6001, streams };
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, streamRules(ingress, egress), { workers: 2 });
    const countPerStream = 40_000 / streams;
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      expect: countPerStream * streams,
      deadlineSeconds: 15,
    });
    const sent = await send(topology, "gen-ns", {
      ...ingress,
      interfaceAddress: address.gen,
      ratePps: 20_000,
      countPerStream,
      sizeBytes: 1024,
    });
    const stats = await receiver.finished().then(async (received) => {
      const stats = await relay.stats();
      expectEveryPacket({ sent, received, stats });
      return stats;
    });
    const busy = stats.workers.filter((worker) => worker.sent_packets > 0);
    expect(stats.workers).toHaveLength(2);
    expect(busy).toHaveLength(streams === 1 ? 1 : 2);
    expect(relay.process.stderr).toMatch(/worker 0 on CPU \d+/);
    expect(relay.process.stderr).toMatch(/worker 1 on CPU \d+/);
    expect(relay.process.stderr).toMatch(/capturing on veth1: fanout id \d+/);
  },
  60_000,
);
