// `mcr show`: what runs, how long it has been so, and what keeps a rule or an egress from it. One line for a rule's
// ingress and one for each egress below it, with room for the ranges of a rule in 100 columns; long names are cut.
import { list } from "../config/changes.ts";
import { request } from "../control/client.ts";
import {
  type EgressSnapshot,
  type RuleSnapshot,
  RulesSchema,
  type Status,
  StatusSchema,
  type Unsaved,
} from "../control/protocol.ts";
import { ExitCode } from "../error.ts";
import { type Cell, formatTable } from "../table.ts";
import type { Command } from "./command.ts";
import { formatUnsaved, toText } from "./difference.ts";
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
    const { rules: snapshots, unsaved } = rules.value;
    io.stdout(formatShow(status.value, snapshots, Date.now(), io.columns, unsaved));
    return ExitCode.ok;
  },
};

const headings = ["RULE", "INGRESS, → EGRESS", "STATE", "SINCE", "PACKETS", "DROPPED"];

/** A row of the table with the remark that goes below it, under its second column. */
interface Line {
  readonly row: readonly Cell[];
  readonly remark?: string | undefined;
}

export function formatShow(
  status: Status,
  rules: readonly RuleSnapshot[],
  nowMs: number,
  columns: number,
  unsaved: Unsaved = { added: [], changed: [], removed: [] },
): string {
  const head = `${formatStatus(status)}\n${formatFailedReload(status, nowMs)}${toText(formatUnsaved(unsaved))}`;
  const rest = unsaved.removed.length === 0 ? "" : `\nremoved, still in the file: ${list(unsaved.removed)}\n`;
  if (rules.length === 0) return head + rest;
  const lines = rules.flatMap((rule) => linesOf(rule, nowMs, markOf(rule.name, unsaved)));
  const rows = lines.map(({ row }) => row);
  const table = formatTable(headings, rows, columns).trimEnd().split("\n");
  const indent = " ".repeat(table[0]?.indexOf(headings[1] ?? "") ?? 0);
  const text = table.flatMap((line, index) => {
    // The first line of the table is its heading.
    const remark = lines[index - 1]?.remark;
    return remark === undefined ? [line] : [line, `${indent}${remark}`];
  });
  return `${head}\n${text.join("\n")}\n${rest}`;
}

/** Of a rule that the file does not have, or not so. */
function markOf(name: string, { added, changed }: Unsaved): string | undefined {
  if (added.includes(name)) return "not in the file";
  return changed.includes(name) ? "other than in the file" : undefined;
}

function linesOf(rule: RuleSnapshot, nowMs: number, mark: string | undefined): Line[] {
  const age = formatAge(nowMs - Date.parse(rule.since));
  const ingress = `${rule.interface} ${rule.ingress}${formatSources(rule.source)}`;
  const remark = [mark, rule.reason].filter((part) => typeof part === "string").join("; ");
  return [
    {
      row: [rule.name, ingress, rule.state, age, rule.packets, ""],
      remark: mark === undefined && rule.reason === null ? undefined : `  ${remark}`,
    },
    ...rule.egress.map((egress) => lineOf(egress, nowMs)),
  ];
}

function lineOf(egress: EgressSnapshot, nowMs: number): Line {
  const { full, error, unavailable } = egress.dropped;
  const target = `→ ${egress.interface} ${egress.destination}`;
  const age = formatAge(nowMs - Date.parse(egress.since));
  const refused = egress.last_error === null ? undefined : `last refused packet: ${egress.last_error}`;
  const remark = egress.reason ?? refused;
  return {
    row: ["", target, egress.state, age, egress.sent_packets, full + error + unavailable],
    remark: remark === undefined ? undefined : `    ${remark}`,
  };
}

function formatSources([first, ...others]: readonly string[]): string {
  if (first === undefined) return "";
  return others.length === 0 ? ` from ${first}` : ` from ${first} and ${others.length} more`;
}

function formatStatus({ version, pid, uptime_s, workers, file, rules }: Status): string {
  const states = Object.entries(rules).filter(([, count]) => count > 0);
  const total = states.reduce((sum, [, count]) => sum + count, 0);
  const parts = [
    `mcr ${version}`,
    `pid ${pid}`,
    `up ${formatAge(uptime_s * 1000)}`,
    formatCount(workers.length, "worker"),
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
