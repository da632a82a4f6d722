// A relay that relays nothing: answers for the control server that are the same in every test, and can be replaced.
// Also a directory of its own for each test's socket.

import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type {
  ConfigAnswer,
  ControlledRelay,
  EditResult,
  EgressSnapshot,
  Flows,
  InterfaceSnapshot,
  LogLevels,
  MembershipSnapshot,
  ReloadResult,
  RuleSnapshot,
  Stats,
  Status,
  Unsaved,
} from "../../src/control/protocol.ts";

export const now = new Date("2026-11-21T12:00:00.000Z");

export const egress: EgressSnapshot = {
  interface: "eth1",
  destination: "239.10.1.1:6001",
  ttl: 1,
  path: "frame",
  path_reason: null,
  plain: false,
  state: "active",
  since: "2026-11-21T09:55:00.000Z",
  reason: null,
  source_port: 40001,
  sent_packets: 1234567,
  sent_bytes: 1264196608,
  frame_packets: 1234567,
  rate: { packets_per_s: 20_000, bits_per_s: 163_840_000 },
  dropped: { full: 0, error: 0, unavailable: 0, expired: 0 },
  returned_packets: 0,
  last_error: null,
};

export const rule: RuleSnapshot = {
  name: "studio-a",
  state: "active",
  since: "2026-11-21T09:55:00.000Z",
  reason: null,
  interface: "eth0",
  ingress: "239.1.1.1:5001",
  source: [],
  exclusive: "off",
  exclusive_reason: null,
  flows: 1,
  packets: 1234567,
  bytes: 1264196608,
  rate: { packets_per_s: 20_000, bits_per_s: 163_840_000 },
  last_packet: "2026-11-21T11:59:59.990Z",
  latency: { samples: 1200, p50_ns: 612_345, p99_ns: 1_050_000, max_ns: 2_345_678 },
  rtp: { packets: 1234559, missing: 12, reordered: 3, duplicate: 1 },
  looped: 0,
  egress: [egress],
};

/** Every kind of rule and egress that show has something to say of. */
export const rules: readonly RuleSnapshot[] = [
  {
    ...rule,
    source: ["10.10.1.100", "10.10.1.101"],
    egress: [
      egress,
      {
        ...egress,
        interface: "wg0",
        destination: "10.100.0.2:6001",
        sent_packets: 1234500,
        dropped: { full: 60, error: 7, unavailable: 0, expired: 0 },
        last_error: "network is unreachable (ENETUNREACH)",
      },
    ],
  },
  {
    ...rule,
    name: "wall",
    state: "waiting",
    since: "2026-11-21T11:59:18.000Z",
    reason: "interface eth9 does not exist",
    interface: "eth9",
    ingress: "239.1.1.1-239.1.1.50:5001-5050",
    flows: 50,
    packets: 0,
    bytes: 0,
    rate: null,
    last_packet: null,
    latency: null,
    rtp: null,
    egress: [
      {
        ...egress,
        destination: "239.10.1.1-239.10.1.50:6001-6050",
        state: "waiting",
        since: "2026-11-17T08:00:00.000Z",
        reason: "interface eth1 is down: ip link set eth1 up",
        source_port: null,
        sent_packets: 0,
        sent_bytes: 0,
        rate: null,
      },
    ],
  },
];

export const status: Status = {
  version: "0.1.0",
  instance: null,
  pid: 123,
  file: "/etc/mcr/rules.toml",
  started: "2026-11-21T09:54:00.000Z",
  uptime_s: 7560,
  profile: "balanced",
  fanout: "flow",
  workers: [
    { worker: 0, cpu: 0 },
    { worker: 1, cpu: 1 },
  ],
  interfaces: [{ interface: "eth0", fanout_id: 4711 }],
  rules: { waiting: 1, joining: 0, active: 1, silent: 0, failed: 0 },
  last_reload: null,
};

