// Which memberships the running rules ask for, and on whose behalf.

import { describe, expect, test } from "bun:test";
import type { InterfaceState, Unusable } from "../../src/net/interfaces.ts";
import { type Interfaces, membershipsOf, wantedMemberships } from "../../src/net/wanted.ts";
import { interfaceState, ruleOf, runningRule } from "../support/fakes.ts";

const interfaces: Interfaces = new Map<string, InterfaceState | Unusable>([
  ["veth1", interfaceState({ name: "veth1", ifindex: 3 })],
  ["veth5", interfaceState({ name: "veth5", ifindex: 8 })],
  ["veth7", { name: "veth7", unusable: "interface veth7 is down (ip link set veth7 up)" }],
]);

/** A running rule of this name on these ingress keys; veth1 unless they say otherwise. */
function running(name: string, ingress: Readonly<Record<string, unknown>>) {
  return runningRule(ruleOf({ name, ingress: { interface: "veth1", ...ingress } }));
}

describe("a rule", () => {
  test("wants its group on its ingress interface, from any source", () => {
    expect(membershipsOf(running("a", { group: "239.1.1.1", port: 5001 }), interfaces)).toEqual([
      { interface: "veth1", ifindex: 3, group: "239.1.1.1" },
    ]);
  });

  test("with sources wants the group from each of them, and not from any", () => {
    const rule = running("a", { group: "232.1.1.1", port: 5001, source: ["10.0.0.2", "10.0.0.1"] });
    expect(membershipsOf(rule, interfaces)).toEqual([
      { interface: "veth1", ifindex: 3, group: "232.1.1.1", source: "10.0.0.1" },
      { interface: "veth1", ifindex: 3, group: "232.1.1.1", source: "10.0.0.2" },
    ]);
  });

  test("for a range wants each of its groups, from each source", () => {
    const rule = running("a", { group: "232.1.1.254-232.1.2.1", source: ["10.0.0.1", "10.0.0.2"] });
    expect(membershipsOf(rule, interfaces).map(({ group, source }) => [group, source])).toEqual(
      ["232.1.1.254", "232.1.1.255", "232.1.2.0", "232.1.2.1"].flatMap((group) => [
        [group, "10.0.0.1"],
        [group, "10.0.0.2"],
      ]),
    );
  });

  test("wants nothing while its interface is missing, down, or was never read", () => {
    for (const name of ["veth7", "veth9"])
      expect(membershipsOf(running("a", { interface: name, group: "239.1.1.1" }), interfaces)).toEqual([]);
  });

  test("wants the same whether its egress interfaces are there or not", () => {
    const rule = ruleOf({
      ingress: { interface: "veth1", group: "239.1.1.1" },
      egress: [{ interface: "veth7" }, { interface: "veth9" }],
    });
    expect(membershipsOf(runningRule(rule), interfaces)).toHaveLength(1);
  });

  test("follows its interface to another index", () => {
    const moved: Interfaces = new Map([["veth1", interfaceState({ name: "veth1", ifindex: 12 })]]);
    expect(membershipsOf(running("a", { group: "239.1.1.1" }), moved)).toEqual([
      { interface: "veth1", ifindex: 12, group: "239.1.1.1" },
    ]);
  });
});

describe("rules together", () => {
  function wantedOf(...rules: readonly ReturnType<typeof running>[]) {
    return [...wantedMemberships(rules, interfaces).values()].map(({ membership, users }) => [
      `${membership.interface} ${membership.group} ${membership.source ?? "*"}`,
      [...users],
    ]);
  }

  test("that want the same group are users of one membership", () => {
    expect(
      wantedOf(
        running("a", { group: "239.1.1.1", port: 5001 }),
        running("b", { group: "239.1.1.1", port: 5002 }),
        running("c", { group: "239.1.1.0-239.1.1.1", port: 5003 }),
      ),
    ).toEqual([
      ["veth1 239.1.1.1 *", ["a", "b", "c"]],
      ["veth1 239.1.1.0 *", ["c"]],
    ]);
  });

  test("keep apart what differs in interface, group or source", () => {
    expect(
      wantedOf(
        running("a", { group: "239.1.1.1" }),
        running("b", { interface: "veth5", group: "239.1.1.1" }),
        running("c", { group: "239.1.1.2" }),
        running("d", { group: "239.1.1.1", source: ["10.0.0.1"] }),
        running("e", { group: "239.1.1.1", source: ["10.0.0.2"] }),
      ),
    ).toEqual([
      ["veth1 239.1.1.1 *", ["a"]],
      ["veth5 239.1.1.1 *", ["b"]],
      ["veth1 239.1.1.2 *", ["c"]],
      ["veth1 239.1.1.1 10.0.0.1", ["d"]],
      ["veth1 239.1.1.1 10.0.0.2", ["e"]],
    ]);
  });

  test("of one group on many ports want it once, and a rule is one user however often it asks", () => {
    expect(wantedOf(running("wall", { group: "239.1.1.1", port: "5001-5050" }))).toEqual([
      ["veth1 239.1.1.1 *", ["wall"]],
    ]);
  });

  test("want what the usable interfaces can give, and no more", () => {
    expect(
      wantedOf(
        running("waits", { interface: "veth7", group: "239.1.1.1" }),
        running("runs", { group: "239.1.1.1" }),
      ),
    ).toEqual([["veth1 239.1.1.1 *", ["runs"]]]);
    expect(wantedOf()).toEqual([]);
  });
});
