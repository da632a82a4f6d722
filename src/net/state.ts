// The states of rules and egresses: one word for each, the same in show, JSON, logs and metrics.

/** waiting: interface missing or down. silent: joined, no packet for 5 s. */
export const ruleStates = ["waiting", "joining", "active", "silent", "failed"] as const;
export type RuleState = (typeof ruleStates)[number];

/** failing: what it sends goes nowhere, for the reason it gives; it goes on sending. */
export const egressStates = ["waiting", "active", "failing", "failed"] as const;
export type EgressState = (typeof egressStates)[number];

/** How an ingress is exclusive. `refused`: relayed all the same, and the host's own programs receive as well. */
export const exclusiveStates = ["off", "waiting", "tcx", "nft", "refused"] as const;
export type ExclusiveState = (typeof exclusiveStates)[number];

/** A state with the moment it began and, where it is not good, why. */
export class Since<State extends string> {
  constructor(
    public state: State,
    public reason: string | null,
    public sinceMs: number,
  ) {}

  /** True when the state or its reason is a new one. */
  change(state: State, reason: string | null, nowMs: number): boolean {
    if (state === this.state && reason === this.reason) return false;
    if (state !== this.state) this.sinceMs = nowMs;
    this.state = state;
    this.reason = reason;
    return true;
  }
}
