// Rules added to and removed from the running ones: the checks and the sentences of the rule file.

import { describe, expect, test } from "bun:test";
import { formatRule } from "../../src/config/format.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { addToRunning, removeFromRunning } from "../../src/config/running-edit.ts";
import { McrError } from "../../src/error.ts";
import { file, mistakesIn, parseRule, parseRules } from "./rules.ts";

const ingress = { interface: "eth0", group: "239.1.1.9", port: 5009 };
const added = { name: "x", ingress, egress: [{ interface: "eth1", ttl: 8 }] };
const running = parseRules({ name: "a" });

function refusalOf(step: () => unknown): readonly string[] {
  try {
    step();
  } catch (thrown) {
    if (thrown instanceof McrError) return thrown.lines;
    throw thrown;
  }
  throw new Error("expected a refusal");
}
const refusalOfAdd = (rule: unknown) => refusalOf(() => addToRunning(running, [rule]));

describe("addToRunning", () => {
  test("gives the running rules and the new one, as the file would have it", () => {
    const rules = addToRunning(running, [added]);
    expect(rules[0]).toEqual(running[0] ?? parseRule());
    const text = rules.map(formatRule).join("");
    expect(JSON.stringify(parseConfig(text, file).rules)).toBe(JSON.stringify(rules));
  });

  test("refuses with the sentences of the file, less the line", () => {
    const bad = {
      ...added,
      ingress: { ...ingress, prot: 5 },
      egress: [{ interface: "eth1", ttl: 0, tll: 1 }],
    };
    const text = `[[rule]]\nname = "x"\ningress = { interface = "eth0", group = "239.1.1.9", port = 5009, prot = 5 }\negress = [{ interface = "eth1", ttl = 0, tll = 1 }]\n`;
    const inFile = mistakesIn(text).map((line) => line.replace(/^rules\.toml:\d+:\d+: /, ""));
    expect(inFile).toHaveLength(3);
    expect(refusalOfAdd(bad).toSorted()).toEqual(inFile.toSorted());
  });

  test("refuses a name that runs, with the cure", () => {
    expect(refusalOfAdd({ ...added, name: "a" })).toEqual([
      'rule "a": name: a rule of this name runs already: give another name, or remove that one first (mcr remove)',
    ]);
  });

  test("refuses what a running rule takes, and a cycle through running rules", () => {
    const same = { ...added, ingress: { interface: "eth0", group: "239.1.1.1", port: 5001 } };
    expect(refusalOfAdd(same)).toEqual([
      'rule "x": ingress.group: rule "a" takes the same interface, group, port and source, or some of them: let one rule have them, with all egresses',
    ]);
    const back = {
      name: "x",
      ingress: { interface: "eth1", group: "239.1.1.1", port: 5001 },
      egress: [{ interface: "eth0" }],
    };
    expect(refusalOfAdd(back)).toEqual([
      expect.stringContaining('rule "a": egress[1]: feeds its own ingress: rule "a" → rule "x" → rule "a"'),
    ]);
  });

  test("refuses a unicast ingress for what it is, not for an egress that keeps its group", () => {
    const unicast = { ...added, ingress: { interface: "eth0", address: "10.0.0.5", port: 5001 } };
    expect(refusalOfAdd(unicast)).toEqual(['rule "x": ingress.address: is not supported yet: give a group']);
  });

  test("refuses anything that is no rule", () => {
    for (const value of [null, 5, "x", [], {}, { name: 5 }])
      expect(refusalOfAdd(value).length).toBeGreaterThan(0);
  });
});

describe("removeFromRunning", () => {
  test("takes the named ones, however often they are named", () => {
    const rules = parseRules(
      { name: "a" },
      { name: "b", ingress: 'interface = "eth0", group = "239.1.1.2"' },
    );
    expect(removeFromRunning(rules, ["a", "a"]).map(({ name }) => name)).toEqual(["b"]);
  });

  test("refuses all when one is not there, and says which there are", () => {
    expect(refusalOf(() => removeFromRunning(running, ["a", "nobody", "no\none"]))).toEqual([
      'no rule "nobody" runs; these run: a',
      'no rule "no\\u000aone" runs; these run: a',
    ]);
    expect(refusalOf(() => removeFromRunning([], ["a"]))).toEqual(['no rule "a" runs; no rule runs']);
  });
});
