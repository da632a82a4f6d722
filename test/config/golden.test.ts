// Whole rule files and what mcr says of them: NAME.toml with NAME.err (every mistake) or NAME.ok (what `mcr check`
// prints). Their names say the behaviour. `UPDATE=1 bun test test/config/golden.test.ts` rewrites the expectations.

import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatCheck } from "../../src/commands/check.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import { file } from "./rules.ts";

const folder = join(import.meta.dir, "golden");
const isUpdate = process.env["UPDATE"] === "1";
const names = readdirSync(folder)
  .filter((entry) => entry.endsWith(".toml"))
  .map((entry) => entry.slice(0, -".toml".length));

interface Outcome {
  readonly kind: "ok" | "err";
  readonly text: string;
}

function outcomeOf(toml: string): Outcome {
  try {
    return { kind: "ok", text: formatCheck(file, parseConfig(toml, file)) };
  } catch (thrown) {
    if (!(thrown instanceof McrError)) throw thrown;
    expect(thrown.exitCode).toBe(ExitCode.config);
    return { kind: "err", text: thrown.lines.map((line) => `${line}\n`).join("") };
  }
}

function pathOf(name: string, kind: "toml" | "ok" | "err"): string {
  return join(folder, `${name}.${kind}`);
}

describe("golden rule files", () => {
  for (const name of names) {
    test(name.replaceAll("-", " "), () => {
      const { kind, text } = outcomeOf(readFileSync(pathOf(name, "toml"), "utf8"));
      if (isUpdate) {
        writeFileSync(pathOf(name, kind), text);
        rmSync(pathOf(name, kind === "ok" ? "err" : "ok"), { force: true });
      }
      const kinds = (["ok", "err"] as const).filter((each) => existsSync(pathOf(name, each)));
      expect(kinds).toEqual([kind]);
      expect(text).toBe(readFileSync(pathOf(name, kind), "utf8"));
    });
  }

  test("every expectation belongs to a rule file", () => {
    const known = new Set(names.flatMap((name) => [`${name}.toml`, `${name}.ok`, `${name}.err`]));
    expect(readdirSync(folder).filter((entry) => !known.has(entry))).toEqual([]);
    expect(names.length).toBeGreaterThan(10);
  });

  test("every mistake has its place, in order, and says what is wrong", () => {
    for (const name of names.filter((each) => existsSync(pathOf(each, "err")))) {
      const lines = readFileSync(pathOf(name, "err"), "utf8").trimEnd().split("\n");
      const places = lines.map((line) => {
        const [, row = "", column = ""] = /^rules\.toml:(\d+):(\d+): \S.*: \S/.exec(line) ?? [];
        expect([line, row]).not.toEqual([line, ""]);
        return Number(row) * 10_000 + Number(column);
      });
      expect(places).toEqual(places.toSorted((a, b) => a - b));
    }
  });
});
