// How it ends, asked and unasked: signals, final statistics, kill -9, a second daemon.

import { expect, test } from "bun:test";
import { joinedGroups } from "../support/igmp.ts";
import { executable, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";
import { waitUntil } from "../support/wait.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 5 };
const egress = { group: "239.10.1.1", port: 6001, streams: 5 };
const rules = streamRules(ingress, egress);
const stopMsMax = 2_000;

test.each(["SIGTERM", "SIGINT"] as const)(
  "%s under load leaves every group, accounts for every packet, exits 0 within 2 s",
  async (signal) => {
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, rules);
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: egress,
      deadlineSeconds: 30,
    });
    const sender = await startSender(topology, "gen-ns", {
      ...ingress,
      interfaceAddress: address.gen,
      ratePps: 20_000,
      unbounded: true,
      sizeBytes: 1024,
    });
    sender.go();
    await waitUntil(() => receiver.receivedSoFar() > 5_000, { what: "5,000 packets" });

    const began = performance.now();
    for (let i = 0; i < 3; i += 1) {
      relay.process.kill(signal); // impatient hands send it three times
      await Bun.sleep(100);
    }
    const ended = await relay.process.exited;
    expect(performance.now() - began).toBeLessThan(stopMsMax);
    expect(ended).toMatchObject({ exitCode: 0, signal: null });
    expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual([]);

    await sender.stop();
    const received = await receiver.stop();
    const number = (pattern: RegExp) => Number(pattern.exec(ended.stderr)?.[1]);
    expect(number(/\[STATS:Egress\] sent=(\d+) /)).toBe(received.received);
    expect(number(/\[STATS:Ingress\] interface=veth1 packets=\d+ matched=(\d+) /)).toBe(received.received);
    expect(ended.stderr).toContain("[STATS:IGMP] attempted=5 succeeded=5 failed=0 active_groups=5");
    expect(received.duplicated).toBe(0);
  },
  60_000,
);

test("SIGUSR1 writes the statistics to the log and relaying goes on", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rules);
  expect(relay.process.stderr).toContain("IGMP join successful: 239.1.1.1 on veth1 (total groups: 1)");
  relay.process.kill("SIGUSR1");
  await relay.process.waitForOutput("[STATS:IGMP] attempted=5 succeeded=5 failed=0 active_groups=5");
  expect((await relay.status()).rules).toMatchObject({ failed: 0, waiting: 0 });
}, 30_000);

test("kill -9 leaves nothing behind that hinders the next start", async () => {
  await using topology = await openTopology("chain");
  const first = await startRelay(topology, rules);
  first.process.kill("SIGKILL");
  expect((await first.process.exited).signal).toBe("SIGKILL");
  expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual([]);
  expect((await topology.output("gen-ns", ["ip", "netns", "pids", "relay-ns"])).trim()).toBe("");
  await using second = await startRelay(topology, rules);
  expect(await second.rules()).toHaveLength(ingress.streams);
  expect(await joinedGroups(topology, "relay-ns", "veth1")).toHaveLength(ingress.streams);
}, 30_000);

test("a second mcr on the same control socket is refused before it relays anything twice", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rules);
  const second = await topology.run("relay-ns", [executable, "run", relay.file]);
  expect(second.exitCode).not.toBe(0);
  expect(second.stderr.trim().split("\n")).toHaveLength(1);
  expect(second.stderr).toContain("/run/mcr/mcr.sock");
  expect(await relay.rules()).toHaveLength(ingress.streams);
}, 30_000);
