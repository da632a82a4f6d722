// Multicast into a tunnel at one relay and out of it at another: no hop but mcr knows anything of multicast. A kind
// this host does not have is skipped, and says why.

import { expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { cross, paced } from "../support/crossing.ts";
import { ruleText, startRelay, streamRules } from "../support/relay.ts";
import { openTopology, whyNoTopology } from "../support/topology.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 4 };
const inside = { group: "239.2.1.1", port: 5101, streams: 4 };
const egress = { group: "239.3.1.1", port: 5201, streams: 4 };
const countPerStream = 2_500;
const generated = { ...ingress, interfaceAddress: "10.0.0.1", countPerStream, sizeBytes: 1316 };

/** What the tunnels themselves carry here without a relay, several times over. */
const kinds = [
  { kind: "vxlan", ratePps: 10_000 },
  { kind: "gre", ratePps: 10_000 },
  { kind: "ipip", ratePps: 10_000 },
  { kind: "tun", ratePps: 4_000 },
  { kind: "wireguard", ratePps: 4_000 },
];

for (const { kind, ratePps } of kinds) {
  const obstacle = whyNoTopology("tunnel", kind);
  const reason = obstacle === undefined ? "" : `; skipped: ${obstacle}`;
  test.skipIf(obstacle !== undefined)(
    `${kind} carries 10,000 packets from relay to relay as multicast${paced(ratePps)}${reason}`,
    async () => {
      await using topology = await openTopology("tunnel", kind);
      const near = streamRules(ingress, inside, { to: "tunnel1" });
      const far = streamRules(inside, egress, { from: "tunnel2" });
      await using first = await startRelay(topology, near, { namespace: "relay-1-ns" });
      await using second = await startRelay(topology, far, { namespace: "relay-2-ns" });
      const sink = { interfaceAddress: "10.0.2.2", streams: egress };
      const { sent, received } = await cross(topology, { ...generated, ratePps }, sink);
      for (const relay of [first, second]) expectEveryPacket({ sent, received, stats: await relay.stats() });
    },
    60_000,
  );

  test.skipIf(obstacle !== undefined)(
    `${kind} carries 2,500 packets to a host at its far end as unicast${paced(ratePps)}${reason}`,
    async () => {
      await using topology = await openTopology("tunnel", kind);
      const rule = ruleText({
        name: "to a host",
        ingress: `interface = "veth1", group = "${ingress.group}", port = ${ingress.port}`,
        egress: ['interface = "tunnel1", address = "10.100.0.2", port = 6001'],
      });
      await using relay = await startRelay(topology, rule, { namespace: "relay-1-ns" });
      const { sent, received } = await cross(
        topology,
        { ...generated, streams: 1, ratePps },
        {
          namespace: "relay-2-ns",
          interfaceAddress: "10.100.0.2",
          streams: { group: "10.100.0.2", port: 6001 },
          unicast: true,
        },
      );
      expectEveryPacket({ sent, received, stats: await relay.stats() });
      expect(received.streams[0]?.source).toStartWith("10.100.0.1:");
    },
    60_000,
  );
}
