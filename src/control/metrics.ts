// Everything that mcr counts as Prometheus text (version 0.0.4), out of the same snapshots that `mcr stats` shows.
// Pure. A rule's counters belong to their series, the name with its labels: when a reload changes a rule, the series
// that stay go on from where they were, so no counter ever goes backwards while mcr runs.
// https://prometheus.io/docs/instrumenting/exposition_formats/
import { egressStates, ruleStates } from "../net/state.ts";
import { egressReasons } from "../stats/reasons.ts";
import type { RuleSnapshot, Stats } from "./protocol.ts";

/** What a histogram of stats/latency.ts comes to: `samples` counts all, also those above the last bound. */
export interface LatencyHistogram {
  readonly sum_ns: number;
  readonly samples: number;
  readonly cumulative: readonly { readonly below_ns: number; readonly samples: number }[];
}

export interface RuleMetrics {
  readonly rule: RuleSnapshot;
  readonly latency?: LatencyHistogram | undefined;
}

export interface MetricsSource {
  readonly version: string;
  readonly startedMs: number;
  readonly stats: Stats;
  readonly rules: readonly RuleMetrics[];
  /** Removed by a reload that is under way: workers may still count for them. */
  readonly leaving: readonly RuleMetrics[];
  readonly past: PastCounts;
  /** Every (interface, group) that rules want, and whether it is joined. */
  readonly joins: readonly { readonly interface: string; readonly group: string; readonly joined: boolean }[];
  /** The last IGMP query of each interface that has heard one. */
  readonly queries: readonly { readonly interface: string; readonly timeMs: number }[];
  readonly reload: { readonly successful: boolean; readonly lastSuccessMs: number };
  /** CPU time of the whole process and of each worker; a worker whose time cannot be told is left out. */
  readonly cpuSeconds: { readonly process: number; readonly workers: readonly (number | undefined)[] };
  readonly residentBytes: number;
}

export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

interface Sample {
  readonly family: Family;
  /** Name and labels: `mcr_rule_state{rule="a",state="active"}`. */
  readonly series: string;
  readonly value: number;
}

