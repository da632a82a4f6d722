// Rules that feed their own ingress, directly or through others: such a packet would go round for ever.
// Called by parse.ts. What comes back only through the network is none of its business: returns.ts.
import { type DraftRules, ruleLabel } from "./draft.ts";
import { Feeds } from "./feeds.ts";
import type { Problem } from "./problem.ts";

/** One mistake per cycle, at the egress where its first rule sends into it. `left` are rules not to look at. */
export function findCycles(rules: DraftRules, left: ReadonlySet<number>): Problem[] {
  const feeds = new Feeds(rules.map((rule, index) => (left.has(index) ? null : rule)));
  const problems: Problem[] = [];
  for (const group of feeds.entangled()) {
    const covered = new Set<number>();
    for (const rule of group) {
      if (covered.has(rule)) continue;
      const chain = feeds.shortestCycle(rule);
      for (const member of chain) covered.add(member);
      const egress = feeds.from(rule).get(chain[1] ?? rule)?.[0] ?? 0;
      const names = shorten(chain.map((member) => ruleLabel(rules, member)));
      problems.push({
        path: ["rule", rule, "egress", egress],
        text: `feeds its own ingress: ${[...names, ruleLabel(rules, rule)].join(" → ")}: send to another interface or group, or name the real senders in ingress.source`,
      });
    }
  }
  return problems;
}

/** A ring of thousands of rules is still one line. */
function shorten(names: readonly string[]): readonly string[] {
  if (names.length <= 8) return names;
  return [...names.slice(0, 6), `${names.length - 7} more`, ...names.slice(-1)];
}
