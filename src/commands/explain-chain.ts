// `mcr explain`: the chain from the rule to the receiver, judged link by link from evidence that explain.ts has gathered.
// Pure. It ends at the first broken link of the ingress; behind that each egress has a chain of its own.
import { destinationOf, ingressOf } from "../config/destination.ts";
import { expandFlows } from "../config/flows.ts";
import type { Egress, Rule } from "../config/schema.ts";
import type { Flows, InterfaceStats, MembershipSnapshot, RuleSnapshot } from "../control/protocol.ts";
import { isMulticast } from "../net/address.ts";
import { type InterfaceState, isUsable, type Unusable } from "../net/interfaces.ts";
import { type EgressReason, lossReasons, sumOfDrops } from "../stats/reasons.ts";
import { formatNumber } from "./figures.ts";

export const linkNames = [
  "rule",
  "interface",
  "membership",
  "querier",
  "wire",
  "match",
  "ring",
  "rtp",
  "egress",
  "route",
  "neighbour",
  "ttl",
  "sent",
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
  readonly memberships: readonly MembershipSnapshot[];
}

/** How the kernel would send to a host: ip-route(8) get, ip-neighbour(8). */
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
  readonly interfaces: ReadonlyMap<string, InterfaceState | Unusable>;
  /** /proc/net/igmp. */
  readonly kernelGroups: ReadonlyMap<string, ReadonlySet<string>>;
  readonly wire: Flows;
  /** In the order of the rule's egresses; undefined for groups, and where ip(8) is missing. */
  readonly paths: readonly (Path | undefined)[];
}

export function explain(evidence: Evidence): readonly Link[] {
  const links: Link[] = [];
  for (const judge of [
    judgeRule,
    judgeInterface,
    judgeMembership,
    judgeQuerier,
    judgeWire,
    judgeMatch,
    judgeRing,
    judgeRtp,
  ]) {
    const found = judge(evidence);
    if (!found) continue;
    links.push({ egress: null, cure: null, ...found });
    if (found.verdict === "broken") return links;
  }
  return [...links, ...evidence.rule.egress.flatMap((_, index) => explainEgress(evidence, index))];
}

/** What a reader has to do first; undefined when all is well. */
export function firstTrouble(links: readonly Link[]): Link | undefined {
  return links.find(({ verdict }) => verdict === "broken") ?? links.find(({ verdict }) => verdict === "warn");
}

interface Found {
  readonly link: LinkName;
  readonly verdict: Verdict;
  readonly text: string;
  readonly cure?: string;
}

/* -- ingress ------------------------------------------------------------------ */

function judgeRule({ running, rule }: Evidence): Found {
  if (!running)
    return {
      link: "rule",
      verdict: "unknown",
      text: "no mcr runs it: joins and counters are not there to look at",
    };
  const { state, reason } = running.after;
  const why = reason === null ? "" : `: ${reason}`;
  return {
    link: "rule",
    verdict: state === "failed" ? "warn" : "ok",
    text: `"${rule.name}" runs, ${state}${why}`,
  };
}

function judgeInterface({ rule, interfaces }: Evidence): Found {
  return interfaceFound(rule.ingress.interface, interfaces, "interface");
}

function interfaceFound(
  name: string,
  interfaces: Evidence["interfaces"],
  link: "interface" | "egress",
): Found {
  const state = interfaces.get(name);
  if (!state) return { link, verdict: "unknown", text: `${name} was not looked at` };
  if (isUsable(state)) return { link, verdict: "ok", text: `${name} is up and has carrier` };
  // `interface eth1 is down (ip link set eth1 up)`
  const [, text = state.unusable, cure] = /^(.*?) \((.*)\)$/.exec(state.unusable) ?? [];
  return { link, verdict: "broken", text, ...(cure === undefined ? {} : { cure }) };
}

