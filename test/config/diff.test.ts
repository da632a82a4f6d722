// The difference between the rules that run and those that are wanted, which is all that a reload applies.

import { describe, expect, test } from "bun:test";
import { diffRules, formatDiff, type RuleDiff } from "../../src/config/diff.ts";
import { parseRules, type RuleParts } from "./rules.ts";

const ingressOf = (n: number) => `interface = "eth0", group = "239.1.1.${n}", port = 5001`;
const a: RuleParts = { name: "a", ingress: ingressOf(1) };
const b: RuleParts = { name: "b", ingress: ingressOf(2) };
const c: RuleParts = { name: "c", ingress: ingressOf(3) };

function diff(before: readonly RuleParts[], after: readonly RuleParts[]): RuleDiff {
  return diffRules(parseRules(...before), parseRules(...after));
}
function namesOf({ added, removed, changed, unchanged }: RuleDiff) {
  return {
    added: added.map(({ name }) => name),
    removed: removed.map(({ name }) => name),
    changed: changed.map(({ after }) => after.name),
    unchanged: unchanged.map(({ name }) => name),
  };
}

describe("diffRules", () => {
  test("from nothing all rules are added, to nothing all are removed", () => {
    expect(namesOf(diff([], [a, b]))).toEqual({ added: ["a", "b"], removed: [], changed: [], unchanged: [] });
    expect(namesOf(diff([a, b], []))).toEqual({ added: [], removed: ["a", "b"], changed: [], unchanged: [] });
    expect(namesOf(diff([], []))).toEqual({ added: [], removed: [], changed: [], unchanged: [] });
  });

  test("tells added, removed, changed and unchanged apart by the name", () => {
    const changed = { ...b, egress: ['interface = "eth2"'] };
    const result = diff([a, b, c], [changed, a, { name: "d", ingress: ingressOf(4) }]);
    expect(namesOf(result)).toEqual({ added: ["d"], removed: ["c"], changed: ["b"], unchanged: ["a"] });
    expect(result.changed[0]?.before.egress[0]?.interface).toBe("eth1");
    expect(result.changed[0]?.after.egress[0]?.interface).toBe("eth2");
  });

  test("a renamed rule is one removed and one added", () => {
    expect(namesOf(diff([a], [{ ...a, name: "z" }]))).toEqual({
      added: ["z"],
      removed: ["a"],
      changed: [],
      unchanged: [],
    });
  });

  test("order, comments and another way to write the same are no change", () => {
    expect(namesOf(diff([a, b, c], [c, b, a])).unchanged).toEqual(["c", "b", "a"]);
    const ways: readonly (readonly [string, string])[] = [
      ['group = "239.1.1.0/30", interface = "eth0"', 'interface = "eth0", group = "239.1.1.0-239.1.1.3"'],
      [ingressOf(1), `${ingressOf(1)}, protocol = "udp", exclusive = false, allow_link_local = false`],
      [
        `${ingressOf(1)}, source = ["10.0.0.2", "10.0.0.1"]`,
        `source = ["10.0.0.1", "10.0.0.2", "10.0.0.1"], ${ingressOf(1)}`,
      ],
      ['interface = "eth0", group = "239.1.1.1", port = "5001-5001"', ingressOf(1)],
    ];
    for (const [before, after] of ways)
      expect(namesOf(diff([{ ingress: before }], [{ ingress: after }])).unchanged).toEqual(["a"]);
    const defaults =
      'path = "auto", interface = "eth1", ttl = 1, source = "interface", source_port = "auto", dscp = 0, plain = false';
    expect(namesOf(diff([a], [{ ...a, egress: [defaults] }])).unchanged).toEqual(["a"]);
  });

  test("every key makes a change", () => {
    const target = 'interface = "eth1"';
    const ingress = [
      'interface = "eth9", group = "239.1.1.1", port = 5001',
      'interface = "eth0", group = "239.1.1.9", port = 5001',
      'interface = "eth0", group = "239.1.1.1", port = 5002',
      'interface = "eth0", group = "239.1.1.1"',
      'interface = "eth0", group = "239.1.1.1", port = 5001, source = ["10.0.0.1"]',
      'interface = "eth0", group = "239.1.1.1", port = 5001, allow_link_local = true',
    ];
    const egress = [
      'interface = "eth2"',
      `${target}, group = "239.2.1.1"`,
      `${target}, address = "10.0.0.1"`,
      `${target}, port = 6001`,
      `${target}, ttl = 2`,
      `${target}, source = "10.0.0.1"`,
      `${target}, source_port = 7000`,
      `${target}, path = "socket"`,
      `${target}, dscp = 46`,
      `${target}, plain = true`,
    ];
    for (const text of ingress)
      expect([text, namesOf(diff([a], [{ ...a, ingress: text }])).changed]).toEqual([text, ["a"]]);
    for (const text of egress)
      expect([text, namesOf(diff([a], [{ ...a, egress: [text] }])).changed]).toEqual([text, ["a"]]);
    expect(namesOf(diff([a], [{ ...a, egress: [target, 'interface = "eth2"'] }])).changed).toEqual(["a"]);
  });

  test("what is unchanged is the rule that runs, not its equal", () => {
    const running = parseRules(a, b);
    expect(diffRules(running, parseRules(a, b)).unchanged[0]).toBe(running[0]);
  });
});

test("formatDiff counts all four, zeros too", () => {
  expect(formatDiff(diff([a, b], [a, { ...b, ingress: ingressOf(9) }, c]))).toBe(
    "1 added, 0 removed, 1 changed, 1 unchanged",
  );
  expect(formatDiff(diff([], []))).toBe("0 added, 0 removed, 0 changed, 0 unchanged");
});
