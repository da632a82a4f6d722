// The two clocks of a running mcr. What it tells (logs, states, answers) is the time of day, which an operator or NTP
// sets, also by hours; what it measures and waits for goes by one that is never set, so that no retry is an hour late.

export interface Clock {
  /** The time of day, since 1970. */
  readonly nowMs: () => number;
  /** Only grows; from where, means nothing. CLOCK_MONOTONIC. */
  readonly elapsedMs: () => number;
}

export const systemClock: Clock = { nowMs: Date.now, elapsedMs: () => performance.now() };
