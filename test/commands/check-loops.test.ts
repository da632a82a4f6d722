// What `mcr check` warns of, and what it leaves alone.

import { expect, test } from "bun:test";
import { formatCheck } from "../../src/commands/check.ts";
import { loopWarnings } from "../../src/commands/check-loops.ts";
import { parseConfig } from "../../src/config/parse.ts";
import type { Attachment } from "../../src/net/one-network.ts";
import { ruleOf } from "../support/fakes.ts";

const oneNetwork = (): Attachment => ({ address: "10.0.0.2", networks: ["10.0.0.0/24"], bridge: undefined });
const noNetwork = (): Attachment => ({ address: undefined, networks: [], bridge: undefined });

const same = ruleOf({
  name: "same",
  ingress: { interface: "eth0", group: "239.1.1.1", port: 5001 },
  egress: [{ interface: "eth1" }, { interface: "eth1", group: "239.2.1.1" }],
});

test("the same group out of an interface of the same network is a warning that names both and why", () => {
  expect(loopWarnings([same], oneNetwork)).toEqual([
    'rule "same": egress eth1 239.1.1.1:5001 sends what rule "same" takes on eth0, and they look like one network: both have an address of 10.0.0.0/24; what comes back is dropped as looped: separate the two networks, send to another group or port, or name the real senders in ingress.source; where a router joins them, lower egress.ttl',
  ]);
});

test("the same group out of another network is the normal use", () => {
  expect(loopWarnings([same], noNetwork)).toEqual([]);
});

test("a chain of two rules through one network is no loop", () => {
  const rules = ["1", "2"].map((n) =>
    ruleOf({
      name: n,
      ingress: { interface: "eth0", group: `239.${n}.1.1`, port: 5001 },
      egress: [{ interface: "eth1", group: `239.${Number(n) + 1}.1.1` }],
    }),
  );
  expect(loopWarnings(rules, oneNetwork)).toEqual([]);
});

test("hundreds of rules between the same interfaces are one warning", () => {
  const rules = Array.from({ length: 300 }, (_, i) =>
    ruleOf({
      name: `rule-${i}`,
      ingress: { interface: "eth0", group: `239.1.${i >> 8}.${i & 255}`, port: 5001 },
      egress: [{ interface: "eth1" }],
    }),
  );
  const warnings = loopWarnings(rules, oneNetwork);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toContain("(and 299 more like this)");
});

test("the warning stands above the summary, and the file is good", () => {
  const config = parseConfig(
    '[[rule]]\nname = "a"\ningress = { interface = "eth0", group = "239.1.1.1", port = 5001 }\negress = [{ interface = "eth1" }]\n',
    "rules.toml",
  );
  const text = formatCheck(
    "rules.toml",
    config,
    200,
    () => undefined,
    loopWarnings(config.rules, oneNetwork),
  );
  const lines = text.trimEnd().split("\n");
  expect(lines.at(-2)).toStartWith(
    'warning: rule "a": egress eth1 239.1.1.1:5001 sends what rule "a" takes on eth0',
  );
  expect(lines.at(-1)).toEndWith(": ok");
});
