// `mcr check FILE`: says every mistake of a rule file, or shows what it would run. Needs no privileges and no daemon:
// it is what `mcr run` and a reload do first, so a file that passes here is accepted there.
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { countFlows } from "../config/flows.ts";
import { readConfig } from "../config/parse.ts";
import type { Config, Egress, Rule } from "../config/schema.ts";
import { exposureOf } from "../control/metrics-server.ts";
import { ExitCode, fail, McrError } from "../error.ts";
import { Shim } from "../native/shim.ts";
import { probeExclusive } from "../net/exclusive.ts";
import { hostAttachments } from "../net/one-network.ts";
import { describeRing } from "../net/profile.ts";
import { socketReason, typeReason } from "../net/send-path.ts";
import { plural } from "../numbers.ts";
import { formatTable } from "../table.ts";
import { loopWarnings } from "./check-loops.ts";
import { type Command, parseOptions, Switch } from "./command.ts";
import { compareWithRunning } from "./compare.ts";
import { formatDifference } from "./difference.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";

const OptionsSchema = v.object({
  json: Switch,
  diff: Switch,
  socket: v.optional(v.unknown()),
  instance: v.optional(v.unknown()),
});

export const checkCommand: Command = {
  name: "check",
  parameters: "<file>",
  summary: "check a rule file and show what it would run",
  options: [
    { flags: "--diff", description: "show what a reload with this file would change in the running mcr" },
    ...remoteOptions,
  ],
  async run(positionals, options, io) {
    const { json, diff, socket, instance } = parseOptions("check", OptionsSchema, options);
    const [file, surplus] = positionals;
    if (file === undefined || surplus !== undefined)
      return fail("mcr check: give one rule file", ExitCode.usage);
    if ((socket !== undefined || instance !== undefined) && !diff)
      return fail("mcr check: --socket and -i go with --diff, which asks the running mcr", ExitCode.usage);
    const schema = diff ? "check-diff/1" : "check/1";
    const config = await readConfig(file).catch((thrown: unknown) => {
      if (!json || !(thrown instanceof McrError)) throw thrown;
      io.stdout(formatJson({ schema, file, ok: false, errors: thrown.lines }));
      return thrown.exitCode;
    });
    if (typeof config === "number") return config;
    if (diff) {
      const difference = await compareWithRunning(parseRemote("check", options, io).socket, config);
      const { notes, ...rest } = difference;
      io.stdout(
        json
          ? formatJson({ schema, file, ok: true, errors: [], ...difference })
          : formatDifference(`${file}, not applied yet`, rest, notes),
      );
      return ExitCode.ok;
    }
    const isExclusive = config.rules.some(({ ingress }) => ingress.exclusive);
    const exclusive = isExclusive ? probeExclusive(new Shim()) : null;
    const warnings = loopWarnings(config.rules, hostAttachments());
    if (json) {
      const rules = config.rules.map((rule) => ({ ...rule, flows: countFlows(rule) }));
      const { relay, log } = config;
      const notes = notesOf(config);
      const found = { ...summarize(config), notes, warnings, relay, log, exclusive, rules };
      io.stdout(formatJson({ schema, file, ok: true, errors: [], ...found }));
    } else {
      io.stdout(formatCheck(file, config, io.columns, interfaceType, warnings));
      if (exclusive !== null) io.stdout(`${formatExclusive(exclusive)}\n`);
    }
    return ExitCode.ok;
  },
};

/** ARPHRD_ETHER and so on; undefined where this host has no such interface (yet). */
type TypeReader = (name: string) => number | undefined;

function interfaceType(name: string): number | undefined {
  try {
    return Number(readFileSync(`/sys/class/net/${name}/type`, "utf8"));
  } catch {
    return undefined;
  }
}

export function formatCheck(
  file: string,
  config: Config,
  columns?: number,
  typeOf: TypeReader = () => undefined,
  warnings: readonly string[] = [],
): string {
  const ring =
    config.rules.length === 0 ? "" : `${describeRing(config.relay)}; fanout ${config.relay.fanout}\n`;
  const notes = notesOf(config).map((note) => `note: ${note}\n`);
  return [
    formatConfig(config, columns, typeOf),
    ring,
    ...notes,
    ...warnings.map((warning) => `warning: ${warning}\n`),
    formatSummary(file, config.rules.length, summarize(config)),
  ].join("");
}

/** What is allowed and should be meant. */
function notesOf({ relay: { metrics } }: Config): readonly string[] {
  const exposure = metrics === undefined ? undefined : exposureOf(metrics);
  return exposure === undefined ? [] : [`relay.metrics: ${exposure}`];
}

/** Whether it works here, for who asks: the file is good in any case, and mcr may run elsewhere or as someone else. */
function formatExclusive(found: ReturnType<typeof probeExclusive>): string {
  return "method" in found
    ? `exclusive ingress: by ${found.method}`
    : `exclusive ingress: not here, rules would be relayed without it: ${found.refusal}`;
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
  return `${file}: ${plural(rules, "rule")}, ${plural(flows, "flow")}, ${plural(egresses, "egress", "egresses")}: ok\n`;
}

function formatConfig({ rules }: Config, columns: number | undefined, typeOf: TypeReader): string {
  if (rules.length === 0) return "";
  // Most files set none of these, and a column of defaults would say nothing.
  const hasSettings = rules.some(
    ({ ingress, egress }) => ingress.exclusive || egress.some((each) => settingsOf(each, typeOf).length > 0),
  );
  const headings = ["RULE", "INGRESS, → EGRESS", "FLOWS", "TTL", ...(hasSettings ? ["SETTINGS"] : [])];
  const rows = rules.flatMap((rule) => [
    [
      rule.name,
      [formatEndpoint(rule.ingress), ...sourcesOf(rule)],
      countFlows(rule),
      "",
      ...(hasSettings ? [rule.ingress.exclusive ? "exclusive" : ""] : []),
    ],
    ...rule.egress.map((egress) => [
      "",
      `→ ${formatEndpoint({ ...inherited(rule), ...egress })}`,
      "",
      egress.ttl,
      ...(hasSettings ? [settingsOf(egress, typeOf)] : []),
    ]),
  ]);
  return `${formatTable(headings, rows, columns)}\n`;
}

function sourcesOf({ ingress }: Rule): readonly string[] {
  return (ingress.source ?? []).map((source) => `  from ${source}`);
}

/** What an egress says beyond its target and TTL. */
function settingsOf(egress: Egress, typeOf: TypeReader): readonly string[] {
  const { source, source_port, dscp, plain } = egress;
  return [
    ...(source === "interface" ? [] : [`source ${source}`]),
    ...(source_port === "auto" ? [] : [`source_port ${source_port}`]),
    ...pathOf(egress, typeOf),
    ...(dscp === 0 ? [] : [`dscp ${dscp}`]),
    ...(plain ? ["plain"] : []),
  ];
}

/** The path where the rule says it, or where it is not the usual one, and why. */
function pathOf(egress: Egress, typeOf: TypeReader): readonly string[] {
  if (egress.path !== "auto") return [`path ${egress.path}`];
  const type = typeOf(egress.interface);
  const reason =
    socketReason(egress) ?? (type === undefined ? undefined : typeReason(egress.interface, type));
  return reason === undefined ? [] : [`path socket: ${reason}`];
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
