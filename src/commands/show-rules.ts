// The rules as `mcr show` prints them: one line for a rule's ingress and one for each egress below it, with room for
// the ranges of a rule in 100 columns; long names are cut. What keeps one from running, or drops its packets, is below.
import { list } from "../config/changes.ts";
import type { EgressSnapshot, Rate, RuleSnapshot, Status, Unsaved } from "../control/protocol.ts";
import { plural } from "../numbers.ts";
import { type Cell, formatTable } from "../table.ts";
import { type Colors, paintState, plain } from "./color.ts";
import { formatUnsaved, toText } from "./difference.ts";
import { formatAge, formatBits, formatRate } from "./figures.ts";

const headings = ["RULE", "INGRESS, → EGRESS", "STATE", "SINCE", "LAST", "   PPS", " BIT/S", "PACKETS"];
/** What goes where the longest ranges leave no room for everything. */
const dispensable = ["LAST", " BIT/S"];

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
  colors: Colors = plain,
  unsaved: Unsaved = { added: [], changed: [], removed: [] },
): string {
  const head = `${formatStatus(status)}\n${formatFailedReload(status, nowMs, colors)}${toText(formatUnsaved(unsaved))}`;
  const rest = unsaved.removed.length === 0 ? "" : `\nremoved, still in the file: ${list(unsaved.removed)}\n`;
  if (rules.length === 0) return head + rest;
  const lines = rules.flatMap((rule) => linesOf(rule, nowMs, markOf(rule.name, unsaved), colors));
  const rows = lines.map(({ row }) => row);
  const [heading = "", ...table] = formatTable(headings, rows, columns, dispensable).trimEnd().split("\n");
  const indent = " ".repeat(heading.indexOf(headings[1] ?? ""));
  const text = table.flatMap((line, index) => [
    line,
    ...(lines[index]?.remarks ?? []).map((remark) => `${indent}${remark}`),
  ]);
  return `${head}\n${[colors.head(heading), ...text].join("\n")}\n${rest}`;
}

/** Of a rule that the file does not have, or not so. */
function markOf(name: string, { added, changed }: Unsaved): string | undefined {
  if (added.includes(name)) return "not in the file";
  return changed.includes(name) ? "other than in the file" : undefined;
}

function linesOf(rule: RuleSnapshot, nowMs: number, mark: string | undefined, colors: Colors): Line[] {
  const last = rule.last_packet === null ? "-" : formatAge(nowMs - Date.parse(rule.last_packet));
  return [
    {
      row: [
        rule.name,
        `${rule.interface} ${rule.ingress}${formatSources(rule.source)}`,
        paintState(rule.state, colors),
        formatAge(nowMs - Date.parse(rule.since)),
        last,
        ...rateCells(rule.rate),
        rule.packets,
      ],
      remarks: [
        ...(mark === undefined ? [] : [`  ${colors.warn(mark)}`]),
        ...(rule.reason === null ? [] : [`  ${colors.warn(rule.reason)}`]),
        ...loopRemark(rule).map((remark) => `  ${colors.bad(remark)}`),
        ...exclusiveRemark(rule, colors).map((remark) => `  ${remark}`),
      ],
    },
    ...rule.egress.map((egress) => lineOf(egress, nowMs, colors)),
  ];
}

/** What is not the usual way: no frames, or no runs. */
function pathRemark({ path, path_reason: reason, plain: isPlain }: EgressSnapshot): readonly string[] {
  if (reason === null && !isPlain) return [];
  return [`path ${path}${isPlain ? ", plain" : ""}${reason === null ? "" : `: ${reason}`}`];
}

function lineOf(egress: EgressSnapshot, nowMs: number, colors: Colors): Line {
  const remarks = [
    ...(egress.reason === null ? [] : [colors.warn(egress.reason)]),
    ...formatDrops(egress).map(colors.bad),
    ...(egress.returned_packets === 0
      ? []
      : [colors.bad(`${egress.returned_packets} of the packets sent came back`)]),
    ...pathRemark(egress),
  ];
  return {
    row: [
      "",
      `→ ${egress.interface} ${egress.destination}`,
      paintState(egress.state, colors),
      formatAge(nowMs - Date.parse(egress.since)),
      "",
      ...rateCells(egress.rate),
      egress.sent_packets,
    ],
    remarks: remarks.map((remark) => `    ${remark}`),
  };
}

function loopRemark({ looped, interface: name, name: rule }: RuleSnapshot): readonly string[] {
  if (looped === 0) return [];
  return [`looped ${looped}: came back on ${name} and were dropped (mcr explain ${rule} says from where)`];
}

function exclusiveRemark(
  { exclusive, exclusive_reason: reason }: RuleSnapshot,
  { warn }: Colors,
): readonly string[] {
  switch (exclusive) {
    case "off":
      return [];
    case "refused":
      return [warn(reason ?? "not exclusive")];
    case "waiting":
      return ["exclusive as soon as it is captured"];
    case "tcx":
    case "nft":
      return [`exclusive by ${exclusive}`];
  }
}

function formatDrops({ dropped, last_error }: EgressSnapshot): readonly string[] {
  const counts = Object.entries(dropped).filter(([, packets]) => packets > 0);
  if (counts.length === 0) return [];
  const total = counts.reduce((sum, [, packets]) => sum + packets, 0);
  const reasons = counts.map(([reason, packets]) => `${packets} ${reason}`).join(", ");
  return [`dropped ${total}: ${reasons}${last_error === null ? "" : `; last refused: ${last_error}`}`];
}

/** Right-aligned text: a column of numbers, some of which have a unit. */
function rateCells(rate: Rate): readonly [string, string] {
  if (rate === null) return ["     -", "     -"];
  return [formatRate(rate.packets_per_s).padStart(6), formatBits(rate.bits_per_s).padStart(6)];
}

function formatSources([first, ...others]: readonly string[]): string {
  if (first === undefined) return "";
  return others.length === 0 ? ` from ${first}` : ` from ${first} and ${others.length} more`;
}

function formatStatus({ version, instance, pid, uptime_s, workers, profile, file, rules }: Status): string {
  const states = Object.entries(rules).filter(([, count]) => count > 0);
  const total = states.reduce((sum, [, count]) => sum + count, 0);
  const about = [
    `mcr ${version}${instance === null ? "" : ` ${instance}`}`,
    `pid ${pid}`,
    `up ${formatAge(uptime_s * 1000)}`,
    plural(workers.length, "worker"),
    `profile ${profile}`,
  ];
  const detail = states.map(([state, count]) => `${count} ${state}`).join(", ");
  const content = total === 0 ? "no rules" : `${plural(total, "rule")}: ${detail}`;
  return `${about.join(", ")}\n${file}: ${content}`;
}

/** The file and what runs differ then, and nobody may have read the log. */
function formatFailedReload({ last_reload: last }: Status, nowMs: number, { bad }: Colors): string {
  if (last === null || last.ok) return "";
  const [first = "", ...others] = last.errors;
  const more = others.length === 0 ? "" : ` (and ${others.length} more)`;
  return `${bad(`last reload refused ${formatAge(nowMs - Date.parse(last.time))} ago: ${first}${more}`)}\n`;
}
