// The links of `mcr explain` behind the ingress: an egress, the route and neighbour of its host, TTL, what was sent,
// MTU. Each egress of a rule has a chain of its own, which ends at its first broken link. Pure.
import { destinationOf } from "../config/destination.ts";
import type { Egress, Rule } from "../config/schema.ts";
import { isMulticast } from "../net/address.ts";
import { isUsable } from "../net/interfaces.ts";
import { isUnresolved } from "../net/next-hop.ts";
import { type EgressReason, sumOfDrops } from "../stats/reasons.ts";
import { type Evidence, type Found, interfaceFound, type Link, sift, withCure } from "./explain-evidence.ts";

export function explainEgress(evidence: Evidence, index: number): readonly Link[] {
  const { rule } = evidence;
  const egress = rule.egress[index];
  if (!egress) return [];
  const name = `${egress.interface} ${destinationOf(rule, egress)}`;
  const links: Link[] = [];
  for (const judge of [
    judgeEgress,
    judgeRoute,
    judgeNeighbour,
    judgeTtl,
    judgeSent,
    judgeDevice,
    judgeReader,
    judgeMtu,
  ]) {
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
  if (found.verdict !== "ok" || !state || state.reason === null) return found;
  // What it sends goes nowhere: the links behind this one say why.
  if (state.state === "active" || state.state === "failing") return found;
  return {
    link: "egress",
    verdict: "broken",
    cure: "mcr show rules",
    ...withCure(`${state.state}: ${state.reason}`),
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
  const { interface: name, address } = egress;
  const link = "neighbour";
  const path = paths[index];
  if (address === undefined || !path?.route || path.neighbour === undefined) return undefined;
  const hop = path.route.gateway ?? address;
  if (!isUnresolved({ state: path.neighbour }))
    return { link, verdict: "ok", text: `${hop} is known on ${name} (${path.neighbour})` };
  return {
    link,
    verdict: "broken",
    text: `${hop} does not answer ARP on ${name} (${path.neighbour})`,
    cure: `ping -I ${name} ${hop}; is it switched on, and in this network? ip neigh show dev ${name}`,
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

function judgeSent(evidence: Evidence, egress: Egress, index: number): Found | undefined {
  const link = "sent";
  const { running } = evidence;
  const { interface: name } = egress;
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
      text: `egress full: ${lost("full")} ${of} found no room in the queue of ${name}, which is slower than the stream${alsoDropped(evidence, name)}`,
      cure: `tc -s qdisc show dev ${name}; ethtool ${name}`,
    };
  if (lost("error") > 0)
    return {
      link,
      verdict: "broken",
      text: `${lost("error")} ${of} were refused: ${after.last_error ?? "no reason given"}${tooLong(after.last_error, evidence, egress)}`,
      cure: cureOf(after.last_error, evidence, egress),
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
  if (sent > 0)
    return {
      link,
      verdict: "ok",
      text: `${sent} packets were handed to the kernel meanwhile, mcr dropped none`,
    };
  return { link, verdict: "unknown", text: "nothing was sent meanwhile" };
}

/** What the kernel dropped behind the egress while the wire was watched, of all that this host sent there. */
function lostBehind({ running }: Evidence, name: string) {
  const before = running?.devicesBefore.find((each) => each.interface === name);
  const after = running?.devicesAfter.find((each) => each.interface === name);
  if (!before || !after) return undefined;
  const isSameQueue = before.qdisc?.kind === after.qdisc?.kind;
  return {
    kind: after.qdisc?.kind ?? "",
    queue: isSameQueue ? (after.qdisc?.dropped ?? 0) - (before.qdisc?.dropped ?? 0) : 0,
    device: after.dropped - before.dropped,
    errors: after.errors - before.errors,
  };
}

/** What the kernel took in part: a queue that splits a super-frame refuses none of it to the sender. */
function alsoDropped(evidence: Evidence, name: string): string {
  const { kind = "", queue = 0 } = lostBehind(evidence, name) ?? {};
  return queue > 0 ? `; its queue, ${kind}, counts ${queue} drops` : "";
}

function judgeDevice(evidence: Evidence, { interface: name }: Egress): Found | undefined {
  const lost = lostBehind(evidence, name);
  if (lost === undefined) return undefined;
  const link = "device";
  if (lost.queue > 0)
    return {
      link,
      verdict: "warn",
      text: `the queue of ${name}, ${lost.kind}, dropped ${lost.queue} meanwhile of what was sent there, which is more than it lets out; it may count a run of packets as one`,
      cure: `tc -s qdisc show dev ${name}; plain = true in the rule makes its drops exact`,
    };
  const what = [
    ...(lost.device > 0
      ? [
          `dropped ${lost.device} (a tun or tap that nobody reads does so, and a veth whose other side is too slow)`,
        ]
      : []),
    ...(lost.errors > 0
      ? [`failed to send ${lost.errors} (a tunnel without a route to its other end does so)`]
      : []),
  ];
  if (what.length === 0) return undefined;
  return {
    link,
    verdict: "warn",
    text: `${name} itself ${what.join(" and ")} meanwhile of what was sent there; it may count a run of packets as one`,
    cure: `ip -s -s link show dev ${name}; ip -d link show dev ${name}`,
  };
}

/** Behind a veth runs arrive as they left: one long frame. Only who reads raw packets notices, and takes nothing. */
function judgeReader({ running }: Evidence, egress: Egress, index: number): Found | undefined {
  const after = running?.after.egress[index];
  const device = running?.devicesAfter.find((each) => each.interface === egress.interface);
  if (device?.type !== "veth" || egress.plain || after?.path !== "frame") return undefined;
  return {
    link: "reader",
    verdict: "ok",
    text: `${egress.interface} is a veth: sockets behind it get every datagram, but a program there that reads raw packets may get several as one long frame (if receivers get nothing: plain = true on this egress)`,
  };
}

/** What the system's words for EMSGSIZE leave out. */
function tooLong(error: string | null, { interfaces }: Evidence, { interface: name }: Egress): string {
  const state = interfaces.get(name);
  return error?.includes("(EMSGSIZE)") && state && isUsable(state)
    ? `: the MTU of ${name} is ${state.mtu}`
    : "";
}

/** By the system's name of the error, which its words end with. */
function cureOf(error: string | null, evidence: Evidence, egress: Egress): string {
  const [, code = ""] = /\((E[A-Z]+)\)/.exec(error ?? "") ?? [];
  const { interface: name } = egress;
  const cures: Readonly<Record<string, string>> = {
    EPERM: "a firewall of this host forbids it: nft list ruleset",
    EACCES: "a firewall of this host forbids it: nft list ruleset",
    EMSGSIZE: sizeCure(evidence, egress),
    ENETUNREACH: `ip route show dev ${name}`,
    EHOSTUNREACH: `ip neigh show dev ${name}; ip route show dev ${name}`,
    ENETDOWN: `ip link set ${name} up`,
    ECONNREFUSED: "the host is there, but no program listens on that port",
    EINVAL: `ip address show dev ${name}`,
  };
  return cures[code] ?? "mcr stats";
}

const headerBytes = 28;

/** The IP packets of the rule, as far as the wire showed them; 0 where it showed none. */
function largestBytes(evidence: Evidence): number {
  return Math.max(0, ...sift(evidence).matching.map(({ size_max }) => size_max + headerBytes));
}

/** Frames are never fragmented: what needs them needs the room as well. */
function sizeCure(evidence: Evidence, egress: Egress): string {
  const { interface: name } = egress;
  const state = evidence.interfaces.get(name);
  const largest = largestBytes(evidence);
  const isKnown = state && isUsable(state) && largest > state.mtu;
  const room = isKnown ? `ip link set ${name} mtu ${largest}` : `ip link show dev ${name}`;
  const without = framelessly(egress);
  return [
    room,
    "or smaller packets at the sender",
    ...(without.length > 0 ? [`or ${without.join(" and ")} (then the socket may fragment)`] : []),
  ].join(", ");
}

/** What a rule has to say instead of what only frames can do. */
function framelessly({ path, source, source_port, ttl, dscp }: Egress): readonly string[] {
  return [
    ...(typeof ttl === "string" ? ["a ttl that is a number"] : []),
    ...(source === "keep" ? ['no source = "keep"'] : []),
    ...(source_port === "keep" ? ['no source_port = "keep"'] : []),
    ...(dscp === "keep" ? ['no dscp = "keep"'] : []),
    ...(path === "frame" ? ['no path = "frame"'] : []),
  ];
}

function judgeMtu(evidence: Evidence, { interface: name }: Egress): Found | undefined {
  const state = evidence.interfaces.get(name);
  const largest = largestBytes(evidence);
  if (!state || !isUsable(state) || largest === 0) return undefined;
  if (largest <= state.mtu)
    return { link: "mtu", verdict: "ok", text: `${largest} bytes fit the MTU of ${name} (${state.mtu})` };
  return {
    link: "mtu",
    verdict: "warn",
    text: `packets of ${largest} bytes leave ${name} as IP fragments, its MTU is ${state.mtu}: many receivers and tunnels drop those`,
    cure: `ip link set ${name} mtu ${largest}, or smaller packets at the sender`,
  };
}

/** The targets that a route is asked for; groups need none. */
export function hostsOf(rule: Rule): readonly (string | undefined)[] {
  return rule.egress.map(({ address }) =>
    address !== undefined && !isMulticast(address) ? address : undefined,
  );
}
