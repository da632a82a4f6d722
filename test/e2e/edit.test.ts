// The rules edited while they run: add, remove and save through a real daemon, under traffic and a hundred at a time.

import { expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import * as v from "valibot";
import { parseConfig } from "../../src/config/parse.ts";
import { ConfigAnswerSchema, DifferenceSchema, EditSchema } from "../../src/control/protocol.ts";
import { joinedGroups } from "../support/igmp.ts";
import { type RelayUnderTest, ruleText, startRelay } from "../support/relay.ts";
import { openTraffic } from "../support/relayed.ts";
import { openTopology } from "../support/topology.ts";

const a = ruleText({
  name: "a",
  ingress: 'interface = "veth1", group = "239.1.1.1", port = 5001',
  egress: ['interface = "veth2", group = "239.10.1.1", port = 6001'],
});
const commented = `# Studio A, do not touch\n${a}\n# --- the second floor ---\n`;

function add(relay: RelayUnderTest, octet: number, ...more: readonly string[]) {
  const ingress = `veth1:239.1.1.${octet}:${5000 + octet}`;
  const egress = `veth2:239.10.1.${octet}:${6000 + octet}`;
  return relay.run("add", "--name", `r${octet}`, "--ingress", ingress, "--egress", egress, ...more);
}

const namesOf = async (relay: RelayUnderTest) => (await relay.rules()).map(({ name }) => name);

test("rules come and go under traffic; save, check --diff and reload tell the same story", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, commented);
  const original = await readFile(relay.file, "utf8");
  const traffic = await openTraffic(topology, relay, { rule: "a", ratePps: 5_000 });

  const added = await add(relay, 2);
  expect([added.exitCode, added.stderr]).toEqual([0, ""]);
  expect(added.stdout).toContain("+ r2\n    veth1 239.1.1.2:5002 → veth2 239.10.1.2:6002\n");
  expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual(["239.1.1.1", "239.1.1.2"]);
  expect((await relay.run("show")).stdout).toMatch(
    /not saved: 1 added at run time[\s\S]*\nr2 .*\n +not in the file/,
  );

  const diff = await relay.run("check", relay.file, "--diff", "--json");
  const difference = v.parse(DifferenceSchema, JSON.parse(diff.stdout));
  expect(difference).toMatchObject({ added: [], removed: ["r2"], changed: [], unchanged: 1 });

  const reloaded = await relay.reload();
  expect(reloaded).toMatchObject({ ok: true, removed: ["r2"], changes: difference.changes });
  expect(reloaded.notes).toEqual([
    "dropped 1 rule added at run time: r2 (mcr save before a reload keeps them)",
  ]);

  await add(relay, 3);
  const saved = await relay.run("save");
  expect([saved.exitCode, saved.stderr]).toEqual([0, ""]);
  const text = await readFile(relay.file, "utf8");
  expect(text).toStartWith(original);
  expect(parseConfig(text, "rules.toml").rules.map(({ name }) => name)).toEqual(["a", "r3"]);
  expect((await relay.run("show")).stdout).not.toContain("not saved");
  expect(await relay.reload()).toMatchObject({ ok: true, unchanged: 2, notes: [] });

  expect((await relay.run("remove", "r3")).exitCode).toBe(0);
  expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual(["239.1.1.1"]);
  expect((await relay.run("show")).stdout).toContain("removed, still in the file: r3\n");
  expect((await relay.run("save")).exitCode).toBe(0);
  expect((await readFile(relay.file, "utf8")).trimEnd()).toBe(original.trimEnd());
  await traffic.stop();
}, 60_000);

