// Edits of a rule file's text: what goes, what stays, and that everything nobody named stays byte for byte.

import { describe, expect, test } from "bun:test";
import { appendRules, removeRules, replaceRules, updateRules } from "../../src/config/edit.ts";
import { formatRule } from "../../src/config/format.ts";
import { parseConfig } from "../../src/config/parse.ts";
import type { Rule } from "../../src/config/schema.ts";
import { McrError } from "../../src/error.ts";
import { Random } from "./random.ts";
import { randomRule } from "./random-rule.ts";
import { file, parseRule } from "./rules.ts";

const header = `# The rules of site 7
# Ask Ada before changing anything.

[relay]
workers = 2          # this is a small router

`;
const studio = `# Studio A: camera 1
# (east side)
[[rule]]
name    = "studio-a"   # the old name was cam1
ingress = { interface = "eth0", group = "239.1.1.1", port = 5001 } # from the truck
egress  = [
  { interface = "eth1" },   # gallery
]
# ttl = 8
`;
const long = `[[rule]]
name = "long"
# between its tables
[rule.ingress]
interface = "eth0"
group = "239.1.1.2"   # second
port = 5002

[[rule.egress]]
interface = "eth1"

[[rule.egress]]
interface = "eth2"
`;
const last = `# Wall
[[rule]]
name = 'wall'
ingress = { interface = "eth0", group = "239.1.1.3" }
egress = [{ interface = "eth1" }]
`;
const whole = `${header}${studio}
# --- groups of the second floor ---

${long}
[log]
level = "debug" # for a while

${last}# the end
`;

const added = parseRule({ name: "new", ingress: 'interface = "eth0", group = "239.1.1.9", port = 5009' });
const rulesOf = (text: string) => parseConfig(text, file).rules;
const namesOf = (text: string) => rulesOf(text).map(({ name }) => name);

describe("appendRules", () => {
  test("adds blocks at the end, a blank line before each, and leaves what was there", () => {
    expect(appendRules(whole, [added])).toBe(`${whole}\n${formatRule(added)}`);
    const other = { ...added, name: "other" };
    expect(appendRules("", [added, other])).toBe(`${formatRule(added)}\n${formatRule(other)}`);
    expect(appendRules(`${header}`, [added])).toBe(`${header}${formatRule(added)}`);
    expect(appendRules("# no newline", [added])).toBe(`# no newline\n\n${formatRule(added)}`);
    expect(appendRules(whole, [])).toBe(whole);
  });

  test("ends lines as the file does, and keeps its byte order mark", () => {
    const dos = `\uFEFF${whole.replaceAll("\n", "\r\n")}`;
    const text = appendRules(dos, [added]);
    expect(text).toStartWith(dos);
    expect(text.replaceAll("\r\n", "")).not.toContain("\n");
    expect(namesOf(text)).toEqual(["studio-a", "long", "wall", "new"]);
  });
});

describe("removeRules", () => {
  test("takes the block with the comments that touch it, and one of the gaps around it", () => {
    expect(removeRules(whole, ["studio-a"])).toBe(whole.replace(`${studio}\n`, ""));
    expect(removeRules(whole, ["wall"])).toBe(whole.replace(last, ""));
    expect(removeRules(whole, ["nobody"])).toBe(whole);
  });

  test("takes the sub-tables of a rule, with what is between them", () => {
    expect(removeRules(whole, ["long"])).toBe(whole.replace(`${long}\n`, ""));
  });

  test("of all rules leaves everything else", () => {
    expect(removeRules(whole, ["wall", "long", "studio-a"])).toBe(
      `${header}# --- groups of the second floor ---\n\n[log]\nlevel = "debug" # for a while\n\n# the end\n`,
    );
    expect(removeRules(`${studio}\n${last}`, ["wall"])).toBe(studio);
  });

  test("finds sub-tables behind another table", () => {
    const text = `[[rule]]\nname = "a"\negress = [{ interface = "eth1" }]\n\n[log]\n\n[rule.ingress]\ninterface = "eth0"\ngroup = "239.1.1.1"\n`;
    expect(removeRules(text, ["a"])).toBe("[log]\n");
  });

  test("takes no line of a text in quotes for a comment", () => {
    const text = `${last}\n[[rule]]\negress = [{ interface = "eth1" }]\ningress = { interface = "eth0", group = "239.1.1.7" }\nname = """\\\n  # multi"""\n[[rule]]\nname = "b"\ningress = { interface = "eth0", group = "239.1.1.8" }\negress = [{ interface = "eth1" }]\n`;
    expect(namesOf(removeRules(text, ["b"]))).toEqual(["wall", "# multi"]);
    expect(namesOf(removeRules(text, ["# multi"]))).toEqual(["wall", "b"]);
  });

  test("leaves a comment that opens the file", () => {
    expect(removeRules(`# rules of site 7\n${last.replace("# Wall\n", "")}`, ["wall"])).toBe(
      "# rules of site 7\n",
    );
  });
});

