// What was watched on the wire → the answer of /v1/flows: each flow with the rule that takes it. Pure.
import { matcherOf } from "../config/matcher.ts";
import type { RunningRule } from "../net/running.ts";
import type { Watched } from "../net/watch.ts";
import type { Flows } from "./protocol.ts";

export function flowsSnapshot(watched: Watched, rules: readonly RunningRule[], nowMs: number): Flows {
  const { seconds, dropped, overflow, failures } = watched;
  const takerOf = matcherOf(rules);
  const flows = watched.flows.map(({ last_ms, ...flow }) => ({
    rule: takerOf({ ...flow, address: flow.destination }) ?? null,
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

function perSecond(count: number, seconds: number): number {
  return seconds > 0 ? Math.round((count / seconds) * 1000) / 1000 : 0;
}