function judgeMembership({ rule, running, kernelGroups }: Evidence): Found | undefined {
  const link = "membership";
  const { interface: name } = rule.ingress;
  if (rule.ingress.group === undefined || !running) return undefined;
  const bad = running.memberships.find(({ state }) => state !== "joined");
  if (bad) {
    const what = `${bad.source === null ? "" : `(${bad.source}, ${bad.group})`}${bad.source === null ? bad.group : ""}`;
    const why = bad.reason ?? bad.state;
    return {
      link,
      verdict: "broken",
      text: `${what} is not joined on ${name}: ${why}`,
      cure: `sysctl net.ipv4.igmp_max_memberships net.ipv4.igmp_max_msf; ip address show dev ${name}`,
    };
  }
  const groups = new Set(expandFlows(rule).map(({ address }) => address));
  const missing = [...groups].find((group) => !kernelGroups.get(name)?.has(group));
  if (missing !== undefined)
    return {
      link,
      verdict: "broken",
      text: `the kernel has not joined ${missing} on ${name} (/proc/net/igmp)`,
      cure: `ip maddress show dev ${name}; mcr reload`,
    };
  const [first = ""] = groups;
  const what = groups.size === 1 ? first : `${groups.size} groups`;
  return { link, verdict: "ok", text: `${what} joined on ${name}, by the kernel's own table` };
}

function queries({ rule, wire }: Evidence) {
  return wire.igmp.filter((each) => each.kind === "query" && each.interface === rule.ingress.interface);
}

function judgeQuerier(evidence: Evidence): Found | undefined {
  const { rule, wire } = evidence;
  if (rule.ingress.group === undefined) return undefined;
  const [query] = queries(evidence);
  const link = "querier";
  if (query) return { link, verdict: "ok", text: `${query.source} sends IGMP queries on ${query.interface}` };
  const text = `no IGMP query on ${rule.ingress.interface} in ${seconds(wire.seconds)}; queriers ask every 125 s, so this tells little`;
  return { link, verdict: "unknown", text };
}

type SeenFlow = Flows["flows"][number];

