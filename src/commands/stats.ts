// `mcr stats`: every counter there is, from the totals down to one egress, each drop with its reason. Plain digits
// and fixed columns, for people and for awk; rates are the reader's subtraction.
import { request } from "../control/client.ts";
import { type EgressSnapshot, type RuleSnapshot, type Stats, StatsSchema } from "../control/protocol.ts";
import { ExitCode } from "../error.ts";
import { formatTable, type Row } from "../table.ts";
import type { Command } from "./command.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";
import { formatWorkers } from "./show-views.ts";

export const statsCommand: Command = {
  name: "stats",
  parameters: "",
  summary: "show every counter: interfaces, workers, rules, egresses, IGMP",
  options: remoteOptions,
  async run(_positionals, options, io) {
    const { json, socket } = parseRemote("stats", options, io);
    const answer = await request(socket, "GET", "/v1/stats", StatsSchema);
    io.stdout(json ? formatJson(answer.json) : formatStats(answer.value, io.columns));
    return ExitCode.ok;
  },
};

/** @param columns of the terminal; a pipe has no end of them, and awk(1) finds every field in its place. */
export function formatStats(stats: Stats, columns = Number.POSITIVE_INFINITY): string {
  return [
    totalsTable(stats.totals),
    interfacesTable(stats.interfaces, columns),
    devicesTable(stats.devices),
    formatWorkers(stats),
    rulesTable(stats.rules, columns),
    rtpTable(stats.rules, columns),
    latencyTable(stats, columns),
    `igmp: ${pairs(stats.igmp)}\n`,
  ]
    .filter((section) => section !== "")
    .join("\n");
}

function totalsTable(totals: Stats["totals"]): string {
  return table(
    ["TOTAL", "PACKETS", "MATCHED", "BYTES", "DROPPED"],
    [
      ["ingress", totals.packets, totals.matched, totals.bytes, totals.ingress_dropped],
      ["egress", totals.sent_packets, "", totals.sent_bytes, totals.egress_dropped],
    ],
  );
}

function interfacesTable(interfaces: Stats["interfaces"], columns: number): string {
  return table(
    ["INTERFACE", "PACKETS", "MATCHED", "BYTES", "DROPPED", "REASON"],
    interfaces.map(({ interface: name, packets, matched, bytes, dropped, undescribed }) => [
      name,
      packets,
      matched,
      bytes,
      Object.values(dropped),
      Object.keys(dropped).map((reason) =>
        reason === "ring" && undescribed > 0 ? `ring (${undescribed} undescribed)` : reason,
      ),
    ]),
    columns,
  );
}

/** What the kernel dropped behind the egresses, in its own unit. */
function devicesTable(devices: Stats["devices"]): string {
  return table(
    ["DEVICE", "DROPPED", "ERRORS", "QDISC", "QDISC DROPPED", "BACKLOG"],
    devices.map(({ interface: name, dropped, errors, qdisc }) => [
      name,
      dropped,
      errors,
      qdisc?.kind ?? "-",
      qdisc?.dropped ?? "-",
      qdisc?.backlog_packets ?? "-",
    ]),
  );
}

function rulesTable(rules: readonly RuleSnapshot[], columns: number): string {
  return table(
    ["RULE", "INGRESS, → EGRESS", "PACKETS", "BYTES", "DROPPED", "REASON"],
    rules.flatMap((rule) => [
      [rule.name, `${rule.interface} ${rule.ingress}`, rule.packets, rule.bytes, "", ""],
      ...rule.egress.map((egress) => [
        "",
        `→ ${egress.interface} ${egress.destination}`,
        egress.sent_packets,
        egress.sent_bytes,
        ...droppedCells(egress),
      ]),
    ]),
    columns,
    ["BYTES"],
  );
}

/** As it arrived; rules without any are left out. */
function rtpTable(rules: readonly RuleSnapshot[], columns: number): string {
  const rows = rules.flatMap(({ name, rtp }): Row[] =>
    rtp ? [[name, rtp.packets, rtp.missing, rtp.reordered, rtp.duplicate]] : [],
  );
  return table(["RTP INGRESS", "PACKETS", "MISSING", "REORDERED", "DUPLICATE"], rows, columns);
}

/** Of the packets that were sampled; rules without any are left out. */
function latencyTable({ rules, latency }: Stats, columns: number): string {
  const us = (ns: number) => Math.round(ns / 100) / 10;
  const rows = [{ name: "all rules", latency }, ...rules].flatMap(({ name, latency: of }): Row[] =>
    of ? [[name, of.samples, us(of.p50_ns), us(of.p99_ns), us(of.max_ns)]] : [],
  );
  return table(["ADDED LATENCY", "SAMPLES", "P50 µs", "P99 µs", "MAX µs"], rows, columns);
}

/** Of a thousand egresses few drop anything, so only the reasons that did are listed, or one 0. */
function droppedCells({ dropped }: EgressSnapshot): Row {
  const counts = Object.entries(dropped).filter(([, packets]) => packets > 0);
  if (counts.length === 0) return [0, ""];
  return [counts.map(([, packets]) => packets), counts.map(([reason]) => reason)];
}

function table(
  headings: readonly string[],
  rows: readonly Row[],
  columns?: number,
  dispensable?: readonly string[],
): string {
  return rows.length === 0 ? "" : formatTable(headings, rows, columns, dispensable);
}

function pairs(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${name}=${count}`)
    .join(" ");
}
