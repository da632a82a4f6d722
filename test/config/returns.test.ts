// What may come back to which rule, when any two interfaces may be on one network.

import { describe, expect, test } from "bun:test";
import { findReturns, returnsMax } from "../../src/config/returns.ts";
import type { Rule } from "../../src/config/schema.ts";
import { cpuMsOf } from "../support/cpu-time.ts";
import { ruleOf } from "../support/fakes.ts";

const address: Readonly<Record<string, string>> = { eth0: "10.0.0.1", eth1: "10.0.1.1" };

function rule(
  from: string,
  to: string,
  more: { source?: string[]; egress?: Record<string, unknown> } = {},
): Rule {
  const [ingress = "", group = "", port = ""] = from.split(" ");
  const source = more.source === undefined ? {} : { source: more.source };
  const target = to.split(" ");
  return ruleOf({
    ingress: { interface: ingress, group, port: Number(port), ...source },
    egress: [
      {
        interface: target[0],
        ...(target[1] === undefined ? {} : { group: target[1] }),
        ...(target[2] === undefined ? {} : { port: Number(target[2]) }),
        ...more.egress,
      },
    ],
  });
}

/** "taker<feeder.egress", by index. */
function returnsOf(...rules: readonly Rule[]): readonly string[] {
  const { returns } = findReturns(rules, (name) => address[name]);
  return returns.map(({ taker, feeder, egress }) => `${taker}<${feeder}.${egress}`).sort();
}

describe("what may come back", () => {
  const cases: readonly (readonly [string, readonly Rule[], readonly string[]])[] = [
    ["nothing of another group", [rule("eth0 239.1.1.1 5001", "eth1 239.2.1.1")], []],
    ["nothing of another port", [rule("eth0 239.1.1.1 5001", "eth1 239.1.1.1 5002")], []],
    ["the same group out of another interface", [rule("eth0 239.1.1.1 5001", "eth1")], ["0<0.0"]],
    [
      "nothing of a chain: the second rule does not feed the first",
      [rule("eth0 239.1.1.1 5001", "eth1 239.2.1.1"), rule("eth0 239.2.1.1 5001", "eth1 239.3.1.1")],
      [],
    ],
    [
      "what goes round through two rules, at both",
      [rule("eth0 239.1.1.1 5001", "eth1 239.2.1.1"), rule("eth2 239.2.1.1 5001", "eth3 239.1.1.1")],
      ["0<1.0", "1<0.0"],
    ],
    [
      "nothing where the rule names other senders",
      [rule("eth0 239.1.1.1 5001", "eth1", { source: ["10.9.9.9"] })],
      [],
    ],
    [
      "where the rule names the relay's own address on the egress interface",
      [rule("eth0 239.1.1.1 5001", "eth1", { source: ["10.9.9.9", "10.0.1.1"] })],
      ["0<0.0"],
    ],
    [
      "where the rule names the address that the egress has of its own",
      [rule("eth0 239.1.1.1 5001", "eth1", { source: ["10.7.7.7"], egress: { source: "10.7.7.7" } })],
      ["0<0.0"],
    ],
    [
      "with two rules for one group on two interfaces, each from either",
      [rule("eth0 239.1.1.1 5001", "eth1"), rule("eth1 239.1.1.1 5001", "eth0")],
      ["0<0.0", "0<1.0", "1<0.0", "1<1.0"],
    ],
  ];
  test.each(cases)("is %s", (_, rules, expected) => {
    expect(returnsOf(...rules)).toEqual([...expected]);
  });

  test("is found for every egress of a rule by itself", () => {
    const both = ruleOf({
      ingress: { interface: "eth0", group: "239.1.1.1-239.1.1.9", port: 5001 },
      egress: [
        { interface: "eth1" },
        { interface: "eth2", group: "239.2.1.1-239.2.1.9" },
        { interface: "eth3", group: "239.1.1.5-239.1.1.13" },
      ],
    });
    expect(returnsOf(both)).toEqual(["0<0.0", "0<0.2"]);
  });
});

test("32,768 rules that nothing joins have nothing to come back, and are not all compared with each other", () => {
  const rules = Array.from({ length: 32_768 }, (_, i) =>
    ruleOf({
      ingress: { interface: "eth0", group: `239.1.${i >> 8}.${i & 255}`, port: 5001 },
      egress: [{ interface: "eth1", group: `239.129.${i >> 8}.${i & 255}` }],
    }),
  );
  const cpuMs = cpuMsOf(() =>
    expect(findReturns(rules, () => undefined)).toEqual({ returns: [], isCut: false }),
  );
  expect(cpuMs).toBeLessThan(5_000);
});

test("rules that could all feed each other are looked at up to a bound, and it says so", () => {
  // One group, each rule on an interface of its own: every egress may come back to every rule.
  const rules = Array.from({ length: 600 }, (_, i) => rule(`in${i} 239.1.1.1 5001`, `out${i}`));
  const { returns, isCut } = findReturns(rules, () => undefined);
  expect(isCut).toBe(true);
  expect(returns.length).toBeLessThanOrEqual(returnsMax + 600);
});
