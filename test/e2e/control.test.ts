// The control socket of a real relay under real traffic: what show, stats, ping, log-level and events say is compared
// with what the sender sent; clients that mean harm cost no packet; README's curl lines work.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import * as v from "valibot";
import {
  ConfigAnswerSchema,
  type Event,
  EventSchema,
  FlowsSchema,
  InterfacesSchema,
  MembershipsSchema,
  RulesSchema,
  WorkersSchema,
} from "../../src/control/protocol.ts";
import type { Process } from "../support/process.ts";
import { executable, type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { openTraffic } from "../support/relayed.ts";
import { address, openTopology, repository, type Topology } from "../support/topology.ts";
import { send, startSender } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const socket = "/run/mcr/mcr.sock";
const studio = ruleText({
  name: "studio-a",
  ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
  egress: ['interface = "veth2", group = "239.10.1.1", port = 6001'],
});
const late = ruleText({
  name: "late",
  ingress: 'interface = "veth9", group = "239.1.1.9", port = 5009',
  egress: ['interface = "veth2"'],
});

async function json<const S extends v.GenericSchema>(relay: RelayUnderTest, schema: S, ...argv: string[]) {
  const { exitCode, stdout, stderr } = await relay.run(...argv, "--json");
  expect([argv, exitCode, stderr]).toEqual([argv, 0, ""]);
  return v.parse(schema, JSON.parse(stdout));
}

async function text(relay: RelayUnderTest, ...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await relay.run(...argv);
  expect([argv, exitCode, stderr]).toEqual([argv, 0, ""]);
  for (const line of stdout.split("\n")) {
    if (!argv.includes("config")) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(100);
    expect(line).not.toContain("\x1b");
  }
  return stdout;
}

/** How far apart two rates are, in parts of the second. */
function error(measured: number | undefined, real: number): number {
  return Math.abs((measured ?? 0) - real) / real;
}

test("rates and flows are what is sent, within 5 %, by show and on the wire", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, studio);
  const ratePps = 2_000;
  const traffic = await openTraffic(topology, relay, { rule: "studio-a", ratePps });
  // Two samples, so that the rate covers traffic only.
  const rule = await waitFor(
    () => relay.rule("studio-a"),
    ({ rate }) => error(rate?.packets_per_s, ratePps) <= 0.05,
    { what: "the rate to settle", deadlineMs: 15_000, intervalMs: 250 },
  );
  expect(error(rule.rate?.bits_per_s, ratePps * 1024 * 8)).toBeLessThanOrEqual(0.05);
  expect(error(rule.egress[0]?.rate?.packets_per_s, ratePps)).toBeLessThanOrEqual(0.1);
  const shown = await text(relay, "show");
  expect(shown).toMatch(
    /^studio-a +veth1 239\.1\.1\.1:5001 +active +\d+s +0s +(19|20|21)\d\d +1\d\.\dM +\d+$/m,
  );

  await traffic.stop();
}, 120_000);

test("flows are what is on the wire: sources, sizes, rates, and the stream that no rule wants", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, `${studio}\n${late}`);
  const common = { interfaceAddress: address.gen, group: "239.1.1.1", unbounded: true };
  const wanted = await startSender(topology, "gen-ns", {
    ...common,
    port: 5001,
    ratePps: 2_000,
    sizeBytes: 1024,
  });
  const stranger = await startSender(topology, "gen-ns", {
    ...common,
    port: 5002,
    ratePps: 100,
    sizeBytes: 200,
  });
  wanted.go();
  stranger.go();
  await waitUntil(() => wanted.sentSoFar() > 0 && stranger.sentSoFar() > 0, { what: "both to send" });
  const { flows, dropped, failures, seconds } = await json(relay, FlowsSchema, "show", "flows");
  expect(dropped).toBe(0);
  expect(failures).toEqual([
    { interface: "veth9", reason: "interface veth9 does not exist (ip link shows the ones that do)" },
  ]);
  expect(seconds).toBeGreaterThanOrEqual(1);
  const one = { interface: "veth1", vlan: 0, source: address.gen, destination: "239.1.1.1" };
  expect(flows.filter(({ destination }) => destination === "239.1.1.1")).toMatchObject([
    { ...one, rule: "studio-a", port: 5001, size_min: 1024, size_max: 1024 },
    { ...one, rule: null, port: 5002, size_min: 200, size_max: 200 },
  ]);
  expect(flows[0]?.bytes).toBe((flows[0]?.packets ?? 0) * 1024);
  expect(error(flows[0]?.packets_per_s, 2_000)).toBeLessThanOrEqual(0.05);
  expect(error(flows[0]?.bits_per_s, 2_000 * 1024 * 8)).toBeLessThanOrEqual(0.05);
  const shown = await text(relay, "show", "flows");
  expect(shown).toMatch(/^studio-a +veth1 +10\.0\.0\.1 +239\.1\.1\.1:5001 +\d+ +1\d\.\dM +1024 +\d+$/m);
  expect(shown).toMatch(/^- +veth1 +10\.0\.0\.1 +239\.1\.1\.1:5002 +\d+ +\d+k +200 +\d+$/m);
  expect(shown).toContain("not watched: veth9: interface veth9 does not exist");
  await expectFlagsLeftAlone(topology, relay);
  await Promise.all([wanted.stop(), stranger.stop()]);
}, 60_000);

