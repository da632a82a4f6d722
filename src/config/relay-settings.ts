// What the keys of [relay] must keep to among each other. Called by parse.ts.
import type { Draft } from "./draft.ts";
import type { Problem } from "./problem.ts";

export function checkRelay({ relay }: Draft): Problem[] {
  const { profile = "balanced", latency_sleep_us: sleepUs = 0 } = relay ?? {};
  // null is a mistake that is reported already.
  if (profile === null || profile === "latency" || sleepUs === null || sleepUs === 0) return [];
  const text = `is for profile "latency", and the profile is "${profile}": leave it out, or set profile = "latency"`;
  return [{ path: ["relay", "latency_sleep_us"], text }];
}
