// What a list of heard streams says of each: which rule takes it, which sends it.

import { expect, test } from "bun:test";
import { takenBy } from "../../src/commands/init-plan.ts";
import { markRelayed } from "../../src/commands/relayed.ts";
import { ruleOf } from "../support/fakes.ts";
import { heardFlow, heardScan } from "../support/scans.ts";

const ingress = { interface: "eth0", group: "239.1.1.1", port: 5001 };
const everybody = ruleOf({ name: "everybody", ingress });
const named = ruleOf({ name: "named", ingress: { ...ingress, source: ["10.0.0.1"] } });
const everyPort = ruleOf({ name: "every-port", ingress: { interface: "eth0", group: "239.1.1.1" } });

test("a rule that names the source goes before one that stands above it in the file", () => {
  const flows = [heardFlow(), heardFlow({ source: "10.0.0.2" }), heardFlow({ port: 5002 })];
  for (const rules of [
    [everybody, named, everyPort],
    [everyPort, named, everybody],
  ])
    expect(markRelayed(heardScan(flows), rules).flows.map(({ relayed_by }) => relayed_by)).toEqual([
      "named",
      "everybody",
      "every-port",
    ]);
});

test("what a rule sends goes by interface, group and port, and is untagged", () => {
  const rule = ruleOf({ name: "sender", ingress, egress: [{ interface: "eth1", group: "239.9.9.9" }] });
  const sent = { interface: "eth1", direction: "egress", group: "239.9.9.9", source: "10.0.1.1" } as const;
  const flows = [heardFlow(sent), heardFlow({ ...sent, port: 5002 }), heardFlow({ ...sent, vlan: 5 })];
  expect(markRelayed(heardScan(flows), [rule]).flows.map(({ relayed_by }) => relayed_by)).toEqual([
    "sender",
    null,
    null,
  ]);
});

test("a rule for every port sends on every port", () => {
  const rule = ruleOf({
    name: "sender",
    ingress: { interface: "eth0", group: "239.1.1.1" },
    egress: [{ interface: "eth1", group: "239.9.9.9" }],
  });
  const sent = heardFlow({ interface: "eth1", direction: "egress", group: "239.9.9.9", port: 7 });
  expect(markRelayed(heardScan([sent]), [rule]).flows[0]?.relayed_by).toBe("sender");
});

test("a stream of several senders is taken when every one of them is", () => {
  const stream = (...sources: readonly string[]) => ({
    ...{ group: "239.1.1.1", port: 5001, vlan: null, name: null },
    heard: {
      ...{ kind: "unknown" as const, text: "", sources },
      ...{ packets_per_second: 1, bits_per_second: 1, bytes_max: 1 },
    },
  });
  const other = ruleOf({ name: "other", ingress: { ...ingress, source: ["10.0.0.2"] } });
  const takenBySome = takenBy([named], "eth0");
  expect(takenBySome(stream("10.0.0.1"))).toBe("named");
  expect(takenBySome(stream("10.0.0.1", "10.0.0.2"))).toBeUndefined();
  expect(takenBySome(stream("10.0.0.2", "10.0.0.1"))).toBeUndefined();
  expect(takenBy([everybody, named], "eth0")(stream("10.0.0.1"))).toBe("named");
  expect(takenBy([named, other], "eth0")(stream("10.0.0.1", "10.0.0.2"))).toBe("named");
});

test("a typed stream, whose senders nobody knows, is taken by a rule for any source only", () => {
  const typed = { group: "239.1.1.1", port: 5001, vlan: null, name: null };
  expect(takenBy([named], "eth0")(typed)).toBeUndefined();
  expect(takenBy([named, everybody], "eth0")(typed)).toBe("everybody");
  expect(takenBy([named, everyPort], "eth0")(typed)).toBe("every-port");
  expect(takenBy([everybody], "eth0")({ group: "239.1.1.1", vlan: null, name: null })).toBeUndefined();
});
