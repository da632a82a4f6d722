// What the running relay remembers of IGMP queries, which a bridge sends as a real querier: `mcr show interfaces`,
// metrics, events and `mcr explain` tell who has asked last, when, and by which version.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { EventSchema, type InterfaceSnapshot, InterfacesSchema } from "../../src/control/protocol.ts";
import { executable, type RelayUnderTest, ruleText, socketOf, startRelay } from "../support/relay.ts";
import { openTopology, type Topology } from "../support/topology.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const querierAddress = "10.0.0.254";
const rule = (name: string, from = name) =>
  ruleText({
    name,
    ingress: `interface = "${from}", group = "239.1.1.1", port = 5001`,
    egress: ['interface = "veth2"'],
  });

function bridge(topology: Topology, ...words: readonly string[]): Promise<string> {
  return topology.output("bridge-a-ns", ["ip", "link", "set", "br-a", "type", "bridge", ...words]);
}

/** One query at once, of this version; the next one in two minutes. */
async function ask(topology: Topology, version: number): Promise<void> {
  await bridge(topology, "mcast_querier", "0");
  const once = ["mcast_startup_query_count", "1", "mcast_query_interval", "12500"];
  await bridge(topology, "mcast_igmp_version", `${version}`, ...once);
  await bridge(topology, "mcast_querier", "1");
}

async function interfaceOf(relay: RelayUnderTest, name: string): Promise<InterfaceSnapshot> {
  const { exitCode, stdout, stderr } = await relay.run("show", "interfaces", "--json");
  expect([exitCode, stderr]).toEqual([0, ""]);
  const { interfaces } = v.parse(InterfacesSchema, JSON.parse(stdout));
  const found = interfaces.find((each) => each.interface === name);
  if (!found) throw new Error(`mcr show interfaces lists no ${name}`);
  return found;
}

function waitForQuery(relay: RelayUnderTest, name: string, version: number, sinceMs = 0) {
  return waitFor(
    async () => (await interfaceOf(relay, name)).last_query,
    (last) => last?.version === version && Date.parse(last.time) >= sinceMs,
    { what: `a query of version ${version} on ${name}`, deadlineMs: 10_000, intervalMs: 50 },
  );
}

async function metric(topology: Topology): Promise<number | undefined> {
  const text = await topology.output("relay-ns", ["curl", "-sSf", "http://127.0.0.1:9477/metrics"]);
  const [, value] = /^mcr_igmp_last_query_timestamp_seconds\{iface="veth1"\} (.*)$/m.exec(text) ?? [];
  return value === undefined ? undefined : Number(value);
}

async function explained(relay: RelayUnderTest) {
  const schema = v.object({
    links: v.array(v.object({ link: v.string(), verdict: v.string(), text: v.string() })),
  });
  const { stdout } = await relay.run("explain", "veth1", "--json", "--seconds", "1");
  return v.parse(schema, JSON.parse(stdout)).links.find(({ link }) => link === "querier");
}

test("no querier is told as none, and one is told with time, address and version, also by a new interface", async () => {
  await using topology = await openTopology("bridges");
  await bridge(topology, "mcast_querier", "0", "mcast_query_use_ifaddr", "1");
  await topology.output("bridge-a-ns", ["ip", "address", "add", `${querierAddress}/24`, "dev", "br-a"]);
  await using relay = await startRelay(topology, rule("veth1"), { settings: 'metrics = ":9477"\n' });
  const events = topology.spawn("relay-ns", [executable, "events"], {
    env: { MCR_SOCKET: socketOf("relay-ns") },
  });
  const querierEvents = () =>
    events.stdout
      .split("\n")
      .slice(0, -1)
      .map((line) => v.parse(EventSchema, JSON.parse(line)))
      .filter(({ event }) => event === "querier");
  await events.waitForOutput(/connected/);

  const startedMs = Date.now();
  const before = await interfaceOf(relay, "veth1");
  expect(before.last_query).toBeNull();
  expect(Date.parse(before.listening_since ?? "")).toBeLessThanOrEqual(startedMs);
  expect((await interfaceOf(relay, "veth2")).listening_since).toBeNull();
  expect(await metric(topology)).toBeUndefined();
  expect(await explained(relay)).toMatchObject({
    verdict: "broken", // nobody sends
    text: expect.stringMatching(
      /^no group at all arrives on veth1; no IGMP query on veth1 in [\d.]+ s, and queriers ask every 125 s/,
    ),
  });

  for (const version of [2, 3]) {
    const askedMs = Date.now();
    await ask(topology, version);
    const answeredMs = Date.now();
    const last = await waitForQuery(relay, "veth1", version, askedMs);
    expect(last?.from).toBe(querierAddress);
    expect(Date.parse(last?.time ?? "")).toBeLessThanOrEqual(answeredMs + 1_000);
    // An answer may be 200 ms old.
    await waitFor(
      () => metric(topology),
      (seconds) => seconds === Date.parse(last?.time ?? "") / 1000,
      { what: "the metric to have the same time" },
    );
    expect(await explained(relay)).toMatchObject({
      verdict: "ok",
      text: expect.stringMatching(
        new RegExp(String.raw`^last query \d+s ago from 10\.0\.0\.254 \(IGMPv${version}\)$`),
      ),
    });
    const { stdout } = await relay.run("show", "interfaces");
    expect(stdout).toMatch(
      new RegExp(String.raw`^querier on veth1: 10\.0\.0\.254 \(IGMPv${version}\), last query \d+s ago$`, "m"),
    );
  }
  // Not one for each query.
  expect(querierEvents()).toMatchObject([
    { change: "heard", interface: "veth1", from: querierAddress, version: 2 },
  ]);

  await topology.output("relay-ns", ["ip", "link", "delete", "veth1"]);
  const gone = await waitFor(
    () => interfaceOf(relay, "veth1"),
    ({ listening_since }) => listening_since === null,
    { what: "the relay to see that veth1 is gone" },
  );
  expect(gone.last_query).toMatchObject({ from: querierAddress, version: 3 });
  const goneMs = Date.now();
  for (const [namespace, words] of [
    ["relay-ns", "link add veth1 type veth peer name relay netns bridge-a-ns"],
    ["relay-ns", "address add 10.0.0.2/24 dev veth1"],
    ["bridge-a-ns", "link set relay master br-a up"],
    ["relay-ns", "link set veth1 up"],
  ] as const)
    await topology.output(namespace, ["ip", ...words.split(" ")]);
  const again = await waitFor(
    () => interfaceOf(relay, "veth1"),
    ({ listening_since }) => listening_since !== null,
    { what: "the relay to listen on the new veth1" },
  );
  expect(Date.parse(again.listening_since ?? "")).toBeGreaterThan(goneMs);
  await ask(topology, 2);
  await waitForQuery(relay, "veth1", 2, Date.parse(again.listening_since ?? ""));
}, 60_000);

test("queries in a VLAN are those of its interface, not of the one below it", async () => {
  await using topology = await openTopology("vlan");
  await using relay = await startRelay(topology, `${rule("veth1")}\n${rule("veth1.5")}`);
  const inGenerator = (words: string) => topology.output("gen-ns", ["ip", ...words.split(" ")]);
  await inGenerator("link add br-5 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_interval 100");
  await inGenerator("link set veth0.5 master br-5");
  await inGenerator("link set br-5 up");
  await waitUntil(async () => (await interfaceOf(relay, "veth1.5")).last_query, {
    what: "a query in VLAN 5",
    deadlineMs: 20_000,
  });
  expect((await interfaceOf(relay, "veth1")).last_query).toBeNull();
  await inGenerator("link set br-5 down");
}, 60_000);
