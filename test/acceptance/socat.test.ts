// mcr beside socat: socat at both ends of mcr, exactly; and socat processes in mcr's place, one for each stream, on the
// same topology with the same traffic. Both are counted at the receiver and printed; only mcr's count is a condition.

import { expect, test } from "bun:test";
import { offsetAddress } from "../../src/net/address.ts";
import { expectEveryPacket } from "../support/accounting.ts";
import { cross, paced } from "../support/crossing.ts";
import { joinedGroups, snoopedGroups } from "../support/igmp.ts";
import { startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology, type Topology, type TopologyName } from "../support/topology.ts";
import { waitUntil } from "../support/wait.ts";

const streams = 5;
const ingress = { group: "239.1.1.1", port: 5001, streams };
const egress = { group: "239.10.1.1", port: 6001, streams };
const ratePps = 20_000;
const generator = { ...ingress, interfaceAddress: address.gen, ratePps, countPerStream: 10_000 };
const sink = { interfaceAddress: address.sink, streams: egress };

test("data_plane_e2e: 100 datagrams from socat arrive at socat, 100 of 100 and in order", async () => {
  await using topology = await openTopology("chain");
  const one = { streams: 1 };
  await using relay = await startRelay(topology, streamRules({ ...ingress, ...one }, { ...egress, ...one }));
  const lines = Array.from({ length: 100 }, (_, i) => `datagram ${i + 1} of 100`);
  const receiver = topology.spawn("sink-ns", [
    "socat",
    "-u",
    `UDP4-RECV:6001,ip-add-membership=239.10.1.1:${address.sink}`,
    "STDOUT",
  ]);
  await waitUntil(async () => (await joinedGroups(topology, "sink-ns", "veth3")).length === 1, {
    what: "socat to have joined",
  });
  // One process for each, so that each line is a datagram of its own.
  const script = `while read -r line; do echo "$line" | socat -u STDIN UDP4-DATAGRAM:239.1.1.1:5001,ip-multicast-if=${address.gen}; done`;
  await topology.output("gen-ns", ["sh", "-c", script], { stdin: `${lines.join("\n")}\n` });
  await waitUntil(() => receiver.stdout.split("\n").length > lines.length, { what: "the last datagram" });
  expect(receiver.stdout.trimEnd().split("\n")).toEqual(lines);
  expect((await relay.stats()).totals).toMatchObject({ matched: 100, sent_packets: 100 });
}, 60_000);

test.each(["chain", "bridges"] as const)(
  `compare_socat, %s: 50,000 packets of 1,024 bytes in 5 streams${paced(ratePps, 400_000)}`,
  async (name) => {
    const socat = await throughSocat(name);
    await using topology = await openTopology(name);
    await using relay = await startRelay(topology, streamRules(ingress, egress));
    await waitForJoins(topology, name);
    const { sent, received } = await cross(topology, generator, sink);
    console.log(
      `${name}: ${sent.sent} sent${paced(ratePps)}; mcr lost ${sent.sent - received.received}, ` +
        `${streams} socat processes lost ${socat.lost} and doubled ${socat.duplicated}`,
    );
    expectEveryPacket({ sent, received, stats: await relay.stats() });
  },
  60_000,
);

/** One socat process for each stream, as its users do; with the buffers the kernel gives. */
async function throughSocat(name: TopologyName): Promise<{ lost: number; duplicated: number }> {
  await using topology = await openTopology(name);
  for (let i = 0; i < streams; i += 1) {
    const from = offsetAddress(ingress.group, i);
    topology.spawn("relay-ns", [
      "socat",
      "-u",
      `UDP4-RECV:${ingress.port + i},bind=${from},ip-add-membership=${from}:${address.relayIngress}`,
      `UDP4-DATAGRAM:${offsetAddress(egress.group, i)}:${egress.port + i},ip-multicast-if=${address.relayEgress}`,
    ]);
  }
  await waitForJoins(topology, name);
  const { sent, received } = await cross(topology, generator, sink);
  return { lost: sent.sent - received.received, duplicated: received.duplicated };
}

async function waitForJoins(topology: Topology, name: TopologyName): Promise<void> {
  const joined = () =>
    name === "bridges"
      ? snoopedGroups(topology, "bridge-a-ns", "br-a", "relay")
      : joinedGroups(topology, "relay-ns", "veth1");
  await waitUntil(async () => (await joined()).length === streams, { what: `${streams} joins` });
}
