// Running rules and counters → what the control socket and the log tell. Reads only; sums over workers.
import { describeChanges } from "../config/changes.ts";
import { destinationOf, ingressOf } from "../config/destination.ts";
import { formatDiff, type RuleDiff } from "../config/diff.ts";
import { countFlows } from "../config/flows.ts";
import type { Rule } from "../config/schema.ts";
import { SystemError } from "../native/system-error.ts";
import type { RunningEgress, RunningRule } from "../net/running.ts";
import { sum } from "../numbers.ts";
import type { Counters, InterfaceCounts, RuleCounts } from "../stats/counters.ts";
import type { DropCounter } from "../stats/drops.ts";
import { summaryOf } from "../stats/latency.ts";
import type { Rates } from "../stats/rates.ts";
import {
  egressDrops,
  egressReasons,
  ingressDrops,
  lossReasons,
  sumOfDrops,
  sumOfLosses,
} from "../stats/reasons.ts";
import { type EgressTotals, sumOf } from "../stats/retired.ts";
import type {
  DeviceStats,
  DifferenceSnapshot,
  EgressSnapshot,
  InterfaceStats,
  RuleSnapshot,
  Stats,
} from "./protocol.ts";

const nsPerMs = 1_000_000;

/** What the numbers are taken from. */
export interface Source {
  readonly counters: Counters;
  readonly rates?: Rates | undefined;
  readonly rules: readonly RunningRule[];
  /** Removed, and not yet in `retired`: a worker may still count for them. */
  readonly leaving: readonly RunningRule[];
  /** Every interface that ever captured, with its counter slot and its ring drops. */
  readonly interfaces: readonly {
    readonly name: string;
    readonly slot: number;
    readonly ringDropped: number;
    readonly reopened: number;
  }[];
  /** The drops of the interfaces that egresses send out of. */
  readonly devices: readonly DeviceStats[];
  /** What removed rules have sent, by worker. */
  readonly retired: readonly EgressTotals[];
  /** CPU of each worker, in order. */
  readonly cpus: readonly number[];
  /** Of each worker, 0 to 100. */
  readonly loadPercent: readonly number[];
}

export function ruleSnapshot(running: RunningRule, counters: Counters, rates?: Rates): RuleSnapshot {
  const { rule, status } = running;
  // Egresses first: a batch under way is then seen as received and not yet sent, never the other way round.
  const egress = running.egresses.map((each) => egressSnapshot(rule, each, counters, rates));
  const counts = counters.rule(running.slot);
  return {
    name: rule.name,
    state: status.state,
    since: isoTime(status.sinceMs),
    reason: status.reason,
    interface: rule.ingress.interface,
    ingress: ingressOf(rule),
    source: [...(rule.ingress.source ?? [])],
    exclusive: running.exclusive.state,
    exclusive_reason: running.exclusive.reason,
    flows: running.flows.length,
    packets: counts.packets,
    bytes: counts.bytes,
    rate: rates?.of(running, counts.packets, counts.bytes) ?? null,
    last_packet: counts.last_ns === 0 ? null : isoTime(counts.last_ns / nsPerMs),
    latency: summaryOf(counters.latency(running.slot)),
    rtp: rtpOf(counts),
    looped: counts.looped,
    egress,
  };
}

function rtpOf(counts: RuleCounts): RuleSnapshot["rtp"] {
  if (counts.rtp_packets === 0) return null;
  return {
    packets: counts.rtp_packets,
    missing: counts.rtp_missing,
    reordered: counts.rtp_reordered,
    duplicate: counts.rtp_duplicate,
  };
}

function egressSnapshot(
  rule: Rule,
  running: RunningEgress,
  counters: Counters,
  rates: Rates | undefined,
): EgressSnapshot {
  const { egress, status } = running;
  const counts = counters.egress(running.slot);
  return {
    interface: egress.interface,
    destination: destinationOf(rule, egress),
    ttl: typeof egress.ttl === "number" ? egress.ttl : 0,
    path: running.sendPath.path,
    path_reason: running.sendPath.reason,
    plain: egress.plain,
    state: status.state,
    since: isoTime(status.sinceMs),
    reason: status.reason,
    source_port: running.sourcePort,
    sent_packets: counts.sent_packets,
    sent_bytes: counts.sent_bytes,
    frame_packets: counts.frame_packets,
    rate: rates?.of(running, counts.sent_packets, counts.sent_bytes) ?? null,
    dropped: egressDrops(counts),
    returned_packets: counts.returned_packets,
    last_error: counts.last_errno === 0 ? null : new SystemError(counts.last_errno).message,
  };
}

export function statsSnapshot(source: Source, igmp: Stats["igmp"], nowMs: number): Stats {
  const { counters } = source;
  // In the order packets go, backwards: see ruleSnapshot.
  const sent = sumOf([...source.retired, ...egressesOf(source).map(({ slot }) => counters.egress(slot))]);
  const rules = source.rules.map((rule) => ruleSnapshot(rule, counters, source.rates));
  const workers = source.cpus.map((cpu, worker) => workerStats(source, worker, cpu));
  const interfaces = source.interfaces.map((ingress) =>
    interfaceStats(ingress, counters.interface(ingress.slot)),
  );
  return {
    time: isoTime(nowMs),
    totals: {
      packets: sum(interfaces.map(({ packets }) => packets)),
      matched: sum(interfaces.map(({ matched }) => matched)),
      bytes: sum(interfaces.map(({ bytes }) => bytes)),
      sent_packets: sent.sent_packets,
      sent_bytes: sent.sent_bytes,
      ingress_dropped: sum(interfaces.map(({ dropped }) => sumOfLosses(dropped))),
      egress_dropped: sumOfDrops(egressDrops(sent)),
      egress_full: sent.full_packets,
      egress_error: sent.error_packets,
      egress_unavailable: sent.unavailable_packets,
      egress_expired: sent.expired_packets,
    },
    interfaces,
    workers,
    rules,
    devices: [...source.devices],
    latency: summaryOf(counters.latencyOfAll()),
    igmp,
  };
}

