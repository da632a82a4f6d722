// Edits of the rules that run, as new wanted lists: everything that is asked, or a McrError that says why not.
// Called by edits.ts for `mcr add` and `mcr remove`. What may be added is what a rule file may hold (parse.ts).
import { ExitCode, McrError } from "../error.ts";
import { list } from "./changes.ts";
import { addRules, type Checks } from "./parse.ts";
import { isTable, quote } from "./problem.ts";
import type { Rule } from "./schema.ts";

export function addToRunning(
  running: readonly Rule[],
  added: readonly unknown[],
  checks: Checks = "among all",
): readonly Rule[] {
  const names = new Set(running.map(({ name }) => name));
  const taken = added
    .map((rule) => (isTable(rule) ? rule["name"] : undefined))
    .filter((name) => typeof name === "string" && names.has(name));
  if (taken.length > 0) {
    const lines = taken.map(
      (name) =>
        `rule ${quote(name)}: name: a rule of this name runs already: give another name, or remove that one first (mcr remove)`,
    );
    throw new McrError(lines, ExitCode.config);
  }
  return addRules(running, added, checks);
}

export function removeFromRunning(running: readonly Rule[], names: readonly string[]): readonly Rule[] {
  const known = new Set(running.map(({ name }) => name));
  const unknown = [...new Set(names)].filter((name) => !known.has(name));
  if (unknown.length > 0) {
    const some = known.size === 0 ? "no rule runs" : `these run: ${list([...known])}`;
    const lines = unknown.map((name) => `no rule ${quote(name)} runs; ${some}`);
    throw new McrError(lines, ExitCode.config);
  }
  const gone = new Set(names);
  return running.filter(({ name }) => !gone.has(name));
}
