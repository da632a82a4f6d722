// What the control socket tells of interfaces: every drop of their egresses counts, whatever its reason.

import { expect, test } from "bun:test";
import { interfaceSnapshots } from "../../src/control/network-snapshot.ts";
import { interfaceState } from "../support/fakes.ts";
import { egress, rule } from "./fake-relay.ts";

test("an interface sums what its egresses sent and dropped", () => {
  const dropped = { full: 1, error: 20, unavailable: 300, expired: 4000 };
  const rules = [
    { ...rule, interface: "eth0", egress: [{ ...egress, interface: "eth1", sent_packets: 5, dropped }] },
    { ...rule, interface: "eth0", egress: [{ ...egress, interface: "eth1", sent_packets: 6, dropped }] },
  ];
  const [eth0, eth1] = interfaceSnapshots(
    [{ name: "eth0", unusable: "interface eth0 is down" }, interfaceState({ name: "eth1" })],
    new Map(),
    { rules, interfaces: [] },
  );
  expect(eth0).toMatchObject({ state: "waiting", ingress_rules: 2, egresses: 0, egress_dropped: 0 });
  expect(eth1).toMatchObject({ state: "active", egresses: 2, sent_packets: 11, egress_dropped: 8642 });
});
