// The health of RTP as it arrived: streams that somebody upstream drops from, doubles and swaps, counted by the relay to
// the packet, whatever is reloaded meanwhile; and what explain says of them.

import { expect, test } from "bun:test";
import type { RuleSnapshot } from "../../src/control/protocol.ts";
import type { Process } from "../support/process.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { address, openTopology, repository, type Topology } from "../support/topology.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const timeoutMs = 60_000;
/** Packets in a row by which a stream is recognised; they are not counted themselves. */
const probation = 8;
/** Every so manieth packet goes wrong. */
const every = 100;

/** The relay takes `group`, which comes of what the sender sends to `sent`. */
interface Upstream {
  readonly fault: "drop" | "duplicate" | "swap";
  readonly sent: string;
  readonly group: string;
}
const upstreams: readonly Upstream[] = [
  { fault: "drop", sent: "239.1.1.1", group: "239.9.9.1" },
  { fault: "duplicate", sent: "239.1.1.2", group: "239.9.9.2" },
  { fault: "swap", sent: "239.1.1.3", group: "239.9.9.3" },
];

/** A rule for each, named after its fault. */
const rules = upstreams
  .map(({ fault, group }) =>
    ruleText({
      name: fault,
      ingress: `interface = "veth1", group = "${group}", port = 5001`,
      egress: ['interface = "veth2"'],
    }),
  )
  .join("\n");

/** In the sender's namespace: what goes wrong there has gone wrong before the relay. */
async function startMangler(topology: Topology, { fault, sent, group }: Upstream): Promise<Process> {
  const started = topology.spawn("gen-ns", [
    `${repository}/dist/test/mangle`,
    ...["--ingress-address", address.gen, "--ingress-group", sent, "--ingress-port", "5001"],
    ...["--egress-address", address.gen, "--egress-group", group, "--egress-port", "5001"],
    ...[`--${fault}`, `${every}`],
  ]);
  await started.waitForOutput("ready");
  return started;
}

function startMedia(topology: Topology, { sent }: Upstream, count: number): Process {
  return topology.spawn("gen-ns", [
    `${repository}/dist/test/media`,
    ...["--interface-address", address.gen, "--group", sent, "--port", "5001", "--count", `${count}`],
  ]);
}

/** What has gone wrong with `count` packets: the last fault of all has no successor that would tell. */
function expectedOf(fault: Upstream["fault"], count: number): { packets: number; rtp: RuleSnapshot["rtp"] } {
  const faults = count / every;
  const none = { missing: 0, reordered: 0, duplicate: 0 };
  const [packets, found] = {
    drop: [count - faults, { missing: faults - 1 }] as const,
    duplicate: [count + faults, { duplicate: faults }] as const,
    swap: [count - 1, { reordered: faults - 1 }] as const, // the last one is still held
  }[fault];
  return { packets, rtp: { ...none, ...found, packets: packets - probation } };
}

function metricsOf(topology: Topology): Promise<string> {
  return topology.output("relay-ns", ["curl", "-sSf", "http://127.0.0.1:9477/metrics"]);
}

/** A rule that is none of the test's is added, changed and removed; each time a part of the packets has come. */
async function reloadMeanwhile(relay: RelayUnderTest, count: number): Promise<void> {
  const file = await Bun.file(relay.file).text();
  const other = (ttl: number) =>
    ruleText({
      name: "other",
      ingress: 'interface = "veth1", group = "239.9.9.9", port = 5001',
      egress: [`interface = "veth2", ttl = ${ttl}`],
    });
  const steps = [`${file}\n${other(1)}`, `${file}\n${other(2)}`, file];
  for (const [step, text] of steps.entries()) {
    const part = ((step + 1) / (steps.length + 1)) * count;
    await waitUntil(async () => (await relay.rule("drop")).packets > part, {
      what: `${part} packets to come before reload ${step}`,
      deadlineMs: 20_000,
      intervalMs: 200,
    });
    await relay.write(text);
    expect(await relay.reload()).toMatchObject({ ok: true, unchanged: upstreams.length });
  }
}

