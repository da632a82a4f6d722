// `mcr show`: what runs, how long it has been so, and what keeps a rule or an egress from it. One line for a rule's
// ingress and one for each egress below it, with room for the ranges of a rule in 100 columns; long names are cut.
import { request } from "../control/client.ts";
import {
  type EgressSnapshot,
  type RuleSnapshot,
  RulesSchema,
  type Status,
  StatusSchema,
} from "../control/protocol.ts";
import { ExitCode } from "../error.ts";
import { type Cell, formatTable } from "../table.ts";
import type { Command } from "./command.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";

export const showCommand: Command = {
  name: "show",
  parameters: "",
  summary: "show the rules that run, their states and packets",
  options: remoteOptions,
  async run(_positionals, options, io) {
    const { json, socket } = parseRemote("show", options, io);
    const rules = await request(socket, "GET", "/v1/rules", RulesSchema);
    if (json) {
      io.stdout(formatJson(rules.json));
      return ExitCode.ok;
    }
    const status = await request(socket, "GET", "/v1/status", StatusSchema);
    io.stdout(formatShow(status.value, rules.value.rules, Date.now(), io.columns));
    return ExitCode.ok;
  },
};

const headings = ["RULE", "INGRESS, → EGRESS", "STATE", "SINCE", "PACKETS", "DROPPED"];

/** A row of the table with the remarks that go below it, under its second column. */
interface Line {
  readonly row: readonly Cell[];
  readonly remarks: readonly string[];
}

export function formatShow(
  status: Status,
  rules: readonly RuleSnapshot[],
  nowMs: number,
  columns: number,
): string {
  const head = `${formatStatus(status)}\n${formatFailedReload(status, nowMs)}`;
  if (rules.length === 0) return head;
  const lines = rules.flatMap((rule) => linesOf(rule, nowMs));
  const rows = lines.map(({ row }) => row);
  const table = formatTable(headings, rows, columns).trimEnd().split("\n");
  const indent = " ".repeat(table[0]?.indexOf(headings[1] ?? "") ?? 0);
  const text = table.flatMap((line, index) => {
    // The first line of the table is its heading.
    const remarks = lines[index - 1]?.remarks ?? [];
    return [line, ...remarks.map((remark) => `${indent}${remark}`)];
  });
  return `${head}\n${text.join("\n")}\n`;
}

function linesOf(rule: RuleSnapshot, nowMs: number): Line[] {
  const age = formatAge(nowMs - Date.parse(rule.since));
  const ingress = `${rule.interface} ${rule.ingress}${formatSources(rule.source)}`;
  return [
    {
      row: [rule.name, ingress, rule.state, age, rule.packets, ""],
      remarks: [...(rule.reason === null ? [] : [rule.reason]), ...exclusiveRemark(rule)].map(
        (remark) => `  ${remark}`,
      ),
    },
    ...rule.egress.map((egress) => lineOf(egress, nowMs)),
  ];
}

function lineOf(egress: EgressSnapshot, nowMs: number): Line {
  const dropped = Object.values(egress.dropped).reduce((sum, packets) => sum + packets, 0);
  const target = `→ ${egress.interface} ${egress.destination}`;
  const age = formatAge(nowMs - Date.parse(egress.since));
  const refused = egress.last_error === null ? undefined : `last refused packet: ${egress.last_error}`;
  const path = egress.path_reason === null ? undefined : `path ${egress.path}: ${egress.path_reason}`;
  const remark = egress.reason ?? refused ?? path;
  return {
    row: ["", target, egress.state, age, egress.sent_packets, dropped],
    remarks: remark === undefined ? [] : [`    ${remark}`],
  };
}

function exclusiveRemark({ exclusive, exclusive_reason: reason }: RuleSnapshot): readonly string[] {
  switch (exclusive) {
    case "off":
      return [];
    case "refused":
      return [reason ?? "not exclusive"];
    case "waiting":
      return ["exclusive as soon as it is captured"];
    case "tcx":
    case "nft":
      return [`exclusive by ${exclusive}`];
  }
}

function formatSources([first, ...others]: readonly string[]): string {
  if (first === undefined) return "";
  return others.length === 0 ? ` from ${first}` : ` from ${first} and ${others.length} more`;
}

function formatStatus({ version, pid, uptime_s, workers, profile, file, rules }: Status): string {
  const states = Object.entries(rules).filter(([, count]) => count > 0);
  const total = states.reduce((sum, [, count]) => sum + count, 0);
  const parts = [
    `mcr ${version}`,
    `pid ${pid}`,
    `up ${formatAge(uptime_s * 1000)}`,
    formatCount(workers.length, "worker"),
    `profile ${profile}`,
    `${file}: ${total === 0 ? "no rules" : formatCount(total, "rule")}`,
  ];
  const detail = states.map(([state, count]) => `${count} ${state}`).join(", ");
  return parts.join(", ") + (detail === "" ? "" : `: ${detail}`);
}

/** The file and what runs differ then, and nobody may have read the log. */
function formatFailedReload({ last_reload: last }: Status, nowMs: number): string {
  if (last === null || last.ok) return "";
  const [first = "", ...others] = last.errors;
  const more = others.length === 0 ? "" : ` (and ${others.length} more)`;
  return `last reload refused ${formatAge(nowMs - Date.parse(last.time))} ago: ${first}${more}\n`;
}

function formatCount(count: number, noun: "rule" | "worker"): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** The two largest units: 12s, 3m, 2h 5m, 3d 4h. A clock that was set back makes it 0s. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days}d ${hours % 24}h`;
  if (hours > 0) return `${hours}h ${minutes % 60}m`;
  return minutes > 0 ? `${minutes}m` : `${seconds}s`;
}
