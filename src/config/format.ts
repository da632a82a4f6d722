// A Rule as the text of a rule file, in the style of the README: aligned, one line for one egress, a line each for
// several, nothing that is a default. The same rule always gives the same text, and the text parses to that rule.
// Called by edit.ts and whatever else writes rule files. Keys and defaults come from the schema, so a new key of an
// ingress or egress needs nothing here.
import * as v from "valibot";
import { type Egress, egressEntries, type Ingress, ingressEntries, type Rule } from "./schema.ts";

/** One [[rule]] block, ending with a newline. */
export function formatRule(rule: Rule): string {
  return [
    "[[rule]]",
    `name    = ${formatValue(rule.name)}`,
    `ingress = ${formatIngress(rule.ingress)}`,
    `egress  = ${formatEgresses(rule.egress)}`,
    "",
  ].join("\n");
}

export function formatIngress(ingress: Ingress): string {
  return formatTable(ingressEntries, ingress);
}

export function formatEgresses(egresses: readonly Egress[]): string {
  // Not in the schema as a default, because it depends on the target (schema.ts).
  const tables = egresses.map((egress) =>
    formatTable(egressEntries, egress, { ttl: egress.address === undefined ? 1 : 64 }),
  );
  if (tables.length === 1) return `[${tables[0]}]`;
  return ["[", ...tables.map((table) => `  ${table},`), "]"].join("\n");
}

/** In the order of the schema, which is the order people read: interface, group, port, settings. */
function formatTable(
  entries: Readonly<Record<string, v.GenericSchema>>,
  table: Readonly<Record<string, unknown>>,
  defaults: Readonly<Record<string, unknown>> = {},
): string {
  const pairs = Object.entries(entries).flatMap(([key, schema]) => {
    const value = table[key];
    const standard = defaults[key] ?? v.getDefault(schema);
    return value === undefined || Bun.deepEquals(value, standard) ? [] : [`${key} = ${formatValue(value)}`];
  });
  return `{ ${pairs.join(", ")} }`;
}

/** Names hold nothing unprintable, so JSON's escapes are TOML's. */
function formatValue(value: unknown): string {
  return Array.isArray(value) ? `[${value.map(formatValue).join(", ")}]` : JSON.stringify(value);
}
