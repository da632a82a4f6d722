// What `mcr explain` knows of a rule, its interfaces and the wire, and the links of the chain that are judged by it.
// Gathered by explain.ts, judged by explain-chain.ts and explain-egress.ts. Pure.
import { expandFlows } from "../config/flows.ts";
import type { Rule } from "../config/schema.ts";
import type {
  DeviceStats,
  Flows,
  InterfaceSnapshot,
  InterfaceStats,
  MembershipSnapshot,
  RuleSnapshot,
} from "../control/protocol.ts";
import { type InterfaceState, isUsable, type Unusable } from "../net/interfaces.ts";

const linkNames = [
  "rule",
  "interface",
  "membership",
  "querier",
  "wire",
  "match",
  "ring",
  "loop",
  "rtp",
  "exclusive",
  "egress",
  "route",
  "neighbour",
  "ttl",
  "sent",
  "device",
  "reader",
  "mtu",
] as const;
export type LinkName = (typeof linkNames)[number];

/** warn: packets pass, but something deserves a look. unknown: nothing could be found out. */
export type Verdict = "ok" | "warn" | "broken" | "unknown";

export interface Link {
  readonly link: LinkName;
  readonly verdict: Verdict;
  /** Null: of the rule's ingress. Otherwise `veth2 239.10.1.1:6001`. */
  readonly egress: string | null;
  readonly text: string;
  /** What to type or to change; null where nothing is wrong. */
  readonly cure: string | null;
}

/** The rule as it runs, before and after the wire was watched. */
export interface Running {
  readonly before: RuleSnapshot;
  readonly after: RuleSnapshot;
  readonly interfaceBefore: InterfaceStats | undefined;
  readonly interfaceAfter: InterfaceStats | undefined;
  /** Of every interface that egresses send out of. */
  readonly devicesBefore: readonly DeviceStats[];
  readonly devicesAfter: readonly DeviceStats[];
  readonly memberships: readonly MembershipSnapshot[];
  /** Of its ingress interface. */
  readonly lastQuery: InterfaceSnapshot["last_query"];
  readonly listeningSince: InterfaceSnapshot["listening_since"];
}

/** How the kernel would send to a host: its route, and the neighbour that is asked for. */
export interface Path {
  /** Undefined: there is none, and `error` says so in the system's words. */
  readonly route: { readonly gateway: string | undefined } | undefined;
  readonly error: string | undefined;
  /** Of the host, or of the gateway to it: REACHABLE, STALE, INCOMPLETE, FAILED …; undefined: none yet. */
  readonly neighbour: string | undefined;
}

export interface Evidence {
  readonly rule: Rule;
  /** Null: no mcr runs, and the rule is the file's. */
  readonly running: Running | null;
  /** The command that starts the mcr that would run it. */
  readonly start: string;
  /** When all of it had been gathered. */
  readonly nowMs: number;
  readonly interfaces: ReadonlyMap<string, InterfaceState | Unusable>;
  /** /proc/net/igmp. */
  readonly kernelGroups: ReadonlyMap<string, ReadonlySet<string>>;
  readonly wire: Flows;
  /** In the order of the rule's egresses; undefined for groups, and where the interface is not there. */
  readonly paths: readonly (Path | undefined)[];
}

/** A link as it is judged: its egress, and that there is no cure, are filled in. */
export interface Found {
  readonly link: LinkName;
  readonly verdict: Verdict;
  readonly text: string;
  readonly cure?: string;
}

export function interfaceFound(
  name: string,
  interfaces: Evidence["interfaces"],
  link: "interface" | "egress",
): Found {
  const state = interfaces.get(name);
  if (!state) return { link, verdict: "unknown", text: `${name} was not looked at` };
  if (isUsable(state)) return { link, verdict: "ok", text: `${name} is up and has carrier` };
  return { link, verdict: "broken", ...withCure(state.unusable) };
}

/**
 * The command that a reason ends with, apart: `interface eth1 is down (ip link set eth1 up)`,
 * `interface eth9 does not exist (ip link shows the ones that do)`, and none in `message too long (EMSGSIZE)`.
 */
export function withCure(reason: string): { readonly text: string; readonly cure?: string } {
  const [, text, cure] = /^(.*) \(([a-z].*?)(?: shows .*)?\)$/.exec(reason) ?? [];
  return text === undefined || cure === undefined ? { text: reason } : { text, cure };
}

export type SeenFlow = Flows["flows"][number];

/** What of the wire is the rule's, and what nearly is. */
export function sift({ rule, wire }: Evidence) {
  const { interface: name, vlan = 0, source } = rule.ingress;
  const flows = expandFlows(rule);
  const ports = new Map<string, Set<number>>();
  for (const { address, port } of flows) ports.set(address, (ports.get(address) ?? new Set()).add(port));
  const near = wire.flows.filter(({ destination }) => ports.has(destination));
  const isPort = ({ destination, port }: SeenFlow) => {
    const wanted = ports.get(destination);
    return wanted?.has(0) === true || wanted?.has(port) === true;
  };
  const isHere = (flow: SeenFlow) => flow.interface === name;
  const isVlan = (flow: SeenFlow) => flow.vlan === vlan;
  const isSource = (flow: SeenFlow) => source === undefined || source.includes(flow.source);
  return {
    matching: near.filter((flow) => isHere(flow) && isVlan(flow) && isPort(flow) && isSource(flow)),
    otherPort: near.find((flow) => isHere(flow) && isVlan(flow) && !isPort(flow)),
    otherSource: near.find((flow) => isHere(flow) && isVlan(flow) && isPort(flow) && !isSource(flow)),
    otherVlan: near.find((flow) => isHere(flow) && !isVlan(flow)),
    otherInterface: near.find((flow) => !isHere(flow)),
  };
}
