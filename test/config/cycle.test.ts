// Rules that feed their own ingress, directly or through others, and those that only look as if they did.

import { describe, expect, test } from "bun:test";
import { mistakesOf, parseRules, type RuleParts } from "./rules.ts";

/** "eth0 239.1.1.1 5001 10.0.0.1": interface, group, port or *, sender. */
function endpoint(text: string): string {
  const [name = "", group = "", port = "*", source] = text.split(" ");
  return [
    `interface = "${name}"`,
    `group = "${group}"`,
    ...(port === "*" ? [] : [`port = "${port}"`]),
    ...(source === undefined ? [] : [`source = ["${source}"]`]),
  ].join(", ");
}
function rule(name: string, ingress: string, ...egress: readonly string[]): RuleParts {
  return { name, ingress: endpoint(ingress), egress: egress.map((each) => endpoint(each)) };
}

const advice = "send to another interface or group, or name the real senders in ingress.source";
function chain(...names: readonly string[]): string {
  return `feeds its own ingress: ${names.map((name) => `rule "${name}"`).join(" → ")}: ${advice}`;
}

describe("a cycle", () => {
  const cases: readonly (readonly [string, readonly RuleParts[], readonly string[]])[] = [
    [
      "of one rule with itself",
      [rule("a", "eth0 239.1.1.1 5001", "eth0 239.1.1.1 5001")],
      [`4:11: rule "a": egress[1]: ${chain("a", "a")}`],
    ],
    [
      "at the egress that closes it, not at the others",
      [rule("a", "eth0 239.1.1.1 5001", "eth1 239.1.1.1 5001", "eth0 239.1.1.1 5001")],
      [`4:71: rule "a": egress[2]: ${chain("a", "a")}`],
    ],
    [
      "of two rules",
      [
        rule("a", "eth0 239.1.1.1 5001", "eth1 239.1.1.1 5001"),
        rule("b", "eth1 239.1.1.1 5001", "eth0 239.1.1.1 5001"),
      ],
      [`4:11: rule "a": egress[1]: ${chain("a", "b", "a")}`],
    ],
    [
      "of three rules, with a change of group and port at each",
      [
        rule("a", "eth0 239.1.1.1 5001", "eth1 239.2.1.1 6001"),
        rule("b", "eth1 239.2.1.1 6001", "eth2 239.3.1.1 7001"),
        rule("c", "eth2 239.3.1.1 7001", "eth0 239.1.1.1 5001"),
      ],
      [`4:11: rule "a": egress[1]: ${chain("a", "b", "c", "a")}`],
    ],
    [
      "through a rule for every port",
      [
        rule("a", "eth0 239.1.1.1 5001", "eth1 239.2.1.1 6001"),
        rule("b", "eth1 239.2.1.1 *", "eth0 239.1.1.1 5001"),
      ],
      [`4:11: rule "a": egress[1]: ${chain("a", "b", "a")}`],
    ],
    [
      "of rules for every port that keep the port",
      [rule("a", "eth0 239.1.1.1 *", "eth1 239.1.1.1 *"), rule("b", "eth1 239.1.1.1 *", "eth0 239.1.1.1 *")],
      [`4:11: rule "a": egress[1]: ${chain("a", "b", "a")}`],
    ],
    [
      "through the one element that two ranges share",
      [
        rule("a", "eth0 239.1.1.1-239.1.1.50 5001-5050", "eth1 239.2.1.1-239.2.1.50 6001-6050"),
        rule("b", "eth1 239.2.1.50 6050", "eth0 239.1.1.1 5001"),
      ],
      [`4:11: rule "a": egress[1]: ${chain("a", "b", "a")}`],
    ],
    [
      "of ranges over the edge of a byte",
      [rule("a", "eth0 239.1.0.250-239.1.1.9 5001", "eth0 239.1.1.5-239.1.1.20 5001")],
      [`4:11: rule "a": egress[1]: ${chain("a", "a")}`],
    ],
    [
      "of any source, whatever sender the other names",
      [
        rule("a", "eth0 239.1.1.1 5001 10.0.0.1", "eth1 239.1.1.1 5001"),
        rule("b", "eth1 239.1.1.1 5001", "eth0 239.1.1.1 5001"),
        rule("c", "eth0 239.1.1.1 5001", "eth1 239.1.1.1 5001"),
      ],
      // Only c takes what b sends: b's packets come from the relay's own address.
      [`8:11: rule "b": egress[1]: ${chain("b", "c", "b")}`],
    ],
    [
      "for each of two that have nothing to do with each other",
      [
        rule("a", "eth0 239.1.1.1 5001", "eth0 239.1.1.1 5001"),
        rule("b", "eth1 239.1.1.1 5001", "eth1 239.1.1.1 5001"),
      ],
      [`4:11: rule "a": egress[1]: ${chain("a", "a")}`, `8:11: rule "b": egress[1]: ${chain("b", "b")}`],
    ],
  ];
  for (const [what, rules, mistakes] of cases)
    test(what, () => {
      expect(mistakesOf(...rules)).toEqual(mistakes);
    });

  test("of an egress whose source is written out, at the rule that listens to that sender", () => {
    const own = 'interface = "eth0", group = "239.1.1.1", port = 5001, source = "10.0.0.9"';
    const ingress = 'interface = "eth0", group = "239.1.1.1", port = 5001';
    expect(mistakesOf({ ingress: `${ingress}, source = ["10.0.0.9"]`, egress: [own] })).toEqual([
      `4:11: rule "a": egress[1]: ${chain("a", "a")}`,
    ]);
    expect(parseRules({ ingress: `${ingress}, source = ["10.0.0.8"]`, egress: [own] })).toHaveLength(1);
  });

  test("of an egress that keeps any source, at every rule that takes such packets, named sources or not", () => {
    const keeping = { name: "a", ingress: endpoint("eth0 239.1.1.1 5001") };
    const kept = [`${endpoint("eth1 239.1.1.1 5001")}, source = "keep"`];
    for (const ingress of ["eth1 239.1.1.1 5001 10.0.0.1", "eth1 239.1.1.1 5001"])
      expect(mistakesOf({ ...keeping, egress: kept }, rule("b", ingress, "eth0 239.1.1.1 5001"))).toEqual([
        `4:11: rule "a": egress[1]: ${chain("a", "b", "a")}`,
      ]);
  });

  test("of hundreds of rules is one line with the middle left out", () => {
    const count = 300;
    const ring = Array.from({ length: count }, (_, i) =>
      rule(`r${i}`, `eth0 239.1.${i >> 8}.${i & 255} 5001`, groupAfter(i)),
    );
    function groupAfter(i: number): string {
      const next = (i + 1) % count;
      return `eth0 239.1.${next >> 8}.${next & 255} 5001`;
    }
    const names = ["r0", "r1", "r2", "r3", "r4", "r5"].map((name) => `rule "${name}"`).join(" → ");
    expect(mistakesOf(...ring)).toEqual([
      `4:11: rule "r0": egress[1]: feeds its own ingress: ${names} → 293 more → rule "r299" → rule "r0": ${advice}`,
    ]);
  });
});

