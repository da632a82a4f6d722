// The difference of two rule sets in words: for each rule that differs what it is, or what of it changes. Used by
// reload, add, remove and save for what was done, and by `mcr check --diff` for what would be.
import { plural } from "../numbers.ts";
import { destinationOf, ingressOf } from "./destination.ts";
import { diffRules, type RuleDiff } from "./diff.ts";
import type { Egress, Rule } from "./schema.ts";

export interface Change {
  readonly kind: "added" | "removed" | "changed";
  readonly name: string;
  /** `eth0 239.1.1.1:5001 → eth1 239.2.2.2:6001` for each egress, or `ingress.port: 5001 → 5002`. */
  readonly details: readonly string[];
}

/** What the running rules have that their file has not, and the other way round; by name. */
export interface Unsaved {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

export function describeChanges({ added, removed, changed }: RuleDiff): readonly Change[] {
  return [
    ...added.map((rule): Change => ({ kind: "added", name: rule.name, details: pathsOf(rule) })),
    ...removed.map((rule): Change => ({ kind: "removed", name: rule.name, details: pathsOf(rule) })),
    ...changed.map(
      ({ before, after }): Change => ({
        kind: "changed",
        name: after.name,
        details: changesOf(before, after),
      }),
    ),
  ];
}

export function findUnsaved(inFile: readonly Rule[], running: readonly Rule[]): Unsaved {
  const { added, removed, changed } = diffRules(inFile, running);
  return {
    added: added.map(({ name }) => name),
    changed: changed.map(({ after }) => after.name),
    removed: removed.map(({ name }) => name),
  };
}

/** What becomes of edits made at run time when the rules of the file replace the running ones. */
export function describeDropped(
  unsaved: Unsaved,
  { added, removed, changed }: RuleDiff,
  tense: "done" | "would",
): readonly string[] {
  const gone = new Set(removed.map(({ name }) => name));
  const other = new Set(changed.map(({ after }) => after.name));
  const back = new Set(added.map(({ name }) => name));
  const words = {
    done: ["dropped", "undid the change of", "brought back"],
    would: ["a reload drops", "a reload undoes the change of", "a reload brings back"],
  } as const;
  const [drops, undoes, returns] = words[tense];
  const cure = tense === "done" ? "mcr save before a reload keeps them" : "mcr save keeps them";
  const sentence = (verb: string, names: readonly string[], what: string) =>
    names.length === 0 ? [] : [`${verb} ${plural(names.length, "rule")} ${what}: ${list(names)} (${cure})`];
  return [
    ...sentence(
      drops,
      unsaved.added.filter((name) => gone.has(name)),
      "added at run time",
    ),
    ...sentence(
      undoes,
      [...unsaved.added, ...unsaved.changed].filter((name) => other.has(name)),
      "changed at run time",
    ),
    ...sentence(
      returns,
      unsaved.removed.filter((name) => back.has(name)),
      "removed at run time",
    ),
  ];
}

/** Names for a line of text; of hundreds the first say enough. */
export function list(names: readonly string[]): string {
  const most = 20;
  const shown = names.slice(0, most).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}

function pathsOf(rule: Rule): readonly string[] {
  return rule.egress.map(
    (egress) =>
      `${rule.ingress.interface} ${ingressOf(rule)} → ${egress.interface} ${destinationOf(rule, egress)}`,
  );
}

function changesOf(before: Rule, after: Rule): readonly string[] {
  return [...valuesOf("ingress", before.ingress, after.ingress), ...egressChanges(before, after)];
}

/** Egresses have no names: those that send to one place are the same one, whatever their order. */
function egressChanges(before: Rule, after: Rule): readonly string[] {
  const placeOf = (egress: Egress) =>
    [egress.interface, egress.group ?? egress.address ?? "same", egress.port ?? "same"].join(" ");
  const old = Map.groupBy(before.egress, placeOf);
  const details: string[] = [];
  for (const egress of after.egress) {
    const [counterpart, ...others] = old.get(placeOf(egress)) ?? [];
    old.set(placeOf(egress), others);
    const place = `egress ${egress.interface} ${destinationOf(after, egress)}`;
    if (counterpart) details.push(...valuesOf(place, counterpart, egress, ": "));
    else details.push(`${place} added`);
  }
  for (const egress of [...old.values()].flat())
    details.push(`egress ${egress.interface} ${destinationOf(before, egress)} removed`);
  return details.length > 0 || !Bun.deepEquals(before.ingress, after.ingress)
    ? details
    : ["its egresses are in another order"];
}

function valuesOf(
  where: string,
  before: Readonly<Record<string, unknown>>,
  after: Readonly<Record<string, unknown>>,
  separator = ".",
): readonly string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys]
    .filter((key) => !Bun.deepEquals(before[key], after[key]))
    .map((key) => `${where}${separator}${key}: ${show(before[key])} → ${show(after[key])}`);
}

function show(value: unknown): string {
  if (value === undefined) return "none";
  return Array.isArray(value) ? value.join(", ") : String(value);
}
