// A rule as the flows it stands for: 50 groups and 50 ports in one rule are 50 flows.
// `expandFlows` is called by the control plane and commands with rules that passed every check; `checkFlowCount` by
// parse.ts, before anything is expanded: a file is counted by its sizes alone.

import { assert } from "../error.ts";
import { type Address, offsetAddress } from "../net/address.ts";
import type { DraftRules } from "./draft.ts";
import { countIngress, type Endpoint, pairedSize, readEndpoint } from "./pairing.ts";
import type { Problem } from "./problem.ts";
import type { Rule } from "./schema.ts";

/** What one file may ask for in all: the size of the data plane's table. */
const flowsMax = 65_536;

/** Half of the data plane's counter slots (c/mcr.h), because a reload has the old and the new rules at once. */
const egressesMax = 131_072;

/** What is seen on the wire, and where its copies go: `egress[i]` belongs to `rule.egress[i]`. */
export interface Flow {
  readonly address: Address;
  /** 0 is every port. */
  readonly port: number;
  /** Empty is any source. */
  readonly sources: readonly Address[];
  readonly egress: readonly FlowEgress[];
}
export interface FlowEgress {
  readonly address: Address;
  /** 0 is the port the packet arrived with. */
  readonly port: number;
}

export function expandFlows(rule: Rule): Flow[] {
  const ingress = readEndpoint(rule.ingress);
  assert(ingress, "a checked rule has a target");
  const sources = rule.ingress.source ?? [];
  const egresses = rule.egress.map((egress) => {
    const endpoint = readEndpoint(egress, { addresses: ingress.addresses, ports: undefined });
    assert(endpoint, "a checked egress has a target");
    return endpoint;
  });
  return Array.from({ length: countFlows(rule) }, (_, i) => ({
    ...pick(ingress, i),
    sources,
    egress: egresses.map((egress) => pick(egress, i)),
  }));
}

export function countFlows(rule: Rule): number {
  const ingress = readEndpoint(rule.ingress);
  const size = ingress && pairedSize(ingress);
  assert(size !== undefined, "the ranges of a checked rule pair up");
  return size;
}

/** One mistake for each rule that is too large by itself, and one where the sum goes over the limit. */
export function checkFlowCount(rules: DraftRules): Problem[] {
  const problems: Problem[] = [];
  let total = 0;
  for (const [index, rule] of rules.entries()) {
    const size = (rule?.ingress && countIngress(rule.ingress)) ?? 0;
    const path = ["rule", index, "ingress", "group"];
    const most = flowsMax.toLocaleString("en-US");
    if (size > flowsMax) {
      problems.push({ path, text: `stands for ${formatCount(size)} flows: a file may have ${most} in all` });
    } else if (total <= flowsMax) {
      total += size;
      if (total > flowsMax) {
        const text = `brings the file to ${formatCount(total)} flows: it may have ${most} in all`;
        problems.push({ path, text });
      }
    }
  }
  return problems;
}

/** One mistake at the rule whose egresses go over the limit. */
export function checkEgressCount(rules: DraftRules): Problem[] {
  let total = 0;
  for (const [index, rule] of rules.entries()) {
    total += rule?.egress?.length ?? 0;
    if (total <= egressesMax) continue;
    const text = `brings the file to ${formatCount(total)} egresses: it may have ${formatCount(egressesMax)} in all`;
    return [{ path: ["rule", index, "egress"], text }];
  }
  return [];
}

function formatCount(size: number): string {
  return size > Number.MAX_SAFE_INTEGER ? "far too many" : size.toLocaleString("en-US");
}

/** Element `i`; a single value is every element. */
function pick({ addresses, ports }: Endpoint, i: number): FlowEgress {
  return {
    address: addresses.size === 1 ? addresses.first : offsetAddress(addresses.first, i),
    port: ports ? ports.first + (ports.size === 1 ? 0 : i) : 0,
  };
}
