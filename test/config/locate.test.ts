// Line and column of a key in the text of a rule file, for every way that TOML has to write it.

import { describe, expect, test } from "bun:test";
import { locateIn } from "../../src/config/locate.ts";
import type { Path } from "../../src/config/problem.ts";

function at(text: string, path: Path, atKey = false): string {
  const { line, column } = locateIn(text)(path, atKey);
  return `${line}:${column}`;
}

const ttl: Path = ["rule", 1, "egress", 1, "ttl"];
const first = '[[rule]]\nname = "first"\n';

describe("a value is found", () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ["in inline tables of a list", `${first}[[rule]]\negress = [{ ttl = 1 }, { ttl = 7 }]`, "4:32"],
    [
      "in a list over several lines, with comments",
      `${first}[[rule]]\negress = [\n  { ttl = 1 }, # one\n  # two\n  { interface = "a", ttl = 7 },\n]`,
      "7:28",
    ],
    ["in an inline table over several lines", `${first}[[rule]]\negress = [{}, {\n  ttl = 7\n}]`, "5:9"],
    ["in tables of tables", `${first}[[rule]]\n[[rule.egress]]\n[[rule.egress]]\n  ttl   =   7`, "6:13"],
    ["behind a quoted key", `${first}[[rule]]\n[[rule.egress]]\n[[rule.egress]]\n"ttl" = 7`, "6:9"],
    ["in a list of tables written inline", "rule = [{}, { egress = [{}, { ttl = 7 }] }]", "1:37"],
    [
      "behind letters beyond ASCII, one column each",
      `${first}[[rule]]\negress = [{ name = "é—" }, { ttl = 7 }]`,
      "4:36",
    ],
    ["behind CRLF", `[[rule]]\r\n[[rule]]\r\negress = [{}, { ttl = 7 }]\r\n`, "3:23"],
  ];
  for (const [what, text, position] of cases)
    test(what, () => {
      expect(at(text, ttl)).toBe(position);
    });
});

describe("a key is found", () => {
  test("where it is written, apart from its value", () => {
    const text = `${first}[[rule]]\negress = [{}, {   ttl   = 7 }]`;
    expect(at(text, ttl, true)).toBe("4:19");
    expect(at(text, ttl)).toBe("4:27");
  });

  test("in a heading, and as part of a dotted key", () => {
    expect(at("[relays]\nx = 1", ["relays"], true)).toBe("1:2");
    expect(at("[[rules]]", ["rules"], true)).toBe("1:3");
    expect(at('relay.wrong."key" = 1', ["relay", "wrong"], true)).toBe("1:7");
    expect(at("relay.wrong.key = 1", ["relay", "wrong", "key"], true)).toBe("1:13");
  });
});

describe("what is not in the text is found at the nearest table that should hold it", () => {
  const text = `${first}[[rule]]\nname = "b"\negress = [{ interface = "eth1" }]\n`;
  const cases: readonly (readonly [string, Path, string])[] = [
    ["a missing key of a rule", ["rule", 1, "ingress"], "3:1"],
    ["a key below a missing table", ["rule", 1, "ingress", "group"], "3:1"],
    ["a missing key of an egress", ["rule", 1, "egress", 0, "ttl"], "5:11"],
    ["an element that is not there", ["rule", 1, "egress", 7, "ttl"], "5:10"],
    ["anything else", ["relay", "workers"], "1:1"],
    ["the file", [], "1:1"],
  ];
  for (const [what, path, position] of cases)
    test(what, () => {
      expect(at(text, path)).toBe(position);
    });
});

describe("odd texts", () => {
  test("an empty one has a beginning", () => {
    expect(at("", ["rule", 0])).toBe("1:1");
  });

  test("one that this parser cannot read has a beginning too", () => {
    expect(at("= = =", ["rule", 0])).toBe("1:1");
  });

  test("keys that JavaScript has of its own are keys like others", () => {
    expect(at("a = 1\n__proto__ = 2", ["__proto__"])).toBe("2:13");
    expect(at("a = 1", ["constructor"])).toBe("1:1");
  });

  test("nesting far deeper than any rule file costs nothing", () => {
    const deep = `x = ${"[".repeat(400)}${"]".repeat(400)}`;
    expect(at(deep, ["x", 0, 0])).toBe("1:7");
  });
});
