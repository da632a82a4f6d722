// What the log says of egresses: one line for each change that somebody has to know of.

import { expect, test } from "bun:test";
import { refreshEgresses } from "../../src/net/egresses.ts";
import type { InterfaceState, Unusable } from "../../src/net/interfaces.ts";
import { FakeEgresses, interfaceState, recordedLog, ruleOf, runningRule, startMs } from "../support/fakes.ts";

const missing: Unusable = { name: "veth2", unusable: "interface veth2 does not exist" };

/** The lines at level info while the interface goes through these states. */
function linesOf(...states: readonly (InterfaceState | Unusable)[]): readonly string[] {
  const { log, lines } = recordedLog({ level: "info" });
  const rules = [runningRule(ruleOf({}))];
  const shim = new FakeEgresses();
  for (const state of states)
    refreshEgresses(rules, new Map([["veth2", state]]), () => undefined, shim, log, startMs);
  return lines;
}

test("an egress that starts is no news", () => {
  expect(linesOf(interfaceState(), interfaceState())).toEqual([]);
});

test("an egress that is back after its address was gone says so", () => {
  expect(
    linesOf(interfaceState(), interfaceState({ address: 0 }), interfaceState(), interfaceState()),
  ).toEqual([
    expect.stringContaining("egress veth2 239.1.1.1:5001: failed: interface veth2 has no IPv4 address"),
    '<6>[Egress] rule "studio-a": egress veth2 239.1.1.1:5001: active, path socket',
  ]);
});

test("an egress that waited for its interface says when it has it", () => {
  expect(linesOf(missing, interfaceState())).toEqual([
    '<4>[Egress] rule "studio-a": egress veth2 239.1.1.1:5001: waiting: interface veth2 does not exist',
    '<6>[Egress] rule "studio-a": egress veth2 239.1.1.1:5001: active, path socket',
  ]);
});
