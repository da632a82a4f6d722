// The egresses of all running rules: brought in line with their interfaces, and watched for drops. A failing egress is
// marked and logged by itself; the others of its rule go on.
import { destinationOf } from "../config/destination.ts";
import { assert } from "../error.ts";
import type { Log } from "../log.ts";
import type { Counters } from "../stats/counters.ts";
import type { EgressShim, LinkFinder, RunningEgress, RunningRule } from "./running.ts";
import type { Interfaces } from "./wanted.ts";

/** Opens what is missing; returns the descriptors to close once no worker sends on them. */
export function refreshEgresses(
  rules: readonly RunningRule[],
  interfaces: Interfaces,
  linkOf: LinkFinder,
  shim: EgressShim,
  log: Log,
  nowMs: number,
  onChange?: (running: RunningRule, egress: RunningEgress) => void,
): readonly number[] {
  const stale: number[] = [];
  for (const running of rules)
    for (const egress of running.egresses) {
      const state = interfaces.get(egress.egress.interface);
      assert(state, `interface ${egress.egress.interface} of a running rule was read`);
      const troubleBefore = egress.status.reason;
      const result = egress.refresh(shim, state, nowMs, linkOf);
      if (result.stale !== undefined) stale.push(result.stale);
      if (!result.changed) continue;
      logEgressState(running, egress, troubleBefore, log);
      onChange?.(running, egress);
    }
  return stale;
}

/** One line a minute for each egress that refuses packets. */
export function warnOfDrops(rules: readonly RunningRule[], counters: Counters, log: Log): void {
  for (const running of rules)
    for (const egress of running.egresses) {
      const dropped = egress.newDrops(counters);
      if (dropped === undefined) continue;
      const text = `${describe(running, egress)} dropped ${dropped.packets} packets: ${dropped.reason}`;
      log.writeRepeating(`egress ${egress.slot}`, "Egress", "warning", text);
    }
}

/** That one starts is no news among thousands; that one is back is, to who has read what was wrong. */
export function logEgressState(
  running: RunningRule,
  egress: RunningEgress,
  troubleBefore: string | null,
  log: Log,
): void {
  const { state, reason } = egress.status;
  const where = describe(running, egress);
  if (reason === null)
    log.write(
      "Egress",
      troubleBefore === null ? "debug" : "info",
      `${where}: ${state}, ${describePath(egress)}`,
    );
  else log.write("Egress", state === "failed" ? "error" : "warning", `${where}: ${state}: ${reason}`);
}

function describePath({ sendPath: { path, reason }, egress: { plain } }: RunningEgress): string {
  return `path ${path}${plain ? ", plain" : ""}${reason === null ? "" : `: ${reason}`}`;
}

function describe({ rule }: RunningRule, { egress }: RunningEgress): string {
  return `rule "${rule.name}": egress ${egress.interface} ${destinationOf(rule, egress)}`;
}
