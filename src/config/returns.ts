// Which packets may come back: a switch may join any two interfaces, so what an egress sends may arrive where a rule
// takes it that feeds this egress, itself or through others. Two rules that feed each other lie on a cycle, so these are
// the edges inside the cycles of feeds.ts, all interfaces taken for one. Used by net/loops.ts, whose relay drops such
// packets, and by `mcr check`, which warns where the network looks like that. Pure.
import type { DraftRule, DraftRules } from "./draft.ts";
import { Feeds, type Network, type RuleSpans } from "./feeds.ts";

/** By index: what `egress` of rule `feeder` sends, rule `taker` would take, and it feeds that egress. */
export interface Return {
  readonly taker: number;
  readonly feeder: number;
  readonly egress: number;
}

/** Four for each flow that a file may have. */
export const returnsMax = 262_144;

/** @returns `isCut` where there are more of them than a relay looks for. */
export function findReturns(
  rules: DraftRules,
  addressOf: Network["addressOf"],
  spansOf?: (rule: DraftRule) => RuleSpans,
): { readonly returns: readonly Return[]; readonly isCut: boolean } {
  const feeds = new Feeds(rules, { placeOf: () => "anywhere", addressOf }, spansOf, returnsMax);
  const cycleOf = new Map<number, number>();
  for (const [cycle, members] of feeds.entangled().entries())
    for (const member of members) cycleOf.set(member, cycle);
  const returns: Return[] = [];
  for (const [feeder, cycle] of cycleOf)
    for (const [taker, egresses] of feeds.from(feeder))
      if (cycleOf.get(taker) === cycle)
        for (const egress of egresses) returns.push({ taker, feeder, egress });
  return { returns, isCut: feeds.isCut };
}
