// What was seen on the wire, with the rule that takes it: as the data plane matches.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { flowsSnapshot } from "../../src/control/flows.ts";
import { FlowsSchema } from "../../src/control/protocol.ts";
import type { Observation, Seen } from "../../src/net/observe.ts";
import { ruleOf, runningRule } from "../support/fakes.ts";

const one: Seen = {
  interface: "veth1",
  vlan: 0,
  source: "10.0.0.1",
  destination: "239.1.1.1",
  port: 5001,
  kind: "udp",
  packets: 1000,
  bytes: 100_000,
  size_min: 100,
  size_max: 100,
  first_ms: 0,
  last_ms: 1000,
  ttl: 1,
  sample: new Uint8Array(),
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

function snapshot(...seen: readonly Seen[]) {
  const observation: Observation = { seconds: 2, seen, dropped: 0, overflow: 0, failures: [] };
  const result = flowsSnapshot(observation, rules, 0);
  expect<unknown>(v.parse(FlowsSchema, result)).toEqual(result);
  return result;
}

test("a flow has the rule that takes it, or none", () => {
  const cases: readonly (readonly [Partial<Seen>, string | null])[] = [
    [{}, "exact"],
    [{ source: "10.0.0.2" }, "any-port"],
    [{ port: 5002 }, "any-port"],
    [{ destination: "239.1.1.2" }, null],
    [{ interface: "veth2" }, null],
    [{ vlan: 5 }, null],
  ];
  for (const [changes, rule] of cases)
    expect([changes, snapshot({ ...one, ...changes }).flows[0]?.rule]).toEqual([changes, rule]);
});

test("rates are over the time that was watched; rules come first, then the largest", () => {
  const { flows } = snapshot(
    { ...one, destination: "239.9.9.9", packets: 5000 },
    { ...one, port: 7 },
    { ...one, destination: "239.9.9.8", packets: 9000 },
    one,
  );
  expect(flows.map(({ rule, destination }) => [rule, destination])).toEqual([
    ["exact", "239.1.1.1"],
    ["any-port", "239.1.1.1"],
    [null, "239.9.9.8"],
    [null, "239.9.9.9"],
  ]);
  expect(flows[0]).toMatchObject({ packets_per_s: 500, bits_per_s: 400_000 });
});

test("IGMP stands by itself", () => {
  const { flows, igmp } = snapshot({ ...one, kind: "query", destination: "224.0.0.1", port: 0 });
  expect(flows).toEqual([]);
  expect(igmp).toMatchObject([
    { kind: "query", source: "10.0.0.1", destination: "224.0.0.1", packets: 1000 },
  ]);
});
