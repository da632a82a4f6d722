// The other views of `mcr show`: flows on the wire, interfaces, memberships, workers, the configuration that runs.
import type * as v from "valibot";
import type {
  ConfigAnswer,
  Flows,
  InterfacesSchema,
  MembershipsSchema,
  WorkersSchema,
} from "../control/protocol.ts";
import { formatTable } from "../table.ts";
import { type Colors, paintState, plain } from "./color.ts";
import { formatRate } from "./figures.ts";

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
            flow.vlan === 0 ? flow.interface : `${flow.interface} vlan ${flow.vlan}`,
            flow.source,
            `${flow.destination}:${flow.port}`,
            formatRate(flow.packets_per_s).padStart(6),
            formatRate(flow.bits_per_s).padStart(6),
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
  colors: Colors = plain,
): string {
  if (interfaces.length === 0) return "no rule names an interface\n";
  const table = formatTable(
    ["INTERFACE", "STATE", "ADDRESS", "MTU", "RULES", "EGRESSES", "CAPTURED", "MATCHED", "SENT", "DROPPED"],
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
      (each.ingress?.dropped.ring ?? 0) + each.egress_dropped,
    ]),
  );
  const reasons = interfaces.flatMap(({ reason }) => (reason === null ? [] : [colors.warn(reason)]));
  return `${table}${reasons.map((reason) => `${reason}\n`).join("")}`;
}

export function formatMemberships(
  { memberships }: v.InferOutput<typeof MembershipsSchema>,
  colors: Colors = plain,
): string {
  if (memberships.length === 0) return "nothing is joined\n";
  const table = formatTable(
    ["INTERFACE", "GROUP", "SOURCE", "STATE", "RULES"],
    memberships.map(({ interface: name, group, source, state, rules }) => [
      name,
      group,
      source ?? "any",
      paintState(state, colors),
      rules.join(", "),
    ]),
  );
  const reasons = memberships.flatMap(({ reason, retry_at }) =>
    reason === null ? [] : [colors.bad(`${reason}; next try at ${retry_at}`)],
  );
  return `${table}${reasons.map((reason) => `${reason}\n`).join("")}`;
}

export function formatWorkers({ workers }: v.InferOutput<typeof WorkersSchema>): string {
  return formatTable(
    ["WORKER", "CPU", "MATCHED", "SENT", "WAKEUPS", "BLOCKS", "SENDS", "RUNS", "RUN PACKETS"],
    workers.map((worker) => [
      worker.worker,
      worker.cpu,
      worker.matched,
      worker.sent_packets,
      worker.wakeups,
      worker.blocks,
      worker.sends,
      worker.runs,
      worker.run_packets,
    ]),
  );
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
