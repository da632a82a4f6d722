// One mistake in a rule file: where it is (a path of keys) and the sentence the operator reads.
// Made by every check of config/, turned into `file:line:column: rule "name": key: text` by parse.ts.
// No text from the file reaches a message except through `quote` or `formatKey`: shortened, nothing unprintable.

/** Keys and 0-based list positions from the root of the file: ["rule", 0, "egress", 1, "ttl"]. */
export type Path = readonly (string | number)[];
/** ` (line 12)`; nothing for rules that come from no file. */
export type PlaceOf = (path: Path) => string;

export interface Problem {
  readonly path: Path;
  /** What is wrong and what would be right; a function when it names the line of something else. */
  readonly text: string | ((placeOf: PlaceOf) => string);
  /** Point at the key itself, not at its value. */
  readonly atKey?: boolean;
}

const quotedMax = 48;

/** A value of the file as the operator would write it, short and printable. */
export function quote(value: unknown): string {
  if (typeof value === "string") return quoteWhole(shorten(value));
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (value instanceof Date) return "a date";
  return value === undefined || value === null ? "nothing" : "a table";
}

/** As `quote`, without shortening: for names, whose length is limited. */
export function quoteWhole(text: string): string {
  return `"${printable(text.replace(/["\\]/g, "\\$&"))}"`;
}

/** Control, format and other invisible characters as escapes: a terminal must not obey the file. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code > 0xffff
      ? `\\U${code.toString(16).padStart(8, "0")}`
      : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** `ingress.port`, `egress[2].ttl`: list positions count from 1, as in "rule 3". */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key + 1}]`;
    return text === "" ? formatKey(key) : `${text}.${formatKey(key)}`;
  }, "");
}

export function formatKey(key: string): string {
  return /^[A-Za-z0-9_-]{1,48}$/.test(key) ? key : quote(key);
}

export function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Every value below `root` that the pattern reaches, with its path; "*" stands for each element of a list. */
export function* valuesAt(root: unknown, pattern: Path, at: Path = []): Generator<[Path, unknown]> {
  const [key, ...rest] = pattern;
  if (key === undefined) {
    yield [at, root];
  } else if (key === "*") {
    if (!Array.isArray(root)) return;
    for (const [index, element] of root.entries()) yield* valuesAt(element, rest, [...at, index]);
  } else if (isTable(root) && Object.hasOwn(root, key)) {
    yield* valuesAt(root[key], rest, [...at, key]);
  }
}

function shorten(text: string): string {
  const characters = Array.from(text.slice(0, quotedMax * 2 + 2));
  return characters.length > quotedMax ? `${characters.slice(0, quotedMax).join("")}…` : text;
}

function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "nan";
  return Number.isFinite(value) ? String(value) : `${value < 0 ? "-" : ""}inf`;
}
