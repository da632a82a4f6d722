// Which rules feed which: an edge from rule to rule where an egress sends what the other's ingress takes. Used by
// cycle.ts, which refuses rules that feed themselves, and by returns.ts, which knows what may come back. Edges come from
// spans (span.ts), so 65,536 flows are compared as the ranges they were written as. Pure.
import { type DraftEgress, type DraftIngress, type DraftRule, type DraftRules, egressesOf } from "./draft.ts";
import { type Endpoint, readEndpoint } from "./pairing.ts";
import { type Span, spansOf } from "./span.ts";
import { SpanIndex } from "./span-index.ts";

/** How interfaces are looked at. */
export interface Network {
  /** Interfaces with one name are taken for one. */
  placeOf(name: string): string;
  /** The address that an egress there sends from, where it is known. */
  addressOf(name: string): string | undefined;
}

/** Each interface by itself; what their addresses will be, a rule file does not say. */
const separate: Network = { placeOf: (name) => name, addressOf: () => undefined };

/** Which rules a rule feeds, each with the indices of the egresses that do. */
export type Fed = ReadonlyMap<number, readonly number[]>;

const nobody: Fed = new Map();

export class Feeds {
  readonly #fed: readonly Fed[];
  /** More edges than `edgesMax` would be needed: those of the last rules are missing. */
  readonly isCut: boolean;

  /** @param spansOf of a rule, for who keeps them from time to time */
  constructor(
    rules: DraftRules,
    network: Network = separate,
    spansOf: (rule: DraftRule) => RuleSpans = ruleSpans,
    edgesMax = Number.POSITIVE_INFINITY,
  ) {
    const index = new SpanIndex();
    const spans = rules.map((rule) => rule && spansOf(rule));
    for (const [i, rule] of rules.entries())
      if (rule?.ingress) addIngress(index, network, rule.ingress, spans[i]?.ingress ?? [], i);
    let edges = 0;
    this.#fed = rules.map((rule, i) => {
      if (!rule || edges > edgesMax) return nobody;
      const fed = findFed(index, network, rule, spans[i]?.egresses ?? []);
      for (const egresses of fed.values()) edges += egresses.length;
      return fed;
    });
    this.isCut = edges > edgesMax;
  }

  from(rule: number): Fed {
    return this.#fed[rule] ?? nobody;
  }

  /** Groups of rules that all reach each other, in file order: Tarjan's search, without recursion. */
  entangled(): number[][] {
    const order = new Map<number, number>();
    const lowest = new Map<number, number>();
    const open: number[] = [];
    const isOpen = new Set<number>();
    const groups: number[][] = [];
    for (const root of this.#fed.keys()) {
      const fed = this.from(root);
      if (order.has(root) || fed.size === 0) continue;
      if (fed.size === 1 && fed.has(root)) {
        // Thousands of rules feed nobody, or themselves only: they need no search.
        order.set(root, order.size);
        groups.push([root]);
        continue;
      }
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

/** What a rule takes and sends, as lines in the plane of groups and ports. */
export interface RuleSpans {
  readonly ingress: readonly Span[];
  /** By index of the egress. */
  readonly egresses: readonly (readonly Span[])[];
}

export function ruleSpans(rule: DraftRule): RuleSpans {
  const inherited = rule.ingress && usableEndpoint(rule.ingress);
  if (!inherited) return { ingress: [], egresses: [] };
  const egresses: (readonly Span[])[] = [];
  for (const [egress, [, index]] of egressesOf(rule)) {
    const endpoint = readEndpoint(egress, inherited);
    egresses[Number(index)] = endpoint ? spansOf(endpoint) : [];
  }
  return { ingress: spansOf(inherited), egresses };
}

/** Filed under each source it accepts, or "any"; and once more under "all" for a sender that cannot be known. */
function addIngress(
  index: SpanIndex,
  network: Network,
  ingress: DraftIngress,
  spans: readonly Span[],
  rule: number,
): void {
  // What an egress sends is untagged, so a VLAN's ingress never takes it.
  if (!ingress.interface || ingress.source === null || ingress.vlan !== undefined) return;
  const place = `${network.placeOf(ingress.interface)} ${ingress.protocol ?? "udp"}`;
  for (const span of spans)
    for (const source of [...(ingress.source ?? ["any"]), "all"]) index.add(`${place} ${source}`, span, rule);
}

function findFed(
  index: SpanIndex,
  network: Network,
  rule: DraftRule,
  spans: readonly (readonly Span[])[],
): Fed {
  const fed = new Map<number, number[]>();
  if (!rule.ingress) return fed;
  for (const [egress, [, pathIndex]] of egressesOf(rule)) {
    if (!egress.interface) continue;
    const egressIndex = Number(pathIndex);
    const place = `${network.placeOf(egress.interface)} ${rule.ingress.protocol ?? "udp"}`;
    for (const span of spans[egressIndex] ?? [])
      for (const source of sendersOf(egress, rule.ingress, network))
        for (const target of index.find(`${place} ${source}`, span)) {
          const egresses = fed.get(target);
          if (!egresses) fed.set(target, [egressIndex]);
          else if (egresses.at(-1) !== egressIndex) egresses.push(egressIndex);
        }
  }
  // In file order, so that the same file always gives the same messages.
  return fed.size < 2 ? fed : new Map([...fed].sort(([a], [b]) => a - b));
}

/** Under which sources an ingress that takes these packets may be filed. */
function sendersOf(egress: DraftEgress, ingress: DraftIngress, network: Network): readonly string[] {
  const { source = "interface" } = egress;
  if (source === "interface" || source === null) {
    // Where the address is not known, it is not taken for one that an operator lists as a sender.
    const own = egress.interface ? network.addressOf(egress.interface) : undefined;
    return own === undefined ? ["any"] : ["any", own];
  }
  if (source !== "keep") return ["any", source];
  return ingress.source ? ["any", ...ingress.source] : ["all"];
}

function usableEndpoint(ingress: DraftIngress): Endpoint | undefined {
  if (!ingress.interface || (ingress.group !== undefined && ingress.address !== undefined)) return undefined;
  return readEndpoint(ingress);
}
