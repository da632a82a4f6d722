// The metrics text: every name and label, what promtool says of it, and counters that a reload never sets back.

import { expect, test } from "bun:test";
import {
  type MetricsSource,
  PastCounts,
  type RuleMetrics,
  renderMetrics,
} from "../../src/control/metrics.ts";
import { egress, now, rule, rules, stats } from "./fake-relay.ts";

const latency = {
  sum_ns: 4_500_000,
  samples: 9,
  cumulative: [
    { below_ns: 1024, samples: 0 },
    { below_ns: 1_048_576, samples: 8 },
  ],
};

function source(changes: Partial<MetricsSource> = {}): MetricsSource {
  return {
    version: "0.1.0",
    startedMs: now.getTime() - 60_000,
    stats,
    rules: rules.map((each) => ({ rule: each, latency })),
    leaving: [],
    past: new PastCounts(),
    joins: [
      { interface: "eth0", group: "239.1.1.1", joined: true },
      { interface: "eth9", group: "239.1.1.2", joined: false },
    ],
    queries: [{ interface: "eth0", timeMs: now.getTime() - 34_125 }],
    reload: { successful: false, lastSuccessMs: now.getTime() - 30_500 },
    cpuSeconds: { process: 12.5, workers: [3.25, undefined] },
    residentBytes: 64 << 20,
    ...changes,
  };
}

function valuesIn(text: string): ReadonlyMap<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

const counted = (packets: number, changes: Partial<typeof rule> = {}): RuleMetrics => ({
  rule: { ...rule, packets, egress: [{ ...egress, sent_packets: packets }], ...changes },
});
const received =
  'mcr_rule_received_packets_total{rule="studio-a",iface="eth0",group="239.1.1.1",port="5001"}';
const sent = 'mcr_output_sent_packets_total{rule="studio-a",output="1",iface="eth1",dst="239.10.1.1:6001"}';

test("promtool finds nothing to complain of", () => {
  const promtool = Bun.which("promtool", { PATH: `${process.env["PATH"]}:/usr/sbin:/usr/bin` });
  if (promtool === null)
    throw new Error("promtool is missing: make test installs it (apt install prometheus)");
  const check = Bun.spawnSync([promtool, "check", "metrics"], {
    stdin: Buffer.from(renderMetrics(source())),
  });
  expect({
    exitCode: check.exitCode,
    stderr: check.stderr.toString(),
    stdout: check.stdout.toString(),
  }).toEqual({
    exitCode: 0,
    stderr: "",
    stdout: "",
  });
});

