// One rule among 500 is another at every reload: the other 499 lose nothing, under load, whatever the number of
// reloads. test/bench/reload.ts has the same with 1,000 of them.

import { expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const streams = 499;
const reloads = 30;
const ingress = { group: "239.1.1.1", port: 5001, streams };
const egress = { group: "239.10.1.1", port: 6001, streams };

test(`${reloads} reloads of one rule among 500 cost the others no packet`, async () => {
  await using topology = await openTopology("chain");
  const fixed = streamRules(ingress, egress);
  const file = (turn: number) =>
    `${fixed}\n${streamRules(
      { group: "239.2.1.1", port: 5001 },
      { group: "239.20.1.1", port: 7001 + turn },
    ).replace("stream-0", "changing")}`;
  await using relay = await startRelay(topology, file(0), { workers: 2 });
  const receiver = await startReceiver(topology, "sink-ns", {
    ...{ interfaceAddress: address.sink, streams: egress, deadlineSeconds: 90 },
  });
  const sender = await startSender(topology, "gen-ns", {
    ...{ ...ingress, interfaceAddress: address.gen, ratePps: 10_000, unbounded: true, sizeBytes: 1024 },
  });
  sender.go();
  await waitUntil(() => receiver.receivedSoFar() > 0, { what: "the first packet" });
  for (let turn = 1; turn <= reloads; turn += 1) {
    await relay.write(file(turn));
    const result = await relay.reload();
    expect(result).toMatchObject({ ok: true, changed: ["changing"], unchanged: streams });
  }
  const sent = await sender.stop();
  await waitFor(
    () => relay.stats(),
    ({ totals }) => totals.packets === sent.sent,
    { what: `the relay to have read ${sent.sent} packets`, deadlineMs: 10_000, intervalMs: 50 },
  );
  const received = await receiver.stop();
  expectEveryPacket({ sent, received, stats: await relay.stats() });
}, 120_000);
