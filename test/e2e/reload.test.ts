// A change touches only what it names: SIGHUP and `mcr reload` under 10,000 packets a second on rule A.

import { expect, test } from "bun:test";
import { joinedGroups } from "../support/igmp.ts";
import { ruleText, startRelay } from "../support/relay.ts";
import { openTraffic } from "../support/relayed.ts";
import { openTopology, type Topology } from "../support/topology.ts";

interface Stream {
  readonly name: string;
  readonly octet: number;
}
const a: Stream = { name: "a", octet: 1 };
const b: Stream = { name: "b", octet: 2 };
const c: Stream = { name: "c", octet: 3 };
const d: Stream = { name: "d", octet: 4 };

/** 239.1.1.N:500N → 239.10.1.N:600N; `port` sends the copies elsewhere. */
function rule({ name, octet }: Stream, port = 6000 + octet): string {
  return ruleText({
    name,
    ingress: `interface = "veth1", group = "239.1.1.${octet}", port = ${5000 + octet}`,
    egress: [`interface = "veth2", group = "239.10.1.${octet}", port = ${port}`],
  });
}

test("SIGHUP adds, changes and removes rules; an unchanged rule loses nothing and keeps its counters", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, [a, c, d].map((each) => rule(each)).join("\n"));
  const traffic = await openTraffic(topology, relay, { rule: "a", ratePps: 10_000 });
  const before = await relay.rule("a");

  await relay.write([rule(a), rule(b), rule(c, 7003)].join("\n"));
  relay.process.kill("SIGHUP");
  await relay.process.waitForOutput("reload: 1 added, 1 removed, 1 changed, 1 unchanged");

  expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual(["239.1.1.1", "239.1.1.2", "239.1.1.3"]);
  const after = await relay.rules();
  expect(after.map(({ name }) => name)).toEqual(["a", "b", "c"]);
  expect(after[0]?.since).toBe(before.since);
  expect(after[0]?.egress[0]?.source_port).toBe(before.egress[0]?.source_port ?? null);
  expect(after[0]?.packets).toBeGreaterThanOrEqual(before.packets);
  expect(after[2]?.egress[0]?.destination).toBe("239.10.1.3:7003");
  await traffic.stop();
}, 60_000);

test("a broken file changes nothing and is refused with its line and column", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, [a, c].map((each) => rule(each)).join("\n"));
  const traffic = await openTraffic(topology, relay, { rule: "a", ratePps: 10_000 });
  const before = await relay.rules();

  await relay.write(`${rule(a)}\n${rule(b).replace("port = 5002", 'port = "many"')}`);
  relay.process.kill("SIGHUP");
  const line = await relay.process.waitForOutput(/reload refused: .*/);
  expect(line).toMatch(/rules\.toml:\d+:\d+: rule "b": ingress\.port: /);

  const result = await relay.run("reload");
  expect(result.exitCode).toBe(78);
  expect(result.stderr).toMatch(/rules\.toml:\d+:\d+: rule "b": ingress\.port: /);
  expect((await relay.rules()).map(({ name, since }) => ({ name, since }))).toEqual(
    before.map(({ name, since }) => ({ name, since })),
  );
  expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual(["239.1.1.1", "239.1.1.3"]);
  await traffic.stop();
}, 60_000);

test("a changed rule carries its packets to the new place without leaving its group", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, [a, c].map((each) => rule(each)).join("\n"));
  const joins = (await relay.stats()).igmp.attempted;
  await relay.write([rule(a), rule(c, 7003)].join("\n"));
  const result = await relay.reload();
  expect(result).toMatchObject({ ok: true, added: [], removed: [], changed: ["c"], unchanged: 1 });
  expect((await relay.stats()).igmp.attempted).toBe(joins);
  const traffic = await openTraffic(topology, relay, { rule: "a", ratePps: 10_000 });
  await traffic.stop();
}, 60_000);

async function anonymousKiB(topology: Topology, pid: number): Promise<number> {
  const status = await topology.output("relay-ns", ["cat", `/proc/${pid}/status`]);
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]);
}

test("200 SIGHUPs in 10 s, each with another file, lose nothing and leave memory flat", async () => {
  await using topology = await openTopology("chain");
  const files = [[a, b, c].map((each) => rule(each)), [rule(a), rule(c, 7003), rule(d)]].map((rules) =>
    rules.join("\n"),
  );
  await using relay = await startRelay(topology, files[0] ?? "");
  const traffic = await openTraffic(topology, relay, { rule: "a", ratePps: 10_000 });
  let memoryKiB = 0;
  for (let i = 1; i <= 200; i += 1) {
    await relay.write(files[i % 2] ?? "");
    relay.process.kill("SIGHUP");
    await Bun.sleep(50); // the pace is the test: 20 a second
    if (i === 50) memoryKiB = await anonymousKiB(topology, relay.process.pid);
  }
  const grownKiB = (await anonymousKiB(topology, relay.process.pid)) - memoryKiB;
  expect(memoryKiB).toBeGreaterThan(0);
  expect(grownKiB).toBeLessThan(24 << 10);
  const reloads = relay.process.stderr.match(/reload: 1 added, 1 removed, 1 changed, 1 unchanged/g) ?? [];
  expect(reloads.length).toBeGreaterThan(100);
  await traffic.stop();
}, 90_000);
