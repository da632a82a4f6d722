// What the control socket tells of interfaces: every drop of their egresses counts, whatever its reason, and who asks
// for members.

import { expect, test } from "bun:test";
import { interfaceSnapshots } from "../../src/control/network-snapshot.ts";
import { interfaceState } from "../support/fakes.ts";
import { egress, now, rule } from "./fake-relay.ts";

test("an interface sums what its egresses sent and dropped", () => {
  const dropped = { full: 1, error: 20, unavailable: 300, expired: 4000 };
  const rules = [
    { ...rule, interface: "eth0", egress: [{ ...egress, interface: "eth1", sent_packets: 5, dropped }] },
    { ...rule, interface: "eth0", egress: [{ ...egress, interface: "eth1", sent_packets: 6, dropped }] },
  ];
  const [eth0, eth1] = interfaceSnapshots(
    [{ name: "eth0", unusable: "interface eth0 is down" }, interfaceState({ name: "eth1" })],
    new Map(),
    new Map(),
    { rules, interfaces: [], devices: [] },
  );
  expect(eth0).toMatchObject({ state: "waiting", ingress_rules: 2, egresses: 0, egress_dropped: 0 });
  expect(eth1).toMatchObject({ state: "active", egresses: 2, sent_packets: 11, egress_dropped: 8642 });
});

test("an interface that is there tells why its egresses do not send", () => {
  const reason = "interface eth1 has no IPv4 address to send from";
  const failed = { ...egress, interface: "eth1", state: "failed" as const, reason };
  const rules = [{ ...rule, egress: [failed, { ...egress, interface: "eth1" }, failed] }];
  const snapshots = interfaceSnapshots([interfaceState({ name: "eth1" })], new Map(), new Map(), {
    rules,
    interfaces: [],
    devices: [],
  });
  expect(snapshots).toMatchObject([
    { state: "active", egresses: 3, failed_egresses: [{ reason, egresses: 2 }] },
  ]);
});

test("an interface has the last IGMP query, also while it is gone, and since when mcr listens", () => {
  const last = { timeMs: now.getTime() - 34_000, from: "10.0.0.1", version: 2 };
  const snapshots = interfaceSnapshots(
    [
      interfaceState({ name: "eth0" }),
      interfaceState({ name: "eth1" }),
      { name: "eth2", unusable: "interface eth2 is down" },
      interfaceState({ name: "eth3" }),
    ],
    new Map(),
    new Map([
      ["eth0", { last, sinceMs: now.getTime() - 60_000 }],
      ["eth1", { last: undefined, sinceMs: now.getTime() }],
      ["eth2", { last, sinceMs: undefined }],
    ]),
    { rules: [], interfaces: [], devices: [] },
  );
  const last_query = { time: "2026-11-21T11:59:26.000Z", from: "10.0.0.1", version: 2 };
  expect(snapshots).toMatchObject([
    { last_query, listening_since: "2026-11-21T11:59:00.000Z" },
    { last_query: null, listening_since: now.toISOString() },
    { last_query, listening_since: null },
    { last_query: null, listening_since: null },
  ]);
});
