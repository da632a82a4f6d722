// What the control socket and the log tell of rules and counters.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { destinationOf } from "../../src/config/destination.ts";
import { RuleSchema, StatsSchema } from "../../src/control/protocol.ts";
import {
  isoTime,
  ruleSnapshot,
  type Source,
  statisticsLines,
  statsSnapshot,
} from "../../src/control/snapshot.ts";
import type { RunningRule } from "../../src/net/running.ts";
import { Counters } from "../../src/stats/counters.ts";
import { Retired } from "../../src/stats/retired.ts";
import {
  FakeCounterArea,
  FakeEgresses,
  interfaceState,
  linkHandle,
  ruleOf,
  runningRule,
  startMs,
} from "../support/fakes.ts";

/** Two workers, one rule in slot 1 with egresses in slots 4 and 5: the first sends, the second waits. */
function relaying() {
  const running = runningRule(
    ruleOf({
      ingress: { interface: "veth1", group: "239.1.1.1", port: 5001, source: ["10.10.1.100"] },
      egress: [
        { interface: "veth2", group: "239.10.1.1", port: 6001 },
        { interface: "wg0", address: "10.100.0.2", port: 7001, source_port: 5500 },
      ],
    }),
    1,
    4,
  );
  running.status.change("active", null, startMs + 1000);
  const [sending, waiting] = running.egresses;
  const shim = new FakeEgresses();
  sending?.refresh(shim, interfaceState(), startMs + 1000, () => linkHandle(31));
  waiting?.refresh(shim, { name: "wg0", unusable: "interface wg0 is down (ip link set wg0 up)" }, startMs);
  const lastMs = startMs + 2500;
  const first = new FakeCounterArea()
    .set("worker", 0, { wakeups: 10, blocks: 11, sends: 12, runs: 2, run_packets: 8, send_ns: 5 })
    .setLatency(1, { sum_ns: 400, max_ns: 300 }, { 0: 2 })
    .setLatency(131_072, { sum_ns: 400, max_ns: 300 }, { 0: 2 })
    .set("interface", 0, { packets: 70, bytes: 60_000, matched: 60, no_match: 7, bad_checksum: 3 })
    .set("rule", 1, {
      packets: 60,
      bytes: 60_000,
      last_ns: lastMs * 1e6,
      rtp_packets: 50,
      rtp_missing: 2,
      looped: 3,
    })
    .set("egress", 4, {
      sent_packets: 57,
      sent_bytes: 57_000,
      frame_packets: 51,
      full_packets: 3,
      last_errno: 105,
      returned_packets: 2,
    })
    .set("egress", 5, { unavailable_packets: 60 });
  const second = new FakeCounterArea()
    .set("worker", 0, { wakeups: 20 })
    .set("interface", 0, { packets: 41, bytes: 40_000, matched: 40, fragment_late: 1 })
    .set("rule", 1, {
      packets: 40,
      bytes: 40_000,
      last_ns: (lastMs - 500) * 1e6,
      rtp_packets: 30,
      rtp_missing: 1,
      rtp_reordered: 5,
      rtp_duplicate: 6,
      looped: 1,
    })
    .set("egress", 4, { sent_packets: 39, sent_bytes: 39_000, frame_packets: 39, error_packets: 1 })
    .set("egress", 5, { unavailable_packets: 40 });
  const counters = new Counters([first, second]);
  const source: Source = {
    counters,
    rules: [running],
    interfaces: [{ name: "veth1", slot: 0, ringDropped: 9, reopened: 1 }],
    devices: [
      { interface: "veth2", type: "veth", dropped: 3, errors: 2, qdisc: { ...queue, dropped: 7991 } },
    ],
    leaving: [],
    retired: [],
    cpus: [0, 3],
    loadPercent: [12.5, 0],
  };
  return { running, counters, source };
}

const queue = { kind: "tbf", overlimits: 0, requeues: 0, backlog_packets: 0, backlog_bytes: 0 };
const igmp = { attempted: 5, succeeded: 5, failed: 0, active_groups: 5 };

