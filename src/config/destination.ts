// Where a rule takes from and sends to, as people read it: `group:port` with what the rule leaves out filled in.
import type { Egress, Rule } from "./schema.ts";

export function ingressOf({ ingress }: Rule): string {
  return `${targetOf(ingress)}:${ingress.port ?? "*"}`;
}

/** An egress without a target of its own sends to the ingress's. */
export function destinationOf({ ingress }: Rule, egress: Egress): string {
  return `${egress.group ?? egress.address ?? targetOf(ingress)}:${egress.port ?? ingress.port ?? "*"}`;
}

function targetOf(ingress: Rule["ingress"]): string {
  return ingress.group ?? ingress.address ?? "";
}