/** `mcr scan` lets the interface pass every group, as the counter shows; the running relay must not. */
async function expectFlagsLeftAlone(topology: Topology, relay: RelayUnderTest) {
  const allmulti = async () => {
    const link = await topology.output("relay-ns", ["ip", "-details", "link", "show", "veth1"]);
    return Number(/ allmulti (\d+) /.exec(link)?.[1]);
  };
  const scan = topology.spawn("relay-ns", [executable, "scan", "veth1", "--duration", "60s"]);
  await waitFor(allmulti, (count) => count === 1, { what: "the scan to let every group pass" });
  scan.kill("SIGINT");
  await scan.exited;
  const look = { isOver: false };
  const watching = relay.run("show", "flows").finally(() => {
    look.isOver = true;
  });
  while (!look.isOver) expect(await allmulti()).toBe(0);
  await watching;
}

test("interfaces, memberships, workers and config are what the host and the file say", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, `${studio}\n${late}`, { workers: 2 });
  const countPerStream = 500;
  await send(topology, "gen-ns", {
    interfaceAddress: address.gen,
    group: "239.1.1.1",
    port: 5001,
    ratePps: 5_000,
    countPerStream,
  });
  await waitFor(
    () => relay.rule("studio-a"),
    ({ egress }) => egress[0]?.sent_packets === countPerStream,
    { what: "all to be sent" },
  );
  const { interfaces } = await json(relay, InterfacesSchema, "show", "interfaces");
  expect(interfaces).toMatchObject([
    {
      interface: "veth1",
      state: "active",
      address: address.relayIngress,
      mtu: 1500,
      ingress_rules: 1,
      egresses: 0,
    },
    {
      interface: "veth2",
      state: "active",
      address: address.relayEgress,
      egresses: 2,
      sent_packets: countPerStream,
    },
    { interface: "veth9", state: "waiting", ifindex: null, ingress_rules: 1 },
  ]);
  expect(interfaces[0]?.ingress).toMatchObject({ packets: countPerStream, matched: countPerStream });
  expect(await text(relay, "show", "interfaces")).toContain("interface veth9 does not exist");

  const { memberships } = await json(relay, MembershipsSchema, "show", "memberships");
  expect(memberships).toEqual([
    {
      interface: "veth1",
      group: "239.1.1.1",
      source: null,
      state: "joined",
      reason: null,
      retry_at: null,
      rules: ["studio-a"],
    },
  ]);
  expect(await text(relay, "show", "memberships")).toMatch(/^veth1 +239\.1\.1\.1 +any +joined +studio-a$/m);

  const { workers } = await json(relay, WorkersSchema, "show", "workers");
  expect(workers).toHaveLength(2);
  expect(workers.reduce((sum, { matched }) => sum + matched, 0)).toBe(countPerStream);
  await text(relay, "show", "workers");

  const config = await json(relay, ConfigAnswerSchema, "show", "config");
  expect(config).toMatchObject({ file: relay.file, instance: null, relay: { workers: 2, control: socket } });
  expect(config.rules).toHaveLength(2);
  // What it prints is a rule file that checks.
  const again = `${relay.file}.again`;
  await Bun.write(again, await text(relay, "show", "config"));
  expect((await relay.run("check", again)).exitCode).toBe(0);

  await text(relay, "stats");
  expect(await text(relay, "ping")).toMatch(/^mcr \d\S+, pid \d+, up \d+s: answered in [\d.]+ ms\n$/);
  expect((await relay.run("show", "nothing")).stderr).toBe(
    'mcr show: there is no "nothing" to show: give one of rules, flows, interfaces, memberships, workers, config\n',
  );
}, 60_000);

