// `mcr top` beside a real relay under traffic: its rates are what is sent; on a terminal of 80 x 24 it shows the rules and
// follows the keys; and however it ends, the terminal is as it was.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { executable, type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { Terminal } from "../support/tmux.ts";
import { address, openTopology, type Topology } from "../support/topology.ts";
import { startSender } from "../support/traffic.ts";
import { waitFor, waitUntil } from "../support/wait.ts";

const ratePps = 2_000;
const sizeBytes = 1024;
const rules = [
  ruleText({
    name: "studio-a",
    ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
    egress: [
      'interface = "veth2", group = "239.10.1.1", port = 6001',
      'interface = "veth2", group = "239.11.1.1", port = 6001',
    ],
  }),
  ruleText({
    name: "late",
    ingress: 'interface = "veth9", group = "239.1.1.9", port = 5009',
    egress: ['interface = "veth2"'],
  }),
].join("\n");

async function openTraffic(topology: Topology, relay: RelayUnderTest) {
  const sender = await startSender(topology, "gen-ns", {
    interfaceAddress: address.gen,
    group: "239.1.1.1",
    port: 5001,
    ratePps,
    unbounded: true,
    sizeBytes,
  });
  sender.go();
  await waitUntil(async () => (await relay.rule("studio-a")).packets > 0, { what: "the first packet" });
  return sender;
}

/** `rule="studio-a"` and so on, of the last line of this rule. */
function valuesOf(text: string, rule: string): ReadonlyMap<string, string> {
  const line = text.split("\n").findLast((each) => each.includes(`rule="${rule}"`)) ?? "";
  return new Map([...line.matchAll(/(\w+)=("[^"]*"|\S+)/g)].map(([, key = "", value = ""]) => [key, value]));
}

test("into a pipe: one line a rule and look, with rates that are what is sent, within 5 %", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rules);
  const sender = await openTraffic(topology, relay);
  // A look during which this host stood still is not the one to judge.
  const values = await waitFor(
    async () => {
      const { exitCode, stdout, stderr } = await relay.run("top", "--count", "2");
      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(stdout.match(/ rule="studio-a" state=active /g)).toHaveLength(2);
      expect(stdout.match(/ rule="late" state=waiting in_pps=0\.0 out_pps=0\.0 /g)).toHaveLength(2);
      return valuesOf(stdout, "studio-a");
    },
    (seen) =>
      [
        ["in_pps", ratePps],
        ["out_pps", 2 * ratePps],
        ["bit_s", ratePps * sizeBytes * 8],
      ].every(([key, real]) => Math.abs(Number(seen.get(String(key))) / Number(real) - 1) <= 0.05),
    { what: "the rates that are sent", deadlineMs: 30_000 },
  );
  expect([values.get("dropped_pps"), values.get("dropped")]).toEqual(["0.0", "0"]);
  await sender.stop();
}, 60_000);

test("on a terminal of 80 x 24: the rules and their rates, sorted, filtered, paused, at another size, and gone", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rules);
  const sender = await openTraffic(topology, relay);
  await using terminal = await Terminal.open(topology, "relay-ns", { columns: 80, rows: 24 });
  const modes = await terminal.modes();
  const see = (seen: RegExp) =>
    waitFor(
      async () => (await terminal.lines()).join("\n"),
      (text) => seen.test(text),
      { what: `the screen to have ${seen}`, deadlineMs: 20_000, intervalMs: 30 },
    );
  await terminal.command(`${executable} top; echo "ended with $?"`);
  const screen = await see(/^studio-a +active +(19|20)\d\d +(39|40)\d\d +1\d(\.\d)?M +0 +\S/m);
  const lines = screen.split("\n");
  expect(lines).toHaveLength(24);
  for (const line of lines) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(80);
  expect(lines[0]).toMatch(/^mcr \d.*\d\d:\d\d:\d\d UTC$/);
  expect(screen).toMatch(/^veth1 +in +(19|20)\d\d pps +1\d(\.\d)? Mbit/m);
  expect(screen).toMatch(/^workers {2}cpu\d+ +\d+ %/m);
  expect(screen).toMatch(/^late +waiting +0 +0 +0 +0\n {2}interface veth9 does not exist/m);
  expect(lines.at(-1)).toMatch(/^q quit {3}s sort: rate {3}\/ filter {3}p pause {3}arrows scroll$/);
  expect(await terminal.isCursorShown()).toBe(false);

  await terminal.press("s", "s");
  expect(await see(/s sort: state/)).toMatch(/^late [\s\S]*^studio-a /m);
  await terminal.press("/", "s", "t", "u", "Enter");
  expect(await see(/\/ filter: stu /)).not.toMatch(/^late/m);
  await terminal.press("/", "Escape");
  await see(/^late /m);

  await terminal.press("p");
  const paused = await see(/p PAUSED/);
  const clock = () => /\d\d:\d\d:\d\d UTC/.exec(paused)?.[0] ?? "";
  const before = (await relay.rule("studio-a")).packets;
  await waitUntil(async () => (await relay.rule("studio-a")).packets > before + 3 * ratePps, {
    what: "three seconds to pass",
    deadlineMs: 30_000,
  });
  expect(await see(/p PAUSED/)).toContain(clock());
  await terminal.press("p");
  await waitUntil(async () => !(await terminal.lines()).join("\n").includes(clock()), {
    what: "the clock to go on",
    deadlineMs: 20_000,
  });

  await terminal.resize(120, 40);
  await waitUntil(async () => (await terminal.lines())[39]?.startsWith("q quit") === true, {
    what: "the last line to be the 40th",
    deadlineMs: 20_000,
  });
  await terminal.press("q");
  await terminal.waitFor("ended with 0");
  expect(await terminal.modes()).toBe(modes);
  expect(await terminal.isCursorShown()).toBe(true);
  expect(await terminal.screen()).not.toContain("studio-a");
  await sender.stop();
}, 120_000);

