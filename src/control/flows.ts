// What was watched on the wire → the answer of /v1/flows: each flow with the rule that takes it. Pure.
import type { RunningRule } from "../net/running.ts";
import type { Watched, WatchedFlow } from "../net/watch.ts";
import type { Flows } from "./protocol.ts";

interface Wanted {
  readonly rule: string;
  /** Empty: any. */
  readonly sources: readonly string[];
}

export function flowsSnapshot(watched: Watched, rules: readonly RunningRule[], nowMs: number): Flows {
  const { seconds, dropped, overflow, failures } = watched;
  const wanted = wantedFlows(rules);
  const flows = watched.flows.map(({ last_ms, ...flow }) => ({
    rule: ruleOf(flow, wanted),
    ...flow,
    packets_per_s: perSecond(flow.packets, seconds),
    bits_per_s: perSecond(flow.bytes * 8, seconds),
    last_packet: new Date(last_ms).toISOString(),
  }));
  const order = new Map(rules.map(({ rule }, index) => [rule.name, index]));
  const orderOf = (rule: string | null) => (rule === null ? rules.length : (order.get(rule) ?? rules.length));
  flows.sort((a, b) => orderOf(a.rule) - orderOf(b.rule) || b.packets - a.packets);
  return {
    time: new Date(nowMs).toISOString(),
    seconds,
    dropped,
    overflow,
    flows,
    igmp: watched.igmp.map(({ last_ms, ...igmp }) => ({
      ...igmp,
      last_packet: new Date(last_ms).toISOString(),
    })),
    failures: [...failures],
  };
}

/** By interface, address and port, as the data plane matches them; port 0 takes what no port of its own has. */
function wantedFlows(rules: readonly RunningRule[]): ReadonlyMap<string, readonly Wanted[]> {
  const wanted = new Map<string, Wanted[]>();
  for (const { rule, flows } of rules)
    for (const { address, port, sources } of flows) {
      const key = keyOf(rule.ingress.interface, rule.ingress.vlan ?? 0, address, port);
      const all = wanted.get(key) ?? [];
      all.push({ rule: rule.name, sources });
      wanted.set(key, all);
    }
  return wanted;
}

function ruleOf(
  flow: Omit<WatchedFlow, "last_ms">,
  wanted: ReadonlyMap<string, readonly Wanted[]>,
): string | null {
  for (const port of [flow.port, 0]) {
    const candidates = wanted.get(keyOf(flow.interface, flow.vlan, flow.destination, port)) ?? [];
    const found =
      candidates.find(({ sources }) => sources.includes(flow.source)) ??
      candidates.find(({ sources }) => sources.length === 0);
    if (found) return found.rule;
  }
  return null;
}

function keyOf(name: string, vlan: number, address: string, port: number): string {
  return `${name} ${vlan} ${address} ${port}`;
}

function perSecond(count: number, seconds: number): number {
  return seconds > 0 ? Math.round((count / seconds) * 1000) / 1000 : 0;
}