test("log-level takes effect at once, for one facility or for all, until the next reload", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, studio);
  const infoLine = 'rule "studio-a": egress veth2 239.10.1.1:6001: active';
  const cycle = async () => {
    await topology.output("relay-ns", ["ip", "link", "set", "veth2", "down"]);
    await waitFor(
      () => relay.rule("studio-a"),
      ({ egress }) => egress[0]?.state === "waiting",
      { what: "the egress to wait" },
    );
    await topology.output("relay-ns", ["ip", "link", "set", "veth2", "up"]);
    await waitFor(
      () => relay.rule("studio-a"),
      ({ egress }) => egress[0]?.state === "active",
      { what: "the egress to be active" },
    );
  };
  expect(await text(relay, "log-level", "egress", "WARNING")).toMatch(/^Egress +warning +its own$/m);
  await cycle();
  expect(relay.process.stderr).not.toContain(infoLine);
  expect(await text(relay, "log-level", "Egress", "default")).toBe("FACILITY  LEVEL\nEgress    info\n");
  await cycle();
  await relay.process.waitForOutput(infoLine);
  expect(relay.process.stderr).toContain("notice [Supervisor] log level of Egress: warning");
  expect(relay.process.stderr).toContain("notice [Supervisor] log level of Egress: default");
  await text(relay, "log-level", "Egress", "debug");
  expect(await text(relay, "log-level", "emergency")).toMatch(/^Supervisor +emergency$/m);
  expect(await text(relay, "log-level", "Egress")).toBe("FACILITY  LEVEL\nEgress    debug  its own\n");
  await relay.reload();
  expect(await text(relay, "log-level")).toMatch(/^Egress +info$/m);
  const wrong = await relay.run("log-level", "loud");
  expect([wrong.exitCode, wrong.stderr]).toEqual([
    64,
    expect.stringContaining('"loud" is no facility and no level'),
  ]);
}, 60_000);

class Follower {
  constructor(readonly process: Process) {}

  get events(): readonly Event[] {
    const lines = this.process.stdout.split("\n").slice(0, -1);
    return lines.map((line) => v.parse(EventSchema, JSON.parse(line)));
  }

  async next(what: string, expected: Readonly<Record<string, unknown>>): Promise<void> {
    const matches = (event: Event) =>
      Object.entries(expected).every(([key, value]) =>
        Bun.deepEquals(new Map(Object.entries(event)).get(key), value),
      );
    await waitUntil(() => this.events.some(matches), { what, deadlineMs: 15_000 });
  }
}