describe("replaceRules", () => {
  test("changes only the values that differ", () => {
    const [rule] = rulesOf(whole);
    if (!rule) throw new Error("the file has rules");
    const after: Rule = { ...rule, ingress: { ...rule.ingress, port: 5555 } };
    expect(replaceRules(whole, [after])).toBe(whole.replace("port = 5001", "port = 5555"));
  });

  test("writes a rule of sub-tables anew, in its place and with the comments above it", () => {
    const rule = rulesOf(whole).find(({ name }) => name === "long");
    if (!rule) throw new Error("the file has the rule");
    const after: Rule = { ...rule, egress: rule.egress.slice(0, 1) };
    expect(replaceRules(whole, [after])).toBe(whole.replace(long, formatRule(after)));
  });
});

describe("updateRules", () => {
  test("of the rules that the file has changes no byte", () => {
    expect(updateRules(whole, rulesOf(whole))).toBe(whole);
    expect(updateRules(whole, rulesOf(whole).toReversed())).toBe(whole);
  });

  test("refuses a file whose rules are in one list, with the cure", () => {
    const text =
      'rule = [{ name = "a", ingress = { interface = "e", group = "239.1.1.1" }, egress = [{ interface = "f" }] }]\n';
    expect(() => updateRules(text, [])).toThrow(McrError);
    expect(() => updateRules(text, [])).toThrow("write each rule as a [[rule]] table");
  });

  test("gives out no text that says something else than was wanted", () => {
    const [rule] = rulesOf(whole);
    if (!rule) throw new Error("the file has a rule");
    // Not canonical: read again, the sources come sorted.
    const ingress = { ...rule.ingress, source: ["10.0.0.2", "10.0.0.1"] };
    expect(() => updateRules(whole, [{ ...rule, ingress }])).toThrow("the edit says what was wanted");
    expect(() => updateRules("", [{ ...rule, ingress }])).toThrow("the edit says what was wanted");
    expect(() => updateRules("", [rule, rule])).toThrow("has this name already");
  });

  test("after any sequence of changes the file says exactly what was wanted, and other lines are as they were", () => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const random = new Random(seed);
      const end = random.pick(["\n", "\r\n"]);
      const start = random.pick(["", whole, `${whole}\n`, whole.trimEnd(), header]).replaceAll("\n", end);
      let text = start;
      let rules: readonly Rule[] = rulesOf(text);
      for (let step = 0; step < 15; step += 1) {
        rules = change(rules, random, seed * 100 + step);
        const updated = updateRules(text, rules);
        const byName = (a: Rule, b: Rule) => (a.name < b.name ? -1 : 1);
        expect(rulesOf(updated).toSorted(byName)).toEqual(rules.toSorted(byName));
        expect(updateRules(updated, rules)).toBe(updated);
        expectOthersKept(text, updated, rules);
        text = updated;
      }
      expect(text.includes("[relay]")).toBe(start.includes("[relay]"));
      if (start.startsWith("#")) expect(text).toStartWith(header.trimEnd().replaceAll("\n", end));
    }
  }, 60_000);
});

/** Some rules less, some more, some others under their names. */
function change(rules: readonly Rule[], random: Random, number: number): readonly Rule[] {
  const kept = rules.filter(() => random.below(4) > 0);
  const changed = kept.map((rule) =>
    random.below(4) > 0 ? rule : { ...rule, egress: randomRule(random, number + 20_000).egress.slice(0, 1) },
  );
  // A range of the ingress may not pair with another egress's.
  const good = changed.map((rule, i) => (isGood(rule) ? rule : (kept[i] ?? rule)));
  const more = Array.from({ length: random.below(3) }, (_, i) => randomRule(random, number * 3 + i));
  return [...good, ...more.filter(({ name }) => good.every((rule) => rule.name !== name))];
}

function isGood(rule: Rule): boolean {
  try {
    return parseConfig(formatRule(rule), file).rules.length === 1;
  } catch {
    return false;
  }
}

/** Every rule that is in both and the same has the lines that it had; and nothing outside of rules is gone. */
function expectOthersKept(before: string, after: string, wanted: readonly Rule[]): void {
  const old = new Map(rulesOf(before).map((rule) => [rule.name, JSON.stringify(rule)]));
  const same = wanted.filter((rule) => old.get(rule.name) === JSON.stringify(rule)).map(({ name }) => name);
  const others = (text: string) =>
    removeRules(
      text,
      rulesOf(text)
        .map(({ name }) => name)
        .filter((name) => !same.includes(name)),
    );
  expect(others(after).trimEnd()).toBe(others(before).trimEnd());
}