export const stats: Stats = {
  time: now.toISOString(),
  totals: {
    packets: 1234667,
    matched: 1234567,
    bytes: 1264196608,
    sent_packets: 2469067,
    sent_bytes: 2528324608,
    ingress_dropped: 5,
    egress_dropped: 67,
    egress_full: 40,
    egress_error: 7,
    egress_unavailable: 20,
    egress_expired: 0,
  },
  interfaces: [
    {
      interface: "eth0",
      packets: 1234667,
      matched: 1234567,
      bytes: 1264196608,
      dropped: {
        ring: 1,
        no_match: 90,
        tagged: 5,
        malformed: 2,
        truncated: 0,
        bad_checksum: 2,
        fragment_late: 0,
        fragment_overlap: 0,
        fragment_full: 0,
        fragment_malformed: 0,
        other_host: 0,
        looped: 0,
      },
      undescribed: 0,
      reopened: 0,
    },
  ],
  workers: [0, 1].map((worker) => ({
    worker,
    cpu: worker,
    matched: 617283 + worker,
    sent_packets: 1234533 + worker,
    wakeups: 1000,
    blocks: 1200,
    sends: 5000,
    runs: 4000,
    run_packets: 32000,
    gather_ns: 400_000_000,
    send_ns: 2_600_000_000,
    load_percent: 12.5 * worker,
  })),
  rules: [...rules],
  devices: [
    {
      interface: "eth1",
      type: "veth",
      dropped: 3,
      errors: 0,
      qdisc: {
        ...{ kind: "tbf", dropped: 7991, overlimits: 4215, requeues: 0 },
        ...{ backlog_packets: 12, backlog_bytes: 12_504 },
      },
    },
    { interface: "wg0", type: null, dropped: 0, errors: 0, qdisc: null },
  ],
  latency: { samples: 1300, p50_ns: 600_000, p99_ns: 1_040_000, max_ns: 2_345_678 },
  igmp: { attempted: 5, succeeded: 5, failed: 0, active_groups: 5 },
};

export const reloaded: ReloadResult = {
  time: now.toISOString(),
  ok: true,
  difference: "2 added, 1 removed, 1 changed, 47 unchanged",
  added: ["studio-b", "studio-c"],
  removed: ["old"],
  changed: ["wall"],
  unchanged: 47,
  changes: [
    { kind: "added", name: "studio-b", details: ["eth0 239.1.1.2:5002 → eth1 239.10.1.2:6002"] },
    { kind: "added", name: "studio-c", details: ["eth0 239.1.1.3:5003 → eth1 239.10.1.3:6003"] },
    { kind: "removed", name: "old", details: ["eth0 239.1.1.9:5009 → eth1 239.10.1.9:6009"] },
    { kind: "changed", name: "wall", details: ["ingress.port: 5001-5050 → 5101-5150"] },
  ],
  unchanged_flows: 1234,
  errors: [],
  notes: ["[relay] workers changes only with a restart"],
};

export const refused: ReloadResult = {
  time: now.toISOString(),
  ok: false,
  difference: null,
  added: [],
  removed: [],
  changed: [],
  unchanged: 0,
  changes: [],
  unchanged_flows: 0,
  errors: [
    '/etc/mcr/rules.toml:13:9: rule "wall": ingress.port: 70000 is not a port: give 1 to 65535',
    "/etc/mcr/rules.toml:20:1: unknown key",
  ],
  notes: [],
};

export const saved: Unsaved = { added: [], changed: [], removed: [] };

export const flows: Flows = {
  time: now.toISOString(),
  seconds: 1.001,
  dropped: 0,
  overflow: 0,
  flows: [
    {
      rule: "studio-a",
      interface: "eth0",
      vlan: 0,
      source: "10.10.1.100",
      destination: "239.1.1.1",
      port: 5001,
      packets: 20_020,
      bytes: 20_500_480,
      size_min: 1024,
      size_max: 1024,
      packets_per_s: 20_000,
      bits_per_s: 163_840_000,
      last_packet: now.toISOString(),
    },
    {
      rule: null,
      interface: "eth0",
      vlan: 5,
      source: "10.10.1.101",
      destination: "239.1.1.1",
      port: 5002,
      packets: 2,
      bytes: 300,
      size_min: 100,
      size_max: 200,
      packets_per_s: 2,
      bits_per_s: 2397.6,
      last_packet: now.toISOString(),
    },
  ],
  igmp: [
    {
      interface: "eth0",
      vlan: 0,
      kind: "query",
      source: "10.10.1.1",
      destination: "224.0.0.1",
      packets: 1,
      last_packet: now.toISOString(),
    },
  ],
  failures: [{ interface: "eth9", reason: "interface eth9 does not exist" }],
};