test("events tell of states, memberships, drops and reloads as they happen, and end with the relay", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, studio);
  const follower = new Follower(
    topology.spawn("relay-ns", [executable, "events"], { env: { MCR_SOCKET: socket } }),
  );
  await follower.next("the first line", { event: "connected" });

  await relay.write(`${studio}\n${late}`);
  await relay.reload();
  await follower.next("the reload", { event: "reload", ok: true, added: ["late"], unchanged: 1 });
  await follower.next("the new rule's reason", {
    event: "rule",
    rule: "late",
    state: "waiting",
    reason: "interface veth9 does not exist (ip link shows the ones that do)",
  });
  await topology.output("relay-ns", ["ip", "link", "add", "veth9", "type", "veth", "peer", "name", "veth8"]);
  await topology.output("relay-ns", ["ip", "link", "set", "veth8", "up"]);
  await topology.output("relay-ns", ["ip", "link", "set", "veth9", "up"]);
  await follower.next("the join", {
    event: "membership",
    change: "joined",
    interface: "veth9",
    group: "239.1.1.9",
  });
  await follower.next("the rule", { event: "rule", rule: "late", state: "active", reason: null });

  await topology.output("relay-ns", ["ip", "link", "set", "veth2", "down"]);
  await follower.next("the egress", {
    event: "egress",
    rule: "studio-a",
    interface: "veth2",
    state: "waiting",
  });
  const stream = { interfaceAddress: address.gen, group: "239.1.1.1", port: 5001, ratePps: 1000 };
  await send(topology, "gen-ns", { ...stream, countPerStream: 300 });
  const place = { event: "drops", rule: "studio-a", interface: "veth2", reason: "unavailable" };
  await follower.next("drops to begin", { ...place, change: "began" });
  await follower.next("drops to end", { ...place, change: "ended", packets: 300 });

  await topology.output("relay-ns", ["ip", "link", "delete", "veth9"]);
  await follower.next("the leave", {
    event: "membership",
    change: "left",
    interface: "veth9",
    group: "239.1.1.9",
  });
  expect((await relay.run("log-level", "Stats", "debug")).exitCode).toBe(0);
  await follower.next("the log level", { event: "log-level", facility: "Stats", level: "debug" });

  const unsaved = { added: [], changed: [], removed: ["late"] };
  expect((await relay.run("remove", "late")).exitCode).toBe(0);
  await follower.next("the remove", { event: "edit", verb: "remove", ok: true, unsaved });
  expect((await relay.run("remove", "late")).exitCode).toBe(78);
  await follower.next("what was refused", { event: "edit", verb: "remove", ok: false, refusal: "config" });
  expect((await relay.run("save")).exitCode).toBe(0);
  await follower.next("the save", { event: "edit", verb: "save", unsaved: { ...unsaved, removed: [] } });
  const rule = ["--name", "new", "--ingress", "veth1:239.1.1.3:5003", "--egress", "veth2"];
  expect((await relay.run("add", ...rule)).exitCode).toBe(0);
  await follower.next("the add", {
    event: "edit",
    verb: "add",
    unsaved: { ...unsaved, added: ["new"], removed: [] },
  });
  expect((await relay.stop()).exitCode).toBe(0);
  const { exitCode, stderr } = await follower.process.exited;
  expect([exitCode, stderr]).toEqual([0, ""]);
  expect(follower.events.at(-1)?.event).toBe("stopping");
}, 90_000);

test("mcr events ends when nobody reads any more", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, studio);
  const script = '{ "$1" events; echo "exit $?" >&2; } | head -1';
  const piped = topology.spawn("relay-ns", ["sh", "-c", script, "sh", executable], {
    env: { MCR_SOCKET: socket },
  });
  await waitFor(
    // The second line finds the pipe closed.
    async () => (await relay.run("log-level", "Stats", "info")).exitCode === 0 && piped.completed,
    (completed) => completed !== false && completed !== undefined,
    { what: "the pipe to end", deadlineMs: 15_000 },
  );
  expect(piped.stdout).toContain('"connected"');
  expect(piped.stderr).toBe("exit 0\n");
}, 60_000);

test("several relays run side by side, each with its name, socket and log", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, studio);
  const other = `${relay.file}.other`;
  await Bun.write(other, late);
  const named = topology.spawn("relay-ns", [executable, "run", "-i", "studio", other]);
  await named.waitForOutput(/notice studio \[Supervisor\] running 1 rule of/, 15_000);
  const rules = await topology.output("relay-ns", [executable, "show", "-i", "studio", "--json"]);
  expect(v.parse(RulesSchema, JSON.parse(rules)).rules.map(({ name }) => name)).toEqual(["late"]);
  expect((await relay.rules()).map(({ name }) => name)).toEqual(["studio-a"]);
  expect(await topology.output("relay-ns", [executable, "ping", "--instance", "studio"])).toMatch(
    /^mcr \S+ studio, pid /,
  );
  expect(await topology.output("relay-ns", [executable, "ping", "--socket", socket])).not.toContain("studio");
  const second = await topology.run("relay-ns", [executable, "run", "-i", "studio", other]);
  expect([second.exitCode, second.stderr]).toEqual([
    1,
    expect.stringContaining("another mcr is running: /run/mcr/studio.sock answers"),
  ]);
  for (const name of ["../x", "", ".x", "a b"])
    expect((await topology.run("relay-ns", [executable, "ping", `--instance=${name}`])).exitCode).toBe(64);
  named.kill("SIGTERM");
  expect((await named.exited).exitCode).toBe(0);
  expect((await relay.status()).pid).toBeGreaterThan(0);
}, 60_000);

