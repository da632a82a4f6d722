// Keys of a rule file that do not exist, all of them, each with the key that was probably meant. Called by parse.ts.
// A misspelt key must never be ignored: the operator would believe that it works.
import { formatKey, isTable, type Path, type Problem, valuesAt } from "./problem.ts";
import {
  egressEntries,
  fileEntries,
  ingressEntries,
  logEntries,
  relayEntries,
  ruleEntries,
} from "./schema.ts";

interface Table {
  readonly path: Path;
  readonly what: string;
  readonly keys: readonly string[];
}

const tables: readonly Table[] = [
  { path: [], what: "the file", keys: Object.keys(fileEntries) },
  { path: ["relay"], what: "[relay]", keys: Object.keys(relayEntries) },
  { path: ["log"], what: "[log]", keys: Object.keys(logEntries) },
  { path: ["rule", "*"], what: "a rule", keys: Object.keys(ruleEntries) },
  { path: ["rule", "*", "ingress"], what: "an ingress", keys: Object.keys(ingressEntries) },
  { path: ["rule", "*", "egress", "*"], what: "an egress", keys: Object.keys(egressEntries) },
];

export function findUnknownKeys(root: unknown): Problem[] {
  const problems: Problem[] = [];
  for (const table of tables) {
    for (const [path, value] of valuesAt(root, table.path)) {
      if (!isTable(value)) continue;
      for (const key of Object.keys(value))
        if (!table.keys.includes(key))
          problems.push({ path: [...path, key], atKey: true, text: explain(key, table) });
    }
  }
  return problems;
}

function explain(key: string, table: Table): string {
  const near = nearest(key, table.keys);
  if (near !== undefined) return `is not a key of ${table.what}: did you mean ${near}?`;
  const home = tables.find(({ keys }) => keys.includes(key));
  if (home) return `is not a key of ${table.what} but of ${home.what}: move it there`;
  return `is not a key of ${table.what}, which has ${table.keys.map(formatKey).join(", ")}`;
}

/** The known word that is at most a third of its letters away, or that this one shortens. */
function nearest(word: string, known: readonly string[]): string | undefined {
  if (word.length > 32) return undefined;
  const wanted = word.toLowerCase().replaceAll("-", "_");
  const ranked = known
    .map((key) => ({ key, edits: editDistance(wanted, key) }))
    .filter(({ key, edits }) => edits <= Math.max(1, Math.floor(key.length / 3)))
    .sort((a, b) => a.edits - b.edits);
  return ranked[0]?.key ?? known.find((key) => wanted.length >= 3 && key.startsWith(wanted));
}

/** Letters added, left out, replaced or swapped with their neighbour (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 0; i < a.length; i += 1) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j += 1) {
      const replaced = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1);
      const isSwapped = i > 0 && j > 0 && a[i] === b[j - 1] && a[i - 1] === b[j];
      const swapped = isSwapped ? (before[j - 1] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      next.push(Math.min(replaced, swapped, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
