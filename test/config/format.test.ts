// Rules as text: the style, and that the text parses to the rule it came from, for any rule.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { formatRule } from "../../src/config/format.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { type Rule, RuleSchema, ruleEntries } from "../../src/config/schema.ts";
import { Random } from "./random.ts";
import { randomRule } from "./random-rule.ts";
import { file, parseRule } from "./rules.ts";

describe("formatRule", () => {
  test("one egress is on the line of its key, defaults are left out", () => {
    const rule = parseRule({
      name: "studio-a",
      ingress: 'interface = "eth0", group = "239.1.1.1", port = 5001, exclusive = false, protocol = "udp"',
      egress: [
        'interface = "eth1", group = "239.10.1.1", port = 6001, ttl = 1, dscp = 0, source = "interface"',
      ],
    });
    expect(formatRule(rule)).toBe(
      `[[rule]]
name    = "studio-a"
ingress = { interface = "eth0", group = "239.1.1.1", port = 5001 }
egress  = [{ interface = "eth1", group = "239.10.1.1", port = 6001 }]
`,
    );
  });

  test("several egresses have a line each, with what is not a default", () => {
    const rule = parseRule({
      name: 'a \\"quoted\\" \\\\ name',
      ingress:
        'port = "5001-5002", interface = "eth0", group = "239.1.1.0/31", source = ["10.0.0.2", "10.0.0.1"]',
      egress: [
        'interface = "eth1"',
        'interface = "eth2", ttl = 8, dscp = 46',
        'interface = "wg0", address = "10.100.0.2", port = 6001, ttl = 64',
        'interface = "wg0", address = "10.100.0.3", port = 6001, ttl = 1, source_port = 7000',
      ],
    });
    expect(formatRule(rule)).toBe(
      `[[rule]]
name    = "a \\"quoted\\" \\\\ name"
ingress = { interface = "eth0", group = "239.1.1.0-239.1.1.1", port = "5001-5002", source = ["10.0.0.1", "10.0.0.2"] }
egress  = [
  { interface = "eth1" },
  { interface = "eth2", ttl = 8, dscp = 46 },
  { interface = "wg0", address = "10.100.0.2", port = 6001 },
  { interface = "wg0", address = "10.100.0.3", port = 6001, ttl = 1, source_port = 7000 },
]
`,
    );
  });

  test("every key of the schema is written", () => {
    // What this version does not relay is written all the same, so that the schema may grow.
    const all: Rule = v.parse(RuleSchema, {
      name: "all",
      ingress: {
        interface: "eth0",
        group: "ff05::1",
        vlan: 5,
        exclusive: true,
        protocol: "esp",
        allow_link_local: true,
      },
      egress: [
        {
          interface: "eth1",
          ttl: "keep",
          source: "keep",
          source_port: "keep",
          path: "frame",
          dscp: "keep",
          plain: true,
        },
      ],
    });
    expect(formatRule(all)).toBe(
      `[[rule]]
name    = "all"
ingress = { interface = "eth0", group = "ff05::1", vlan = 5, exclusive = true, protocol = "esp", allow_link_local = true }
egress  = [{ interface = "eth1", ttl = "keep", source = "keep", source_port = "keep", path = "frame", dscp = "keep", plain = true }]
`,
    );
    expect(Object.keys(ruleEntries)).toEqual(["name", "ingress", "egress"]);
  });

  test("any rule comes back from its text, and the text from the rule", () => {
    const random = new Random(1);
    for (let i = 0; i < 500; i += 1) {
      const rule = randomRule(random, i);
      const text = formatRule(rule);
      const [parsed] = parseConfig(text, file).rules;
      expect(JSON.stringify(parsed)).toBe(JSON.stringify(rule));
      if (parsed) expect(formatRule(parsed)).toBe(text);
    }
  });
});