test.skipIf(process.geteuid?.() !== 0)(
  "the socket is for root and the members of control_group; others are refused, by the file and by mcr",
  async () => {
    await using topology = await openTopology("chain");
    // The rules follow [relay].
    await using relay = await startRelay(topology, `control_group = "65533"\n${studio}`);
    const stranger = ["--reuid=65534", "--regid=65534"];
    const ask = async (...identity: readonly string[]) => {
      const curl = ["curl", "--silent", "--show-error", "--unix-socket", socket, "http://mcr/v1/log-levels"];
      return topology.run("relay-ns", ["setpriv", ...identity, "--", ...curl]);
    };
    expect((await ask(...stranger, "--clear-groups")).exitCode).toBe(7); // CURLE_COULDNT_CONNECT
    for (const member of [
      ["--reuid=65534", "--regid=65533", "--clear-groups"],
      [...stranger, "--groups=1,2,65533"],
    ])
      expect((await ask(...member)).stdout).toContain('"level":"info"');
    await topology.output("relay-ns", ["chmod", "666", socket]);
    expect(JSON.parse((await ask(...stranger, "--clear-groups")).stdout)).toEqual({
      error: `user 65534 may not ask the mcr at ${socket}: run as root, or as a member of the group that owns it (ls -l ${socket})`,
    });
    await relay.process.waitForOutput(/warning \[Security\] refused pid \d+: user 65534 may not ask/);
    expect((await ask(...stranger, "--groups=1,2,65533")).stdout).toContain('"level":"info"');
  },
  60_000,
);

test("the lines of README for curl work, and mcr answers what they ask", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, studio);
  const readme = readFileSync(`${repository}/README.md`, "utf8");
  const lines = readme.match(/^curl .*--unix-socket.*$/gm) ?? [];
  expect(lines.length).toBeGreaterThanOrEqual(10);
  for (const line of lines) {
    // What streams is cut after its first line; its schema names it like the others.
    const command = line.includes("/v1/events")
      ? `${line.replace("curl ", "timeout 2 curl -s ")} | head -1`
      : line;
    const answer = JSON.parse(await topology.output("relay-ns", ["sh", "-c", command]));
    if (line.includes("/v1/events")) expect([line, answer.event]).toEqual([line, "connected"]);
    else expect(line).toContain(`http://mcr${answer.schema}`);
  }
  expect((await relay.status()).last_reload?.ok).toBe(true);
}, 60_000);

test("1,000 silent clients, 100 MB, one that never reads, 100 adds and removes cost no packet and nobody's answer", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, studio);
  const traffic = await openTraffic(topology, relay, { rule: "studio-a", ratePps: 20_000 });
  const hostile = topology.spawn(
    "relay-ns",
    [process.execPath, `${repository}/test/support/hostile.ts`, socket],
    { stdin: "" },
  );
  await hostile.waitForOutput("silent 1000", 30_000);
  const pings: number[] = [];
  while (!hostile.completed) {
    const { exitCode, stdout, stderr } = await relay.run("ping", "--json");
    expect([exitCode, stderr]).toEqual([0, ""]);
    pings.push(JSON.parse(stdout).ms);
    if (pings.length % 5 === 0) expect((await relay.run("show")).exitCode).toBe(0);
  }
  expect(await hostile.exited).toMatchObject({
    exitCode: 0,
    stderr: "",
    stdout: expect.stringMatching(/^100 MB sent or refused$[\s\S]*^100 rules added and removed five times$/m),
  });
  const rank = (share: number) => pings.toSorted((a, b) => a - b)[Math.ceil(pings.length * share) - 1] ?? 0;
  const [median, most, worst] = [rank(0.5), rank(0.9), rank(1)];
  console.log(
    `${pings.length} pings beside hostile clients: median ${median}, 9 of 10 ${most}, worst ${worst} ms`,
  );
  expect(most).toBeLessThan(100);
  // A disturbance lasts seconds; the rest is a busy host.
  expect(worst).toBeLessThan(1_000);
  expect((await relay.rules()).map(({ name }) => name)).toEqual(["studio-a"]);
  await waitUntil(() => relay.process.stderr.includes("did not read its events"), {
    what: "the deaf follower to be logged",
    deadlineMs: 30_000,
  });
  await traffic.stop();
  expect(relay.process.stderr.match(/did not read its events/g)).toHaveLength(1);
}, 150_000);