const families = {
  mcr_build_info: ["gauge", "The version of mcr; always 1."],
  mcr_config_last_reload_successful: [
    "gauge",
    "1 when the rule file was accepted at the last reload, or start.",
  ],
  mcr_config_last_reload_success_timestamp_seconds: ["gauge", "When the rule file was last accepted."],
  mcr_rule_state: ["gauge", "1 for the state that the rule is in, 0 for the others."],
  mcr_rule_state_since_timestamp_seconds: ["gauge", "Since when the rule has been in its state."],
  mcr_rule_received_packets_total: ["counter", "Packets that arrived for the rule."],
  mcr_rule_received_bytes_total: ["counter", "UDP payload that arrived for the rule."],
  mcr_rule_last_packet_timestamp_seconds: ["gauge", "When the last packet for the rule arrived."],
  mcr_rtp_received_packets_total: [
    "counter",
    "Packets of RTP streams that arrived for the rule; not counted where fanout is cpu or qm with several workers.",
  ],
  mcr_rtp_missing_packets_total: [
    "counter",
    "RTP sequence numbers that never arrived for the rule. What mcr's own ring dropped is missing too: see mcr_ring_dropped_packets_total.",
  ],
  mcr_rtp_reordered_packets_total: [
    "counter",
    "RTP packets that arrived for the rule behind a later one, and are not missing.",
  ],
  mcr_rtp_duplicate_packets_total: ["counter", "RTP packets that had arrived for the rule already."],
  mcr_rule_looped_packets_total: [
    "counter",
    "Packets that came back to the rule, from an egress that it feeds or through other relays, and were dropped.",
  ],
  mcr_rule_latency_seconds: ["histogram", "What mcr added to the way of the packets that it sampled."],
  mcr_output_state: ["gauge", "1 for the state that the egress is in, 0 for the others."],
  mcr_output_sent_packets_total: ["counter", "Packets sent by the egress."],
  mcr_output_sent_bytes_total: ["counter", "UDP payload sent by the egress."],
  mcr_output_dropped_packets_total: [
    "counter",
    "Packets of the egress that were dropped, each for one reason.",
  ],
  mcr_output_returned_packets_total: [
    "counter",
    "Packets sent by the egress that came back to a rule that feeds it.",
  ],
  mcr_sent_packets_total: ["counter", "Packets sent by all egresses, those of removed rules included."],
  mcr_sent_bytes_total: ["counter", "UDP payload sent by all egresses, those of removed rules included."],
  mcr_dropped_packets_total: ["counter", "Packets dropped by all egresses, those of removed rules included."],
  mcr_interface_received_packets_total: ["counter", "Packets that mcr took from the interface's rings."],
  mcr_interface_matched_packets_total: ["counter", "Packets of the interface that a rule wanted."],
  mcr_interface_matched_bytes_total: ["counter", "UDP payload of the packets that a rule wanted."],
  mcr_interface_dropped_packets_total: [
    "counter",
    "Packets of the interface that no rule got, each for one reason.",
  ],
  mcr_interface_device_dropped_total: [
    "counter",
    "What the kernel dropped of all that this host sent out of the interface, in its own unit (a super-frame may be one): by the device, by its errors, by its queue (qdisc), since these were made.",
  ],
  mcr_ring_dropped_packets_total: [
    "counter",
    "Frames that found the ring full, lay in it unread when it had to go, or that the kernel could not describe.",
  ],
  mcr_worker_cpu_seconds_total: ["counter", "CPU time of the worker's thread, system calls included."],
  mcr_worker_gather_seconds_total: ["counter", "Time that the worker spent on reading packets."],
  mcr_worker_send_seconds_total: ["counter", "Time that the worker spent on sending them."],
  mcr_worker_matched_packets_total: ["counter", "Packets that the worker matched."],
  mcr_worker_sent_packets_total: ["counter", "Packets that the worker sent."],
  mcr_worker_wakeups_total: ["counter", "How often the worker woke up with something to do."],
  mcr_worker_blocks_total: ["counter", "Ring blocks that the worker emptied."],
  mcr_worker_sends_total: ["counter", "System calls by which the worker sent."],
  mcr_worker_runs_total: ["counter", "Runs: datagrams of one size, sent as one super-frame."],
  mcr_worker_run_packets_total: ["counter", "Packets that were sent in runs."],
  mcr_igmp_join: [
    "gauge",
    "1 when the group is joined on the interface, 0 while it is wanted and not joined.",
  ],
  mcr_igmp_joins_total: ["counter", "Joins tried, by result."],
  mcr_igmp_active_groups: ["gauge", "Groups that are joined, counted for each interface."],
  mcr_igmp_last_query_timestamp_seconds: ["gauge", "When the last IGMP query arrived on the interface."],
  process_start_time_seconds: ["gauge", "When mcr started."],
  process_cpu_seconds_total: ["counter", "CPU time of all of mcr."],
  process_resident_memory_bytes: ["gauge", "Memory in use, rings included where touched."],
} as const satisfies Readonly<Record<string, readonly ["counter" | "gauge" | "histogram", string]>>;
type Family = keyof typeof families;

/** What series had counted when their rules were removed. */
export class PastCounts {
  readonly #counts = new Map<string, number>();

  /** @param seriesMax the oldest ones are forgotten beyond it; a forgotten one that returns begins at 0. */
  constructor(readonly seriesMax = 65_536) {}