/** As a client gets it; the schemas take nothing away and miss nothing. */
function sent(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

describe("a rule's snapshot", () => {
  test("tells state, ingress, counts of all workers, and each egress", () => {
    const { running, counters } = relaying();
    expect(ruleSnapshot(running, counters)).toEqual({
      name: "studio-a",
      state: "active",
      since: "2026-01-02T03:04:06.000Z",
      reason: null,
      interface: "veth1",
      ingress: "239.1.1.1:5001",
      source: ["10.10.1.100"],
      exclusive: "off",
      exclusive_reason: null,
      flows: 1,
      packets: 100,
      bytes: 100_000,
      rate: null,
      last_packet: "2026-01-02T03:04:07.500Z",
      latency: { samples: 2, p50_ns: 256, p99_ns: 300, max_ns: 300 },
      rtp: { packets: 80, missing: 3, reordered: 5, duplicate: 6 },
      looped: 4,
      egress: [
        {
          interface: "veth2",
          destination: "239.10.1.1:6001",
          ttl: 1,
          path: "frame",
          path_reason: null,
          plain: false,
          state: "active",
          since: "2026-01-02T03:04:06.000Z",
          reason: null,
          source_port: 40_001,
          sent_packets: 96,
          sent_bytes: 96_000,
          frame_packets: 90,
          rate: null,
          dropped: { full: 3, error: 1, unavailable: 0, expired: 0 },
          returned_packets: 2,
          last_error: "no buffer space available (ENOBUFS)",
        },
        {
          interface: "wg0",
          destination: "10.100.0.2:7001",
          ttl: 64,
          path: "socket",
          path_reason: null,
          plain: false,
          state: "waiting",
          since: "2026-01-02T03:04:05.000Z",
          reason: "interface wg0 is down (ip link set wg0 up)",
          source_port: null,
          sent_packets: 0,
          sent_bytes: 0,
          frame_packets: 0,
          rate: null,
          dropped: { full: 0, error: 0, unavailable: 100, expired: 0 },
          returned_packets: 0,
          last_error: null,
        },
      ],
    });
  });

  test("is what the protocol says, word for word", () => {
    const { running, counters } = relaying();
    const snapshot = ruleSnapshot(running, counters);
    expect<unknown>(v.parse(RuleSchema, sent(snapshot))).toEqual(sent(snapshot));
  });

  test("of a rule that saw nothing has no last packet", () => {
    const running: RunningRule = runningRule(ruleOf({}), 2, 8);
    const { counters } = relaying();
    const snapshot = ruleSnapshot(running, counters);
    expect(snapshot).toMatchObject({
      packets: 0,
      last_packet: null,
      rtp: null,
      source: [],
      state: "waiting",
    });
    expect<unknown>(v.parse(RuleSchema, sent(snapshot))).toEqual(sent(snapshot));
  });

  test("writes ranges as the rule does, and * for every port", () => {
    const { counters } = relaying();
    const range = ruleOf({
      ingress: { interface: "veth1", group: "239.1.1.0/30", port: "5001-5004" },
      egress: [{ interface: "veth2", group: "239.10.1.1-239.10.1.4" }],
    });
    const snapshot = ruleSnapshot(runningRule(range), counters);
    expect(snapshot.ingress).toBe("239.1.1.0-239.1.1.3:5001-5004");
    expect(snapshot.flows).toBe(4);
    const everyPort = ruleOf({ ingress: { interface: "veth1", group: "239.1.1.1" } });
    expect(ruleSnapshot(runningRule(everyPort), counters).ingress).toBe("239.1.1.1:*");
  });
});

describe("the destination of an egress", () => {
  test.each([
    [{}, "239.1.1.1:5001"],
    [{ port: 6001 }, "239.1.1.1:6001"],
    [{ group: "239.10.1.1" }, "239.10.1.1:5001"],
    [{ address: "10.100.0.2", port: 6001 }, "10.100.0.2:6001"],
  ])("%j is filled in from the ingress: %s", (keys, destination) => {
    const rule = ruleOf({ egress: [{ interface: "veth2", ...keys }] });
    expect(rule.egress.map((egress) => destinationOf(rule, egress))).toEqual([destination]);
  });

  test("keeps every port when the ingress has every port", () => {
    const rule = ruleOf({ ingress: { interface: "veth1", group: "239.1.1.1" } });
    expect(rule.egress.map((egress) => destinationOf(rule, egress))).toEqual(["239.1.1.1:*"]);
  });
});

describe("the statistics", () => {
  test("are what the protocol says, word for word", () => {
    const stats = statsSnapshot(relaying().source, igmp, startMs);
    expect<unknown>(v.parse(StatsSchema, sent(stats))).toEqual(sent(stats));
  });

  test("add up: every packet of an interface matched or is in one drop counter; what no rule wants is no loss", () => {
    const { totals, interfaces } = statsSnapshot(relaying().source, igmp, startMs);
    expect(totals).toEqual({
      packets: 111,
      matched: 100,
      bytes: 100_000,
      sent_packets: 96,
      sent_bytes: 96_000,
      ingress_dropped: 13,
      egress_dropped: 104,
      egress_full: 3,
      egress_error: 1,
      egress_unavailable: 100,
      egress_expired: 0,
    });
    expect(interfaces).toEqual([
      {
        interface: "veth1",
        packets: 111,
        matched: 100,
        bytes: 100_000,
        dropped: {
          ring: 9,
          no_match: 7,
          tagged: 0,
          malformed: 0,
          truncated: 0,
          bad_checksum: 3,
          fragment_late: 1,
          fragment_overlap: 0,
          fragment_full: 0,
          fragment_malformed: 0,
          other_host: 0,
          looped: 0,
        },
        undescribed: 0,
        reopened: 1,
      },
    ]);
    const { ring, ...afterRing } = interfaces[0]?.dropped ?? { ring: 0 };
    const dropped = Object.values(afterRing).reduce((sum, count) => sum + count, 0);
    expect(totals.matched + dropped).toBe(totals.packets);
    expect(ring).toBe(9);
  });

  test("tell each worker's part, and the parts are the whole", () => {
    const { workers, totals } = statsSnapshot(relaying().source, igmp, startMs);
    expect(workers).toEqual([
      {
        worker: 0,
        cpu: 0,
        matched: 60,
        sent_packets: 57,
        wakeups: 10,
        blocks: 11,
        sends: 12,
        runs: 2,
        run_packets: 8,
        gather_ns: 0,
        send_ns: 5,
        load_percent: 12.5,
      },
      {
        worker: 1,
        cpu: 3,
        matched: 40,
        sent_packets: 39,
        wakeups: 20,
        blocks: 0,
        sends: 0,
        runs: 0,
        run_packets: 0,
        gather_ns: 0,
        send_ns: 0,
        load_percent: 0,
      },
    ]);
    expect(workers.reduce((sum, worker) => sum + worker.sent_packets, 0)).toBe(totals.sent_packets);
    expect(workers.reduce((sum, worker) => sum + worker.matched, 0)).toBe(totals.matched);
  });

  test("keep what removed rules have sent and dropped", () => {
    const { source, counters } = relaying();
    const before = statsSnapshot(source, igmp, startMs);
    const retired = new Retired(counters);
    for (const { egresses } of source.rules) for (const { slot } of egresses) retired.add(slot);
    const after = statsSnapshot({ ...source, rules: [], retired: retired.workers }, igmp, startMs);
    expect(after.totals).toEqual(before.totals);
    expect(after.workers).toEqual(before.workers);
  });

  test("of a relay without rules are zeros, not holes", () => {
    const source: Source = {
      counters: new Counters([]),
      rules: [],
      leaving: [],
      interfaces: [],
      devices: [],
      retired: [],
      cpus: [],
      loadPercent: [],
    };
    const stats = statsSnapshot(source, { ...igmp, attempted: 0 }, startMs);
    expect(Object.values(stats.totals).every((count) => count === 0)).toBe(true);
    expect<unknown>(v.parse(StatsSchema, sent(stats))).toEqual(sent(stats));
  });
});

describe("the statistics lines", () => {
  test("have exactly these forms", () => {
    expect(statisticsLines(statsSnapshot(relaying().source, igmp, startMs))).toEqual([
      "[STATS:Ingress] interface=veth1 packets=111 matched=100 bytes=100000 dropped_ring=9 dropped_no_match=7 dropped_tagged=0 dropped_malformed=0 dropped_truncated=0 dropped_bad_checksum=3 dropped_fragment_late=1 dropped_fragment_overlap=0 dropped_fragment_full=0 dropped_fragment_malformed=0 dropped_other_host=0 dropped_looped=0",
      "[STATS:Egress] sent=96 bytes=96000 dropped_full=3 dropped_error=1 dropped_unavailable=100 dropped_expired=0",
      "[STATS:Device] interface=veth2 dropped=3 errors=2 qdisc=tbf qdisc_dropped=7991",
      "[STATS:Worker] worker=0 cpu=0 load_percent=12.5 matched=60 sent_packets=57 wakeups=10 blocks=11 sends=12 runs=2 run_packets=8 gather_ns=0 send_ns=5",
      "[STATS:Worker] worker=1 cpu=3 load_percent=0 matched=40 sent_packets=39 wakeups=20 blocks=0 sends=0 runs=0 run_packets=0 gather_ns=0 send_ns=0",
      "[STATS:Latency] samples=2 p50_ns=256 p99_ns=300 max_ns=300",
      "[STATS:IGMP] attempted=5 succeeded=5 failed=0 active_groups=5",
    ]);
  });

  test("of an idle relay are the egress and the IGMP line", () => {
    const source: Source = {
      counters: new Counters([]),
      rules: [],
      leaving: [],
      interfaces: [],
      devices: [],
      retired: [],
      cpus: [],
      loadPercent: [],
    };
    const none = { attempted: 0, succeeded: 0, failed: 0, active_groups: 0 };
    expect(statisticsLines(statsSnapshot(source, none, startMs))).toEqual([
      "[STATS:Egress] sent=0 bytes=0 dropped_full=0 dropped_error=0 dropped_unavailable=0 dropped_expired=0",
      "[STATS:IGMP] attempted=0 succeeded=0 failed=0 active_groups=0",
    ]);
  });
});

test("times are RFC 3339 in UTC, to the millisecond", () => {
  expect(isoTime(startMs)).toBe("2026-01-02T03:04:05.000Z");
  expect(isoTime(startMs + 0.999)).toBe("2026-01-02T03:04:05.000Z");
});
