// Which rule takes a flow: what is written in TypeScript against the C table itself, asked by test/c/table_answers.c.

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expandFlows } from "../../src/config/flows.ts";
import { type Arrival, matcherOf } from "../../src/config/matcher.ts";
import type { RingHandle } from "../../src/native/shim.ts";
import { addressOf, anySource } from "../../src/net/address.ts";
import { tableParts } from "../../src/net/rule-table.ts";
import type { RunningRule } from "../../src/net/running.ts";
import { ruleOf, runningRule } from "../support/fakes.ts";
import { Random } from "./random.ts";

const seeds = 40;
const packetsPerSeed = 200;
const interfaces = ["eth0", "eth1"] as const;
const groups = ["239.1.1.1", "239.1.1.2"] as const;
const sourceLists = [["10.0.0.1"], ["10.0.0.2"], ["10.0.0.1", "10.0.0.2"], []] as const;
const sources = ["10.0.0.1", "10.0.0.2", "10.0.0.3"] as const;

test("random rules and packets: the C table gives every packet to the same rule", () => {
  const answers = { taken: 0, left: 0 };
  for (let seed = 1; seed <= seeds; seed += 1) {
    const random = new Random(seed);
    const rules = randomRules(random);
    const packets = Array.from({ length: packetsPerSeed }, () => randomPacket(random));
    const takerOf = matcherOf(rules);
    const here = packets.map((packet) => takerOf(packet) ?? null);
    expect({ seed, rules: here }).toEqual({ seed, rules: askTable(rules, packets) });
    for (const name of here) answers[name === null ? "left" : "taken"] += 1;
  }
  // Were nearly all of them taken or left, little would have been compared.
  expect(Math.min(answers.taken, answers.left)).toBeGreaterThan((seeds * packetsPerSeed) / 10);
}, 60_000);

test("of two mcr that take the same flow, the first is named", () => {
  const rules = ["first", "second"].map((name) => {
    const rule = ruleOf({ name });
    return { rule, flows: expandFlows(rule) };
  });
  const packet = { interface: "veth1", vlan: 0, address: "239.1.1.1", port: 5001, source: "10.0.0.1" };
  expect(matcherOf(rules)(packet)).toBe("first");
});

/** In any order. A claim of two sources and one of one of them would be duplicates, which no relay runs. */
function randomRules(random: Random): readonly RunningRule[] {
  const claims: { readonly ingress: Readonly<Record<string, unknown>>; readonly order: number }[] = [];
  for (const name of interfaces)
    for (const group of groups)
      for (const port of [{ port: 5001 }, { port: 5002 }, {}]) {
        const both = random.below(2) === 0;
        for (const list of sourceLists)
          if (list.length === 0 || (list.length === 2) === both)
            if (random.below(3) > 0) {
              const source = list.length === 0 ? {} : { source: [...list] };
              const ingress = { interface: name, group, ...port, ...source };
              claims.push({ ingress, order: random.below(1000) });
            }
      }
  return claims
    .toSorted((a, b) => a.order - b.order)
    .map(({ ingress }, slot) => runningRule(ruleOf({ name: `rule-${slot}`, ingress }), slot, slot));
}

function randomPacket(random: Random): Arrival {
  return {
    interface: random.pick(interfaces),
    vlan: random.pick([0, 0, 0, 0, 5]),
    address: random.pick(groups),
    port: random.pick([5001, 5002, 5003, 0]),
    source: random.pick(sources),
  };
}

/** The names of the rules, as the table that these rules become has it. */
function askTable(rules: readonly RunningRule[], packets: readonly Arrival[]): (string | null)[] {
  const path = join(import.meta.dir, "../../dist/test/c/table_answers");
  if (!existsSync(path)) throw new Error(`${path} is not built: run the tests with make test`);
  const captures: readonly { readonly rings: readonly RingHandle[] }[] = [];
  const slots = new Map<string, { slot: number; captures: typeof captures }>(
    interfaces.map((name, slot) => [name, { slot, captures }]),
  );
  const { matches, flows } = tableParts(1, rules, slots);
  const lines = [
    ...matches.map(({ address, source, port, interface: slot, flow }) => {
      const from = Buffer.compare(source, anySource) === 0 ? "0" : addressOf(source);
      return `match ${addressOf(address)} ${from} ${port} ${slot} ${flow}`;
    }),
    ...packets.map(
      ({ address, source, port, vlan, interface: name }) =>
        `packet ${address} ${source} ${port} ${vlan} ${slots.get(name)?.slot}`,
    ),
  ];
  const run = Bun.spawnSync([path], { stdin: Buffer.from(`${lines.join("\n")}\n`) });
  if (run.exitCode !== 0) throw new Error(`${run.stderr}`);
  const bySlot = new Map(rules.map(({ rule, slot }) => [slot, rule.name]));
  const found = run.stdout.toString().trim().split("\n");
  return found.map((flow) => bySlot.get(flows[Number(flow)]?.rule ?? -1) ?? null);
}
