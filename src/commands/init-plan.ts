// From streams that were heard or typed to the rules that relay them: which can be relayed, how targets are mapped,
// which neighbours become one rule with ranges, and what the rules are called. Pure; used by `mcr scan --toml` and
// `mcr init`.
import * as v from "valibot";
import { expandFlows } from "../config/flows.ts";
import { formatRule } from "../config/format.ts";
import { matcherOf } from "../config/matcher.ts";
import { parseConfig } from "../config/parse.ts";
import { type Egress, type Rule, RuleSchema } from "../config/schema.ts";
import { ExitCode, fail, McrError } from "../error.ts";
import { type Address, isLinkLocalMulticast, offsetAddress } from "../net/address.ts";
import {
  compareAddresses,
  formatKind,
  isDropped,
  type Scan,
  type ScanFlow,
  type ScanKind,
} from "../net/scan.ts";
import { formatBitRate } from "./figures.ts";

/** A (group, port) on one interface, whoever sends it. */
export interface Stream {
  readonly group: Address;
  /** Absent: every port. */
  readonly port?: number;
  readonly vlan: number | null;
  readonly name: string | null;
  /** Of what was heard; a typed stream has none. */
  readonly heard?: {
    readonly kind: ScanKind;
    readonly text: string;
    readonly sources: readonly Address[];
    readonly packets_per_second: number;
    readonly bits_per_second: number;
    readonly bytes_max: number;
    /** The rule of a running mcr that relays it from there. */
    readonly relayedBy?: string;
  };
  /** Why no rule can take it. */
  readonly refusal?: string;
}

export type Mapping =
  | { readonly kind: "same" }
  /** The lowest group becomes this one, the others keep their distance to it; the same for ports. */
  | { readonly kind: "shift"; readonly group: Address; readonly port?: number }
  | { readonly kind: "unicast"; readonly address: Address; readonly port?: number };

export interface Settings {
  readonly ttl?: Egress["ttl"];
  readonly dscp?: Egress["dscp"];
  readonly path?: Egress["path"];
  readonly exclusive?: boolean;
  /** Take each stream only from the senders that were heard. */
  readonly bySource?: boolean;
}

export interface Choices {
  readonly ingress: string;
  readonly egresses: readonly string[];
  readonly streams: readonly Stream[];
  readonly mapping: Mapping;
  readonly settings?: Settings;
}

export interface PlannedRule {
  readonly rule: Rule;
  /** What was heard, for the comment above it. */
  readonly comment: string;
}

/** Fewer neighbours than this stay rules of their own. */
const foldMin = 3;

/** The streams that others send on the interface, by group and port, those of several senders once. */
export function streamsOn(scan: Scan, interfaceName: string): readonly Stream[] {
  const flows = scan.flows.filter(
    (flow) => flow.interface === interfaceName && flow.direction === "ingress" && !isControl(flow),
  );
  const byTarget = new Map<string, ScanFlow[]>();
  for (const flow of flows) {
    const key = `${flow.vlan} ${flow.other_tag} ${flow.group} ${flow.port}`;
    byTarget.set(key, [...(byTarget.get(key) ?? []), flow]);
  }
  return [...byTarget.values()].flatMap((senders) => {
    const [first] = senders;
    if (!first) return [];
    const stream: Stream = {
      group: first.group,
      port: first.port,
      vlan: first.vlan,
      name: first.name,
      heard: {
        kind: first.kind,
        text: formatKind(first),
        sources: senders.map(({ source }) => source).sort(compareAddresses),
        packets_per_second: sum(senders, (flow) => flow.packets_per_second),
        bits_per_second: sum(senders, (flow) => flow.bits_per_second),
        bytes_max: Math.max(...senders.map((flow) => flow.bytes_max)),
        ...relayedBy(senders),
      },
    };
    const refusal = refusalOnWire(senders) ?? refusalOf(stream);
    return [refusal === undefined ? stream : { ...stream, refusal }];
  });
}

/** Why a rule would take nothing, or another stream. */
function refusalOnWire(senders: readonly ScanFlow[]): string | undefined {
  if (senders.some(({ other_tag }) => other_tag !== null)) return "its tag is not 802.1Q: no rule takes it";
  if (!senders.every(isDropped)) return undefined;
  const cause = senders.every(({ checksums: { wrong, unwritten } }) => wrong === unwritten)
    ? " (they were left to a device that never wrote them, as in a capture that was taken at its sender)"
    : "";
  return `its UDP checksums are wrong: receivers drop it, and so does mcr${cause}`;
}

/** What stays on its link, and announcements of what does not, is nobody's stream. */
function isControl({ group, kind }: ScanFlow): boolean {
  return isLinkLocalMulticast(group) || kind === "sap" || kind === "mdns";
}

