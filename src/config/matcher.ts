// Which rule takes a flow. The data plane decides it for packets (c/table.c, mcr_table_find); this is the same answer
// for flows that were heard, for lists that name the rule: /v1/flows, `mcr scan`, `mcr init`. A test holds it against
// the C table. Pure.
import type { Address } from "../net/address.ts";
import type { Flow } from "./flows.ts";
import type { Rule } from "./schema.ts";

export interface Arrival {
  readonly interface: string;
  /** 0: untagged. */
  readonly vlan: number;
  readonly address: Address;
  readonly port: number;
  readonly source: Address;
}

/** A source that no packet has. */
const any = "any";

/** @returns the name of the rule; of two rules that claim the same, the first: one relay never runs both. */
export function matcherOf(
  rules: readonly { readonly rule: Rule; readonly flows: readonly Flow[] }[],
): (arrival: Arrival) => string | undefined {
  const names = new Map<string, string>();
  for (const { rule, flows } of rules)
    for (const { address, port, sources } of flows)
      for (const source of sources.length > 0 ? sources : [any]) {
        const key = keyOf(rule.ingress.interface, address, port, source);
        if (!names.has(key)) names.set(key, rule.name);
      }
  return (arrival) => {
    // The rule table takes untagged packets only: rule-table.ts.
    if (arrival.vlan !== 0) return undefined;
    for (const port of [arrival.port, 0])
      for (const source of [arrival.source, any]) {
        const name = names.get(keyOf(arrival.interface, arrival.address, port, source));
        if (name !== undefined) return name;
      }
    return undefined;
  };
}

function keyOf(name: string, address: Address, port: number, source: string): string {
  return `${name} ${address} ${port} ${source}`;
}
