// Running rules as one table of indices.

import { describe, expect, test } from "bun:test";
import type { TableParts } from "../../src/native/shim.ts";
import { type TableInterface, tableParts } from "../../src/net/rule-table.ts";
import type { RunningRule } from "../../src/net/running.ts";
import {
  FakeEgresses,
  interfaceState,
  ipv4Of,
  ringHandle,
  ruleOf,
  runningRule,
  startMs,
} from "../support/fakes.ts";

const capturing: ReadonlyMap<string, TableInterface> = new Map([
  ["veth1", { slot: 2, captures: [{ rings: [ringHandle(11), ringHandle(12)] }] }],
  ["veth5", { slot: 0, captures: [{ rings: [ringHandle(21), ringHandle(22)] }] }],
]);

/** Matches and actions with addresses as text. */
function readable({ matches, actions }: TableParts) {
  return {
    matches: matches.map(({ address, source, ...rest }) => ({
      address: ipv4Of(address),
      source: source.every((byte) => byte === 0) ? "*" : ipv4Of(source),
      ...rest,
    })),
    actions: actions.map(({ address, ...rest }) => ({ address: ipv4Of(address), ...rest })),
  };
}

/** Opens the egress sockets, so that descriptors stand in the table. */
function opened(running: RunningRule): RunningRule {
  const shim = new FakeEgresses();
  for (const egress of running.egresses)
    egress.refresh(shim, interfaceState({ name: egress.egress.interface }), startMs);
  return running;
}

const bySocket = { link: 0, source: 0, source_port: 0, ttl: 0, dscp: 0, keep: 0, plain: 0 };

