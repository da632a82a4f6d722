// `mcr explain RULE [FILE]`: why does nothing arrive? Gathers evidence of every link between the rule and its receivers,
// from the running mcr and from this host, and says which one is broken and what cures it (explain-chain.ts judges).
// With a file and no running mcr it looks at what can be seen without one.
import * as v from "valibot";
import { list } from "../config/changes.ts";
import { readConfig } from "../config/parse.ts";
import { type Rule, RuleSchema } from "../config/schema.ts";
import { request, startCommand } from "../control/client.ts";
import { flowsSnapshot } from "../control/flows.ts";
import {
  ConfigAnswerSchema,
  type Flows,
  FlowsSchema,
  InterfacesSchema,
  MembershipsSchema,
  type Stats,
  StatsSchema,
} from "../control/protocol.ts";
import { ExitCode, fail, McrError } from "../error.ts";
import { Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { parseProcIgmp } from "../net/igmp.ts";
import { type InterfaceState, isUsable, readInterface, type Unusable } from "../net/interfaces.ts";
import { isCovered, readNeighbours, readRoute } from "../net/next-hop.ts";
import { watchWire } from "../net/watch.ts";
import { type Colors, colorsFor } from "./color.ts";
import { type Command, parseOptions } from "./command.ts";
import { explain, firstTrouble } from "./explain-chain.ts";
import { hostsOf } from "./explain-egress.ts";
import type { Evidence, Link, Path, Running } from "./explain-evidence.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";
import { whole } from "./values.ts";

const OptionsSchema = v.object({ seconds: v.optional(whole(1, 3600), "2") });

export const explainCommand: Command = {
  name: "explain",
  parameters: "<rule> [file]",
  summary: "name the broken link between a rule and its receivers, and its cure",
  options: [
    ...remoteOptions,
    { flags: "--seconds <n>", description: "how long the wire is watched (2); queriers ask every 125 s" },
  ],
  async run([name = "", file], options, io) {
    const { json, socket } = parseRemote("explain", options, io);
    const { seconds } = parseOptions("explain", OptionsSchema, options);
    const evidence = await gather(name, file, socket, seconds);
    const links = explain(evidence);
    const trouble = firstTrouble(links);
    if (json) {
      const { rule } = evidence;
      io.stdout(
        formatJson({
          schema: "explain/1",
          rule: rule.name,
          running: evidence.running !== null,
          broken: trouble ?? null,
          links,
        }),
      );
    } else {
      io.stdout(formatExplanation(evidence.rule.name, links, colorsFor(io)));
    }
    return trouble?.verdict === "broken" ? ExitCode.failed : ExitCode.ok;
  },
};

async function gather(
  name: string,
  file: string | undefined,
  socket: string,
  seconds: number,
): Promise<Evidence> {
  const daemon = await askDaemon(socket, file !== undefined);
  const rule = daemon ? runningRule(name, daemon.rules, file) : await readRule(name, file ?? "");
  const shim = new Shim();
  const { wire, running } = daemon
    ? await watchRunning(socket, rule, seconds)
    : { wire: await watch(shim, rule, seconds), running: null };
  const names = new Set([rule.ingress.interface, ...rule.egress.map((egress) => egress.interface)]);
  const interfaces = new Map([...names].map((each) => [each, readInterface(shim, each)]));
  return {
    rule,
    running,
    start: startCommand(socket, file),
    nowMs: Date.now(),
    wire,
    interfaces,
    kernelGroups: parseProcIgmp(await Bun.file("/proc/net/igmp").text()),
    paths: hostsOf(rule).map((host, i) =>
      host === undefined ? undefined : pathTo(shim, host, interfaces.get(rule.egress[i]?.interface ?? "")),
    ),
  };
}

/** Undefined: none runs, and a file was given to look at instead. */
async function askDaemon(
  socket: string,
  hasFile: boolean,
): Promise<{ readonly rules: readonly Rule[] } | undefined> {
  try {
    const { value } = await request(socket, "GET", "/v1/config", ConfigAnswerSchema);
    return { rules: value.rules.map((rule) => v.parse(RuleSchema, rule)) };
  } catch (thrown) {
    if (hasFile && thrown instanceof McrError && thrown.exitCode === ExitCode.unavailable) return undefined;
    throw thrown;
  }
}

function runningRule(name: string, rules: readonly Rule[], file: string | undefined): Rule {
  const names = rules.map((rule) => rule.name);
  const some = names.length === 0 ? "there are no rules" : `there are ${list(names)}`;
  const reload = file === undefined ? "" : `; if it is new in ${file}: mcr reload`;
  return (
    rules.find((rule) => rule.name === name) ??
    fail(`mcr explain: no rule "${name}" runs: ${some}${reload}`, ExitCode.config)
  );
}

async function readRule(name: string, file: string): Promise<Rule> {
  const { rules } = await readConfig(file);
  const some = rules.length === 0 ? "it has none" : `it has ${list(rules.map((rule) => rule.name))}`;
  return (
    rules.find((rule) => rule.name === name) ??
    fail(`mcr explain: ${file} has no rule "${name}"; ${some}`, ExitCode.config)
  );
}

async function watchRunning(
  socket: string,
  rule: Rule,
  seconds: number,
): Promise<{ wire: Flows; running: Running | null }> {
  const stats = async () => (await request(socket, "GET", "/v1/stats", StatsSchema)).value;
  const before = await stats();
  const looks: Flows[] = [];
  for (const end = performance.now() + seconds * 1000; looks.length === 0 || performance.now() < end; )
    looks.push((await request(socket, "GET", "/v1/flows", FlowsSchema)).value);
  const after = await stats();
  const { memberships } = (await request(socket, "GET", "/v1/memberships", MembershipsSchema)).value;
  const { interfaces } = (await request(socket, "GET", "/v1/interfaces", InterfacesSchema)).value;
  const ingress = interfaces.find((each) => each.interface === rule.ingress.interface);
  const of = ({ rules }: Stats) => rules.find((each) => each.name === rule.name);
  const interfaceOf = ({ interfaces }: Stats) =>
    interfaces.find((each) => each.interface === rule.ingress.interface);
  const [first, last] = [of(before), of(after)];
  if (!first || !last) return fail(`mcr explain: rule "${rule.name}" was removed meanwhile`, ExitCode.failed);
  return {
    wire: together(looks),
    running: {
      before: first,
      after: last,
      interfaceBefore: interfaceOf(before),
      interfaceAfter: interfaceOf(after),
      devicesBefore: before.devices,
      devicesAfter: after.devices,
      memberships: memberships.filter(({ rules }) => rules.includes(rule.name)),
      lastQuery: ingress?.last_query ?? null,
      listeningSince: ingress?.listening_since ?? null,
    },
  };
}

/** Several looks as one: packets add up, a flow that was seen once is there. */
function together(looks: readonly Flows[]): Flows {
  const [first, ...others] = looks;
  if (!first) throw new Error("there is a look");
  const flows = new Map<string, Flows["flows"][number]>();
  const seconds = looks.reduce((sum, look) => sum + look.seconds, 0);
  for (const flow of looks.flatMap((look) => look.flows)) {
    const key = `${flow.interface} ${flow.vlan} ${flow.source} ${flow.destination} ${flow.port}`;
    const known = flows.get(key);
    const packets = flow.packets + (known?.packets ?? 0);
    const bytes = flow.bytes + (known?.bytes ?? 0);
    flows.set(key, {
      ...flow,
      packets,
      bytes,
      size_min: Math.min(flow.size_min, known?.size_min ?? flow.size_min),
      size_max: Math.max(flow.size_max, known?.size_max ?? flow.size_max),
      packets_per_s: packets / seconds,
      bits_per_s: (8 * bytes) / seconds,
    });
  }
  return {
    ...first,
    seconds,
    dropped: looks.reduce((sum, look) => sum + look.dropped, 0),
    flows: [...flows.values()],
    igmp: [...first.igmp, ...others.flatMap(({ igmp }) => igmp)],
  };
}

async function watch(shim: Shim, rule: Rule, seconds: number): Promise<Flows> {
  const state = readInterface(shim, rule.ingress.interface);
  const watched = await watchWire({
    shim,
    interfaces: isUsable(state) ? [state] : [],
    durationMs: seconds * 1000,
    nowMs: () => performance.now(),
    pause: (ms) => Bun.sleep(ms),
  });
  return flowsSnapshot(watched, [], Date.now());
}

/** The kernel's own answers; undefined where the interface is not there to ask about. */
function pathTo(shim: Shim, host: string, state: InterfaceState | Unusable | undefined): Path | undefined {
  if (!state || !isUsable(state)) return undefined;
  const nothing = { route: undefined, neighbour: undefined };
  try {
    const { gateway } = readRoute(shim, host, state.ifindex);
    if (!isCovered(shim, host, state.ifindex))
      return { ...nothing, error: "none covers it, so the kernel would look for it on the link itself" };
    const hop = gateway ?? host;
    const entry = readNeighbours(shim, state.ifindex).find(({ address }) => address === hop);
    return { route: { gateway }, error: undefined, neighbour: entry?.state };
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return { ...nothing, error: error.message };
  }
}

const signs = { ok: "ok", warn: "look", broken: "BROKEN", unknown: "?" } as const;

function formatExplanation(rule: string, links: readonly Link[], colors: Colors): string {
  const paints = { ok: colors.good, warn: colors.warn, broken: colors.bad, unknown: colors.warn };
  const lines: string[] = [];
  let egress: string | null = null;
  for (const each of links) {
    if (each.egress !== egress) lines.push(`→ ${each.egress}`);
    egress = each.egress;
    const sign = paints[each.verdict](signs[each.verdict].padEnd(7));
    lines.push(`${sign} ${each.link.padEnd(11)} ${each.text}`);
    if (each.cure !== null) lines.push(`${" ".repeat(19)} ${colors.head("→")} ${each.cure}`);
  }
  return `rule ${JSON.stringify(rule)}\n${lines.join("\n")}\n${conclusion(links)}\n`;
}

function conclusion(links: readonly Link[]): string {
  const trouble = firstTrouble(links);
  if (!trouble)
    return links.some(({ link, verdict }) => link === "rule" && verdict === "unknown")
      ? "nothing wrong that can be seen without a running mcr"
      : "no link is broken";
  const where = trouble.egress === null ? "" : ` (${trouble.egress})`;
  return trouble.verdict === "broken"
    ? `the broken link: ${trouble.link}${where}`
    : `packets pass; worth a look: ${trouble.link}${where}`;
}
