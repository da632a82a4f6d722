// What only one rule may have: its name, and its (interface, group or address, port, source). Called by parse.ts.
// Ranges are compared as spans, so overlapping rules are found whatever their size. A rule with sources beside one
// for any source, or with a port beside one for every port, is no duplicate: the data plane takes the closer match.
import { type DraftRule, type DraftRules, ruleLabel } from "./draft.ts";
import { readEndpoint } from "./pairing.ts";
import type { Problem } from "./problem.ts";
import { type Span, spansOf } from "./span.ts";
import { SpanIndex } from "./span-index.ts";

export interface Duplicates {
  readonly problems: readonly Problem[];
  /** The rules that repeat an earlier one: the cycle search leaves them out. */
  readonly rules: ReadonlySet<number>;
}

export function checkNames(rules: DraftRules): Problem[] {
  const problems: Problem[] = [];
  const seen = new Map<string, number>();
  for (const [index, rule] of rules.entries()) {
    const name = rule?.name;
    if (typeof name !== "string") continue;
    const earlier = seen.get(name);
    if (earlier === undefined) {
      seen.set(name, index);
    } else {
      problems.push({
        path: ["rule", index, "name"],
        text: (placeOf) =>
          `rule ${earlier + 1}${placeOf(["rule", earlier, "name"])} has this name already: give every rule its own`,
      });
    }
  }
  return problems;
}

export function findDuplicates(rules: DraftRules): Duplicates {
  const index = new SpanIndex();
  const wanted = rules.map((rule) => (rule ? [...wants(rule)] : []));
  for (const [rule, wants] of wanted.entries()) for (const [key, span] of wants) index.add(key, span, rule);
  const problems: Problem[] = [];
  const repeated = new Set<number>();
  for (const [rule, wants] of wanted.entries()) {
    let earliest = rule;
    for (const [key, span] of wants)
      for (const other of index.find(key, span)) earliest = Math.min(earliest, other);
    if (earliest === rule) continue;
    repeated.add(rule);
    problems.push({
      path: ["rule", rule, "ingress", targetKey(rules[rule])],
      text: (placeOf) =>
        `${ruleLabel(rules, earliest)}${placeOf(["rule", earliest, "ingress", targetKey(rules[earliest])])} ` +
        "takes the same interface, group, port and source, or some of them: let one rule have them, with all egresses",
    });
  }
  return { problems, rules: repeated };
}

/** Everything the rule claims for itself, one entry per source. */
function* wants(rule: DraftRule): Generator<[string, Span]> {
  const { ingress } = rule;
  const endpoint = ingress && readEndpoint(ingress);
  if (!endpoint || !ingress.interface || ingress.source === null || ingress.vlan === null) return;
  if (ingress.group !== undefined && ingress.address !== undefined) return;
  const ports = endpoint.ports ? "port" : "every port";
  const place = [ingress.interface, ingress.vlan ?? "untagged", ingress.protocol ?? "udp", ports].join(" ");
  for (const span of spansOf(endpoint))
    for (const source of ingress.source ?? ["any"]) yield [`${place} ${source}`, span];
}

function targetKey(rule: DraftRule | null | undefined): "group" | "address" {
  return rule?.ingress?.group === undefined && rule?.ingress?.address !== undefined ? "address" : "group";
}
