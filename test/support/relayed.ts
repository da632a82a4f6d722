// Traffic that a test leaves running while it does something to the relay.

import { expectEveryPacket } from "./accounting.ts";
import type { RelayUnderTest } from "./relay.ts";
import { address, type Topology } from "./topology.ts";
import { type SendResult, startReceiver, startSender } from "./traffic.ts";
import { waitFor, waitUntil } from "./wait.ts";

/**
 * 239.1.1.1:5001 through this rule to 239.10.1.1:6001, until stop(), which proves that all of it arrived and that all
 * counters agree.
 */
export async function openTraffic(
  topology: Topology,
  relay: RelayUnderTest,
  { rule, ratePps }: { readonly rule: string; readonly ratePps: number },
): Promise<{ stop(): Promise<SendResult> }> {
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: { group: "239.10.1.1", port: 6001 },
    deadlineSeconds: 100,
  });
  const sender = await startSender(topology, "gen-ns", {
    interfaceAddress: address.gen,
    group: "239.1.1.1",
    port: 5001,
    ratePps,
    unbounded: true,
    sizeBytes: 1024,
  });
  sender.go();
  await waitUntil(() => receiver.receivedSoFar() > 0, { what: `the first packet of ${rule}` });
  return {
    async stop() {
      const sent = await sender.stop();
      await waitFor(
        () => relay.rule(rule),
        ({ packets }) => packets === sent.sent,
        { what: `the relay to have counted ${sent.sent} packets of ${rule}` },
      );
      const received = await receiver.stop();
      expectEveryPacket({ sent, received, stats: await relay.stats() });
      return sent;
    },
  };
}
