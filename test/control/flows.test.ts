// What was watched on the wire, with the rule that takes it: as the data plane matches.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { flowsSnapshot } from "../../src/control/flows.ts";
import { FlowsSchema } from "../../src/control/protocol.ts";
import type { Watched, WatchedFlow } from "../../src/net/watch.ts";
import { ruleOf, runningRule } from "../support/fakes.ts";

const one: WatchedFlow = {
  interface: "veth1",
  vlan: 0,
  source: "10.0.0.1",
  destination: "239.1.1.1",
  port: 5001,
  packets: 1000,
  bytes: 100_000,
  size_min: 100,
  size_max: 100,
  last_ms: 1000,
};
const rules = [
  runningRule(
    ruleOf({
      name: "exact",
      ingress: { interface: "veth1", group: "239.1.1.1", port: 5001, source: ["10.0.0.1"] },
    }),
    0,
    0,
  ),
  runningRule(ruleOf({ name: "any-port", ingress: { interface: "veth1", group: "239.1.1.1" } }), 1, 1),
];

function snapshot(flows: readonly WatchedFlow[], igmp: Watched["igmp"] = []) {
  const watched: Watched = { seconds: 2, flows, igmp, dropped: 0, overflow: 0, failures: [] };
  const result = flowsSnapshot(watched, rules, 0);
  expect<unknown>(v.parse(FlowsSchema, result)).toEqual(result);
  return result;
}

test("a flow has the rule that takes it, or none", () => {
  const cases: readonly (readonly [Partial<WatchedFlow>, string | null])[] = [
    [{}, "exact"],
    [{ source: "10.0.0.2" }, "any-port"],
    [{ port: 5002 }, "any-port"],
    [{ destination: "239.1.1.2" }, null],
    [{ interface: "veth2" }, null],
    [{ vlan: 5 }, null],
  ];
  for (const [changes, rule] of cases)
    expect([changes, snapshot([{ ...one, ...changes }]).flows[0]?.rule]).toEqual([changes, rule]);
});

test("rates are over the time that was watched; rules come first, then the largest", () => {
  const { flows } = snapshot([
    { ...one, destination: "239.9.9.9", packets: 5000 },
    { ...one, port: 7 },
    { ...one, destination: "239.9.9.8", packets: 9000 },
    one,
  ]);
  expect(flows.map(({ rule, destination }) => [rule, destination])).toEqual([
    ["exact", "239.1.1.1"],
    ["any-port", "239.1.1.1"],
    [null, "239.9.9.8"],
    [null, "239.9.9.9"],
  ]);
  expect(flows[0]).toMatchObject({ packets_per_s: 500, bits_per_s: 400_000 });
});

test("IGMP stands by itself", () => {
  const query = {
    ...{ interface: "veth1", vlan: 0, kind: "query" as const, source: "10.0.0.1" },
    ...{ destination: "224.0.0.1", packets: 1000, last_ms: 1000 },
  };
  const { flows, igmp } = snapshot([], [query]);
  expect(flows).toEqual([]);
  expect(igmp).toMatchObject([
    { kind: "query", source: "10.0.0.1", destination: "224.0.0.1", packets: 1000 },
  ]);
});
