// Rules that feed their own ingress, directly or through others: such a packet would go round for ever.
// Called by parse.ts. The graph has an edge from rule to rule where an egress sends what the other's ingress takes;
// edges come from spans (span.ts), so 65,536 flows are compared as the ranges they were written as.
import {
  type DraftEgress,
  type DraftIngress,
  type DraftRule,
  type DraftRules,
  egressesOf,
  ruleLabel,
} from "./draft.ts";
import { type Endpoint, readEndpoint } from "./pairing.ts";
import type { Problem } from "./problem.ts";
import { spansOf } from "./span.ts";
import { SpanIndex } from "./span-index.ts";

/** One mistake per cycle, at the egress where its first rule sends into it. `left` are rules not to look at. */
export function findCycles(rules: DraftRules, left: ReadonlySet<number>): Problem[] {
  const feeds = new Feeds(rules, left);
  const problems: Problem[] = [];
  for (const group of feeds.entangled()) {
    const covered = new Set<number>();
    for (const rule of group) {
      if (covered.has(rule)) continue;
      const chain = feeds.shortestCycle(rule);
      for (const member of chain) covered.add(member);
      const egress = feeds.from(rule).get(chain[1] ?? rule) ?? 0;
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

/** Which rules a rule feeds, each with the index of the egress that does. */
type Fed = ReadonlyMap<number, number>;

class Feeds {
  readonly #fed: readonly Fed[];

  constructor(rules: DraftRules, left: ReadonlySet<number>) {
    const index = new SpanIndex();
    const kept = rules.map((rule, i) => (left.has(i) ? null : rule));
    for (const [i, rule] of kept.entries()) if (rule?.ingress) addIngress(index, rule.ingress, i);
    this.#fed = kept.map((rule) => (rule ? findFed(index, rule) : new Map()));
  }

  from(rule: number): Fed {
    return this.#fed[rule] ?? new Map();
  }

  /** Groups of rules that all reach each other, in file order: Tarjan's search, without recursion. */
  entangled(): number[][] {
    const order = new Map<number, number>();
    const lowest = new Map<number, number>();
    const open: number[] = [];
    const isOpen = new Set<number>();
    const groups: number[][] = [];
    for (const root of this.#fed.keys()) {
      if (order.has(root)) continue;
      const walk = [this.#enter(root, order, lowest, open, isOpen)];
      for (let step = walk.at(-1); step; step = walk.at(-1)) {
        const { rule, next } = step;
        const target = next.next();
        if (!target.done) {
          if (!order.has(target.value)) walk.push(this.#enter(target.value, order, lowest, open, isOpen));
          else if (isOpen.has(target.value)) lower(lowest, rule, order.get(target.value));
          continue;
        }
        walk.pop();
        const parent = walk.at(-1);
        if (parent) lower(lowest, parent.rule, lowest.get(rule));
        if (lowest.get(rule) !== order.get(rule)) continue;
        const group = open.splice(open.lastIndexOf(rule));
        for (const member of group) isOpen.delete(member);
        if (group.length > 1 || this.from(rule).has(rule)) groups.push(group.sort((a, b) => a - b));
      }
    }
    return groups;
  }

  #enter(
    rule: number,
    order: Map<number, number>,
    lowest: Map<number, number>,
    open: number[],
    isOpen: Set<number>,
  ): { rule: number; next: Iterator<number> } {
    lowest.set(rule, order.size);
    order.set(rule, order.size);
    open.push(rule);
    isOpen.add(rule);
    return { rule, next: this.from(rule).keys() };
  }

  /** From a rule that lies on a cycle back to it, breadth first: the rules on the way, itself first. */
  shortestCycle(start: number): number[] {
    const cameFrom = new Map<number, number>();
    const queue = [start];
    for (const rule of queue) {
      for (const next of this.from(rule).keys()) {
        if (next === start) {
          const chain = [rule];
          for (let back = rule; back !== start; chain.unshift(back)) back = cameFrom.get(back) ?? start;
          return chain;
        }
        if (cameFrom.has(next)) continue;
        cameFrom.set(next, rule);
        queue.push(next);
      }
    }
    return [start];
  }
}

function lower(lowest: Map<number, number>, rule: number, value = 0): void {
  if (value < (lowest.get(rule) ?? 0)) lowest.set(rule, value);
}

/** Filed under each source it accepts, or "any"; and once more under "all" for a sender that cannot be known. */
function addIngress(index: SpanIndex, ingress: DraftIngress, rule: number): void {
  const endpoint = usableEndpoint(ingress);
  // What an egress sends is untagged, so a VLAN's ingress never takes it.
  if (!endpoint || ingress.source === null || ingress.vlan !== undefined) return;
  for (const span of spansOf(endpoint))
    for (const source of [...(ingress.source ?? ["any"]), "all"])
      index.add(`${ingress.interface} ${ingress.protocol ?? "udp"} ${source}`, span, rule);
}

function findFed(index: SpanIndex, rule: DraftRule): Fed {
  const fed = new Map<number, number>();
  const inherited = rule.ingress && usableEndpoint(rule.ingress);
  if (!rule.ingress || !inherited) return fed;
  for (const [egress, path] of egressesOf(rule)) {
    const endpoint = readEndpoint(egress, inherited);
    if (!endpoint || !egress.interface) continue;
    const place = `${egress.interface} ${rule.ingress.protocol ?? "udp"}`;
    for (const span of spansOf(endpoint))
      for (const source of sendersOf(egress, rule.ingress))
        for (const target of index.find(`${place} ${source}`, span))
          if (!fed.has(target)) fed.set(target, Number(path[1]));
  }
  // In file order, so that the same file always gives the same messages.
  return new Map([...fed].sort(([a], [b]) => a - b));
}

/** Under which sources an ingress that takes these packets may be filed. */
function sendersOf(egress: DraftEgress, ingress: DraftIngress): readonly string[] {
  const { source = "interface" } = egress;
  // The relay's own address on the interface is not one that an operator lists as a sender.
  if (source === "interface" || source === null) return ["any"];
  if (source !== "keep") return ["any", source];
  return ingress.source ? ["any", ...ingress.source] : ["all"];
}

function usableEndpoint(ingress: DraftIngress): Endpoint | undefined {
  if (!ingress.interface || (ingress.group !== undefined && ingress.address !== undefined)) return undefined;
  return readEndpoint(ingress);
}