describe("the rule table", () => {
  test("has the rings of an interface that came back, and those it had before, in one slot", () => {
    const captures = [11, 21].map((ring) => ({ rings: [ringHandle(ring), ringHandle(ring + 1)] }));
    const { rings, matches } = tableParts(
      1,
      [runningRule(ruleOf({}))],
      new Map([["veth1", { slot: 2, captures }]]),
    );
    expect(rings).toEqual([
      { ring: ringHandle(11), worker: 0, interface: 2 },
      { ring: ringHandle(12), worker: 1, interface: 2 },
      { ring: ringHandle(21), worker: 0, interface: 2 },
      { ring: ringHandle(22), worker: 1, interface: 2 },
    ]);
    expect(matches.map((match) => match.interface)).toEqual([2]);
  });

  test("of no rules still has every ring, by worker and interface slot", () => {
    const parts = tableParts(41, [], capturing);
    expect(parts).toEqual({
      epoch: 41,
      rings: [
        { ring: ringHandle(11), worker: 0, interface: 2 },
        { ring: ringHandle(12), worker: 1, interface: 2 },
        { ring: ringHandle(21), worker: 0, interface: 0 },
        { ring: ringHandle(22), worker: 1, interface: 0 },
      ],
      matches: [],
      flows: [],
      actions: [],
      egresses: [],
      origins: [],
    });
  });

  test("has a match, a flow, an action and an egress for one plain rule", () => {
    const rule = ruleOf({
      ingress: { interface: "veth1", group: "239.1.1.1", port: 5001 },
      egress: [{ interface: "veth2", group: "239.10.1.1", port: 6001 }],
    });
    const parts = tableParts(1, [opened(runningRule(rule, 9, 30))], capturing);
    expect(readable(parts)).toEqual({
      matches: [{ address: "239.1.1.1", source: "*", port: 5001, vlan: 0, interface: 2, flow: 0 }],
      actions: [{ address: "239.10.1.1", port: 6001, egress: 0 }],
    });
    expect(parts.flows).toEqual([{ rule: 9, action_first: 0, action_count: 1 }]);
    expect(parts.egresses).toEqual([{ ...bySocket, fd: 201, slot: 30, segment_bytes_max: 1472 }]);
  });

  test("has a match for each source, all of one flow", () => {
    const rule = ruleOf({
      ingress: { interface: "veth1", group: "232.1.1.1", port: 5001, source: ["10.0.0.2", "10.0.0.1"] },
    });
    const parts = tableParts(1, [runningRule(rule)], capturing);
    expect(readable(parts).matches.map(({ source, flow }) => [source, flow])).toEqual([
      ["10.0.0.1", 0],
      ["10.0.0.2", 0],
    ]);
    expect(parts.flows).toHaveLength(1);
  });

  test("has 0 for every port, and for the port a packet came with", () => {
    const rule = ruleOf({ ingress: { interface: "veth1", group: "239.1.1.1" } });
    const parts = readable(tableParts(1, [runningRule(rule)], capturing));
    expect(parts.matches[0]?.port).toBe(0);
    expect(parts.actions).toEqual([{ address: "239.1.1.1", port: 0, egress: 0 }]);
  });

  test("fills in the ingress group where an egress names none; without a port the packet keeps its own", () => {
    const rule = ruleOf({
      egress: [
        { interface: "veth2", group: "239.10.1.1" },
        { interface: "veth2", port: 6001 },
        { interface: "wg0", address: "10.100.0.2", port: 7001 },
      ],
    });
    expect(readable(tableParts(1, [runningRule(rule)], capturing)).actions).toEqual([
      { address: "239.10.1.1", port: 0, egress: 0 },
      { address: "239.1.1.1", port: 6001, egress: 1 },
      { address: "10.100.0.2", port: 7001, egress: 2 },
    ]);
  });

  test("pairs the flows of a range with the egresses of the rule, flow by flow", () => {
    const rule = ruleOf({
      ingress: { interface: "veth1", group: "239.1.1.1-239.1.1.3", port: "5001-5003" },
      egress: [
        { interface: "veth2", group: "239.10.1.1-239.10.1.3", port: "6001-6003" },
        { interface: "veth3", group: "239.20.1.1", port: 7000 },
      ],
    });
    const parts = tableParts(1, [runningRule(rule, 4)], capturing);
    expect(readable(parts).matches.map(({ address, port, flow }) => [address, port, flow])).toEqual([
      ["239.1.1.1", 5001, 0],
      ["239.1.1.2", 5002, 1],
      ["239.1.1.3", 5003, 2],
    ]);
    expect(parts.flows).toEqual([
      { rule: 4, action_first: 0, action_count: 2 },
      { rule: 4, action_first: 2, action_count: 2 },
      { rule: 4, action_first: 4, action_count: 2 },
    ]);
    expect(readable(parts).actions).toEqual([
      { address: "239.10.1.1", port: 6001, egress: 0 },
      { address: "239.20.1.1", port: 7000, egress: 1 },
      { address: "239.10.1.2", port: 6002, egress: 0 },
      { address: "239.20.1.1", port: 7000, egress: 1 },
      { address: "239.10.1.3", port: 6003, egress: 0 },
      { address: "239.20.1.1", port: 7000, egress: 1 },
    ]);
    expect(parts.egresses).toHaveLength(2);
  });

  test("keeps the order of the rules, and every index points at its own", () => {
    const first = ruleOf({ name: "first", egress: [{ interface: "veth2" }, { interface: "veth3" }] });
    const second = ruleOf({ name: "second", ingress: { interface: "veth5", group: "239.2.2.2", port: 2 } });
    const parts = tableParts(1, [runningRule(first, 7, 10), runningRule(second, 3, 20)], capturing);
    expect(parts.flows).toEqual([
      { rule: 7, action_first: 0, action_count: 2 },
      { rule: 3, action_first: 2, action_count: 1 },
    ]);
    expect(parts.egresses.map(({ slot }) => slot)).toEqual([10, 11, 20]);
    expect(parts.actions.map(({ egress }) => egress)).toEqual([0, 1, 2]);
    expect(parts.matches.map(({ flow, interface: slot }) => [flow, slot])).toEqual([
      [0, 2],
      [1, 0],
    ]);
  });

  test("leaves out the rules of an interface that does not capture, and closes the gap", () => {
    const waiting = ruleOf({
      name: "waiting",
      ingress: { interface: "veth9", group: "239.1.1.1", port: 5001 },
    });
    const running = ruleOf({ name: "running" });
    const parts = tableParts(1, [runningRule(waiting, 0, 0), runningRule(running, 1, 1)], capturing);
    expect(parts.flows).toEqual([{ rule: 1, action_first: 0, action_count: 1 }]);
    expect(parts.egresses.map(({ slot }) => slot)).toEqual([1]);
    expect(parts.matches.map(({ flow }) => flow)).toEqual([0]);
    expect(parts.actions.map(({ egress }) => egress)).toEqual([0]);
  });

  test("has no descriptor for an egress that is not open, which is counted as unavailable", () => {
    const parts = tableParts(1, [runningRule(ruleOf({}))], capturing);
    expect(parts.egresses).toEqual([{ ...bySocket, fd: -1, slot: 0, segment_bytes_max: 0 }]);
  });
});
