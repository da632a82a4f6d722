// One group and port in three VLANs of one trunk: each relays its own, and nothing leaks from one into another.

import { expect, test } from "bun:test";
import { expectIntact } from "../support/accounting.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { openTopology, whyNoTopology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";

const stream = { group: "239.1.1.1", port: 5001 };
const count = 10_000;
const ratePps = 5_000;

/** All send the same stream number and sequence, so that a packet of a foreign VLAN is a duplicate. */
const networks = [
  { ingress: "veth1", generator: "10.0.0.1", egress: "veth2", group: "239.10.0.1", sink: "10.0.1.2" },
  { ingress: "veth1.5", generator: "10.5.0.1", egress: "veth2.7", group: "239.10.5.1", sink: "10.7.1.2" },
  { ingress: "veth1.7", generator: "10.7.0.1", egress: "veth2", group: "239.10.7.1", sink: "10.0.1.2" },
];

const obstacle = whyNoTopology("vlan");
const reason = obstacle === undefined ? "" : `; skipped: ${obstacle}`;

test.skipIf(obstacle !== undefined)(
  `3 x 10,000 packets of one group, untagged and in two VLANs, stay in their own${reason}`,
  async () => {
    await using topology = await openTopology("vlan");
    const rules = networks.map(({ ingress, egress, group }) =>
      ruleText({
        name: `from ${ingress}`,
        ingress: `interface = "${ingress}", group = "${stream.group}", port = ${stream.port}`,
        egress: [`interface = "${egress}", group = "${group}"`],
      }),
    );
    await using relay = await startRelay(topology, rules.join("\n"));
    const receivers = await Promise.all(
      networks.map(({ sink, group }) =>
        startReceiver(topology, "sink-ns", {
          interfaceAddress: sink,
          streams: { group, port: stream.port },
          expect: count,
          deadlineSeconds: 15,
        }),
      ),
    );
    const senders = await Promise.all(
      networks.map(({ generator }) =>
        startSender(topology, "gen-ns", {
          ...stream,
          interfaceAddress: generator,
          ratePps,
          countPerStream: count,
        }),
      ),
    );
    for (const sender of senders) sender.go();
    await Promise.all(senders.map((sender) => sender.finished()));
    const received = await Promise.all(receivers.map((receiver) => receiver.finished()));
    for (const each of received) {
      expectIntact(each);
      expect(each.received).toBe(count);
    }
    const stats = await relay.stats();
    expect(stats.totals).toMatchObject({ matched: 3 * count, sent_packets: 3 * count, egress_dropped: 0 });
    // The trunk's own ring sees the tagged frames as well, and counts them as what they are.
    const tagged = stats.interfaces.map(({ interface: name, dropped }) => [name, dropped.tagged]);
    expect(Object.fromEntries(tagged)).toEqual({ veth1: 2 * count, "veth1.5": 0, "veth1.7": 0 });
  },
  60_000,
);
