// The leaf values of the rule file: what is accepted, its canonical form, and the sentence when it is refused.
// Used by schema.ts (where they become keys) and draft.ts. Canonical values are accepted unchanged, so a Rule can go
// through the schema again. Every refusal quotes the value and says what would be right.
import * as v from "valibot";
import {
  addressFamily,
  formatAddressRange,
  isMulticast,
  parseAddress,
  parseAddressRange,
  prefixStart,
} from "../net/address.ts";
import { isTable, quote } from "./problem.ts";
import { formatPortRange, type PortText, parsePortRange } from "./range.ts";

/** The message `<value> is <text>`. */
export function says(text: string): (issue: { readonly input: unknown }) => string {
  return ({ input }) => `${quote(input)} is ${text}`;
}

/** A refusal from a reader below: the whole sentence. */
class Refusal {
  constructor(readonly text: string) {}
}
/** A text field read by a function that gives the canonical value or a Refusal. */
function leaf<T>(read: (value: unknown) => T | Refusal) {
  return v.pipe(
    v.unknown(),
    v.rawTransform<unknown, T>(({ dataset, addIssue, NEVER }) => {
      const result = read(dataset.value);
      if (!(result instanceof Refusal)) return result;
      addIssue({ message: result.text });
      return NEVER;
    }),
  );
}

/** One of the words, or a whole number in the range. */
export function wholeOr<const T extends string>(words: readonly T[], min: number, max: number, text: string) {
  return v.custom<T | number>(
    (value) =>
      words.some((word) => word === value) ||
      (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max),
    says(text),
  );
}

export function oneOf<const T extends readonly string[]>(options: T, what: string) {
  const quoted = options.map((option) => `"${option}"`);
  return v.picklist(options, says(`not ${what}: give ${quoted.slice(0, -1).join(", ")} or ${quoted.at(-1)}`));
}

export const Flag = v.boolean(says("neither true nor false: write it without quotes"));

/** Printable, because rule names go to terminals, commands and metric labels. */
export const RuleName = leaf((value) => {
  const isName =
    typeof value === "string" && /^[^\p{C}\p{Zl}\p{Zp}]{1,64}$/u.test(value) && value.trim() === value;
  return isName
    ? value
    : new Refusal(
        `${quote(value)} is not a rule name: give 1-64 printable characters, no blank at either end`,
      );
});

/** What dev_valid_name() in the kernel's net/core/dev.c refuses, and what no terminal could show, is none. */
export function isInterfaceName(text: string): boolean {
  return /^[^\s/:\p{C}]+$/u.test(text) && Buffer.byteLength(text) <= 15 && text !== "." && text !== "..";
}

export const InterfaceName = leaf((value) => {
  return typeof value === "string" && isInterfaceName(value)
    ? value
    : new Refusal(
        `${quote(value)} is not an interface name: give 1-15 bytes without "/", ":" or blanks, such as "eth0"`,
      );
});

export const Port = leaf((value): PortText | Refusal => {
  const range = typeof value === "string" || typeof value === "number" ? parsePortRange(value) : undefined;
  if (range) return formatPortRange(range);
  const [, first, last] = typeof value === "string" ? (/^\s*(\d+)\s*-\s*(\d+)\s*$/.exec(value) ?? []) : [];
  if (Number(first) > Number(last))
    return new Refusal(`${quote(value)} ends before it starts: give "${last}-${first}"`);
  return new Refusal(
    `${quote(value)} is not a port: give 1-65535, "5001-5050", or leave it out for every port`,
  );
});
export const EgressPort = leaf((value): PortText | Refusal => {
  const range = typeof value === "string" || typeof value === "number" ? parsePortRange(value) : undefined;
  if (range) return formatPortRange(range);
  return new Refusal(
    `${quote(value)} is not a port: give 1-65535, "6001-6050", or leave it out for the same port`,
  );
});

export const Group = leaf((value) => {
  const range = typeof value === "string" ? parseAddressRange(value) : undefined;
  if (!range) return new Refusal(explainRange(value));
  if (isMulticast(range.first) && isMulticast(range.last)) return formatAddressRange(range);
  const valid = addressFamily(range.first) === 4 ? "224.0.0.0 to 239.255.255.255" : "ff00::/8";
  const cure = isMulticast(range.first) ? "end it inside" : "use `address` for a single host";
  return new Refusal(`${quote(value)} is not multicast (${valid}): ${cure}`);
});

