// What the rules stand on, as the control socket tells it: interfaces and memberships. Beside snapshot.ts. Pure.
import { dotted } from "../net/address.ts";
import { type InterfaceState, isUsable, type Unusable } from "../net/interfaces.ts";
import type { FailedJoin, Membership } from "../net/memberships.ts";
import type { LastQuery, Listening } from "../net/queriers.ts";
import { sumOfDrops } from "../stats/reasons.ts";
import type { EgressSnapshot, InterfaceSnapshot, MembershipSnapshot, Stats } from "./protocol.ts";
import { isoTime } from "./snapshot.ts";

export function membershipSnapshot(entry: {
  readonly membership: Membership;
  readonly state: "joined" | "joining" | FailedJoin;
  readonly users: ReadonlySet<string>;
}): MembershipSnapshot {
  const { membership, state, users } = entry;
  const failed = typeof state === "object" ? state : undefined;
  return {
    interface: membership.interface,
    group: membership.group,
    source: membership.source ?? null,
    state: typeof state === "object" ? "failed" : state,
    reason: failed?.reason ?? null,
    retry_at: failed ? new Date(failed.retryAtMs).toISOString() : null,
    rules: [...users],
  };
}

/** Every interface that a rule names. */
export function interfaceSnapshots(
  states: readonly (InterfaceState | Unusable)[],
  fanoutIds: ReadonlyMap<string, number>,
  queriers: ReadonlyMap<string, Listening>,
  { rules, interfaces, devices }: Pick<Stats, "rules" | "interfaces" | "devices">,
): readonly InterfaceSnapshot[] {
  return states.map((state) => {
    const egresses = rules.flatMap(({ egress }) => egress).filter((each) => each.interface === state.name);
    const sum = (read: (egress: (typeof egresses)[number]) => number) =>
      egresses.reduce((total, egress) => total + read(egress), 0);
    const { last, sinceMs } = queriers.get(state.name) ?? {};
    return {
      interface: state.name,
      ...describe(state),
      ingress_rules: rules.filter((rule) => rule.interface === state.name).length,
      egresses: egresses.length,
      failed_egresses: countReasons(egresses.filter((egress) => egress.state === "failed")),
      failing_egresses: countReasons(egresses.filter((egress) => egress.state === "failing")),
      fanout_id: fanoutIds.get(state.name) ?? null,
      last_query: last ? querySnapshot(last) : null,
      listening_since: sinceMs === undefined ? null : isoTime(sinceMs),
      ingress: interfaces.find((each) => each.interface === state.name) ?? null,
      sent_packets: sum((egress) => egress.sent_packets),
      sent_bytes: sum((egress) => egress.sent_bytes),
      egress_dropped: sum(({ dropped }) => sumOfDrops(dropped)),
      device: devices.find((each) => each.interface === state.name) ?? null,
    };
  });
}

/** A thousand egresses that miss one address have one reason. */
function countReasons(
  egresses: readonly Pick<EgressSnapshot, "reason">[],
): InterfaceSnapshot["failed_egresses"] {
  const byReason = Map.groupBy(egresses, ({ reason }) => reason ?? "");
  return [...byReason].map(([reason, { length }]) => ({ reason, egresses: length }));
}

function querySnapshot({ timeMs, from, version }: LastQuery): NonNullable<InterfaceSnapshot["last_query"]> {
  return { time: isoTime(timeMs), from, version };
}

function describe(
  state: InterfaceState | Unusable,
): Pick<InterfaceSnapshot, "state" | "reason" | "ifindex" | "mtu" | "address"> {
  if (!isUsable(state))
    return { state: "waiting", reason: state.unusable, ifindex: null, mtu: null, address: null };
  const { ifindex, mtu, address } = state;
  return { state: "active", reason: null, ifindex, mtu, address: address === 0 ? null : dotted(address) };
}
