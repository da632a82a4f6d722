// The C unit tests: every program NAME_test of this folder, built by `make test` with the shim under ASan and UBSan.
// A program succeeds by exit code 0; what it had to skip, and why, it says on stderr in lines that begin with SKIP.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";

// Under the sanitizers some take seconds, on a busy machine many; a program that hangs still ends here.
setDefaultTimeout(600_000);

const root = join(import.meta.dir, "../..");
const programs = readdirSync(import.meta.dir)
  .filter((name) => name.endsWith("_test.c"))
  .map((name) => basename(name, ".c"));

describe("C unit tests", () => {
  test("there is at least one program", () => {
    expect(programs).not.toEqual([]);
  });

  test.each(programs)("%s", (name) => {
    const path = join(root, "dist/test/c", name);
    if (!existsSync(path)) throw new Error(`${path} is not built: run the tests with make test`);
    const run = Bun.spawnSync([path], {
      cwd: root,
      stdin: "ignore",
      env: { ...process.env, UBSAN_OPTIONS: "print_stacktrace=1" },
    });
    const ending = run.signalCode ?? `exit code ${run.exitCode}`;
    for (const skip of run.stderr.toString().match(/^SKIP.*$/gm) ?? []) console.warn(`${name}: ${skip}`);
    if (run.exitCode !== 0) throw new Error(`${ending}\n${run.stdout}${run.stderr}`);
  });
});