test(
  "what is dropped, doubled and swapped before the relay is counted exactly, while rules are reloaded",
  async () => {
    const count = 4_000;
    await using topology = await openTopology("chain");
    const settings = 'fanout = "flow"\nmetrics = "127.0.0.1:9477"\n';
    await using relay = await startRelay(topology, rules, { workers: 2, settings });
    expect((await relay.rules()).map(({ rtp }) => rtp)).toEqual([null, null, null]);
    const manglers = await Promise.all(upstreams.map((each) => startMangler(topology, each)));
    const media = upstreams.map((each) => startMedia(topology, each, count));
    await reloadMeanwhile(relay, count);
    await Promise.all(media.map(({ exited }) => exited));

    const expected = upstreams.map(({ fault }) => ({ name: fault, ...expectedOf(fault, count) }));
    const stats = await waitFor(
      () => relay.stats(),
      ({ totals }) => totals.matched === expected.reduce((sum, { packets }) => sum + packets, 0),
      { what: "the relay to have counted what was sent" },
    );
    expect(stats.rules.map(({ name, packets, rtp }) => ({ name, packets, rtp }))).toEqual(expected);

    await waitUntil(
      async () => (await metricsOf(topology)).includes(`mcr_rtp_missing_packets_total{rule="drop"`),
      { what: "the metrics to have it" },
    );
    const metrics = await metricsOf(topology);
    for (const { fault, group } of upstreams) {
      const { rtp } = expectedOf(fault, count);
      const labels = `{rule="${fault}",iface="veth1",group="${group}",port="5001"}`;
      expect(metrics).toContain(`mcr_rtp_received_packets_total${labels} ${rtp?.packets}\n`);
      expect(metrics).toContain(`mcr_rtp_missing_packets_total${labels} ${rtp?.missing}\n`);
      expect(metrics).toContain(`mcr_rtp_reordered_packets_total${labels} ${rtp?.reordered}\n`);
      expect(metrics).toContain(`mcr_rtp_duplicate_packets_total${labels} ${rtp?.duplicate}\n`);
    }
    expect((await relay.run("stats")).stdout).toMatch(
      /\nRTP INGRESS +PACKETS +MISSING +REORDERED +DUPLICATE\ndrop +3952 +39 +0 +0\nduplicate +4032 +0 +0 +40\nswap +3991 +0 +39 +0\n/,
    );
    for (const mangler of manglers) mangler.kill();
  },
  timeoutMs,
);

test.each([
  { fanout: "cpu", workers: 2, isCounted: false },
  { fanout: "qm", workers: 2, isCounted: false },
  { fanout: "cpu", workers: 1, isCounted: true },
  { fanout: "hash", workers: 2, isCounted: true },
])(
  'with fanout = "$fanout" and $workers workers it is counted: $isCounted',
  async ({ fanout, workers, isCounted }) => {
    const count = 100;
    const rule = ruleText({
      name: "plain",
      ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
      egress: ['interface = "veth2"'],
    });
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, rule, { workers, settings: `fanout = "${fanout}"\n` });
    await startMedia(topology, { fault: "drop", sent: "239.1.1.1", group: "" }, count).exited;
    const { rtp } = await waitFor(
      () => relay.rule("plain"),
      ({ packets }) => packets === count,
      { what: `the relay to have counted ${count} packets` },
    );
    const healthy = { packets: count - probation, missing: 0, reordered: 0, duplicate: 0 };
    expect(rtp).toEqual(isCounted ? healthy : null);
  },
  timeoutMs,
);

test(
  "explain says that packets were missing before they came, and where to look; later that none is",
  async () => {
    const [upstream] = upstreams;
    if (!upstream) throw new Error("there is one that drops");
    await using topology = await openTopology("chain");
    await using relay = await startRelay(topology, rules, { settings: 'fanout = "flow"\n' });
    const mangler = await startMangler(topology, upstream);
    const media = startMedia(topology, upstream, 1_000_000);
    await waitUntil(async () => ((await relay.rule("drop")).rtp?.missing ?? 0) > 0, {
      what: "a packet to be missing",
    });
    const { exitCode, stdout } = await relay.run("explain", "drop", "--seconds", "1");
    expect(stdout).toMatch(/\nlook {4}rtp {9}\d+ RTP packets were missing before they reached mcr, /);
    expect(stdout).toMatch(/\n +→ upstream of veth1: ethtool -S veth1/);
    expect(stdout).toEndWith("\npackets pass; worth a look: rtp\n");
    expect(exitCode).toBe(0);

    // From now on nothing is dropped, and what was is history.
    mangler.kill("SIGTERM");
    await mangler.exited;
    media.kill("SIGTERM");
    await media.exited;
    const healthy = startMedia(topology, { ...upstream, sent: upstream.group }, 1_000_000);
    const before = (await relay.rule("drop")).rtp?.packets ?? 0;
    await waitUntil(async () => ((await relay.rule("drop")).rtp?.packets ?? 0) > before + 100, {
      what: "the new stream to be recognised",
    });
    const later = await relay.run("explain", "drop", "--seconds", "1");
    expect(later.stdout).toMatch(
      /\nok {6}rtp {9}no packet was missing of \d+ meanwhile \([1-9]\d* since the rule began\)/,
    );
    expect(later.stdout).toEndWith("\nno link is broken\n");
    healthy.kill("SIGTERM");
  },
  timeoutMs,
);
