// Added latency as the running relay measures it: a slow stream has samples as well as a fast one, and no sample says
// more than the receiver has waited.

import { expect, test } from "bun:test";
import { startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { send, startReceiver } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

test("every stream has a latency, and the fast one a sample for each 1,024 packets", async () => {
  const [fast, slow] = [
    [
      { group: "239.1.1.1", port: 5001 },
      { group: "239.10.1.1", port: 6001 },
    ],
    [
      { group: "239.1.1.9", port: 5009 },
      { group: "239.10.1.9", port: 6009 },
    ],
  ] as const;
  const counts = { fast: 20_480, slow: 20 };
  await using topology = await openTopology("chain");
  const rules = [
    streamRules(...fast).replace("stream-0", "fast"),
    streamRules(...slow).replace("stream-0", "slow"),
  ];
  await using relay = await startRelay(topology, rules.join("\n"));
  expect((await relay.stats()).latency).toBeNull();
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: [fast[1], slow[1]],
    anyStream: true,
    expect: counts.fast + counts.slow,
    deadlineSeconds: 60,
  });
  const began = performance.now();
  const common = { interfaceAddress: address.gen, sizeBytes: 1024 };
  await Promise.all([
    send(topology, "gen-ns", { ...common, ...fast[0], ratePps: 10_000, countPerStream: counts.fast }),
    send(topology, "gen-ns", {
      ...common,
      ...slow[0],
      ratePps: 10,
      countPerStream: counts.slow,
      firstStream: 1,
    }),
  ]);
  const received = await receiver.finished();
  const tookNs = (performance.now() - began) * 1e6;
  expect(received.received).toBe(counts.fast + counts.slow);

  const stats = await waitFor(
    () => relay.stats(),
    ({ totals }) => totals.sent_packets === counts.fast + counts.slow,
    { what: "the relay to have counted what it sent" },
  );
  for (const { latency } of [...stats.rules, stats]) {
    if (latency === null) throw new Error("a latency was sampled");
    expect(latency.p50_ns).toBeGreaterThan(0);
    expect(latency.p99_ns).toBeGreaterThanOrEqual(latency.p50_ns);
    expect(latency.max_ns).toBeGreaterThanOrEqual(latency.p99_ns);
    expect(latency.max_ns).toBeLessThan(tookNs);
  }
  const [first, second] = stats.rules.map(({ latency }) => latency?.samples ?? 0);
  // The first of the second, and then every 1024th: fewer only where more than four of one batch were due.
  expect(first).toBeGreaterThanOrEqual(15);
  expect(first).toBeLessThanOrEqual(20 + 1 + Math.ceil(tookNs / 1e9));
  expect(second).toBeGreaterThanOrEqual(2);
  expect(stats.latency?.samples).toBe((first ?? 0) + (second ?? 0));

  const text = (await relay.run("stats")).stdout;
  expect(text).toMatch(/ADDED LATENCY +SAMPLES +P50 µs +P99 µs +MAX µs\n *all rules/);
  expect((await relay.stop()).stderr).toMatch(
    /\[STATS:Latency\] samples=\d+ p50_ns=\d+ p99_ns=\d+ max_ns=\d+/,
  );
}, 90_000);
