// `mcr check FILE`: says every mistake of a rule file, or shows what it would run. Needs no privileges and no daemon:
// it is what `mcr run` and a reload do first, so a file that passes here is accepted there.
import * as v from "valibot";
import { countFlows } from "../config/flows.ts";
import { readConfig } from "../config/parse.ts";
import type { Config, Egress, Rule } from "../config/schema.ts";
import { exposureOf } from "../control/metrics-server.ts";
import { ExitCode, fail } from "../error.ts";
import { formatTable } from "../table.ts";
import { type Command, parseOptions, Switch } from "./command.ts";

const OptionsSchema = v.object({ json: Switch });

export const checkCommand: Command = {
  name: "check",
  parameters: "<file>",
  summary: "check a rule file and show what it would run",
  options: [{ flags: "--json", description: "print JSON" }],
  async run(positionals, options, io) {
    const { json } = parseOptions("check", OptionsSchema, options);
    const [file, surplus] = positionals;
    if (file === undefined || surplus !== undefined)
      return fail("mcr check: give one rule file", ExitCode.usage);
    const config = await readConfig(file);
    if (json) {
      const rules = config.rules.map((rule) => ({ ...rule, flows: countFlows(rule) }));
      io.stdout(
        `${JSON.stringify({ file, ok: true, ...summarize(config), notes: notesOf(config), relay: config.relay, log: config.log, rules }, null, 2)}\n`,
      );
    } else {
      io.stdout(formatCheck(file, config, io.isTTY ? io.columns : undefined));
    }
    return ExitCode.ok;
  },
};

export function formatCheck(file: string, config: Config, columns?: number): string {
  const notes = notesOf(config).map((note) => `note: ${note}\n`);
  return [
    formatConfig(config, columns),
    ...notes,
    formatSummary(file, config.rules.length, summarize(config)),
  ].join("");
}

/** What is allowed and should be meant. */
function notesOf({ relay: { metrics } }: Config): readonly string[] {
  const exposure = metrics === undefined ? undefined : exposureOf(metrics);
  return exposure === undefined ? [] : [`relay.metrics: ${exposure}`];
}

interface Summary {
  readonly flows: number;
  /** One for each flow and each place it goes to. */
  readonly egresses: number;
}

function summarize(config: Config): Summary {
  const sizes = config.rules.map((rule) => ({ flows: countFlows(rule), egresses: rule.egress.length }));
  return {
    flows: sizes.reduce((sum, { flows }) => sum + flows, 0),
    egresses: sizes.reduce((sum, { flows, egresses }) => sum + flows * egresses, 0),
  };
}

function formatSummary(file: string, rules: number, { flows, egresses }: Summary): string {
  if (rules === 0) return `${file}: no rules: ok, but nothing would be relayed\n`;
  return `${file}: ${count(rules, "rule")}, ${count(flows, "flow")}, ${count(egresses, "egress")}: ok\n`;
}

function formatConfig({ rules }: Config, columns: number | undefined): string {
  if (rules.length === 0) return "";
  // Most files set none of these, and a column of defaults would say nothing.
  const hasSettings = rules.some(({ egress }) => egress.some((each) => settingsOf(each).length > 0));
  const headings = ["RULE", "INGRESS, → EGRESS", "FLOWS", "TTL", ...(hasSettings ? ["SETTINGS"] : [])];
  const rows = rules.flatMap((rule) => [
    [rule.name, [formatEndpoint(rule.ingress), ...sourcesOf(rule)], countFlows(rule), ""],
    ...rule.egress.map((egress) => [
      "",
      `→ ${formatEndpoint({ ...inherited(rule), ...egress })}`,
      "",
      egress.ttl,
      ...(hasSettings ? [settingsOf(egress)] : []),
    ]),
  ]);
  return `${formatTable(headings, rows, columns)}\n`;
}

function sourcesOf({ ingress }: Rule): readonly string[] {
  return (ingress.source ?? []).map((source) => `  from ${source}`);
}

/** What an egress says beyond its target and TTL. */
function settingsOf({ source, source_port, path, dscp }: Egress): readonly string[] {
  return [
    ...(source === "interface" ? [] : [`source ${source}`]),
    ...(source_port === "auto" ? [] : [`source_port ${source_port}`]),
    ...(path === "auto" ? [] : [`path ${path}`]),
    ...(dscp === 0 ? [] : [`dscp ${dscp}`]),
  ];
}

/** What an egress keeps of its ingress when it says nothing else. */
function inherited({ ingress }: Rule) {
  const { group, port } = ingress;
  return { ...(group === undefined ? {} : { group }), ...(port === undefined ? {} : { port }) };
}

function formatEndpoint(endpoint: {
  readonly interface: string;
  readonly group?: string;
  readonly address?: string;
  readonly port?: number | string;
}): string {
  const target = endpoint.address ?? endpoint.group ?? "";
  return `${endpoint.interface} ${target.includes(":") ? `[${target}]` : target}:${endpoint.port ?? "*"}`;
}

function count(n: number, noun: "rule" | "flow" | "egress"): string {
  if (n === 1) return `1 ${noun}`;
  return `${n.toLocaleString("en-US")} ${noun === "egress" ? "egresses" : `${noun}s`}`;
}
