// Running rules → the memberships they want, each with the rules that want it. Pure.
import { type InterfaceState, isUsable, type Unusable } from "./interfaces.ts";
import { type Membership, membershipKey } from "./memberships.ts";
import type { RunningRule } from "./running.ts";

export type Interfaces = ReadonlyMap<string, InterfaceState | Unusable>;

/** None while the interface is missing or down. */
export function membershipsOf({ rule, flows }: RunningRule, interfaces: Interfaces): readonly Membership[] {
  const state = interfaces.get(rule.ingress.interface);
  if (!state || !isUsable(state)) return [];
  const where = { interface: state.name, ifindex: state.ifindex };
  return flows.flatMap(({ address: group, sources }) =>
    sources.length === 0 ? [{ ...where, group }] : sources.map((source) => ({ ...where, group, source })),
  );
}

export function wantedMemberships(
  rules: readonly RunningRule[],
  interfaces: Interfaces,
): ReadonlyMap<string, { readonly membership: Membership; readonly users: ReadonlySet<string> }> {
  const wanted = new Map<string, { membership: Membership; users: Set<string> }>();
  for (const running of rules)
    for (const membership of membershipsOf(running, interfaces)) {
      const key = membershipKey(membership);
      const entry = wanted.get(key);
      if (entry) entry.users.add(running.rule.name);
      else wanted.set(key, { membership, users: new Set([running.rule.name]) });
    }
  return wanted;
}
