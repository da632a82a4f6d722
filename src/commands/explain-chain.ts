// `mcr explain`: the chain from the rule to the receiver, judged link by link from evidence that explain.ts gathered.
// It ends at the first broken link of the ingress; behind that each egress has a chain: explain-egress.ts. Pure.
import { ingressOf } from "../config/destination.ts";
import { expandFlows } from "../config/flows.ts";
import type { EgressSnapshot } from "../control/protocol.ts";
import { isLinkLocalMulticast, isMulticast } from "../net/address.ts";
import { undescribedFrames } from "../net/ingresses.ts";
import { loopCures } from "../net/loops.ts";
import { membershipMs } from "../net/queriers.ts";
import { formatNumber, sum } from "../numbers.ts";
import { lossReasons } from "../stats/reasons.ts";
import { explainEgress } from "./explain-egress.ts";
import {
  type Evidence,
  type Found,
  interfaceFound,
  type Link,
  type Running,
  type SeenFlow,
  sift,
} from "./explain-evidence.ts";
import { formatAge, formatVlan } from "./figures.ts";

export function explain(evidence: Evidence): readonly Link[] {
  const links: Link[] = [];
  for (const judge of [
    judgeRule,
    judgeInterface,
    judgeLoop,
    judgeMembership,
    judgeQuerier,
    judgeWire,
    judgeMatch,
    judgeRing,
    judgeExclusive,
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

/** Heard lately, by the running mcr or on the wire just now. */
function querier({ rule, running, wire, nowMs }: Evidence): string | undefined {
  const last = running?.lastQuery;
  const ageMs = last ? nowMs - Date.parse(last.time) : Number.POSITIVE_INFINITY;
  if (last && ageMs <= membershipMs)
    return `last query ${formatAge(ageMs)} ago from ${last.from} (IGMPv${last.version})`;
  const { interface: name } = rule.ingress;
  const query = wire.igmp.find((each) => each.kind === "query" && each.interface === name);
  return query && `${query.source} sends IGMP queries on ${name}`;
}

/** For how long nobody has asked, as far as anybody has listened. */
function querierSilence({ rule, running, wire, nowMs }: Evidence): string {
  const what = `no IGMP query on ${rule.ingress.interface}`;
  const { lastQuery: last = null, listeningSince: since = null } = running ?? {};
  if (last) return `${what} for ${formatAge(nowMs - Date.parse(last.time))}, the last from ${last.from}`;
  const listenedMs = since === null ? 0 : nowMs - Date.parse(since);
  if (listenedMs > membershipMs) return `${what} in ${formatAge(listenedMs)}`;
  return `${what} in ${seconds(Math.max(wire.seconds, listenedMs / 1000))}, and queriers ask every 125 s`;
}

function judgeQuerier(evidence: Evidence): Found | undefined {
  const { rule, running } = evidence;
  const link = "querier";
  if (rule.ingress.group === undefined) return undefined;
  const heard = querier(evidence);
  if (heard !== undefined) return { link, verdict: "ok", text: heard };
  const text = querierSilence(evidence);
  if (isWithheld(evidence))
    return {
      link,
      verdict: "broken",
      text: `no group at all arrives on ${rule.ingress.interface}; ${text}: a switch that snoops forwards nothing without a querier; or the senders are silent`,
      cure: querierCure,
    };
  return running?.lastQuery
    ? { link, verdict: "warn", text, cure: querierCure }
    : { link, verdict: "unknown", text };
}

/**
 * A switch that snoops without a querier forgets its joins: RFC 4541 section 2.1. Then no group passes, but those
 * of the link itself; where one does, or one of the rule is on another interface, it is the sender that is missed.
 */
function isWithheld(evidence: Evidence): boolean {
  const { rule, running, wire } = evidence;
  const { interface: name } = rule.ingress;
  const { matching, otherInterface } = sift(evidence);
  return (
    running !== null &&
    matching.length === 0 &&
    otherInterface === undefined &&
    !wire.failures.some((each) => each.interface === name) &&
    !wire.flows.some(
      ({ interface: at, destination }) =>
        at === name && isMulticast(destination) && !isLinkLocalMulticast(destination),
    )
  );
}

const querierCure =
  "switch on an IGMP querier in the switch or router of this network (a Linux bridge: ip link set BRIDGE type bridge mcast_querier 1), then: mcr show interfaces";

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
    text: `${what}: ${flow.destination}:${flow.port} from ${flow.source}${flow.vlan === 0 ? "" : ` in ${formatVlan(flow.vlan, "VLAN")}`} on ${flow.interface}, ${rate(flow.packets_per_s)}`,
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
        : otherVlan.vlan > 4095
          ? "at the switch: mcr relays what is untagged or tagged by 802.1Q"
          : `in the rule: interface = "${name}.${otherVlan.vlan}"`,
    );
  if (otherInterface)
    return miss(
      otherInterface,
      "right group, wrong interface",
      `in the rule: interface = "${otherInterface.interface}"`,
    );
  return nothing(evidence);
}

function nothing(evidence: Evidence): Found {
  const { rule, running, start, wire } = evidence;
  const link = "wire";
  const { interface: name, group } = rule.ingress;
  const text = `nothing of ${ingressOf(rule)} arrives on ${name} in ${seconds(wire.seconds)}`;
  if (!running && group !== undefined)
    return {
      link,
      verdict: "unknown",
      text: `${text}, but nobody has joined it either`,
      cure: start,
    };
  const [first, ...others] = unique(expandFlows(rule).map(({ address }) => address));
  const watch = `tcpdump -ni ${name} udp${first === undefined || others.length > 0 ? "" : ` and dst ${first}`}`;
  return group === undefined || querier(evidence) !== undefined
    ? {
        link,
        verdict: "broken",
        text: `${text}: its sender is silent, or is not on this network`,
        cure: watch,
      }
    : {
        link,
        verdict: "broken",
        text: `${text}, but other groups do: its sender is silent, or a switch without a querier withholds it`,
        cure: `${watch}; if it is sent: ${querierCure}`,
      };
}

function judgeMatch({ running, wire, rule }: Evidence): Found | undefined {
  if (!running || wire.failures.some((each) => each.interface === rule.ingress.interface)) return undefined;
  const link = "match";
  const packets = running.after.packets - running.before.packets;
  const passed = `${packets} packets matched meanwhile`;
  const why = grown(running)
    .filter(([reason]) => packets === 0 || reason !== "ring") // judgeRing has that one
    .map(([reason, count]) => `${reason} ${count}`)
    .join(", ");
  if (packets > 0 && why === "") return { link, verdict: "ok", text: passed };
  if (packets > 0)
    return {
      link,
      verdict: "warn",
      text: `${passed}; on ${rule.ingress.interface} others were dropped, of this rule or of another: ${why}`,
      cure: "mcr stats",
    };
  return {
    link,
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
  const link = "ring";
  const { interface: name } = rule.ingress;
  const { interfaceBefore: before, interfaceAfter: after } = running;
  const lost = grown(running).find(([reason]) => reason === "ring")?.[1] ?? 0;
  const undescribed = Math.min(lost, (after?.undescribed ?? 0) - (before?.undescribed ?? 0));
  if (lost === 0) return { link, verdict: "ok", text: `the kernel handed over every frame of ${name}` };
  if (undescribed === lost)
    return {
      link,
      verdict: "warn",
      text: `${lost} frames of ${name} were lost: ${undescribedFrames.reason}`,
      cure: undescribedFrames.cure,
    };
  return {
    link,
    verdict: "warn",
    text: `${lost - undescribed} frames of ${name} found the ring full: the workers are too slow for them`,
    cure: "more workers, or a larger ring ([relay] workers, ring_bytes)",
  };
}

/** What comes back is dropped; the rest of the stream passes, and the network carries all of it twice. */
function judgeLoop({ running, rule }: Evidence): Found | undefined {
  const now = running?.after;
  if (!running || !now) return undefined;
  const { interface: name } = rule.ingress;
  if (now.looped === 0)
    return {
      link: "loop",
      verdict: "ok",
      text: `no packet on ${name} is known to have come back${unmarked(now.egress)}`,
    };
  const what = `${now.looped} packets on ${name} had been here before and were dropped, ${now.looped - running.before.looped} of them meanwhile`;
  const own = now.egress.filter(({ returned_packets }) => returned_packets > 0);
  // Only the log knows which egress of another rule sent them.
  if (own.length === 0)
    return {
      link: "loop",
      verdict: "warn",
      text: `${what}: they came back through other relays, or from rules that this one feeds (the log names them)`,
      cure: loopCures.hops,
    };
  const from = own.map((egress) => `${egress.interface} ${egress.destination}`).join(", ");
  return {
    link: "loop",
    verdict: "warn",
    text: `${what}: they came back from its own egress ${from}`,
    cure: loopCures.returned,
  };
}

/** Where a circle of relays would not be recognised. */
function unmarked(egresses: readonly EgressSnapshot[]): string {
  const without = egresses.filter(({ path, plain }) => path === "socket" || plain);
  if (without.length === 0) return "";
  const where = without.map((egress) => `${egress.interface} ${egress.destination}`).join(", ");
  return `; what leaves by a socket or plain (${where}) has no hop mark, so other relays that send it back are not recognised`;
}

/** Where it is, programs of this host receive nothing; where it could not be had, the rule is relayed all the same. */
function judgeExclusive({ running }: Evidence): Found | undefined {
  if (!running) return undefined;
  const link = "exclusive";
  const { exclusive, exclusive_reason: reason } = running.after;
  switch (exclusive) {
    case "off":
      return undefined;
    case "refused": {
      // `ingress eth1 is relayed, but not exclusive: …; run as root, or …`
      const [, text = "not exclusive", cure] = /^(.*?); (.*)$/.exec(reason ?? "") ?? [];
      return { link, verdict: "warn", text, ...(cure === undefined ? {} : { cure }) };
    }
    case "waiting":
      return { link, verdict: "ok", text: "exclusive as soon as it is captured" };
    case "tcx":
    case "nft":
      return {
        link,
        verdict: "ok",
        text: `exclusive by ${exclusive}: programs of this host receive none of it`,
      };
  }
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

function rate(pps: number): string {
  return `${formatNumber(pps)} packets a second`;
}

function seconds(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} s`;
}

function unique(values: readonly string[]): readonly string[] {
  return [...new Set(values)];
}
