// Running rules → the parts of one immutable rule table (c/mcr.h, table.c). Pure: indices in, indices out.
import type { RingHandle, TableParts } from "../native/shim.ts";
import { addressBytes, anySource } from "./address.ts";
import type { RunningRule } from "./running.ts";

/** One ingress interface: its counter slot, and its captures, each with a ring for every worker. */
export interface TableInterface {
  readonly slot: number;
  readonly captures: readonly { readonly rings: readonly RingHandle[] }[];
}

/** @param interfaces the ones whose rings are read; rules of any other interface match nothing and are left out. */
export function tableParts(
  epoch: number,
  rules: readonly RunningRule[],
  interfaces: ReadonlyMap<string, TableInterface>,
  origins: TableParts["origins"] = [],
): TableParts {
  const rings = [...interfaces.values()].flatMap(({ slot, captures }) =>
    captures.flatMap(({ rings }) => rings.map((ring, worker) => ({ ring, worker, interface: slot }))),
  );
  const matches: TableParts["matches"][number][] = [];
  const flows: TableParts["flows"][number][] = [];
  const actions: TableParts["actions"][number][] = [];
  const egresses: TableParts["egresses"][number][] = [];

  for (const running of rules) {
    const from = interfaces.get(running.rule.ingress.interface);
    if (!from) continue;
    const egressFirst = egresses.length;
    for (const egress of running.egresses) egresses.push(egress.tableEntry);
    for (const flow of running.flows) {
      const address = addressBytes(flow.address);
      const sources = flow.sources.length > 0 ? flow.sources.map(addressBytes) : [anySource];
      for (const source of sources)
        matches.push({
          address,
          source,
          port: flow.port,
          vlan: 0,
          interface: from.slot,
          flow: flows.length,
        });
      flows.push({ rule: running.slot, action_first: actions.length, action_count: flow.egress.length });
      flow.egress.forEach((to, index) => {
        actions.push({ address: addressBytes(to.address), port: to.port, egress: egressFirst + index });
      });
    }
  }
  return { epoch, rings, matches, flows, actions, egresses, origins };
}
