// `mcr scan` on live links: the whole list of 200 streams at 20,000 packets a second for less than half a core, what it
// says of members and queriers, that it joins nothing, and how it ends early.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { type Scan, ScanSchema } from "../../src/net/scan.ts";
import { announced, rtpTs, startFfmpeg, ts } from "../support/ffmpeg.ts";
import { joinedGroups } from "../support/igmp.ts";
import { executable, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, repository, type Topology } from "../support/topology.ts";
import { startSender } from "../support/traffic.ts";
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

  test("names who asks for members, of IPv4 and of IPv6", async () => {
    await using topology = await openTopology("bridges");
    // The bridge's first questions of IPv6 may have come before it had an address: now it asks every second.
    const bridge = (...words: readonly string[]) =>
      topology.output("bridge-a-ns", ["ip", "link", "set", "br-a", "type", "bridge", ...words]);
    await bridge("mcast_querier", "0", "mcast_query_interval", "100", "mcast_mld_version", "2");
    await bridge("mcast_querier", "1");
    const { queriers } = await waitFor(
      () => scanJson(topology, "veth1", "--duration", "1500ms"),
      (heard) => new Set(heard.queriers.map(({ protocol }) => protocol)).size === 2,
      { what: "both queriers", deadlineMs: 30_000 },
    );
    expect(queriers.find(({ protocol }) => protocol === "IGMPv3")).toMatchObject({ interface: "veth1" });
    expect(queriers.find(({ protocol }) => protocol === "MLDv2")).toMatchObject({
      interface: "veth1",
      address: expect.stringMatching(/^fe80:/),
    });
  }, 60_000);

  test("names who joins, groups of IPv4 and of IPv6", async () => {
    await using topology = await openTopology("chain");
    const inGenerator = (...words: readonly string[]) => topology.output("gen-ns", ["ip", ...words]);
    await waitFor(
      () => inGenerator("-6", "address", "show", "dev", "veth0", "scope", "link"),
      (text) => text.includes("fe80:") && !text.includes("tentative"),
      { what: "an address that reports can come from", deadlineMs: 10_000 },
    );
    const scanning = scanJson(topology, "veth1", "--duration", "3s");
    await waitFor(
      () => topology.output("relay-ns", ["cat", "/proc/net/packet"]),
      (text) => text.split("\n").length > 2,
      { what: "the scan to listen", deadlineMs: 10_000 },
    );
    // ip-address(8): a membership for as long as the address is there.
    await inGenerator("address", "add", "239.5.5.5/32", "dev", "veth0", "autojoin");
    await inGenerator("-6", "address", "add", "ff1e::77/128", "dev", "veth0", "autojoin");
    const { members } = await scanning;
    const common = { interface: "veth1", state: "member", is_this_host: false };
    expect(members).toContainEqual(
      expect.objectContaining({ ...common, group: "239.5.5.5", protocol: "IGMPv3" }),
    );
    expect(members).toContainEqual(
      expect.objectContaining({
        ...{ ...common, group: "ff1e::77", protocol: "MLDv2" },
        address: expect.stringMatching(/^fe80:/),
      }),
    );
  }, 60_000);

  test("says what a stream is, and its name where it is announced", async () => {
    await using topology = await openTopology("chain");
    await topology.output("gen-ns", ["ip", "route", "add", "224.0.0.0/4", "dev", "veth0"]);
    const media = (group: string, ...more: readonly string[]) =>
      topology.spawn("gen-ns", [
        ...[`${repository}/dist/test/media`, "--interface-address", address.gen],
        ...["--group", group, "--port", "5004", "--count", "1000000", ...more],
      ]);
    media("239.2.1.1");
    media("239.2.2.1", "--ts");
    const from = address.gen;
    startFfmpeg(
      topology,
      "gen-ns",
      600,
      announced({ group: "239.3.1.1", port: 5004 }, "Studio A"),
      rtpTs({ group: "239.3.2.1", port: 5004, from }),
      ts({ group: "239.3.3.1", port: 5004, from }),
    );
    // Announcements come every 5 s.
    const { flows } = await scanJson(topology, "veth1", "--duration", "7s");
    const found = (group: string) => flows.find((flow) => flow.group === group && flow.port === 5004);
    expect(found("239.2.1.1")).toMatchObject({ kind: "rtp", payload_type: 8, programs: null });
    expect(found("239.2.2.1")).toMatchObject({ kind: "mpeg-ts", programs: 2 });
    expect(found("239.3.1.1")).toMatchObject({ kind: "rtp", payload_type: 32, name: "Studio A" });
    expect(found("239.3.2.1")).toMatchObject({ kind: "rtp", payload_type: 33, programs: 1 });
    expect(found("239.3.3.1")).toMatchObject({ kind: "mpeg-ts", programs: 1 });
    expect(flows.map(({ kind }) => kind)).toContain("sap");
  }, 60_000);

  test("says where else a stream flows, and what a running mcr does with it", async () => {
    await using topology = await openTopology("chain");
    const relay = await startRelay(
      topology,
      ruleText({
        name: "studio",
        ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
        egress: ['interface = "veth2"'],
      }),
    );
    const sender = await startSender(topology, "gen-ns", {
      ...{ group: "239.1.1.1", port: 5001, streams: 2 },
      ...{ interfaceAddress: address.gen, ratePps: 1_000, countPerStream: 1_000_000 },
    });
    sender.go();
    const placesOf = async () =>
      (await scanJson(topology, "--duration", "1s")).flows.map((flow) => [
        ...[flow.group, flow.interface, flow.direction, flow.relayed_by, flow.elsewhere],
      ]);
    const [ingress, egress] = [
      { interface: "veth1", direction: "ingress" as const },
      { interface: "veth2", direction: "egress" as const },
    ];
    expect(await placesOf()).toEqual([
      ["239.1.1.1", "veth1", "ingress", "studio", [egress]],
      ["239.1.1.2", "veth1", "ingress", null, []],
      ["239.1.1.1", "veth2", "egress", "studio", [ingress]],
    ]);
    const { stdout } = await topology.run("relay-ns", [executable, "scan", "--duration", "1s"]);
    expect(stdout).toMatch(/^veth1 +239\.1\.1\.1:5001 .* studio +veth2 \(sent\)$/m);
    await relay.stop();
    // Nobody answers: nothing is said of it.
    expect(await placesOf()).toEqual([
      ["239.1.1.1", "veth1", "ingress", null, []],
      ["239.1.1.2", "veth1", "ingress", null, []],
    ]);
    const alone = await topology.run("relay-ns", [executable, "scan", "--duration", "500ms"]);
    expect([alone.exitCode, alone.stderr]).toEqual([0, ""]);
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
