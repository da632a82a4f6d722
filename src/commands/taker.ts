// Which of some rules takes a stream, or sends it: for lists of what was heard. Pure.
import { expandFlows } from "../config/flows.ts";
import type { Rule } from "../config/schema.ts";
import type { Address } from "../net/address.ts";

/** A stream on an interface. */
export interface Place {
  readonly interface: string;
  readonly vlan: number | null;
  readonly group: Address;
  /** Absent: every port. */
  readonly port?: number;
  /** Who sends it; empty: not known. */
  readonly sources: readonly Address[];
}

export interface Takers {
  /** The name of the rule whose ingress it is, from whoever sends it. */
  takes(place: Place): string | undefined;
  /** The name of the rule that sends it there. */
  sends(place: Place): string | undefined;
}

export function takersOf(rules: readonly Rule[]): Takers {
  const ingress = new Map<string, { readonly name: string; readonly sources: readonly Address[] }[]>();
  const egress = new Map<string, string>();
  for (const rule of rules) {
    const { interface: from, vlan = null } = rule.ingress;
    for (const { address, port, sources, egress: targets } of expandFlows(rule)) {
      const key = keyOf(from, vlan, address, port);
      const takers = ingress.get(key) ?? [];
      takers.push({ name: rule.name, sources });
      ingress.set(key, takers);
      for (const [index, target] of targets.entries()) {
        const to = rule.egress[index]?.interface ?? "";
        // Without a port of its own, that of the ingress, which may be every port.
        egress.set(keyOf(to, null, target.address, target.port || port), rule.name);
      }
    }
  }
  return {
    takes({ interface: name, vlan, group, port = 0, sources }) {
      const takers = [port, 0].flatMap((each) => ingress.get(keyOf(name, vlan, group, each)) ?? []);
      return takers.find((taker) => takesFrom(taker.sources, sources))?.name;
    },
    sends({ interface: name, vlan, group, port = 0 }) {
      return egress.get(keyOf(name, vlan, group, port)) ?? egress.get(keyOf(name, vlan, group, 0));
    },
  };
}

/** No source of a rule is every sender. */
function takesFrom(wanted: readonly Address[], sources: readonly Address[]): boolean {
  return wanted.length === 0 || sources.every((source) => wanted.includes(source));
}

function keyOf(name: string, vlan: number | null, address: Address, port: number): string {
  return `${name} ${vlan ?? 0} ${address} ${port}`;
}
