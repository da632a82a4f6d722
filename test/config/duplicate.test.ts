// What only one rule may have: its name, and its interface, group, port and source.

import { describe, expect, test } from "bun:test";
import { mistakesOf, parseRules, type RuleParts } from "./rules.ts";

const on = (group: string, port = "", more = ""): RuleParts => ({
  ingress: `interface = "eth0", group = "${group}"${port === "" ? "" : `, port = "${port}"`}${more}`,
});
const named = (name: string, parts: RuleParts): RuleParts => ({ ...parts, name });
const both = (first: RuleParts, second: RuleParts) => [named("a", first), named("b", second)] as const;

const takes =
  "takes the same interface, group, port and source, or some of them: let one rule have them, with all egresses";

describe("two rules for one flow", () => {
  const cases: readonly (readonly [string, RuleParts, RuleParts])[] = [
    ["the same", on("239.1.1.1", "5001"), on("239.1.1.1", "5001")],
    ["the same, written as a range", on("239.1.1.1", "5001"), on("239.1.1.1/32", "5001-5001")],
    ["one flow of a diagonal range", on("239.1.1.1-239.1.1.50", "5001-5050"), on("239.1.1.25", "5025")],
    ["a range around it", on("239.1.1.25", "5025"), on("239.1.1.0/24", "5000-5255")],
    ["ranges of groups that overlap", on("239.1.1.1-239.1.1.9", "5001"), on("239.1.1.9-239.1.1.20", "5001")],
    ["ranges of ports that overlap", on("239.1.1.1", "5001-5010"), on("239.1.1.1", "5010-5020")],
    ["groups across, ports up", on("239.1.1.0/24", "5001"), on("239.1.1.7", "5000-5002")],
    ["every port, twice", on("239.1.1.0/24"), on("239.1.1.7")],
    [
      "one sender in common",
      on("239.1.1.1", "5001", ', source = ["10.0.0.1", "10.0.0.2"]'),
      on("239.1.1.1", "5001", ', source = ["10.0.0.2", "10.0.0.3"]'),
    ],
  ];
  for (const [what, first, second] of cases)
    test(what, () => {
      expect(mistakesOf(...both(first, second))).toEqual([
        `7:41: rule "b": ingress.group: rule "a" (line 3) ${takes}`,
      ]);
    });

  test("are told once for each rule too many, with the first that has it", () => {
    const same = on("239.1.1.1", "5001");
    expect(mistakesOf(named("a", same), named("b", same), named("c", same))).toEqual([
      `7:41: rule "b": ingress.group: rule "a" (line 3) ${takes}`,
      `11:41: rule "c": ingress.group: rule "a" (line 3) ${takes}`,
    ]);
  });

  test("are told of names and flows apart", () => {
    expect(mistakesOf({}, {})).toEqual([
      '6:8: rule "a": name: rule 1 (line 2) has this name already: give every rule its own',
      `7:41: rule "a": ingress.group: rule "a" (line 3) ${takes}`,
    ]);
  });
});

describe("no duplicates", () => {
  const cases: readonly (readonly [string, RuleParts, RuleParts])[] = [
    ["ports side by side", on("239.1.1.1", "5001-5010"), on("239.1.1.1", "5011-5020")],
    ["groups side by side", on("239.1.1.0/25", "5001"), on("239.1.1.128/25", "5001")],
    ["a point beside the diagonal", on("239.1.1.1-239.1.1.50", "5001-5050"), on("239.1.1.25", "5026")],
    [
      "diagonals side by side",
      on("239.1.1.1-239.1.1.50", "5001-5050"),
      on("239.1.1.1-239.1.1.50", "5002-5051"),
    ],
    ["one port beside every port: the closer match wins", on("239.1.1.1"), on("239.1.1.1", "5001")],
    [
      "a sender beside any sender",
      on("239.1.1.1", "5001"),
      on("239.1.1.1", "5001", ', source = ["10.0.0.1"]'),
    ],
    [
      "different senders",
      on("239.1.1.1", "5001", ', source = ["10.0.0.1"]'),
      on("239.1.1.1", "5001", ', source = ["10.0.0.2"]'),
    ],
    [
      "different interfaces",
      on("239.1.1.1", "5001"),
      { ingress: 'interface = "eth5", group = "239.1.1.1", port = 5001' },
    ],
  ];
  for (const [what, first, second] of cases)
    test(what, () => {
      expect(parseRules(...both(first, second))).toHaveLength(2);
    });
});

test("two egresses that send the same to the same place are refused within a rule", () => {
  const egress = ['interface = "eth1"', 'interface = "eth1", group = "239.1.1.1", port = 5001, ttl = 3'];
  expect(mistakesOf({ egress })).toEqual([
    '4:35: rule "a": egress[2]: sends the same packets to the same place as egress[1]: remove one of them',
  ]);
  const apart = ['interface = "eth1"', 'interface = "eth1", port = 5002', 'interface = "eth2"'];
  expect(parseRules({ egress: apart })).toHaveLength(1);
});
