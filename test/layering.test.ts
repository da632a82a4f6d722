// Holds the order of src/: a file imports from its own row of this table or from a row below it, never upwards.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

/** From what people touch down to plain helpers. A name that ends with a slash is a folder. */
const rows: readonly (readonly string[])[] = [
  ["main.ts"],
  ["commands/"],
  ["answers.ts"],
  ["edits.ts"],
  ["relay.ts", "workers.ts"],
  ["control/"],
  ["config/", "net/", "stats/", "wire/"],
  ["worker.ts"],
  ["native/"],
  ["clock.ts", "error.ts", "log.ts", "numbers.ts", "table.ts", "terminal.ts"],
];
/** They run, nobody imports them: the executable's two entry points. */
const entries = ["main.ts", "worker.ts"];
const mayImportFfi = /^native\//;
const mayExit = new Set(entries);

interface Source {
  readonly file: string;
  readonly code: string;
  /** Files of src/, relative to it. */
  readonly imports: readonly string[];
  /** Everything else that is imported. */
  readonly packages: readonly string[];
}

const src = join(import.meta.dir, "../src");
const sources = [...new Bun.Glob("**/*.ts").scanSync(src)]
  .filter((file) => !file.endsWith(".d.ts"))
  .sort()
  .map(readSource);

describe("src/", () => {
  test("every file has a row in the table", () => {
    expect(sources.map(({ file }) => file).filter((file) => rowOf(file) < 0)).toEqual([]);
  });

  test("imports point downwards", () => {
    const upwards = sources.flatMap(({ file, imports }) =>
      imports.filter((target) => rowOf(target) < rowOf(file)).map((target) => `${file} imports ${target}`),
    );
    expect(upwards).toEqual([]);
  });

  test("the entry points are imported by nobody", () => {
    const importers = sources.filter(({ imports }) => imports.some((target) => entries.includes(target)));
    expect(importers.map(({ file }) => file)).toEqual([]);
  });

  test("no file imports itself, directly or through others", () => {
    const cyclic = sources.filter(({ file, imports }) => reach(imports).has(file));
    expect(cyclic.map(({ file }) => file)).toEqual([]);
  });

  test("every file is reached from an entry point", () => {
    const alive = reach(entries);
    expect(sources.map(({ file }) => file).filter((file) => !alive.has(file))).toEqual([]);
  });

  test("the relay reaches nothing of the instruments", () => {
    const reached = [...reach(["commands/run.ts", "worker.ts"])];
    expect(reached.filter((file) => file.startsWith("native/measure/"))).toEqual([]);
  });

  test("only native/ imports bun:ffi", () => {
    const importers = sources.filter(({ packages }) => packages.includes("bun:ffi"));
    expect(importers.map(({ file }) => file).filter((file) => !mayImportFfi.test(file))).toEqual([]);
  });

  test("only the entry points call process.exit", () => {
    const callers = sources.filter(({ code }) => /\bprocess\.exit\b/.test(code));
    expect(callers.map(({ file }) => file).filter((file) => !mayExit.has(file))).toEqual([]);
  });
});

function readSource(file: string): Source {
  const code = withoutComments(readFileSync(join(src, file), "utf8"));
  const specifiers = [...code.matchAll(/\b(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(
    (match) => match[1] ?? "",
  );
  const local = specifiers.filter((specifier) => specifier.startsWith(".") && specifier.endsWith(".ts"));
  return {
    file,
    code,
    imports: local.map((specifier) => normalize(join(dirname(file), specifier))),
    packages: specifiers.filter((specifier) => !specifier.startsWith(".")),
  };
}

/** Good enough for our own formatted code: comments, but not the // of a URL inside a string. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");
}

function rowOf(file: string): number {
  return rows.findIndex((row) =>
    row.some((name) => (name.endsWith("/") ? file.startsWith(name) : file === name)),
  );
}

/** These files and all that they import, through any number of steps. */
function reach(from: readonly string[]): ReadonlySet<string> {
  const reached = new Set<string>();
  const waiting = [...from];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (reached.has(file)) continue;
    reached.add(file);
    waiting.push(...(sources.find((source) => source.file === file)?.imports ?? []));
  }
  return reached;
}
