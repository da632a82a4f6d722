// The other views of `mcr show`: flows on the wire, interfaces, memberships, workers, the configuration that runs.
import type * as v from "valibot";
import type {
  ConfigAnswer,
  DeviceStats,
  Flows,
  InterfaceSnapshot,
  InterfacesSchema,
  MembershipsSchema,
  WorkersSchema,
} from "../control/protocol.ts";
import { membershipMs } from "../net/queriers.ts";
import { sumOfDeviceDrops, sumOfLosses } from "../stats/reasons.ts";
import { formatTable } from "../table.ts";
import { type Colors, paintState, plain } from "./color.ts";
import { formatAge, formatBits, formatRate, formatVlan } from "./figures.ts";

/** Flows that a rule takes first, in the order of the rules; "-" where none does. */
export function formatFlows(
  { seconds, dropped, overflow, flows, igmp, failures }: Flows,
  columns: number,
  colors: Colors = plain,
): string {
  const table =
    flows.length === 0
      ? ""
      : formatTable(
          ["RULE", "INTERFACE", "SOURCE", "DESTINATION", "   PPS", " BIT/S", "SIZE", "PACKETS"],
          flows.map((flow) => [
            flow.rule ?? "-",
            flow.vlan === 0 ? flow.interface : `${flow.interface} ${formatVlan(flow.vlan, "vlan")}`,
            flow.source,
            `${flow.destination}:${flow.port}`,
            formatRate(flow.packets_per_s).padStart(6),
            formatBits(flow.bits_per_s).padStart(6),
            flow.size_min === flow.size_max ? String(flow.size_min) : `${flow.size_min}-${flow.size_max}`,
            flow.packets,
          ]),
          columns,
        );
  const notes = [
    ...(flows.length === 0 ? [`no multicast was seen in ${seconds.toFixed(1)} s`] : []),
    ...igmp
      .filter(({ kind }) => kind === "query")
      .map(({ interface: name, source }) => `querier on ${name}: ${source}`),
    ...failures.map(({ interface: name, reason }) => colors.warn(`not watched: ${name}: ${reason}`)),
    ...(dropped > 0 ? [colors.bad(`${dropped} frames came too fast to look at: the rates are too low`)] : []),
    ...(overflow > 0
      ? [colors.bad(`${overflow} packets were of flows beyond the most that are told apart`)]
      : []),
  ];
  return `${table}${notes.map((note) => `${note}\n`).join("")}`;
}

export function formatInterfaces(
  { interfaces }: v.InferOutput<typeof InterfacesSchema>,
  nowMs: number,
  columns: number,
  colors: Colors = plain,
): string {
  if (interfaces.length === 0) return "no rule names an interface\n";
  const table = formatTable(
    [
      "INTERFACE",
      "STATE",
      "ADDRESS",
      "MTU",
      "RULES",
      "EGRESSES",
      "CAPTURED",
      "MATCHED",
      "SENT",
      "DROPPED",
      "DEVICE",
    ],
    interfaces.map((each) => [
      each.interface,
      paintState(each.state, colors),
      each.address ?? "-",
      each.mtu ?? "-",
      each.ingress_rules,
      each.egresses,
      each.ingress?.packets ?? 0,
      each.ingress?.matched ?? 0,
      each.sent_packets,
      (each.ingress ? sumOfLosses(each.ingress.dropped) : 0) + each.egress_dropped,
      each.device ? sumOfDeviceDrops(each.device) : "-",
    ]),
    columns,
    ["MTU", "EGRESSES", "RULES", "CAPTURED"],
  );
  const reasons = interfaces.flatMap(({ reason }) => (reason === null ? [] : [colors.warn(reason)]));
  const failures = interfaces.flatMap(({ egresses: all, failed_egresses, failing_egresses }) => [
    ...failed_egresses.map(({ reason, egresses }) =>
      colors.bad(`${egresses} of ${all} egresses failed: ${reason}`),
    ),
    ...failing_egresses.map(({ reason, egresses }) =>
      colors.bad(`${egresses} of ${all} egresses failing: ${reason}`),
    ),
  ]);
  const devices = interfaces.flatMap(({ device }) =>
    device === null ? [] : describeDevice(device).map((line) => colors.bad(line)),
  );
  const queriers = interfaces.flatMap((each) => describeQuerier(each, nowMs, colors));
  return `${table}${[...reasons, ...failures, ...devices, ...queriers].map((line) => `${line}\n`).join("")}`;
}