function relayedBy(senders: readonly ScanFlow[]): { readonly relayedBy?: string } {
  const name = senders.find(({ relayed_by }) => relayed_by !== null)?.relayed_by ?? undefined;
  return name === undefined ? {} : { relayedBy: name };
}

/** By which of these rules the stream is taken on the interface already, from everybody who sends it. */
export function takenBy(
  rules: readonly Rule[],
  interfaceName: string,
): (stream: Stream) => string | undefined {
  const takerOf = matcherOf(rules.map((rule) => ({ rule, flows: expandFlows(rule) })));
  return ({ heard, group, port = 0, vlan }) => {
    const place = { interface: interfaceName, address: group, port, vlan: vlan ?? 0 };
    // Who will send a typed stream is not known, so only a rule for any source takes it for certain.
    const takers = (heard?.sources ?? [""]).map((source) => takerOf({ ...place, source }));
    return takers.includes(undefined) ? undefined : takers[0];
  };
}

/** Asked of the rule file's own checks, so that this never says otherwise. */
function refusalOf(stream: Stream): string | undefined {
  return refusedBecause(() =>
    planRules({ ingress: "eth0", egresses: ["eth1"], streams: [stream], mapping: { kind: "same" } }, [])
      .map(({ rule }) => formatRule(rule))
      .join(""),
  );
}

/** The sentence of the first mistake, without its place; undefined for good text. */
export function refusedBecause(write: () => string): string | undefined {
  try {
    parseConfig(write(), "");
    return undefined;
  } catch (error) {
    if (!(error instanceof McrError)) throw error;
    return (error.lines[0] ?? "").replace(/^(?::\d+:\d+: )?(?:rule "(?:[^"\\]|\\.)*": )?/, "");
  }
}

/** @param taken names that other rules have. */
export function planRules(
  { ingress, egresses, streams, mapping, settings = {} }: Choices,
  taken: readonly string[],
): readonly PlannedRule[] {
  const names = new Set(taken);
  const sorted = [...streams].sort(
    (a, b) =>
      (a.vlan ?? 0) - (b.vlan ?? 0) || compareAddresses(a.group, b.group) || (a.port ?? 0) - (b.port ?? 0),
  );
  const origin = sorted[0] ?? { group: "" };
  return foldRuns(sorted, settings.bySource ?? false).map((run) => {
    const [first] = run;
    const last = run.at(-1);
    const sources = settings.bySource ? (first?.heard?.sources ?? []) : [];
    const rule = {
      name: uniqueName(nameOf(run), names),
      ingress: {
        interface: ingress,
        ...rangesOf(first, last),
        ...(sources.length > 0 ? { source: [...sources] } : {}),
        ...(first?.vlan ? { vlan: first.vlan } : {}),
        ...(settings.exclusive ? { exclusive: true } : {}),
      },
      egress: egresses.map((egress) => ({
        interface: egress,
        ...mapped(mapping, origin, first, last),
        ...(settings.ttl === undefined ? {} : { ttl: settings.ttl }),
        ...(settings.path === undefined ? {} : { path: settings.path }),
        ...(settings.dscp === undefined ? {} : { dscp: settings.dscp }),
      })),
    };
    return { rule: checked(rule), comment: commentOf(run) };
  });
}

/** Throws McrError for what no rule can say, such as a port that was moved beyond the last one. */
function checked(rule: v.InferInput<typeof RuleSchema>): Rule {
  const result = v.safeParse(RuleSchema, rule);
  if (result.success) return result.output;
  const [issue] = result.issues;
  return fail(`rule "${rule.name}": ${v.getDotPath(issue) ?? ""}: ${issue.message}`, ExitCode.config);
}

type Target = Pick<Stream, "group" | "port">;

function rangesOf(first: Target | undefined, last: Target | undefined) {
  const group = range(first?.group, last?.group);
  const port = range(first?.port, last?.port);
  return { group, ...(port === undefined ? {} : { port }) };
}

function range<T extends string | number>(first: T | undefined, last: T | undefined) {
  return first === last ? first : `${first}-${last}`;
}

function mapped(mapping: Mapping, origin: Target, first: Target | undefined, last: Target | undefined) {
  switch (mapping.kind) {
    case "same":
      return {};
    case "shift": {
      const { group, port } = rangesOf(shifted(mapping, origin, first), shifted(mapping, origin, last));
      return mapping.port === undefined ? { group } : { group, port };
    }
    case "unicast": {
      const port = range(
        shiftedPort(mapping.port, origin.port, first?.port),
        shiftedPort(mapping.port, origin.port, last?.port),
      );
      return { address: mapping.address, ...(mapping.port === undefined ? {} : { port }) };
    }
  }
}

