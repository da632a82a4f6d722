// What was seen on the wire → the answer of /v1/flows: each flow with the rule that takes it. Pure.
import type { Observation, Seen } from "../net/observe.ts";
import type { RunningRule } from "../net/running.ts";
import type { Flows } from "./protocol.ts";

interface Wanted {
  readonly rule: string;
  /** Empty: any. */
  readonly sources: readonly string[];
}

export function flowsSnapshot(observation: Observation, rules: readonly RunningRule[], nowMs: number): Flows {
  const { seconds, seen, dropped, overflow, failures } = observation;
  const wanted = wantedFlows(rules);
  const flows = seen
    .filter(({ kind }) => kind === "udp")
    .map((one) => ({
      rule: ruleOf(one, wanted),
      interface: one.interface,
      vlan: one.vlan,
      source: one.source,
      destination: one.destination,
      port: one.port,
      packets: one.packets,
      bytes: one.bytes,
      size_min: one.size_min,
      size_max: one.size_max,
      packets_per_s: perSecond(one.packets, seconds),
      bits_per_s: perSecond(one.bytes * 8, seconds),
      last_packet: new Date(one.last_ms).toISOString(),
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
    igmp: seen.flatMap(({ kind, interface: name, vlan, source, destination, packets, last_ms }) =>
      kind === "udp"
        ? []
        : [
            {
              interface: name,
              vlan,
              kind,
              source,
              destination,
              packets,
              last_packet: new Date(last_ms).toISOString(),
            },
          ],
    ),
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

function ruleOf(seen: Seen, wanted: ReadonlyMap<string, readonly Wanted[]>): string | null {
  for (const port of [seen.port, 0]) {
    const candidates = wanted.get(keyOf(seen.interface, seen.vlan, seen.destination, port)) ?? [];
    const found =
      candidates.find(({ sources }) => sources.includes(seen.source)) ??
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
