// When an egress is failing because nobody answers where it sends to, and when it is active again.

import { describe, expect, test } from "bun:test";
import type { InterfaceState, Unusable } from "../../src/net/interfaces.ts";
import { Neighbours } from "../../src/net/neighbours.ts";
import { FakeEgresses, interfaceState, ruleOf, runningRule, startMs } from "../support/fakes.ts";
import { FakeNetlink } from "../support/netlink.ts";

const host = "10.0.1.9";
const reason =
  "10.0.1.9 does not answer ARP on veth2; it is asked again with every packet (ip neigh show dev veth2)";

/** Rules of one egress each, open on veth2. */
function relaying(...egresses: readonly Readonly<Record<string, unknown>>[]) {
  const kernel = new FakeNetlink();
  const shim = new FakeEgresses();
  const rules = egresses.map((egress, slot) => {
    const rule = ruleOf({ name: `rule-${slot}`, egress: [{ interface: "veth2", ...egress }] });
    return runningRule(rule, slot, slot);
  });
  const interfaces = new Map<string, InterfaceState | Unusable>([["veth2", interfaceState()]]);
  const open = () => {
    for (const { egresses } of rules)
      for (const egress of egresses)
        egress.refresh(shim, interfaces.get("veth2") ?? interfaceState(), startMs);
  };
  open();
  const changes: string[] = [];
  const neighbours = new Neighbours(kernel, ({ rule }, { status }) => {
    changes.push(`${rule.name} ${status.state}`);
  });
  return {
    kernel,
    rules,
    interfaces,
    changes,
    open,
    look: () => neighbours.look(rules, interfaces, startMs),
    states: () => rules.flatMap(({ egresses }) => egresses.map(({ status }) => status.state)),
    reasons: () => rules.flatMap(({ egresses }) => egresses.map(({ status }) => status.reason)),
  };
}

describe("a host that does not answer", () => {
  test("makes its egress failing at the second look, with the reason", () => {
    const { kernel, look, states, reasons, changes } = relaying({ address: host });
    kernel.neighbours.set(host, "INCOMPLETE");
    look();
    expect(states()).toEqual(["active"]);
    kernel.neighbours.set(host, "FAILED");
    look();
    expect([states(), reasons()]).toEqual([["failing"], [reason]]);
    look();
    expect(changes).toEqual(["rule-0 failing"]);
  });

  test("that answers at last makes it active at once", () => {
    const { kernel, look, states, reasons, changes } = relaying({ address: host });
    kernel.neighbours.set(host, "FAILED");
    look();
    look();
    kernel.neighbours.set(host, "REACHABLE");
    look();
    expect([states(), reasons()]).toEqual([["active"], [null]]);
    expect(changes).toEqual(["rule-0 failing", "rule-0 active"]);
  });

  test("that the kernel has forgotten, since nobody sends, has not answered", () => {
    const { kernel, look, states } = relaying({ address: host });
    kernel.neighbours.set(host, "FAILED");
    look();
    look();
    kernel.neighbours.delete(host);
    look();
    expect(states()).toEqual(["failing"]);
    kernel.neighbours.set(host, "STALE");
    look();
    expect(states()).toEqual(["active"]);
  });

  test("and answers in between is asked for twice anew", () => {
    const { kernel, look, states } = relaying({ address: host });
    for (const state of ["INCOMPLETE", "REACHABLE", "INCOMPLETE"] as const) {
      kernel.neighbours.set(host, state);
      look();
    }
    expect(states()).toEqual(["active"]);
  });

  test("is no matter of an egress that sends elsewhere, or to a group", () => {
    const { kernel, look, states } = relaying({ address: host }, { address: "10.0.1.2" }, {});
    kernel.neighbours.set(host, "FAILED");
    kernel.neighbours.set("10.0.1.2", "STALE");
    look();
    look();
    expect(states()).toEqual(["failing", "active", "active"]);
  });

  test("stays failing through a reload that leaves the egress alone, not through a new socket", () => {
    const { kernel, look, states, reasons, open, interfaces } = relaying({ address: host });
    kernel.neighbours.set(host, "FAILED");
    look();
    look();
    open();
    expect([states(), reasons()]).toEqual([["failing"], [reason]]);
    interfaces.set("veth2", { name: "veth2", unusable: "interface veth2 is down" });
    open();
    look();
    expect(states()).toEqual(["waiting"]);
    interfaces.set("veth2", interfaceState({ ifindex: 9 }));
    open();
    expect(states()).toEqual(["active"]);
  });

  test("is the gateway, where the host lies behind one", () => {
    const { kernel, look, reasons } = relaying({ address: "192.168.7.7" });
    kernel.routes.set("192.168.7.7", "10.0.1.254");
    kernel.neighbours.set("10.0.1.254", "FAILED");
    look();
    look();
    expect(reasons()).toEqual([
      "the gateway 10.0.1.254 to 192.168.7.7 does not answer ARP on veth2; it is asked again with every packet (ip neigh show dev veth2)",
    ]);
  });

  test("is not asked for any more when the route leads through a gateway", () => {
    const { kernel, look, states } = relaying({ address: host });
    kernel.neighbours.set(host, "FAILED");
    kernel.routes.set(host, "10.0.1.254");
    look();
    look();
    expect(states()).toEqual(["active"]);
  });
});

describe("nothing is said of", () => {
  test("a host that nobody has sent to, or that has no route: its packets are refused and counted", () => {
    const { kernel, look, states } = relaying({ address: host }, { address: "192.168.9.9" });
    kernel.routes.set("192.168.9.9", null);
    kernel.neighbours.set("10.0.1.77", "FAILED"); // somebody else's
    look();
    look();
    expect(states()).toEqual(["active", "active"]);
  });

  test("a kernel that does not answer: the states stay as they are", () => {
    const { kernel, look, states } = relaying({ address: host });
    kernel.neighbours.set(host, "FAILED");
    look();
    look();
    kernel.isDeaf = true;
    look();
    expect(states()).toEqual(["failing"]);
  });
});

describe("the kernel is asked", () => {
  test("nothing where no egress sends to a host", () => {
    const { kernel, look } = relaying({}, { group: "239.10.1.1" });
    look();
    expect(kernel.asked).toEqual({ links: 0, routes: 0, neighbours: 0 });
  });

  test("once for an interface while all answer, and for each host's route while one does not", () => {
    const { kernel, look } = relaying({ address: host }, { address: "10.0.1.2" }, { address: host });
    look();
    expect(kernel.asked).toEqual({ links: 0, routes: 0, neighbours: 1 });
    kernel.neighbours.set(host, "FAILED");
    look();
    expect(kernel.asked).toEqual({ links: 0, routes: 2, neighbours: 2 });
  });

  test("for 1,024 routes in one look at the most", () => {
    const hosts = Array.from({ length: 1_100 }, (_, i) => ({ address: `10.1.${i >> 8}.${i & 0xff}` }));
    const { kernel, look } = relaying(...hosts);
    kernel.neighbours.set(host, "FAILED");
    look();
    expect(kernel.asked.routes).toBe(1_024);
  });
});
