// What was sent and never left: the kernel took it, and the device or its queue dropped it. The receiver counts what
// arrived, the kernel's own tools what was dropped, and `show interfaces`, metrics and `explain` say the same.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { InterfacesSchema } from "../../src/control/protocol.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { type SendOptions, send, startReceiver, startSender } from "../support/traffic.ts";
import { waitFor } from "../support/wait.ts";

const timeoutMs = 40_000;
const stream = { group: "239.1.1.1", port: 5001 };
const copy = { group: "239.10.1.1", port: 5001 };
const metricsAddress = "127.0.0.1:9477";
const settings = `metrics = "${metricsAddress}"\n`;

function ruleTo(name: string): string {
  return ruleText({
    name: "x",
    ingress: `interface = "veth1", group = "${stream.group}", port = ${stream.port}`,
    egress: [`interface = "${name}", group = "${copy.group}"`],
  });
}

function run(topology: Topology, words: string): Promise<string> {
  return topology.output("relay-ns", words.split(" "));
}

const traffic = { ...stream, interfaceAddress: address.gen, burst: 32, sizeBytes: 1000 } as const;

/** As `mcr show interfaces --json` has it, once it is not older than what was sent. */
async function deviceOf(relay: RelayUnderTest, name: string) {
  const { stdout } = await relay.run("show", "interfaces", "--json");
  const { interfaces } = v.parse(InterfacesSchema, JSON.parse(stdout));
  const found = interfaces.find((each) => each.interface === name);
  if (!found) throw new Error(`mcr show interfaces lists no ${name}`);
  return found;
}

async function metric(topology: Topology, series: string): Promise<number> {
  const text = await run(topology, `curl --silent http://${metricsAddress}/metrics`);
  const line = text.split("\n").find((each) => each.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1) ?? Number.NaN);
}

const QueueSchema = v.array(v.object({ kind: v.string(), drops: v.number(), backlog: v.number() }));
async function queueOf(topology: Topology, name: string) {
  const queues = JSON.parse(await run(topology, `tc -json -statistics qdisc show dev ${name}`));
  const [first] = v.parse(QueueSchema, queues);
  if (!first) throw new Error(`tc shows no queue of ${name}`);
  return first;
}

const LinkSchema = v.array(
  v.object({ stats64: v.object({ tx: v.object({ dropped: v.number(), errors: v.number() }) }) }),
);
async function deviceCounts(topology: Topology, name: string) {
  const [first] = v.parse(LinkSchema, JSON.parse(await run(topology, `ip -json -s link show dev ${name}`)));
  if (!first) throw new Error(`ip shows no ${name}`);
  return first.stats64.tx;
}

/** Under traffic, whatever it says: the links of the egress. */
async function explained(relay: RelayUnderTest) {
  const { stdout } = await relay.run("explain", "x", "--json", "--seconds", "1");
  const schema = v.object({
    links: v.array(
      v.object({ link: v.string(), verdict: v.string(), text: v.string(), cure: v.nullable(v.string()) }),
    ),
  });
  return v.parse(schema, JSON.parse(stdout)).links;
}

async function sending(topology: Topology, options: Partial<SendOptions>) {
  const sender = await startSender(topology, "gen-ns", { ...traffic, unbounded: true, ...options });
  sender.go();
  return sender;
}

test(
  "what a queue drops behind an egress is counted beside what was sent, and explains what is missing at the receiver",
  async () => {
    await using topology = await openTopology("chain");
    // It takes super-frames apart and drops what has no room: of most of them it keeps something.
    await run(topology, "tc qdisc add dev veth2 root tbf rate 8mbit burst 16kb limit 32kb");
    await using relay = await startRelay(topology, ruleTo("veth2"), { workers: 1, settings });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: copy,
      deadlineSeconds: 30,
    });
    const { sent } = await send(topology, "gen-ns", { ...traffic, ratePps: 5_000, countPerStream: 10_000 });
    await waitFor(
      () => queueOf(topology, "veth2"),
      ({ backlog }) => backlog === 0,
      { what: "the queue to be empty", deadlineMs: 10_000, intervalMs: 50 },
    );
    const { received } = await receiver.stop();
    const { drops } = await queueOf(topology, "veth2");
    const veth2 = await waitFor(
      () => deviceOf(relay, "veth2"),
      ({ device }) => device?.qdisc?.dropped === drops,
      { what: "mcr to show the drops that tc(8) shows", intervalMs: 100 },
    );
    expect(received).toBeLessThan(sent / 2);
    expect(veth2.device).toMatchObject({ dropped: 0, errors: 0, qdisc: { kind: "tbf" } });
    const { egress } = await relay.rule("x");
    expect(veth2.sent_packets + (egress[0]?.dropped.full ?? 0)).toBe(sent);
    // It takes apart what is larger than its burst, keeps what has room, and counts the rest packet by packet: all that
    // is missing of what was sent is there. What it refuses whole, `full` here, it counts as well, a short run as one,
    // and twice where sendmmsg(2) offers it again because others went before it.
    expect(drops).toBeGreaterThanOrEqual(veth2.sent_packets - received);
    expect(drops).toBeLessThan(2 * (sent - received));
    expect(await metric(topology, 'mcr_interface_device_dropped_total{iface="veth2",where="qdisc"}')).toBe(
      drops,
    );
    const { stdout: table } = await relay.run("show", "interfaces");
    expect(table).toContain(`behind mcr, queue of veth2: tbf dropped ${drops}: tc -s qdisc show dev veth2\n`);
    const { stdout: stats } = await relay.run("stats");
    expect(stats).toMatch(new RegExp(`^veth2 +0 +0 +tbf +${drops} `, "m"));
  },
  timeoutMs,
);

