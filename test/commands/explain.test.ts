// `mcr explain` of a rule that is not there: which ones are, in the running mcr or in the file.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { explainCommand } from "../../src/commands/explain.ts";
import { parseRules, ruleText } from "../config/rules.ts";
import { config } from "../control/fake-relay.ts";
import { runRemote } from "./remote.ts";

let directory: string;
let file: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
  file = join(directory, "rules.toml");
  writeFileSync(file, ruleText({ name: "studio-a" }));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const relay = {
  config: () => ({ ...config, rules: parseRules({ name: "wall" }).map((rule) => ({ ...rule })) }),
};

test("a rule that does not run is named, with those that do", async () => {
  const { exitCode, errors } = await runRemote(explainCommand, relay, {}, ["nope"]);
  expect([exitCode, errors]).toEqual([78, ['mcr explain: no rule "nope" runs: there are wall']]);
  const given = await runRemote(explainCommand, relay, {}, ["nope", file]);
  expect(given.errors).toEqual([
    `mcr explain: no rule "nope" runs: there are wall; if it is new in ${file}: mcr reload`,
  ]);
});

test("where none runs, it is the file that has no such rule", async () => {
  const { exitCode, errors } = await runRemote(explainCommand, null, {}, ["nope", file]);
  expect([exitCode, errors]).toEqual([78, [`mcr explain: ${file} has no rule "nope"; it has studio-a`]]);
});
