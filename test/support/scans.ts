// What a scan might have heard: one flow and one scan, each with changes.

import type { Scan, ScanFlow } from "../../src/net/scan.ts";

export function heardFlow(changes: Partial<ScanFlow> = {}): ScanFlow {
  return {
    interface: "eth0",
    ...{ vlan: null, other_tag: null },
    direction: "ingress",
    group: "239.1.1.1",
    port: 5001,
    source: "10.0.0.1",
    ...{ kind: "unknown", detail: null },
    payload_type: null,
    programs: null,
    name: null,
    packets: 500,
    bytes: 658_000,
    bytes_min: 1316,
    bytes_max: 1316,
    packets_per_second: 100,
    bits_per_second: 1_052_800,
    ...{ elsewhere: [], relayed_by: null, checksums: { checked: 4, wrong: 0, unwritten: 0 } },
    ...changes,
  };
}

export function heardScan(flows: readonly ScanFlow[], changes: Partial<Scan> = {}): Scan {
  return {
    seconds: 5,
    interfaces: [
      { name: "eth0", address: "10.0.0.2", mtu: 1500 },
      { name: "eth1", address: "10.0.1.1", mtu: 1500 },
    ],
    flows: [...flows],
    ...{ queriers: [], members: [] },
    missed: { ring_full: 0, table_full: 0, malformed: 0 },
    ...changes,
  };
}