test.each([
  ["Ctrl-C", async (terminal: Terminal) => terminal.press("C-c")],
  ["SIGTERM", async (terminal: Terminal) => void process.kill(await childOf(terminal), "SIGTERM")],
  ["SIGHUP", async (terminal: Terminal) => void process.kill(await childOf(terminal), "SIGHUP")],
])(
  "%s: it ends with 0, and the terminal is as it was",
  async (_, end) => {
    await using topology = await openTopology("chain");
    await using _relay = await startRelay(topology, rules);
    await using terminal = await Terminal.open(topology, "relay-ns", { columns: 80, rows: 24 });
    const modes = await terminal.modes();
    await terminal.command(`${executable} top; echo "ended with $?"`);
    await terminal.waitFor("q quit");
    await end(terminal);
    await terminal.waitFor("ended with 0");
    expect(await terminal.modes()).toBe(modes);
    expect(await terminal.isCursorShown()).toBe(true);
  },
  60_000,
);

test("a relay that ends is said, and followed again when it is back", async () => {
  await using topology = await openTopology("chain");
  await using terminal = await Terminal.open(topology, "relay-ns", { columns: 80, rows: 24 });
  {
    await using relay = await startRelay(topology, rules);
    await terminal.command(`${executable} top --interval 200ms; echo "ended with $?"`);
    await terminal.waitFor("q quit");
    expect((await relay.stop()).exitCode).toBe(0);
    await terminal.waitFor("no mcr answers at /run/mcr/mcr.sock");
  }
  await using _again = await startRelay(topology, rules.replace("studio-a", "studio-b"));
  await terminal.waitFor("studio-b");
  expect(await terminal.screen()).not.toContain("no mcr answers");
  await terminal.press("q");
  await terminal.waitFor("ended with 0");
}, 60_000);

/** What the shell runs. */
async function childOf(terminal: Terminal): Promise<number> {
  const shell = await terminal.shellPid();
  return Number(readFileSync(`/proc/${shell}/task/${shell}/children`, "utf8").trim().split(" ")[0]);
}
