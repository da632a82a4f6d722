// How commands print what changes between two rule sets: done by a reload, an add, a remove or a save, or what
// `mcr check --diff` says would be done. One line a rule with its details below, and what is not touched.
import type { Change } from "../config/changes.ts";
import type { DifferenceSnapshot, Unsaved } from "../control/protocol.ts";
import { plural } from "../numbers.ts";

const signs = { added: "+", removed: "-", changed: "~" } as const;

export function formatDifference(
  title: string,
  { difference, changes, unchanged, unchanged_flows }: DifferenceSnapshot,
  notes: readonly string[],
): string {
  const promise =
    unchanged === 0 || changes.length === 0
      ? []
      : [
          `not touched: ${plural(unchanged, "rule")}, ${plural(unchanged_flows, "flow")}: packets, counters and memberships go on`,
        ];
  return toText([
    `${title}: ${difference ?? "done"}`,
    ...formatChanges(changes),
    ...promise,
    ...notes.map((note) => `note: ${note}`),
  ]);
}

export function formatChanges(changes: readonly Change[]): readonly string[] {
  return changes.flatMap(({ kind, name, details }) => [
    `${signs[kind]} ${name}`,
    ...details.map((detail) => `    ${detail}`),
  ]);
}

/** Nothing when the file has what runs. */
export function formatUnsaved({ added, changed, removed }: Unsaved): readonly string[] {
  const parts = [
    ...(added.length > 0 ? [`${added.length} added`] : []),
    ...(changed.length > 0 ? [`${changed.length} changed`] : []),
    ...(removed.length > 0 ? [`${removed.length} removed`] : []),
  ];
  if (parts.length === 0) return [];
  return [`not saved: ${parts.join(", ")} at run time: mcr save writes the file, mcr reload returns to it`];
}

export function toText(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}