/** What of the wire is the rule's, and what nearly is. */
function sift({ rule, wire }: Evidence) {
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

function judgeWire(evidence: Evidence): Found {
  const { rule, wire } = evidence;
  const link = "wire";
  const { interface: name } = rule.ingress;
  const failure = wire.failures.find((each) => each.interface === name);
  if (failure) return { link, verdict: "unknown", text: failure.reason };
  const { matching, otherPort, otherSource, otherVlan, otherInterface } = sift(evidence);
  if (matching.length > 0) {
    const pps = sum(matching.map((flow) => flow.packets_per_s));
    const [first] = matching;
    const from = unique(matching.map(({ source }) => source));
    const smallest = Math.min(...matching.map(({ size_min }) => size_min));
    const largest = Math.max(...matching.map(({ size_max }) => size_max));
    const sizes = `${smallest === largest ? "" : `${smallest} to `}${largest} bytes`;
    const what =
      matching.length === 1 && first ? `${first.destination}:${first.port}` : `${matching.length} flows`;
    return { link, verdict: "ok", text: `${what} from ${from.join(", ")}: ${rate(pps)} of ${sizes}` };
  }
  const miss = (flow: SeenFlow, what: string, cure: string): Found => ({
    link,
    verdict: "broken",
    text: `${what}: ${flow.destination}:${flow.port} from ${flow.source}${flow.vlan === 0 ? "" : ` in VLAN ${flow.vlan}`} on ${flow.interface}, ${rate(flow.packets_per_s)}`,
    cure,
  });
  if (otherSource)
    return miss(
      otherSource,
      "right group and port, wrong source",
      `in the rule: source = ["${otherSource.source}"], or leave source out`,
    );
  if (otherPort) return miss(otherPort, "right group, wrong port", `in the rule: port = ${otherPort.port}`);
  if (otherVlan)
    return miss(
      otherVlan,
      "right group, wrong VLAN",
      otherVlan.vlan === 0
        ? "in the rule: leave vlan out"
        : `in the rule: interface = "${name}.${otherVlan.vlan}", or vlan = ${otherVlan.vlan}`,
    );
  if (otherInterface)
    return miss(
      otherInterface,
      "right group, wrong interface",
      `in the rule: interface = "${otherInterface.interface}"`,
    );
  return nothing(evidence);
}

/** A switch that snoops without a querier forgets its joins: RFC 4541 section 2.1. */
function nothing(evidence: Evidence): Found {
  const { rule, running, wire } = evidence;
  const text = `nothing of ${ingressOf(rule)} arrives on ${rule.ingress.interface} in ${seconds(wire.seconds)}`;
  const watch = `tcpdump -ni ${rule.ingress.interface} udp`;
  if (!running && rule.ingress.group !== undefined)
    return {
      link: "wire",
      verdict: "unknown",
      text: `${text}, but nobody has joined it either`,
      cure: "mcr run FILE",
    };
  if (rule.ingress.group === undefined || queries(evidence).length > 0)
    return {
      link: "wire",
      verdict: "broken",
      text: `${text}: its sender is silent, or is not on this network`,
      cure: watch,
    };
  return {
    link: "querier",
    verdict: "broken",
    text: `${text}, and no IGMP query is heard: a switch that snoops forwards nothing without a querier; or the sender is silent`,
    cure: `switch on an IGMP querier in the switch or router of this network (a Linux bridge: ip link set BRIDGE type bridge mcast_querier 1); to hear one: mcr explain ${JSON.stringify(rule.name)} --seconds 130`,
  };
}

function judgeMatch({ running, wire, rule }: Evidence): Found | undefined {
  if (!running || wire.failures.some((each) => each.interface === rule.ingress.interface)) return undefined;
  const packets = running.after.packets - running.before.packets;
  if (packets > 0) return { link: "match", verdict: "ok", text: `${packets} packets matched meanwhile` };
  const why = grown(running)
    .map(([reason, count]) => `${reason} ${count}`)
    .join(", ");
  return {
    link: "match",
    verdict: "broken",
    text:
      why === ""
        ? "they are on the wire, but the relay matches none: another rule may take them"
        : `they are on the wire, but the relay drops them: ${why}`,
    cure: why === "" ? "mcr show flows" : "mcr stats",
  };
}

/** What the ingress interface lost while the wire was watched. */
function grown({ interfaceBefore, interfaceAfter }: Running): readonly (readonly [string, number])[] {
  if (!interfaceAfter) return [];
  return lossReasons
    .map(
      (reason) => [reason, interfaceAfter.dropped[reason] - (interfaceBefore?.dropped[reason] ?? 0)] as const,
    )
    .filter(([, count]) => count > 0);
}

function judgeRing({ running, rule }: Evidence): Found | undefined {
  if (!running) return undefined;
  const lost = grown(running).find(([reason]) => reason === "ring")?.[1] ?? 0;
  if (lost === 0)
    return { link: "ring", verdict: "ok", text: `no frame of ${rule.ingress.interface} found its ring full` };
  return {
    link: "ring",
    verdict: "warn",
    text: `${lost} frames of ${rule.ingress.interface} found the ring full: the workers are too slow for them`,
    cure: "more workers, or a larger ring ([relay] workers, ring_bytes)",
  };
}

/** What the stream's own numbers say of the way to here: of the packets that came while the wire was watched. */
function judgeRtp({ running, rule }: Evidence): Found | undefined {
  const now = running?.after.rtp;
  if (!running || !now) return undefined;
  const link = "rtp";
  const { packets = 0, missing = 0, reordered = 0, duplicate = 0 } = running.before.rtp ?? {};
  const lost = now.missing - missing;
  const late = `${now.reordered - reordered} reordered, ${now.duplicate - duplicate} duplicate`;
  if (lost === 0)
    return {
      link,
      verdict: "ok",
      text: `no packet was missing of ${now.packets - packets} meanwhile (${now.missing} since the rule began); ${late}`,
    };
  if (grown(running).length > 0)
    return {
      link,
      verdict: "warn",
      text: `${lost} RTP packets were missing meanwhile, maybe those that mcr itself has dropped on ${rule.ingress.interface}; ${late}`,
      cure: "mcr stats",
    };
  return {
    link,
    verdict: "warn",
    text: `${lost} RTP packets were missing before they reached mcr, which got ${now.packets - packets} meanwhile; ${late}`,
    cure: `upstream of ${rule.ingress.interface}: ethtool -S ${rule.ingress.interface}, the error and drop counters of each switch port on the way, the sender`,
  };
}

/* -- egress ------------------------------------------------------------------- */

function explainEgress(evidence: Evidence, index: number): readonly Link[] {
  const { rule } = evidence;
  const egress = rule.egress[index];
  if (!egress) return [];
  const name = `${egress.interface} ${destinationOf(rule, egress)}`;
  const links: Link[] = [];
  for (const judge of [judgeEgress, judgeRoute, judgeNeighbour, judgeTtl, judgeSent, judgeMtu]) {
    const found = judge(evidence, egress, index);
    if (!found) continue;
    links.push({ egress: name, cure: null, ...found });
    if (found.verdict === "broken") break;
  }
  return links;
}

function judgeEgress({ interfaces, running }: Evidence, egress: Egress, index: number): Found {
  const found = interfaceFound(egress.interface, interfaces, "egress");
  const state = running?.after.egress[index];
  if (found.verdict !== "ok" || !state || state.state === "active" || state.reason === null) return found;
  return {
    link: "egress",
    verdict: "broken",
    text: `${state.state}: ${state.reason}`,
    cure: "mcr show rules",
  };
}

function judgeRoute({ paths }: Evidence, egress: Egress, index: number): Found | undefined {
  const path = paths[index];
  if (egress.address === undefined || !path) return undefined;
  const link = "route";
  if (path.route) {
    const via = path.route.gateway === undefined ? "directly" : `through ${path.route.gateway}`;
    return { link, verdict: "ok", text: `${egress.address} is reached ${via} on ${egress.interface}` };
  }
  return {
    link,
    verdict: "broken",
    text: `no route to ${egress.address} on ${egress.interface}${path.error === undefined ? "" : `: ${path.error}`}`,
    cure: `ip route add ${egress.address}/32 dev ${egress.interface} (or via a gateway)`,
  };
}

function judgeNeighbour({ paths }: Evidence, egress: Egress, index: number): Found | undefined {
  const path = paths[index];
  if (egress.address === undefined || !path?.route || path.neighbour === undefined) return undefined;
  const hop = path.route.gateway ?? egress.address;
  if (path.neighbour !== "FAILED" && path.neighbour !== "INCOMPLETE")
    return {
      link: "neighbour",
      verdict: "ok",
      text: `${hop} is known on ${egress.interface} (${path.neighbour})`,
    };
  return {
    link: "neighbour",
    verdict: "broken",
    text: `${hop} does not answer ARP on ${egress.interface} (${path.neighbour})`,
    cure: `ping -I ${egress.interface} ${hop}; is it switched on, and in this network? ip neigh show dev ${egress.interface}`,
  };
}

function judgeTtl(
  { paths, rule }: Evidence,
  { ttl, address, interface: name }: Egress,
  index: number,
): Found | undefined {
  const link = "ttl";
  const gateway = paths[index]?.route?.gateway;
  if (address !== undefined && gateway !== undefined && ttl === 1)
    return {
      link,
      verdict: "broken",
      text: `ttl is 1, and ${address} lies behind the router ${gateway}, which drops it`,
      cure: `in the rule "${rule.name}", egress ${name} ${address}: ttl = 64`,
    };
  if (address === undefined && ttl === 1)
    return {
      link,
      verdict: "ok",
      text: "ttl 1: it stays on this network, no router passes it on (ttl = 8 lets it)",
    };
  return undefined;
}

function judgeSent(
  { running, interfaces }: Evidence,
  { interface: name }: Egress,
  index: number,
): Found | undefined {
  const link = "sent";
  const before = running?.before.egress[index];
  const after = running?.after.egress[index];
  if (!before || !after) return undefined;
  const sent = after.sent_packets - before.sent_packets;
  const lost = (reason: EgressReason) => after.dropped[reason] - before.dropped[reason];
  const of = `of ${sent + sumOfDrops(after.dropped) - sumOfDrops(before.dropped)} packets meanwhile`;
  if (lost("full") > 0)
    return {
      link,
      verdict: "broken",
      text: `egress full: ${lost("full")} ${of} found no room in the queue of ${name}, which is slower than the stream`,
      cure: `tc -s qdisc show dev ${name}; ethtool ${name}`,
    };
  if (lost("error") > 0)
    return {
      link,
      verdict: "broken",
      text: `${lost("error")} ${of} were refused: ${after.last_error ?? "no reason given"}`,
      cure: cureOf(after.last_error, name, interfaces),
    };
  if (lost("unavailable") > 0)
    return {
      link,
      verdict: "broken",
      text: `${lost("unavailable")} ${of} found no open egress: ${after.reason ?? after.state}`,
      cure: "mcr show rules",
    };
  if (lost("expired") > 0)
    return {
      link: "ttl",
      verdict: "broken",
      text: `${lost("expired")} ${of} came with a TTL of 1, and the egress decrements it: nothing is left`,
      cure: 'a larger TTL at the sender, or ttl = 8 instead of "decrement" in the rule',
    };
  if (sent > 0) return { link, verdict: "ok", text: `${sent} packets left meanwhile, none dropped` };
  return { link, verdict: "unknown", text: "nothing was sent meanwhile" };
}

/** By the system's name of the error, which its words end with. */
function cureOf(error: string | null, name: string, interfaces: Evidence["interfaces"]): string {
  const [, code = ""] = /\((E[A-Z]+)\)/.exec(error ?? "") ?? [];
  const state = interfaces.get(name);
  const mtu = state && isUsable(state) ? ` (MTU ${state.mtu})` : "";
  const cures: Readonly<Record<string, string>> = {
    EPERM: "a firewall of this host forbids it: nft list ruleset",
    EACCES: "a firewall of this host forbids it: nft list ruleset",
    EMSGSIZE: `larger than ${name} takes${mtu}: ip link set ${name} mtu 1500`,
    ENETUNREACH: `ip route show dev ${name}`,
    EHOSTUNREACH: `ip neigh show dev ${name}; ip route show dev ${name}`,
    ENETDOWN: `ip link set ${name} up`,
    ECONNREFUSED: "the host is there, but no program listens on that port",
    EINVAL: `ip address show dev ${name}`,
  };
  return cures[code] ?? "mcr stats";
}

const headerBytes = 28;

function judgeMtu(evidence: Evidence, { interface: name }: Egress): Found | undefined {
  const state = evidence.interfaces.get(name);
  const { matching } = sift(evidence);
  if (!state || !isUsable(state) || matching.length === 0) return undefined;
  const largest = Math.max(...matching.map(({ size_max }) => size_max)) + headerBytes;
  if (largest <= state.mtu)
    return { link: "mtu", verdict: "ok", text: `${largest} bytes fit the MTU of ${name} (${state.mtu})` };
  return {
    link: "mtu",
    verdict: "warn",
    text: `packets of ${largest} bytes leave ${name} as IP fragments, its MTU is ${state.mtu}: many receivers and tunnels drop those`,
    cure: `ip link set ${name} mtu ${largest}, or smaller packets at the sender`,
  };
}

/* -- words -------------------------------------------------------------------- */

function rate(pps: number): string {
  return `${formatNumber(pps)} packets a second`;
}

function seconds(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} s`;
}

function unique(values: readonly string[]): readonly string[] {
  return [...new Set(values)];
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** The targets that a route is asked for; groups need none. */
export function hostsOf(rule: Rule): readonly (string | undefined)[] {
  return rule.egress.map(({ address }) =>
    address !== undefined && !isMulticast(address) ? address : undefined,
  );
}
