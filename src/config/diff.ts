// The difference between the rules that run and the rules that are wanted. Called by start, reload, add and remove,
// which all apply exactly this. The name is the identity of a rule; its JSON is its content; order means nothing.
import type { RelaySettings, Rule } from "./schema.ts";

export interface RuleDiff {
  readonly added: readonly Rule[];
  readonly removed: readonly Rule[];
  readonly changed: readonly { readonly before: Rule; readonly after: Rule }[];
  readonly unchanged: readonly Rule[];
}

export function diffRules(running: readonly Rule[], wanted: readonly Rule[]): RuleDiff {
  const before = new Map(running.map((rule) => [rule.name, rule]));
  const names = new Set(wanted.map((rule) => rule.name));
  const added: Rule[] = [];
  const changed: { before: Rule; after: Rule }[] = [];
  const unchanged: Rule[] = [];
  for (const rule of wanted) {
    const old = before.get(rule.name);
    if (!old) added.push(rule);
    else if (old === rule || JSON.stringify(old) === JSON.stringify(rule)) unchanged.push(old);
    else changed.push({ before: old, after: rule });
  }
  return { added, removed: running.filter((rule) => !names.has(rule.name)), changed, unchanged };
}

/** `2 added, 1 removed, 1 changed, 47 unchanged` */
export function formatDiff({ added, removed, changed, unchanged }: RuleDiff): string {
  return `${added.length} added, ${removed.length} removed, ${changed.length} changed, ${unchanged.length} unchanged`;
}

/** [relay] keys that the file changes and only a restart can. */
export function restartNotes(running: RelaySettings, wanted: RelaySettings): string[] {
  const keys = [
    "workers",
    "profile",
    "fanout",
    "ring_bytes",
    "latency_sleep_us",
    "control",
    "control_group",
  ] as const;
  return keys
    .filter((key) => running[key] !== wanted[key])
    .map((key) => `relay.${key} is ${wanted[key] ?? "off"} in the file and takes effect at the next start`);
}
