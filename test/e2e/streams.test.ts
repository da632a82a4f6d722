// 1 to 500 streams through the chain, with the limits and buffers that kernels ship: nothing lost, nothing twice.

import { describe, expect, test } from "bun:test";
import { offsetAddress } from "../../src/net/address.ts";
import { expectEveryPacket } from "../support/accounting.ts";
import { joinedGroups } from "../support/igmp.ts";
import { startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { send, startReceiver } from "../support/traffic.ts";
import { waitUntil } from "../support/wait.ts";

const ratePps = 20_000;
const packetsPerStreamMin = 1_000;

describe("every stream crosses whole", () => {
  test.each([1, 2, 5, 10, 20, 50, 100, 150, 500])(
    "%d streams at 20,000 packets a second",
    async (streams) => {
      const ingress = { group: "239.1.1.1", port: 5001, streams };
      const egress = { group: "239.10.1.1", port: 6001, streams };
      await using topology = await openTopology("chain");
      const limit = await topology.output("relay-ns", ["cat", "/proc/sys/net/ipv4/igmp_max_memberships"]);
      expect(limit.trim()).toBe("20");

      await using relay = await startRelay(topology, streamRules(ingress, egress));
      const groups = Array.from({ length: streams }, (_, i) => offsetAddress(ingress.group, i));
      expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual(groups);

      const countPerStream = Math.max(packetsPerStreamMin, ratePps / streams);
      const receiver = await startReceiver(topology, "sink-ns", {
        interfaceAddress: address.sink,
        streams: egress,
        expect: countPerStream * streams,
        deadlineSeconds: 60,
      });
      const sent = await send(topology, "gen-ns", {
        ...ingress,
        interfaceAddress: address.gen,
        ratePps,
        countPerStream,
        sizeBytes: 1024,
      });
      const received = await receiver.finished();
      expectEveryPacket({ sent, received, stats: await relay.stats() });

      const ended = await relay.stop();
      expect(ended.exitCode).toBe(0);
      expect(ended.stderr).toMatch(/\[STATS:IGMP\] attempted=(\d+) succeeded=\1 failed=0 active_groups=\1/);
      await waitUntil(async () => (await joinedGroups(topology, "relay-ns", "veth1")).length === 0, {
        what: "every group to be left",
      });
    },
    120_000,
  );
});