function shifted(mapping: Mapping & { kind: "shift" }, origin: Target, target: Target | undefined): Target {
  const port = shiftedPort(mapping.port, origin.port, target?.port);
  return {
    group: moved(mapping.group, origin.group, target?.group),
    ...(port === undefined ? {} : { port }),
  };
}

function shiftedPort(to: number | undefined, from: number | undefined, port: number | undefined) {
  return to === undefined || from === undefined || port === undefined ? to : to + port - from;
}

/** `to`, as far away as `group` is from `from`; out of the address space it stays, and the checks refuse it. */
function moved(to: Address, from: Address, group: Address | undefined): Address {
  if (group === undefined || group.includes(":") || from.includes(":") || to.includes(":")) return to;
  const value = ipv4Number(to) + ipv4Number(group) - ipv4Number(from);
  return value < 2 ** 32 ? offsetAddress("0.0.0.0", value) : to;
}

function ipv4Number(address: Address): number {
  return address.split(".").reduce((value, part) => value * 256 + Number(part), 0);
}

/** Unnamed neighbours of one kind, counting up by group, by port or by both, become one run. */
function foldRuns(sorted: readonly Stream[], bySource: boolean): readonly (readonly Stream[])[] {
  const runs: Stream[][] = [];
  for (const stream of sorted) {
    const run = runs.at(-1);
    if (run && continues(run, stream, bySource)) run.push(stream);
    else runs.push([stream]);
  }
  return runs.flatMap((run) => (run.length >= foldMin ? [run] : run.map((stream) => [stream])));
}

function continues(run: readonly Stream[], next: Stream, bySource: boolean): boolean {
  const last = run.at(-1);
  if (!last || last.name !== null || next.name !== null || last.vlan !== next.vlan) return false;
  if (last.heard?.kind !== next.heard?.kind || (last.port === undefined) !== (next.port === undefined))
    return false;
  if (bySource && String(last.heard?.sources) !== String(next.heard?.sources)) return false;
  const step = stepOf(last, next);
  const before = run.at(-2);
  return step !== undefined && (!before || step === stepOf(before, last));
}

/** By how much group and port count up: "1 0", "1 1" or "0 1". */
function stepOf(a: Stream, b: Stream): string | undefined {
  if (a.group.includes(":") || b.group.includes(":")) return undefined;
  const step = `${ipv4Number(b.group) - ipv4Number(a.group)} ${(b.port ?? 0) - (a.port ?? 0)}`;
  return ["1 0", "1 1", "0 1"].includes(step) ? step : undefined;
}

const slugs: Readonly<Record<ScanKind, string>> = {
  unknown: "udp",
  mcr: "test",
  rtp: "rtp",
  rtcp: "rtcp",
  "mpeg-ts": "ts",
  sap: "sap",
  mdns: "mdns",
  ptp: "ptp",
  sacn: "sacn",
  "art-net": "art-net",
  ssdp: "ssdp",
  "ws-discovery": "ws-discovery",
  knx: "knx",
  dante: "dante",
  "market-data": "market-data",
};

/** An announced name in lower case, or kind and group: `rtp-239.1.1.1`, `ts-239.1.1.1-x50` for fifty. */
function nameOf(run: readonly Stream[]): string {
  const [first] = run;
  const announced = (first?.name ?? "")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}.]+/gu, "-")
    .replace(/^[-.]+|[-.]+$/g, "");
  if (announced !== "") return announced;
  const kind = first?.heard === undefined ? "stream" : slugs[first.heard.kind];
  return `${kind}-${first?.group ?? ""}${run.length > 1 ? `-x${run.length}` : ""}`;
}

/** The first free one of `name`, `name-2`, `name-3` …; at most 64 characters, as the rule file wants. */
function uniqueName(name: string, names: Set<string>): string {
  const short = Array.from(name).slice(0, 56).join("");
  let unique = short;
  for (let i = 2; names.has(unique); i += 1) unique = `${short}-${i}`;
  names.add(unique);
  return unique;
}

function commentOf(run: readonly Stream[]): string {
  const [first] = run;
  if (!first?.heard) return "";
  const { text, sources, bits_per_second, packets_per_second } = first.heard;
  const from =
    sources.length === 1 ? sources[0] : `${sources.length} senders: ${sources.slice(0, 4).join(", ")}`;
  const name = first.name === null ? "" : `announced as "${first.name}", `;
  const each = run.length > 1 ? `${run.length} streams, each ` : "";
  return `${name}${each}${text}, ${formatBitRate(bits_per_second)} in ${Math.round(packets_per_second)} packets a second, from ${from}`;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
