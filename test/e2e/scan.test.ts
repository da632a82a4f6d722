// `mcr scan` on live links: the whole list of 200 streams at 20,000 packets a second for less than half a core, what it
// says of members and queriers, that it joins nothing, and how it ends early.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { type Scan, ScanSchema } from "../../src/net/scan.ts";
import { joinedGroups } from "../support/igmp.ts";
import { executable } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { startReceiver, startSender } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

async function scanJson(topology: Topology, ...words: readonly string[]): Promise<Scan> {
  const text = await topology.output("relay-ns", [executable, "scan", "--json", ...words]);
  return v.parse(v.pipe(v.string(), v.parseJson(), ScanSchema), text);
}

const streams = { group: "239.1.1.1", port: 5001, streams: 200 };

describe("mcr scan", () => {
  test("lists 200 streams at 20,000 packets a second, and takes less than half a core", async () => {
    await using topology = await openTopology("chain");
    const sender = await startSender(topology, "gen-ns", {
      ...streams,
      interfaceAddress: address.gen,
      ratePps: 20_000,
      countPerStream: 1_000_000,
    });
    sender.go();
    // The shell's own account of its children, with the start of the program in it.
    const script = '"$@" > /run/scan.json; times';
    const scan = [executable, "scan", "--json", "--duration", "4s"];
    const times = await topology.output("relay-ns", ["sh", "-c", script, "sh", ...scan]);
    const json = await topology.output("relay-ns", ["cat", "/run/scan.json"]);
    const heard = v.parse(v.pipe(v.string(), v.parseJson(), ScanSchema), json);
    const flows = heard.flows.filter((flow) => flow.interface === "veth1");
    expect(new Set(flows.map(({ group, port }) => `${group}:${port}`)).size).toBe(200);
    expect(flows.every(({ source, direction }) => source === address.gen && direction === "ingress")).toBe(
      true,
    );
    expect(heard.missed).toEqual({ ring_full: 0, table_full: 0, malformed: 0 });
    const seconds = [...(times.split("\n")[1] ?? "").matchAll(/(\d+)m([\d.]+)s/g)].map(
      ([, minutes, rest]) => Number(minutes) * 60 + Number(rest),
    );
    expect(seconds).toHaveLength(2);
    expect(seconds.reduce((sum, each) => sum + each, 0)).toBeLessThan(heard.seconds / 2);
  }, 60_000);

  test("joins nothing of its own, and with --join what it is told to, for as long as it listens", async () => {
    await using topology = await openTopology("chain");
    const joined = () => joinedGroups(topology, "relay-ns", "veth1");
    const passive = topology.spawn("relay-ns", [executable, "scan", "veth1", "--duration", "1s", "--json"]);
    await passive.exited;
    expect(await joined()).toEqual([]);
    const joining = topology.spawn("relay-ns", [
      ...[executable, "scan", "veth1", "--duration", "60s", "--join", "239.7.7.0-239.7.7.39"],
    ]);
    const groups = Array.from({ length: 40 }, (_, i) => `239.7.7.${i}`);
    await waitFor(joined, (now) => Bun.deepEquals(now, groups), { what: "the joins" });
    // Ctrl-C is an early end, and no failure.
    joining.kill("SIGINT");
    const { exitCode, stdout } = await joining.exited;
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining("streams heard in")]);
    expect(await joined()).toEqual([]);
  }, 60_000);

  test("names who asks for members", async () => {
    await using topology = await openTopology("bridges");
    await startReceiver(topology, "sink-ns", {
      ...{ interfaceAddress: address.sink, streams: { group: "239.9.9.9", port: 5001 } },
      ...{ expect: 1, deadlineSeconds: 30 },
    });
    const heard = await waitFor(
      () => scanJson(topology, "--duration", "1500ms"),
      ({ queriers }) => queriers.length > 0,
      { what: "a querier", deadlineMs: 30_000 },
    );
    expect(heard.queriers[0]).toMatchObject({ protocol: expect.stringMatching(/^(IGMP|MLD)v/) });
  }, 60_000);

  test("without permission says so, with 77", async () => {
    await using topology = await openTopology("chain");
    const argv = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", executable, "scan"];
    const { exitCode, stderr } = await topology.run("relay-ns", argv);
    expect([exitCode, stderr]).toEqual([77, expect.stringContaining("give the process CAP_NET_RAW")]);
  });

  test("of an interface that is not there, or down, says so", async () => {
    await using topology = await openTopology("chain");
    const { exitCode, stderr } = await topology.run("relay-ns", [executable, "scan", "veth9"]);
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("interface veth9 does not exist")]);
  });
});