test(
  "explain names the queue that drops, and its cure",
  async () => {
    await using topology = await openTopology("chain");
    await run(topology, "tc qdisc add dev veth2 root tbf rate 20mbit burst 16kb limit 32kb");
    await using relay = await startRelay(topology, ruleTo("veth2"), { workers: 1 });
    // Every burst is too large for the queue, and none so late that nothing of it has room.
    const sender = await sending(topology, { ratePps: 2_600, burst: 60 });
    const links = await waitFor(
      () => explained(relay),
      (all) => all.some(({ link }) => link === "device" || link === "sent"),
      { what: "packets to be sent while the wire is watched", deadlineMs: 20_000 },
    );
    await sender.stop();
    const told = links.find(({ link, cure }) => (link === "device" || link === "sent") && cure !== null);
    expect(told?.text).toMatch(/veth2.*tbf/);
    expect(told?.cure).toContain("tc -s qdisc show dev veth2");
  },
  timeoutMs,
);

const places = { dropped: "device", errors: "errors" } as const;

/** Under traffic explain says it, and then mcr and its metric count what ip(8) counts. */
async function expectLost(
  topology: Topology,
  relay: RelayUnderTest,
  name: string,
  kind: keyof typeof places,
  text: RegExp,
): Promise<void> {
  const sender = await sending(topology, { ratePps: 2_000 });
  const links = await waitFor(
    () => explained(relay),
    (all) => all.some(({ link }) => link === "device"),
    { what: "explain to tell of the device", deadlineMs: 20_000 },
  );
  await sender.stop();
  expect(links.find(({ link }) => link === "device")).toMatchObject({
    verdict: "warn",
    text: expect.stringMatching(text),
    cure: expect.stringContaining(`ip -s -s link show dev ${name}`),
  });
  await waitFor(
    async () => [(await deviceOf(relay, name)).device?.[kind], (await deviceCounts(topology, name))[kind]],
    ([shown, counted]) => shown !== undefined && shown > 0 && shown === counted,
    { what: "mcr to show what ip(8) shows", intervalMs: 200 },
  );
  const counted = (await deviceCounts(topology, name))[kind];
  const series = `mcr_interface_device_dropped_total{iface="${name}",where="${places[kind]}"}`;
  expect(await metric(topology, series)).toBe(counted);
}

test(
  "a tun device that nobody reads: what it drops is counted, and explain says so",
  async () => {
    await using topology = await openTopology("chain");
    const holder = topology.spawn("relay-ns", [
      "socat",
      "TUN:10.50.0.1/24,tun-name=tun0,tun-type=tun,iff-up,iff-no-pi",
      "EXEC:cat",
    ]);
    await waitFor(
      () => topology.run("relay-ns", ["ip", "-brief", "link", "show", "up", "dev", "tun0"]),
      ({ exitCode, stdout }) => exitCode === 0 && stdout.includes("tun0"),
      { what: "tun0 to be up", deadlineMs: 10_000, intervalMs: 50 },
    );
    holder.kill("SIGSTOP");
    await using relay = await startRelay(topology, ruleTo("tun0"), { workers: 1, settings });
    await expectLost(
      topology,
      relay,
      "tun0",
      "dropped",
      /^tun0 itself dropped \d+ \(a tun or tap that nobody reads/,
    );
    holder.kill("SIGCONT");
  },
  timeoutMs,
);

test(
  "a tunnel without a route to its other end: what it fails to send is counted, and explain says so",
  async () => {
    await using topology = await openTopology("chain");
    await run(topology, "ip link add vxlan0 type vxlan id 7 remote 10.99.0.1 dstport 4789");
    await run(topology, "ip address add 10.50.0.1/24 dev vxlan0");
    await run(topology, "ip link set vxlan0 up");
    await using relay = await startRelay(topology, ruleTo("vxlan0"), { workers: 1, settings });
    await expectLost(
      topology,
      relay,
      "vxlan0",
      "errors",
      /^vxlan0 itself failed to send \d+ \(a tunnel without a route/,
    );
  },
  timeoutMs,
);