describe("no cycle", () => {
  const cases: readonly (readonly [string, readonly RuleParts[]])[] = [
    ["one port beside the other", [rule("a", "eth0 239.1.1.1 5001", "eth0 239.1.1.1 5002")]],
    ["one group beside the other", [rule("a", "eth0 239.1.1.1 5001", "eth0 239.1.1.2 5001")]],
    ["another interface", [rule("a", "eth0 239.1.1.1 5001", "eth1 239.1.1.1 5001")]],
    [
      "a chain that ends",
      [
        rule("a", "eth0 239.1.1.1 5001", "eth1 239.1.1.1 5001"),
        rule("b", "eth1 239.1.1.1 5001", "eth2 239.1.1.1 5001"),
      ],
    ],
    [
      "ranges that pass each other: 239.1.1.N has port 5000+N on one side and 6000+N on the other",
      [rule("a", "eth0 239.1.1.1-239.1.1.50 5001-5050", "eth0 239.1.1.1-239.1.1.50 6001-6050")],
    ],
    [
      "the same groups and ports, paired differently",
      [rule("a", "eth0 239.1.1.1-239.1.1.50 5001-5050", "eth0 239.1.1.2-239.1.1.51 5001-5050")],
    ],
    [
      "senders named on both sides",
      [
        rule("a", "eth0 239.1.1.1 5001 10.0.0.1", "eth1 239.1.1.1 5001"),
        rule("b", "eth1 239.1.1.1 5001 10.1.0.1", "eth0 239.1.1.1 5001"),
      ],
    ],
    [
      "a host as target",
      [{ ingress: endpoint("eth0 239.1.1.1 5001"), egress: ['interface = "eth0", address = "10.0.0.1"'] }],
    ],
  ];
  for (const [what, rules] of cases)
    test(what, () => {
      expect(parseRules(...rules)).toHaveLength(rules.length);
    });
});