/** One host: a unicast address. */
export const Host = leaf((value) => {
  const address = typeof value === "string" ? parseAddress(value) : undefined;
  if (address === undefined)
    return new Refusal(`${quote(value)} is not an address: give one host, such as "10.0.0.1"`);
  const kind = hostFault(address);
  return kind
    ? new Refusal(`${quote(value)} is ${kind}: give the address of one host, such as "10.0.0.1"`)
    : address;
});

export const SourceList = v.pipe(
  v.array(Host, says('not a list: write source = ["10.0.0.1"], or leave it out for any source')),
  v.minLength(1, "is an empty list: name at least one source, or leave it out for any source"),
  // Order and repetition mean nothing here; one form makes equal rules equal.
  v.transform((sources) => [...new Set(sources)].sort()),
);

export const ControlPath = leaf((value) => {
  const isSocketPath =
    typeof value === "string" && /^\/[^\p{C}]*[^/\p{C}]$/u.test(value) && Buffer.byteLength(value) <= 107;
  return isSocketPath
    ? value
    : new Refusal(
        `${quote(value)} is not a socket path: give an absolute path of at most 107 bytes, such as "/run/mcr/mcr.sock"`,
      );
});

/** A group of users of this host, as useradd(8) allows them, or its number. */
export const UserGroup = leaf((value) =>
  typeof value === "string" && /^([A-Za-z_][\w.-]{0,31}|\d{1,9})$/.test(value)
    ? value
    : new Refusal(`${quote(value)} is not a group of users: give its name, such as "mcr"`),
);

/** Where to listen: loopback when no host is given. */
export const HostPort = leaf((value) => {
  const [, ipv6, name, port] =
    typeof value === "string" ? (/^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(value) ?? []) : [];
  const host = ipv6 === undefined ? readHostName(name || "127.0.0.1") : `[${parseAddress(ipv6) ?? ""}]`;
  const range = parsePortRange(port ?? "");
  return host && host !== "[]" && range
    ? `${host}:${range.first}`
    : new Refusal(`${quote(value)} is not a host and port: give one to listen on, such as "127.0.0.1:9477"`);
});

/**
 * A table with exactly these keys. valibot's own strictObject takes lists and dates for tables and reports only the
 * first unknown key; the former is cured here, the latter by key.ts, which lists them all.
 */
export function table<const E extends v.ObjectEntries>(
  entries: E,
  example: string,
  missing: Readonly<Record<string, string>> = {},
) {
  const object = v.strictObject(entries, (issue) => {
    const key = String(issue.path?.[0].key ?? "");
    return issue.expected === "never" ? "is not a known key" : `is missing: ${missing[key] ?? "give it"}`;
  });
  const isObject = v.custom<v.InferInput<typeof object>>(isTable, says(`not a table: write ${example}`));
  return v.pipe(isObject, object);
}

function readHostName(name: string): string | undefined {
  return /^[\d.]*$/.test(name) ? parseAddress(name) : /^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$/.exec(name)?.[0];
}

function hostFault(address: string): string | undefined {
  if (isMulticast(address)) return "multicast";
  if (address === "0.0.0.0" || address === "::") return "the unspecified address";
  return address === "255.255.255.255" ? "the broadcast address" : undefined;
}

function explainRange(value: unknown): string {
  const text = typeof value === "string" ? value : "";
  const start = prefixStart(text);
  if (start !== undefined)
    return `${quote(value)} has bits set after the prefix: give "${start}/${text.split("/")[1]}"`;
  const ends = text.split("-").map((end) => parseAddress(end.trim()));
  const [first, last] = ends;
  if (
    ends.length === 2 &&
    first !== undefined &&
    last !== undefined &&
    addressFamily(first) === addressFamily(last)
  )
    return `${quote(value)} ends before it starts: give "${last}-${first}"`;
  return `${quote(value)} is not a group: give "239.1.1.1", "239.1.1.1-239.1.1.50" or "239.1.1.0/24"`;
}
