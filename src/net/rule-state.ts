// Which state a rule is in, from what is known of its interface, its capture, its memberships and its packets. Pure.
import { type InterfaceState, isUsable, type Unusable } from "./interfaces.ts";
import type { FailedJoin } from "./memberships.ts";
import type { RuleState } from "./state.ts";

/** A rule that has been joined this long without a packet is silent. */
export const silentMs = 5_000;

export interface Evidence {
  readonly interface: InterfaceState | Unusable;
  /** Why nothing can be captured there. */
  readonly captureFailure: string | undefined;
  readonly joins: readonly ("joined" | "joining" | FailedJoin)[];
  /** Since its last packet, or since it was joined. */
  readonly quietMs: number;
}

/** The state, and the reason where it is not good. The first link of the chain that is broken decides. */
export function ruleState(evidence: Evidence): readonly [RuleState, string | null] {
  const { interface: state, captureFailure, joins, quietMs } = evidence;
  if (!isUsable(state)) return ["waiting", state.unusable];
  if (captureFailure !== undefined) return ["failed", captureFailure];
  const failed = joins.find((join) => typeof join === "object");
  if (failed) return ["failed", `${failed.reason}; next try at ${new Date(failed.retryAtMs).toISOString()}`];
  if (joins.includes("joining")) return ["joining", null];
  return [quietMs < silentMs ? "active" : "silent", null];
}