test("every series stands once, below the HELP and TYPE of its family", () => {
  const text = renderMetrics(source());
  const families = text.match(/^# TYPE .*$/gm) ?? [];
  expect(new Set(families).size).toBe(families.length);
  const lines = text
    .trimEnd()
    .split("\n")
    .filter((line) => !line.startsWith("#"));
  expect(valuesIn(text).size).toBe(lines.length);
});

test("rules, egresses, drops by reason, interfaces, workers, groups and the last reload are told", () => {
  const values = valuesIn(renderMetrics(source()));
  const expected = {
    'mcr_build_info{version="0.1.0"}': 1,
    mcr_config_last_reload_successful: 0,
    mcr_config_last_reload_success_timestamp_seconds: now.getTime() / 1000 - 30.5,
    'mcr_rule_state{rule="studio-a",state="active"}': 1,
    'mcr_rule_state{rule="studio-a",state="waiting"}': 0,
    'mcr_rule_state{rule="wall",state="waiting"}': 1,
    'mcr_rule_last_packet_timestamp_seconds{rule="studio-a"}': now.getTime() / 1000 - 0.01,
    [received]: 1234567,
    [sent]: 1234567,
    'mcr_rule_received_packets_total{rule="wall",iface="eth9",group="239.1.1.1-239.1.1.50",port="5001-5050"}': 0,
    'mcr_output_dropped_packets_total{rule="studio-a",output="2",iface="wg0",dst="10.100.0.2:6001",reason="full"}': 60,
    'mcr_output_dropped_packets_total{rule="studio-a",output="2",iface="wg0",dst="10.100.0.2:6001",reason="error"}': 7,
    'mcr_output_state{rule="wall",output="1",iface="eth1",dst="239.10.1.1-239.10.1.50:6001-6050",state="waiting"}': 1,
    'mcr_dropped_packets_total{reason="unavailable"}': 20,
    'mcr_interface_dropped_packets_total{iface="eth0",reason="no_match"}': 90,
    'mcr_interface_device_dropped_total{iface="eth1",where="device"}': 3,
    'mcr_interface_device_dropped_total{iface="eth1",where="errors"}': 0,
    'mcr_interface_device_dropped_total{iface="eth1",where="qdisc"}': 7991,
    'mcr_interface_device_dropped_total{iface="wg0",where="device"}': 0,
    'mcr_ring_dropped_packets_total{iface="eth0"}': 1,
    'mcr_worker_cpu_seconds_total{worker="0",cpu="0"}': 3.25,
    'mcr_worker_gather_seconds_total{worker="0",cpu="0"}': 0.4,
    'mcr_worker_send_seconds_total{worker="0",cpu="0"}': 2.6,
    'mcr_igmp_join{iface="eth0",group="239.1.1.1"}': 1,
    'mcr_igmp_join{iface="eth9",group="239.1.1.2"}': 0,
    mcr_igmp_active_groups: 5,
    'mcr_igmp_last_query_timestamp_seconds{iface="eth0"}': now.getTime() / 1000 - 34.125,
  };
  for (const [series, value] of Object.entries(expected))
    expect([series, values.get(series)]).toEqual([series, value]);
  expect(values.has('mcr_worker_cpu_seconds_total{worker="1",cpu="1"}')).toBe(false);
  expect(values.has('mcr_rule_last_packet_timestamp_seconds{rule="wall"}')).toBe(false);
});

test("a latency histogram is cumulative, in seconds, and its last bucket is the count", () => {
  const lines = renderMetrics(source())
    .split("\n")
    .filter((line) => /^mcr_rule_latency.*"studio-a"/.test(line));
  expect(lines).toEqual([
    'mcr_rule_latency_seconds_bucket{rule="studio-a",le="0.000001024"} 0',
    'mcr_rule_latency_seconds_bucket{rule="studio-a",le="0.001048576"} 8',
    'mcr_rule_latency_seconds_bucket{rule="studio-a",le="+Inf"} 9',
    'mcr_rule_latency_seconds_sum{rule="studio-a"} 0.0045',
    'mcr_rule_latency_seconds_count{rule="studio-a"} 9',
  ]);
});

const rtp = { packets: 1000, missing: 7, reordered: 2, duplicate: 1 };
const rtpSeries = (text: string) => [...valuesIn(text)].filter(([series]) => series.startsWith("mcr_rtp_"));

test("the health of RTP is told with the labels of the rule, and only where there was some", () => {
  const labels = '{rule="studio-a",iface="eth0",group="239.1.1.1",port="5001"}';
  const text = renderMetrics(
    source({ rules: [counted(2000, { rtp }), counted(5, { name: "b", rtp: null })] }),
  );
  expect(rtpSeries(text)).toEqual([
    [`mcr_rtp_received_packets_total${labels}`, 1000],
    [`mcr_rtp_missing_packets_total${labels}`, 7],
    [`mcr_rtp_reordered_packets_total${labels}`, 2],
    [`mcr_rtp_duplicate_packets_total${labels}`, 1],
  ]);
  expect(renderMetrics(source({ rules: [counted(5, { rtp: null })] }))).not.toContain("mcr_rtp_");
});

test("what came back is told by rule and by egress, and only where something did", () => {
  expect(renderMetrics(source())).not.toMatch(/looped_packets_total|returned_packets_total/);
  const looping = counted(100, { looped: 30, egress: [{ ...egress, returned_packets: 20 }] });
  const values = valuesIn(renderMetrics(source({ rules: [looping] })));
  expect(
    values.get('mcr_rule_looped_packets_total{rule="studio-a",iface="eth0",group="239.1.1.1",port="5001"}'),
  ).toBe(30);
  expect(
    values.get(
      'mcr_output_returned_packets_total{rule="studio-a",output="1",iface="eth1",dst="239.10.1.1:6001"}',
    ),
  ).toBe(20);
  expect(values.get('mcr_interface_dropped_packets_total{iface="eth0",reason="looped"}')).toBe(0);
});

test("it counts on after a reload has changed the rule, before its RTP is recognised again and after", () => {
  const past = new PastCounts();
  past.add(counted(2000, { rtp }));
  const after = (now: typeof rule.rtp) =>
    rtpSeries(renderMetrics(source({ rules: [counted(1, { rtp: now })], past }))).map(([, value]) => value);
  expect(after(null)).toEqual([1000, 7, 2, 1]);
  expect(after({ packets: 1, missing: 0, reordered: 0, duplicate: 1 })).toEqual([1001, 7, 2, 2]);
});

test("label values are escaped, whatever a rule is called", () => {
  const named = { rule: { ...rule, name: 'a "b" \\ c\nd' } };
  const text = renderMetrics(source({ rules: [named] }));
  expect(text).toContain(String.raw`mcr_rule_state{rule="a \"b\" \\ c\nd",state="active"} 1`);
});

test("a changed rule counts on where its series was, while a reload is under way and after it", () => {
  const past = new PastCounts();
  const before = counted(1000);
  const after = counted(7);
  const during = valuesIn(renderMetrics(source({ rules: [after], leaving: [before], past })));
  past.add(before);
  const later = valuesIn(renderMetrics(source({ rules: [after], past })));
  for (const values of [during, later])
    expect([values.get(received), values.get(sent)]).toEqual([1007, 1007]);
});

test("a series whose labels change begins anew, and comes back with what it had", () => {
  const past = new PastCounts();
  past.add(counted(1000));
  const moved = counted(3, { ingress: "239.1.1.9:5001" });
  const values = valuesIn(renderMetrics(source({ rules: [moved], past })));
  expect(values.get(received.replace("239.1.1.1", "239.1.1.9"))).toBe(3);
  expect(values.has(received)).toBe(false);
  past.add(moved);
  expect(valuesIn(renderMetrics(source({ rules: [counted(1)], past }))).get(received)).toBe(1001);
});

test("what is remembered of removed rules is bounded: the oldest goes first", () => {
  const past = new PastCounts(8);
  for (let i = 0; i < 100; i += 1) past.add(counted(5, { name: `rule-${i}`, egress: [], rtp: null }));
  const of = (name: string) => past.of(received.replace("studio-a", name));
  expect([of("rule-0"), of("rule-99"), of("rule-96")]).toEqual([0, 5, 5]);
  expect(of("rule-90")).toBe(0);
});

test("of removed rules the one that counted longest ago goes first, whenever it came", () => {
  const past = new PastCounts(8);
  const add = (name: string) => past.add(counted(5, { name, egress: [], rtp: null }));
  const of = (name: string) => past.of(received.replace("studio-a", name));
  for (const name of ["a", "b", "c", "d"]) add(name);
  expect(["a", "b", "c", "d"].map(of)).toEqual([5, 5, 5, 5]);
  add("a");
  add("e");
  expect(["a", "b", "c", "d", "e"].map(of)).toEqual([10, 0, 5, 5, 5]);
});