function interfaceStats(
  { name, ringDropped, reopened }: Source["interfaces"][number],
  counts: InterfaceCounts,
): InterfaceStats {
  return {
    interface: name,
    packets: counts.packets,
    matched: counts.matched,
    bytes: counts.bytes,
    dropped: ingressDrops(counts, ringDropped),
    undescribed: counts.undescribed,
    reopened,
  };
}

function workerStats(source: Source, worker: number, cpu: number): Stats["workers"][number] {
  const { counters, interfaces, retired, loadPercent } = source;
  const sentBefore = retired[worker]?.sent_packets ?? 0;
  const sent_packets = sum(
    egressesOf(source).map(({ slot }) => counters.egress(slot, worker).sent_packets),
    sentBefore,
  );
  return {
    worker,
    cpu,
    load_percent: loadPercent[worker] ?? 0,
    matched: sum(interfaces.map(({ slot }) => counters.interface(slot, worker).matched)),
    sent_packets,
    ...counters.worker(worker),
  };
}

function egressesOf({ rules, leaving }: Source): readonly RunningEgress[] {
  return [...rules, ...leaving].flatMap(({ egresses }) => egresses);
}

/** Where drops are counted, as the events tell it. */
export interface DropPlace {
  readonly rule: string | null;
  readonly interface: string;
  readonly destination: string | null;
  readonly reason: string;
}

/** Every counter of what should not be: looped packets included, packets that no rule wants not. */
export function* dropCounters(
  rules: readonly RunningRule[],
  interfaces: Source["interfaces"],
  counters: Counters,
): Generator<DropCounter<DropPlace>> {
  for (const { name, slot, ringDropped } of interfaces) {
    const dropped = ingressDrops(counters.interface(slot), ringDropped);
    for (const reason of lossReasons)
      yield {
        key: `${name} ${reason}`,
        place: { rule: null, interface: name, destination: null, reason },
        total: dropped[reason],
      };
  }
  for (const { rule, slot: ruleSlot, egresses } of rules) {
    // Looped packets are no loss, but they fill the network: an operator has to hear of them.
    const ingress = { rule: rule.name, interface: rule.ingress.interface, destination: null };
    const total = counters.looped(ruleSlot);
    yield { key: `rule ${ruleSlot} ${rule.name} looped`, place: { ...ingress, reason: "looped" }, total };
    for (const { egress, slot } of egresses) {
      const dropped = egressDrops(counters.egress(slot));
      const place = {
        rule: rule.name,
        interface: egress.interface,
        destination: destinationOf(rule, egress),
      };
      for (const [reason, total] of Object.entries(dropped))
        yield { key: `${slot} ${rule.name} ${reason}`, place: { ...place, reason }, total };
    }
  }
}

/** The lines at stop and on USR1. */
export function statisticsLines(stats: Stats): readonly string[] {
  const { totals, interfaces, workers, devices, latency, igmp } = stats;
  return [
    ...interfaces.map(
      ({ interface: name, packets, matched, bytes, dropped }) =>
        `[STATS:Ingress] interface=${name} packets=${packets} matched=${matched} bytes=${bytes} ${pairs(dropped, "dropped_")}`,
    ),
    `[STATS:Egress] sent=${totals.sent_packets} bytes=${totals.sent_bytes} ${egressReasons.map((reason) => `dropped_${reason}=${totals[`egress_${reason}`]}`).join(" ")}`,
    ...devices.map(
      ({ interface: name, dropped, errors, qdisc }) =>
        `[STATS:Device] interface=${name} dropped=${dropped} errors=${errors}${qdisc ? ` qdisc=${qdisc.kind} qdisc_dropped=${qdisc.dropped}` : ""}`,
    ),
    ...workers.map((worker) => `[STATS:Worker] ${pairs(worker)}`),
    ...(latency ? [`[STATS:Latency] ${pairs(latency)}`] : []),
    `[STATS:IGMP] attempted=${igmp.attempted} succeeded=${igmp.succeeded} failed=${igmp.failed} active_groups=${igmp.active_groups}`,
  ];
}

function pairs(counts: Readonly<Record<string, number>>, prefix = ""): string {
  return Object.entries(counts)
    .map(([name, value]) => `${prefix}${name}=${value}`)
    .join(" ");
}

/** What a reload, an add or a remove changes, or `mcr check --diff` says it would. */
export function differenceSnapshot(difference: RuleDiff): DifferenceSnapshot {
  const { added, removed, changed, unchanged } = difference;
  return {
    difference: formatDiff(difference),
    added: added.map(({ name }) => name),
    removed: removed.map(({ name }) => name),
    changed: changed.map(({ after }) => after.name),
    unchanged: unchanged.length,
    changes: describeChanges(difference).map((change) => ({ ...change, details: [...change.details] })),
    unchanged_flows: sum(unchanged.map(countFlows)),
  };
}

export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}
