// The difference of rule sets in words.

import { describe, expect, test } from "bun:test";
import { describeChanges, describeDropped, findUnsaved } from "../../src/config/changes.ts";
import { diffRules } from "../../src/config/diff.ts";
import { parseRules, type RuleParts } from "./rules.ts";

const a = { name: "a", ingress: 'interface = "eth0", group = "239.1.1.1", port = 5001' };
const b = { name: "b", ingress: 'interface = "eth0", group = "239.1.1.2", port = 5002' };
const changes = (before: readonly RuleParts[], after: readonly RuleParts[]) =>
  describeChanges(diffRules(parseRules(...before), parseRules(...after)));
const detailsOf = (before: readonly string[], after: readonly string[]) =>
  changes([{ ...a, egress: before }], [{ ...a, egress: after }])[0]?.details;

describe("describeChanges", () => {
  test("says where an added or removed rule sends what", () => {
    const egress = ['interface = "eth1"', 'interface = "eth2", group = "239.2.2.2", port = 6001'];
    expect(changes([a], [{ ...b, egress }])).toEqual([
      {
        kind: "added",
        name: "b",
        details: ["eth0 239.1.1.2:5002 → eth1 239.1.1.2:5002", "eth0 239.1.1.2:5002 → eth2 239.2.2.2:6001"],
      },
      { kind: "removed", name: "a", details: ["eth0 239.1.1.1:5001 → eth1 239.1.1.1:5001"] },
    ]);
  });

  test("says what of a changed rule was and is", () => {
    const other = 'interface = "eth0", group = "239.1.1.1", source = ["10.0.0.1", "10.0.0.2"]';
    expect(changes([a], [{ ...a, ingress: other }])[0]?.details).toEqual([
      "ingress.port: 5001 → none",
      "ingress.source: none → 10.0.0.1, 10.0.0.2",
    ]);
  });

  test("knows an egress again by where it sends to", () => {
    expect(detailsOf(['interface = "eth1"', 'interface = "eth2"'], ['interface = "eth2", ttl = 8'])).toEqual([
      "egress eth2 239.1.1.1:5001: ttl: 1 → 8",
      "egress eth1 239.1.1.1:5001 removed",
    ]);
    expect(detailsOf(['interface = "eth1"'], ['interface = "eth1", port = 6001'])).toEqual([
      "egress eth1 239.1.1.1:6001 added",
      "egress eth1 239.1.1.1:5001 removed",
    ]);
    expect(
      detailsOf(['interface = "eth1"', 'interface = "eth2"'], ['interface = "eth2"', 'interface = "eth1"']),
    ).toEqual(["its egresses are in another order"]);
  });
});

test("what was edited at run time is found, and what a reload makes of it is said", () => {
  const rules = (...names: readonly string[]) =>
    parseRules(
      ...names.map((name, i) => ({
        name: name.replace("!", ""),
        ingress: `interface = "eth0", group = "239.1.1.${i + 1}", port = ${name.endsWith("!") ? 5002 : 5001}`,
      })),
    );
  const loaded = rules("kept", "changed", "removed", "both");
  const running = [...rules("kept", "changed!"), ...rules("-", "--", "---", "----", "new").slice(-1)];
  const unsaved = findUnsaved(loaded, running);
  expect(unsaved).toEqual({ added: ["new"], changed: ["changed"], removed: ["removed", "both"] });
  expect(describeDropped(unsaved, diffRules(running, loaded), "done")).toEqual([
    "dropped 1 rule added at run time: new (mcr save before a reload keeps them)",
    "undid the change of 1 rule changed at run time: changed (mcr save before a reload keeps them)",
    "brought back 2 rules removed at run time: removed, both (mcr save before a reload keeps them)",
  ]);
  expect(describeDropped(unsaved, diffRules(running, running), "done")).toEqual([]);
  expect(describeDropped(unsaved, diffRules(running, loaded), "would")[0]).toBe(
    "a reload drops 1 rule added at run time: new (mcr save keeps them)",
  );
});