export const memberships: readonly MembershipSnapshot[] = [
  {
    interface: "eth0",
    group: "239.1.1.1",
    source: "10.10.1.100",
    state: "joined",
    reason: null,
    retry_at: null,
    rules: ["studio-a", "studio-b"],
  },
  {
    interface: "eth0",
    group: "239.1.1.2",
    source: null,
    state: "failed",
    reason: "cannot join 239.1.1.2 on eth0: no buffer space available (ENOBUFS)",
    retry_at: "2026-11-21T12:00:08.000Z",
    rules: ["wall"],
  },
];

export const interfaces: readonly InterfaceSnapshot[] = [
  {
    interface: "eth0",
    state: "active",
    reason: null,
    ifindex: 2,
    mtu: 1500,
    address: "10.10.1.2",
    ingress_rules: 1,
    egresses: 0,
    failed_egresses: [],
    failing_egresses: [],
    fanout_id: 4711,
    last_query: null,
    listening_since: null,
    ingress: stats.interfaces[0] ?? null,
    sent_packets: 0,
    sent_bytes: 0,
    egress_dropped: 0,
    device: null,
  },
  {
    interface: "eth9",
    state: "waiting",
    reason: "interface eth9 does not exist (ip link shows the ones that do)",
    ifindex: null,
    mtu: null,
    address: null,
    ingress_rules: 1,
    egresses: 0,
    failed_egresses: [],
    failing_egresses: [],
    fanout_id: null,
    last_query: null,
    listening_since: null,
    ingress: null,
    sent_packets: 0,
    sent_bytes: 0,
    egress_dropped: 0,
    device: null,
  },
];

export const config: ConfigAnswer = {
  file: "/etc/mcr/rules.toml",
  instance: null,
  relay: { workers: "auto", profile: "balanced", fanout: "flow", control: "/run/mcr/mcr.sock" },
  log: { level: "info", format: "text", facility: { Ingress: "debug" } },
  unsaved: saved,
  rules: [
    {
      name: "studio-a",
      ingress: { interface: "eth0", group: "239.1.1.1", port: 5001, source: ["10.10.1.100"] },
      egress: [{ interface: "eth1", group: "239.10.1.1", port: 6001, ttl: 1 }],
    },
  ],
};

export const logLevels: LogLevels = { level: "info", facility: { Ingress: "debug" } };

export const edited: EditResult = {
  time: now.toISOString(),
  ok: true,
  file: "/etc/mcr/rules.toml",
  changes: [{ kind: "added", name: "studio-b", details: ["eth0 239.1.1.2:5002 → eth1 239.10.1.2:6002"] }],
  unsaved: { added: ["studio-b"], changed: [], removed: [] },
  errors: [],
  refusal: null,
};

export function fakeRelay(changes: Partial<ControlledRelay> = {}): ControlledRelay {
  return {
    status: () => status,
    rules: () => rules,
    stats: () => stats,
    reload: async () => reloaded,
    flows: async () => flows,
    memberships: () => memberships,
    interfaces: () => interfaces,
    config: () => config,
    logLevels: () => logLevels,
    setLogLevel: ({ level }) => ({ level: level === "default" ? "info" : level, facility: {} }),
    subscribe: () => () => {},
    unsaved: () => saved,
    add: async () => edited,
    remove: async () => edited,
    save: async () => edited,
    ...changes,
  };
}

export class SocketDirectory {
  readonly path = mkdtempSync(join(tmpdir(), "mcr-test-"));
  readonly socket = join(this.path, "mcr.sock");

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Until it is disposed, this process may neither write nor enter the directory, even if it is root's. */
export function asOrdinaryUser(path: string): Disposable {
  const nobody = 65534;
  const isRoot = process.geteuid?.() === 0;
  chmodSync(path, 0);
  if (isRoot) process.seteuid?.(nobody);
  return {
    [Symbol.dispose]() {
      if (isRoot) process.seteuid?.(0);
      chmodSync(path, 0o755);
    },
  };
}