/** What was sent and never left; the kernel counts for all programs of this host. */
function describeDevice({ interface: name, dropped, errors, qdisc }: DeviceStats): readonly string[] {
  const device = [
    ...(dropped > 0 ? [`${dropped} dropped`] : []),
    ...(errors > 0 ? [`${errors} not sent (errors)`] : []),
  ];
  return [
    ...(device.length > 0
      ? [`behind mcr, device ${name}: ${device.join(", ")}: ip -s link show ${name}`]
      : []),
    ...(qdisc && qdisc.dropped > 0
      ? [`behind mcr, queue of ${name}: ${qdisc.kind} dropped ${qdisc.dropped}: tc -s qdisc show dev ${name}`]
      : []),
  ];
}

function describeQuerier(
  { interface: name, last_query: last, listening_since: since }: InterfaceSnapshot,
  nowMs: number,
  colors: Colors,
): readonly string[] {
  if (last) {
    const ageMs = nowMs - Date.parse(last.time);
    const text = `querier on ${name}: ${last.from} (IGMPv${last.version}), last query ${formatAge(ageMs)} ago`;
    return [ageMs > membershipMs ? colors.warn(text) : text];
  }
  return since === null ? [] : [`no IGMP query on ${name} in ${formatAge(nowMs - Date.parse(since))}`];
}

export function formatMemberships(
  { memberships }: v.InferOutput<typeof MembershipsSchema>,
  columns: number,
  colors: Colors = plain,
): string {
  if (memberships.length === 0) return "nothing is joined\n";
  const headings = ["INTERFACE", "GROUP", "SOURCE", "STATE"];
  const rows = memberships.map(({ interface: name, group, source, state }) => [
    name,
    group,
    source ?? "any",
    paintState(state, colors),
  ]);
  const widths = formatTable(headings, rows)
    .split("\n")
    .map((line) => Bun.stringWidth(line));
  const room = columns - Math.max(...widths) - 2;
  const table = formatTable(
    [...headings, "RULES"],
    rows.map((row, index) => [...row, namesWithin(memberships[index]?.rules ?? [], room)]),
  );
  const reasons = memberships.flatMap(({ reason, retry_at }) =>
    reason === null ? [] : [colors.bad(`${reason}; next try at ${retry_at}`)],
  );
  return `${table}${reasons.map((reason) => `${reason}\n`).join("")}`;
}

/** As many as have room, the first one always, and how many more there are. */
function namesWithin(names: readonly string[], columns: number): string {
  const [first = "", ...others] = names;
  let shown = first;
  for (const [index, name] of others.entries()) {
    const longer = `${shown}, ${name}`;
    const rest = others.length - index - 1;
    if (Bun.stringWidth(longer + moreOf(rest)) > columns) return shown + moreOf(rest + 1);
    shown = longer;
  }
  return shown;
}

function moreOf(count: number): string {
  return count === 0 ? "" : ` and ${count} more`;
}

/** What they do, and below it how: side by side the counters of a busy week have no room. */
export function formatWorkers({ workers }: v.InferOutput<typeof WorkersSchema>): string {
  const seconds = (ns: number) => Math.round(ns / 1e7) / 100;
  const load = formatTable(
    ["WORKER", "CPU", "LOAD %", "MATCHED", "SENT", "GATHER s", "SEND s"],
    workers.map((each) => [
      each.worker,
      each.cpu,
      each.load_percent,
      each.matched,
      each.sent_packets,
      seconds(each.gather_ns),
      seconds(each.send_ns),
    ]),
  );
  const calls = formatTable(
    ["WORKER", "WAKEUPS", "BLOCKS", "SENDS", "RUNS", "RUN PACKETS"],
    workers.map(({ worker, wakeups, blocks, sends, runs, run_packets }) => [
      worker,
      wakeups,
      blocks,
      sends,
      runs,
      run_packets,
    ]),
  );
  return `${load}\n${calls}`;
}

/** A rule file that would run the same, with every default written out. */
export function formatConfig({ file, instance, relay, log, rules }: ConfigAnswer): string {
  const head = `# ${file}${instance === null ? "" : `, instance ${instance}`}, as it runs`;
  const { facility, ...logRest } = log;
  const own =
    isRecord(facility) && Object.keys(facility).length > 0 ? ["[log.facility]", ...pairs(facility)] : [];
  const ruleLines = rules.flatMap((rule) => ["", "[[rule]]", ...pairs(rule)]);
  return `${[head, "[relay]", ...pairs(relay), "[log]", ...pairs(logRest), ...own, ...ruleLines].join("\n")}\n`;
}

function pairs(table: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(table).map(([key, value]) => `${key} = ${formatValue(value)}`);
}

/** JSON's strings, numbers and lists are TOML's too; its tables are inline tables. */
function formatValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(formatValue).join(", ")}]`;
  return isRecord(value) ? `{ ${pairs(value).join(", ")} }` : JSON.stringify(value);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