test("100 adds and 50 removes at once: none is lost, the set is exact, and the traffic beside them too", async () => {
  await using topology = await openTopology("chain");
  const old = Array.from({ length: 50 }, (_, i) =>
    ruleText({
      name: `old-${i}`,
      ingress: `interface = "veth1", group = "239.3.1.${i + 1}", port = 5001`,
      egress: ['interface = "veth2", group = "239.13.1.1"'],
    }),
  );
  await using relay = await startRelay(topology, [commented, ...old].join("\n"));
  const traffic = await openTraffic(topology, relay, { rule: "a", ratePps: 5_000 });
  // One curl each beside a few of mcr's own: 150 processes of ours would be a test of the machine.
  const requests = [
    ...Array.from({ length: 100 }, (_, i) => ({
      method: "POST",
      body: {
        rules: [
          {
            name: `new-${i}`,
            ingress: { interface: "veth1", group: `239.2.1.${i + 1}`, port: 5001 },
            egress: [{ interface: "veth2", group: `239.12.1.${i + 1}` }],
          },
        ],
      },
    })),
    ...Array.from({ length: 50 }, (_, i) => ({ method: "DELETE", body: { names: [`old-${i}`] } })),
  ];
  const answers = await Promise.all(
    requests.map(async ({ method, body }) => {
      const words = [
        "--silent",
        "--unix-socket",
        "/run/mcr/mcr.sock",
        "-X",
        method,
        "-d",
        JSON.stringify(body),
      ];
      const answer = await topology.output("relay-ns", ["curl", ...words, "http://mcr/v1/rules"]);
      return v.parse(EditSchema, JSON.parse(answer));
    }),
  );
  expect(answers.filter(({ ok }) => !ok)).toEqual([]);
  const wanted = ["a", ...Array.from({ length: 100 }, (_, i) => `new-${i}`)].toSorted();
  expect((await namesOf(relay)).toSorted()).toEqual(wanted);
  expect((await joinedGroups(topology, "relay-ns", "veth1")).length).toBe(101);
  expect((await relay.run("save")).exitCode).toBe(0);
  const { rules } = parseConfig(await readFile(relay.file, "utf8"), "rules.toml");
  expect(rules.map(({ name }) => name).toSorted()).toEqual(wanted);
  const config = v.parse(
    ConfigAnswerSchema,
    JSON.parse(
      await topology.output("relay-ns", [
        "curl",
        "--silent",
        "--unix-socket",
        "/run/mcr/mcr.sock",
        "http://mcr/v1/config",
      ]),
    ),
  );
  const byName = (x: unknown, y: unknown) => (JSON.stringify(x) < JSON.stringify(y) ? -1 : 1);
  expect(config.rules.toSorted(byName)).toEqual(rules.map((rule) => ({ ...rule })).toSorted(byName));
  await traffic.stop();
}, 120_000);

test("what is refused changes nothing, says the cure, and ends with its exit code", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, commented);
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [["add", "--name", "x"], 64, /--ingress is missing: give INTERFACE:GROUP:PORT/],
    [
      ["add", "--name", "x", "--ingress", "veth1:239.1.1.2:70000", "--egress", "veth2"],
      78,
      /rule "x": ingress\.port: 70000 is not a port: give 1-65535/,
    ],
    [
      ["add", "--name", "x", "--ingress", "veth1:239.1.1.2:5002", "--egress", "veth2,tll=8"],
      78,
      /rule "x": egress\[1\]\.tll: is not a key of an egress: did you mean ttl\?/,
    ],
    [
      ["add", "--name", "a", "--ingress", "veth1:239.1.1.2:5002", "--egress", "veth2"],
      78,
      /a rule of this name runs already: give another name, or remove that one first/,
    ],
    [
      ["add", "--name", "x", "--ingress", "veth1:239.1.1.1:5001", "--egress", "veth2"],
      78,
      /rule "a" takes the same interface, group, port and source/,
    ],
    [
      ["add", "--name", "x", "--ingress", "veth2:239.10.1.1:6001", "--egress", "veth1:239.1.1.1:5001"],
      78,
      /feeds its own ingress: .*: send to another interface or group/,
    ],
    [["remove", "a", "nobody"], 78, /no rule "nobody" runs; these run: a/],
    [["save", "--socket", "/run/mcr/none.sock"], 69, /no mcr answers at \/run\/mcr\/none\.sock: start it/],
  ];
  for (const [words, exitCode, sentence] of cases) {
    const ran = await relay.run(...words);
    expect([words, ran.exitCode, ran.stdout]).toEqual([words, exitCode, ""]);
    expect(ran.stderr).toMatch(sentence);
  }
  expect(await namesOf(relay)).toEqual(["a"]);
  expect(await joinedGroups(topology, "relay-ns", "veth1")).toEqual(["239.1.1.1"]);

  // Somebody else's change of the file is not written over.
  await add(relay, 2);
  const text = await readFile(relay.file, "utf8");
  await writeFile(relay.file, text.replace("port = 6001", "port = 7001"));
  const refused = await relay.run("save");
  expect(refused.exitCode).toBe(78);
  expect(refused.stderr).toContain(
    "has other rules than when it was loaded (a changed): mcr reload takes them",
  );
  expect((await relay.run("save", "--force")).exitCode).toBe(0);
  expect(await readFile(relay.file, "utf8")).toStartWith(text);
}, 60_000);
