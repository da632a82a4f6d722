// What the workers are told to look for, and what the log says of what they found.

import { describe, expect, test } from "bun:test";
import { Loops } from "../../src/net/loops.ts";
import type { RunningRule } from "../../src/net/running.ts";
import type { Interfaces } from "../../src/net/wanted.ts";
import { Counters } from "../../src/stats/counters.ts";
import {
  FakeCounterArea,
  FakeEgresses,
  interfaceState,
  recordedLog,
  ruleOf,
  runningRule,
  startMs,
  veth2Address,
} from "../support/fakes.ts";

const interfaces: Interfaces = new Map(
  ["veth1", "veth2"].map((name) => [name, interfaceState({ name })] as const),
);

function opened(running: RunningRule): RunningRule {
  for (const egress of running.egresses)
    egress.refresh(new FakeEgresses(), interfaceState({ name: egress.egress.interface }), startMs);
  return running;
}

function passing(egress: Readonly<Record<string, unknown>> = {}) {
  return runningRule(ruleOf({ name: "pass", egress: [{ interface: "veth2", ...egress }] }), 3, 7);
}

describe("an origin", () => {
  test("is the source of an egress, for the rule that it may come back to", () => {
    const { log } = recordedLog();
    const running = opened(passing());
    const [egress] = running.egresses;
    expect(new Loops(log).origins([running], interfaces)).toEqual([
      { source: veth2Address, source_port: egress?.sourcePort ?? -1, rule: 3, egress: 7 },
    ]);
  });

  test.each([
    ["sends elsewhere", { group: "239.10.1.1" }],
    ["keeps the source", { source: "keep" }],
    ["keeps the source port", { source_port: "keep" }],
  ])("is none of an egress that %s", (_, egress) => {
    expect(new Loops(recordedLog().log).origins([opened(passing(egress))], interfaces)).toEqual([]);
  });

  test("is none of an egress that has no socket yet", () => {
    expect(new Loops(recordedLog().log).origins([passing()], interfaces)).toEqual([]);
  });

  test("is there once the interface has the address that the rule names as a sender", () => {
    const rule = ruleOf({
      ingress: { interface: "veth1", group: "239.1.1.1", port: 5001, source: ["10.0.1.1"] },
    });
    const rules = [opened(runningRule(rule))];
    const loops = new Loops(recordedLog().log);
    const other = new Map([["veth2", interfaceState({ name: "veth2", address: 0x0901000a })]]);
    expect(loops.origins(rules, other)).toEqual([]);
    expect(loops.origins(rules, interfaces)).toHaveLength(1);
  });
});

describe("the log", () => {
  function looping() {
    const recorded = recordedLog();
    const loops = new Loops(recorded.log);
    loops.origins([opened(passing())], interfaces);
    const area = new FakeCounterArea();
    const counters = new Counters([area]);
    return { ...recorded, area, warn: () => loops.warn(counters, [0, 1]) };
  }

  test("names rule, egress and ingress interface of what came back, once a minute", () => {
    const { area, warn, lines, clock } = looping();
    warn();
    expect(lines).toEqual([]);
    area
      .set("interface", 1, { looped: 20 })
      .set("rule", 3, { looped: 20 })
      .set("egress", 7, { returned_packets: 20 });
    warn();
    warn();
    expect(lines).toEqual([
      '<4>[Ingress] rule "pass": egress veth2 239.1.1.1:5001: 20 packets came back to rule "pass" on veth1, which feeds this egress, and were dropped as looped: separate the two networks, send to another group or port, or name the real senders in ingress.source; where a router joins them, lower egress.ttl',
    ]);
    area
      .set("interface", 1, { looped: 25 })
      .set("rule", 3, { looped: 25 })
      .set("egress", 7, { returned_packets: 25 });
    warn();
    expect(lines).toHaveLength(1);
    clock.ms += 60_000;
    area
      .set("interface", 1, { looped: 32 })
      .set("rule", 3, { looped: 32 })
      .set("egress", 7, { returned_packets: 32 });
    warn();
    expect(lines[1]).toContain(": 7 packets came back");
    expect(lines[1]).toEndWith("(1 more like this suppressed)");
  });

  test("says of what other relays have passed round that it was not this relay", () => {
    const { area, warn, lines } = looping();
    area.set("interface", 0, { looped: 5 }).set("rule", 3, { looped: 5 });
    warn();
    expect(lines).toEqual([
      '<4>[Ingress] rule "pass": 5 packets on veth1 had gone round through other relays, and were dropped as looped: let one relay of the circle send to another group or port, or name the real senders in its ingress.source; where routers join them, lower egress.ttl',
    ]);
  });
});