  /** The counts of a rule that no worker counts for any more. */
  add(rule: RuleMetrics): void {
    for (const { series, value } of ruleCounters(rule)) {
      if (value === 0) continue;
      const before = this.of(series);
      this.#counts.delete(series); // what changed last is forgotten last
      this.#counts.set(series, before + value);
    }
    for (const series of this.#counts.keys()) {
      if (this.#counts.size <= this.seriesMax) break;
      this.#counts.delete(series);
    }
  }

  of(series: string): number {
    return this.#counts.get(series) ?? 0;
  }
}

export function renderMetrics(source: MetricsSource): string {
  const leaving = new PastCounts();
  for (const rule of source.leaving) leaving.add(rule);
  const samples = [
    ...processSamples(source),
    ...source.rules.flatMap(({ rule }) => ruleGauges(rule)),
    ...source.rules.flatMap((rule) => continuedCounters(rule, [source.past, leaving])),
    ...totalSamples(source.stats),
    ...source.stats.interfaces.flatMap(interfaceSamples),
    ...source.stats.devices.flatMap(deviceSamples),
    ...source.stats.workers.flatMap((worker) =>
      workerSamples(worker, source.cpuSeconds.workers[worker.worker]),
    ),
    ...igmpSamples(source),
  ];
  // All series of a family stand together, below its HELP and TYPE.
  const byFamily = Map.groupBy(samples, ({ family }) => family);
  const lines: string[] = [];
  for (const [family, members] of byFamily) {
    const [type, help] = families[family];
    lines.push(`# HELP ${family} ${help}`, `# TYPE ${family} ${type}`);
    for (const { series, value } of members) lines.push(`${series} ${value}`);
  }
  return `${lines.join("\n")}\n`;
}

function processSamples(source: MetricsSource): readonly Sample[] {
  const { version, startedMs, reload, cpuSeconds, residentBytes } = source;
  return [
    sample("mcr_build_info", { version }, 1),
    sample("mcr_config_last_reload_successful", {}, Number(reload.successful)),
    sample("mcr_config_last_reload_success_timestamp_seconds", {}, reload.lastSuccessMs / 1000),
    sample("process_start_time_seconds", {}, startedMs / 1000),
    sample("process_cpu_seconds_total", {}, cpuSeconds.process),
    sample("process_resident_memory_bytes", {}, residentBytes),
  ];
}

function ruleGauges({ name, state, since, last_packet, egress }: RuleSnapshot): readonly Sample[] {
  const rule = { rule: name };
  return [
    ...ruleStates.map((each) => sample("mcr_rule_state", { ...rule, state: each }, Number(each === state))),
    sample("mcr_rule_state_since_timestamp_seconds", rule, secondsOf(since)),
    ...(last_packet === null
      ? []
      : [sample("mcr_rule_last_packet_timestamp_seconds", rule, secondsOf(last_packet))]),
    ...egress.flatMap((each, index) =>
      egressStates.map((one) =>
        sample(
          "mcr_output_state",
          { ...outputLabels(name, each, index), state: one },
          Number(one === each.state),
        ),
      ),
    ),
  ];
}

/** On top of what their series had before; those of RTP and of loops only where there ever was some. */
function continuedCounters(rule: RuleMetrics, before: readonly PastCounts[]): readonly Sample[] {
  const samples = ruleCounters(rule).map((each) => ({
    ...each,
    value: before.reduce((total, past) => total + past.of(each.series), each.value),
  }));
  const hasRtp = samples.some(
    ({ family, value }) => family === "mcr_rtp_received_packets_total" && value > 0,
  );
  return samples.filter(
    ({ family, value }) =>
      (hasRtp || !family.startsWith("mcr_rtp_")) && (value > 0 || !loopFamilies.has(family)),
  );
}

const loopFamilies: ReadonlySet<Family> = new Set([
  "mcr_rule_looped_packets_total",
  "mcr_output_returned_packets_total",
]);

/** What only grows, of one rule: histograms too, their bounds being series of their own. */
function ruleCounters({ rule, latency }: RuleMetrics): readonly Sample[] {
  const colon = rule.ingress.lastIndexOf(":");
  const [group, port] = [rule.ingress.slice(0, colon), rule.ingress.slice(colon + 1)];
  const ingress = { rule: rule.name, iface: rule.interface, group, port };
  return [
    sample("mcr_rule_received_packets_total", ingress, rule.packets),
    sample("mcr_rule_received_bytes_total", ingress, rule.bytes),
    sample("mcr_rtp_received_packets_total", ingress, rule.rtp?.packets ?? 0),
    sample("mcr_rtp_missing_packets_total", ingress, rule.rtp?.missing ?? 0),
    sample("mcr_rtp_reordered_packets_total", ingress, rule.rtp?.reordered ?? 0),
    sample("mcr_rtp_duplicate_packets_total", ingress, rule.rtp?.duplicate ?? 0),
    sample("mcr_rule_looped_packets_total", ingress, rule.looped),
    ...(latency ? latencySamples(rule.name, latency) : []),
    ...rule.egress.flatMap((each, index) => {
      const output = outputLabels(rule.name, each, index);
      return [
        sample("mcr_output_sent_packets_total", output, each.sent_packets),
        sample("mcr_output_sent_bytes_total", output, each.sent_bytes),
        ...drops("mcr_output_dropped_packets_total", output, each.dropped),
        sample("mcr_output_returned_packets_total", output, each.returned_packets),
      ];
    }),
  ];
}

function latencySamples(rule: string, { sum_ns, samples, cumulative }: LatencyHistogram): readonly Sample[] {
  const part = (suffix: string, labels: Labels, value: number) => ({
    family: "mcr_rule_latency_seconds" as const,
    series: seriesOf(`mcr_rule_latency_seconds_${suffix}`, { rule, ...labels }),
    value,
  });
  return [
    ...cumulative.map((bucket) => part("bucket", { le: String(bucket.below_ns / 1e9) }, bucket.samples)),
    part("bucket", { le: "+Inf" }, samples),
    part("sum", {}, sum_ns / 1e9),
    part("count", {}, samples),
  ];
}

/** `output` is the egress's place in its rule, from 1, as in messages about the rule file. */
function outputLabels(
  rule: string,
  { interface: iface, destination }: RuleSnapshot["egress"][number],
  index: number,
) {
  return { rule, output: String(index + 1), iface, dst: destination };
}

function totalSamples({ totals }: Stats): readonly Sample[] {
  const dropped = Object.fromEntries(egressReasons.map((reason) => [reason, totals[`egress_${reason}`]]));
  return [
    sample("mcr_sent_packets_total", {}, totals.sent_packets),
    sample("mcr_sent_bytes_total", {}, totals.sent_bytes),
    ...drops("mcr_dropped_packets_total", {}, dropped),
  ];
}

function interfaceSamples({
  interface: iface,
  packets,
  matched,
  bytes,
  dropped,
}: Stats["interfaces"][number]) {
  const { ring, ...others } = dropped;
  return [
    sample("mcr_interface_received_packets_total", { iface }, packets),
    sample("mcr_interface_matched_packets_total", { iface }, matched),
    sample("mcr_interface_matched_bytes_total", { iface }, bytes),
    ...drops("mcr_interface_dropped_packets_total", { iface }, others),
    sample("mcr_ring_dropped_packets_total", { iface }, ring),
  ];
}

function deviceSamples({ interface: iface, dropped, errors, qdisc }: Stats["devices"][number]) {
  const where = { device: dropped, errors, ...(qdisc ? { qdisc: qdisc.dropped } : {}) };
  return Object.entries(where).map(([place, count]) =>
    sample("mcr_interface_device_dropped_total", { iface, where: place }, count),
  );
}

function workerSamples(worker: Stats["workers"][number], cpuSeconds: number | undefined): readonly Sample[] {
  const labels = { worker: String(worker.worker), cpu: String(worker.cpu) };
  return [
    ...(cpuSeconds === undefined ? [] : [sample("mcr_worker_cpu_seconds_total", labels, cpuSeconds)]),
    sample("mcr_worker_gather_seconds_total", labels, worker.gather_ns / 1e9),
    sample("mcr_worker_send_seconds_total", labels, worker.send_ns / 1e9),
    sample("mcr_worker_matched_packets_total", labels, worker.matched),
    sample("mcr_worker_sent_packets_total", labels, worker.sent_packets),
    sample("mcr_worker_wakeups_total", labels, worker.wakeups),
    sample("mcr_worker_blocks_total", labels, worker.blocks),
    sample("mcr_worker_sends_total", labels, worker.sends),
    sample("mcr_worker_runs_total", labels, worker.runs),
    sample("mcr_worker_run_packets_total", labels, worker.run_packets),
  ];
}

function igmpSamples({ joins, queries, stats: { igmp } }: MetricsSource): readonly Sample[] {
  return [
    ...joins.map(({ interface: iface, group, joined }) =>
      sample("mcr_igmp_join", { iface, group }, Number(joined)),
    ),
    sample("mcr_igmp_joins_total", { result: "succeeded" }, igmp.succeeded),
    sample("mcr_igmp_joins_total", { result: "failed" }, igmp.failed),
    sample("mcr_igmp_active_groups", {}, igmp.active_groups),
    ...queries.map(({ interface: iface, timeMs }) =>
      sample("mcr_igmp_last_query_timestamp_seconds", { iface }, timeMs / 1000),
    ),
  ];
}

type Labels = Readonly<Record<string, string>>;

function drops(family: Family, labels: Labels, dropped: Readonly<Record<string, number>>): readonly Sample[] {
  return Object.entries(dropped).map(([reason, packets]) => sample(family, { ...labels, reason }, packets));
}

function sample(family: Family, labels: Labels, value: number): Sample {
  return { family, series: seriesOf(family, labels), value };
}

function seriesOf(name: string, labels: Labels): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? name : `${name}{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replace(/[\\"\n]/g, (character) => (character === "\n" ? "\\n" : `\\${character}`));
}

function secondsOf(isoTime: string): number {
  return Date.parse(isoTime) / 1000;
}
