// The settings that all end-to-end tests run with: mcr's defaults, or the variant that the environment names. It holds
// for every rule, relay and topology of test/support, wherever a test does not choose for itself:
//
//   MCR_TEST_SETTINGS='profile = "latency", workers = 8'   more keys of [relay]
//   MCR_TEST_EXCLUSIVE=1       every ingress is exclusive
//   MCR_TEST_PATH=socket       every egress takes this path; frames are the default where they fit
//   MCR_TEST_OFFLOADS=off      no veth computes checksums or cuts frames for anyone
//
// A variant is named in the output of every test file, and once more above the result of `make test`.

import { parse } from "smol-toml";
import * as v from "valibot";

const settings = v.record(v.string(), v.union([v.string(), v.number(), v.boolean()]));
export type Settings = v.InferOutput<typeof settings>;

const VariantSchema = v.object({
  MCR_TEST_SETTINGS: v.pipe(v.optional(v.string(), ""), v.transform(readInline), settings),
  MCR_TEST_EXCLUSIVE: v.optional(v.picklist(["0", "1"]), "0"),
  MCR_TEST_PATH: v.optional(v.picklist(["auto", "socket"]), "auto"),
  MCR_TEST_OFFLOADS: v.optional(v.picklist(["on", "off"]), "on"),
});

export interface Variant {
  /** Of [relay]. */
  readonly settings: Settings;
  readonly isExclusive: boolean;
  readonly path: "auto" | "socket";
  readonly offloads: "on" | "off";
}

export function readVariant(environment: Readonly<Record<string, string | undefined>>): Variant {
  const read = v.safeParse(VariantSchema, environment);
  if (!read.success) {
    const [issue] = read.issues;
    throw new Error(`${v.getDotPath(issue)}: ${issue.message}; see test/support/variant.ts`);
  }
  return {
    settings: read.output.MCR_TEST_SETTINGS,
    isExclusive: read.output.MCR_TEST_EXCLUSIVE === "1",
    path: read.output.MCR_TEST_PATH,
    offloads: read.output.MCR_TEST_OFFLOADS,
  };
}

/** In words; undefined for mcr's defaults. */
export function nameVariant({ settings, isExclusive, path, offloads }: Variant): string | undefined {
  const parts = [
    ...Object.entries(settings).map(([key, value]) => `${key} ${value}`),
    ...(isExclusive ? ["exclusive"] : []),
    ...(path === "auto" ? [] : [`path ${path}`]),
    ...(offloads === "on" ? [] : ["offloads off"]),
  ];
  return parts.length === 0 ? undefined : parts.join(", ");
}

/** The lines of [relay]: the test's own, and those of the variant that it does not set. */
export function relayLines(own: string, { settings }: Variant): string {
  const more = Object.entries(settings).filter(([key]) => !(key in parse(own)));
  return own + more.map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join("");
}

/**
 * With fanout "cpu" a sender that moves to another CPU moves its streams to another worker, so order is not promised.
 * Every other fanout keeps it.
 */
export function mayReorder(settings: Settings): boolean {
  return settings["fanout"] === "cpu";
}

/** What the environment says. */
export const variant = readVariant(process.env);
export const variantName = nameVariant(variant);
if (variantName !== undefined) console.log(`variant: ${variantName}`);

function readInline(text: string): unknown {
  try {
    return parse(`settings = { ${text} }`)["settings"];
  } catch {
    return `not the inside of a TOML table: ${text}`;
  }
}
