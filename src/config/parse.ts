// TOML text to Config, or one McrError with every mistake of the file as `file:line:column: rule "name": key: text`.
// Called at start, on reload and by `mcr check`: it never prints and never exits, so that a broken file on reload
// changes nothing. The fast way is one parser and the schema; positions and drafts are made only for a broken file.
import { open } from "node:fs/promises";
import { parse, TomlError } from "smol-toml";
import * as v from "valibot";
import { ExitCode, fail, McrError } from "../error.ts";
import { findCycles } from "./cycle.ts";
import { type Draft, type DraftRules, readDraft, ruleLabel } from "./draft.ts";
import { checkNames, findDuplicates } from "./duplicate.ts";
import { checkEgressCount, checkFlowCount } from "./flows.ts";
import { findUnknownKeys } from "./key.ts";
import { locateIn } from "./locate.ts";
import { formatPath, type Path, type PlaceOf, type Problem, printable } from "./problem.ts";
import { checkRelay } from "./relay-settings.ts";
import { checkRule } from "./rule.ts";
import { type Config, ConfigSchema, type Rule } from "./schema.ts";
import { checkSupport } from "./support.ts";

/** A rule is about 300 bytes, so this is far beyond 65,536 of them; a device given by mistake must end somewhere. */
const bytesMax = 64 * 1024 * 1024;

export async function readConfig(file: string): Promise<Config> {
  return parseConfig(await readText(file), file);
}

/** The file as it is, not yet parsed. */
export async function readText(file: string): Promise<string> {
  return decode(await readFile(file), file);
}

export function parseConfig(text: string, file: string): Config {
  const source = text.startsWith("\uFEFF") ? text.slice(1) : text;
  const checked = checkRoot(parseToml(source, file));
  if (checked.ok) return checked.config;
  throw new McrError(describe(checked.problems, checked.rules, source, file), ExitCode.config);
}

/** Rules are checked each by itself, and with all the others; the second costs as much for one new rule as for many. */
export type Checks = "alone" | "among all";

/**
 * The running rules with these added, which are JSON as a rule file would have it: the same checks, the same sentences,
 * only without a line to point at. Who has them checked alone asks `areSound` before they run.
 */
export function addRules(
  running: readonly Rule[],
  added: readonly unknown[],
  checks: Checks,
): readonly Rule[] {
  const checked = checkRoot({ rule: added }, running, checks);
  if (checked.ok) return [...running, ...checked.config.rules];
  throw new McrError(
    checked.problems.map((problem) => sentenceOf(problem, checked.rules, () => "")),
    ExitCode.config,
  );
}

/** No two of these rules are at odds. */
export function areSound(rules: readonly Rule[]): boolean {
  return checkAmong(rules).length === 0;
}

type Checked =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly problems: readonly Problem[]; readonly rules: DraftRules };

/** @param running rules that stand before those of the root and are right by themselves, so only what two rules must not share is looked at. */
function checkRoot(root: unknown, running: readonly Rule[] = [], checks: Checks = "among all"): Checked {
  const result = v.safeParse(ConfigSchema, root, { abortPipeEarly: true });
  const draft: Draft = result.success ? result.output : readDraft(root);
  const rules = [...running, ...draft.rules];
  const problems = [
    ...[
      ...(result.issues ?? []).flatMap(toProblem),
      ...findUnknownKeys(root),
      ...draft.rules.flatMap((rule, index) => (rule ? within(["rule", index], checkRule(rule)) : [])),
      ...checkRelay(draft),
      ...checkSupport(draft),
    ].map((problem) => behind(running.length, problem)),
    ...(checks === "alone" ? [] : checkAmong(rules)),
  ];
  return result.success && problems.length === 0
    ? { ok: true, config: result.output }
    : { ok: false, problems, rules };
}

/** Every check that looks at more than one rule. */
function checkAmong(rules: DraftRules): Problem[] {
  const duplicates = findDuplicates(rules);
  return [
    ...checkNames(rules),
    ...checkFlowCount(rules),
    ...checkEgressCount(rules),
    ...duplicates.problems,
    ...findCycles(rules, duplicates.rules),
  ];
}

/** A problem of the root's rules, among all rules. */
function behind(count: number, problem: Problem): Problem {
  const [list, index, ...rest] = problem.path;
  if (list !== "rule" || typeof index !== "number") return problem;
  return { ...problem, path: [list, index + count, ...rest] };
}

function within(base: Path, problems: readonly Problem[]): Problem[] {
  return problems.map((problem) => ({ ...problem, path: [...base, ...problem.path] }));
}

function toProblem(issue: v.BaseIssue<unknown>): Problem[] {
  // The schema stops at the first unknown key of a table; findUnknownKeys has them all.
  if (issue.type === "strict_object" && issue.expected === "never") return [];
  const items = issue.path ?? [];
  const path = items.map(({ key }) => (typeof key === "number" ? key : String(key)));
  return [{ path, text: issue.message, atKey: items.at(-1)?.origin === "key" }];
}

function describe(problems: readonly Problem[], rules: DraftRules, text: string, file: string): string[] {
  const locate = locateIn(text);
  return problems
    .map((problem) => ({ problem, at: locate(problem.path, problem.atKey) }))
    .sort((a, b) => a.at.line - b.at.line || a.at.column - b.at.column)
    .map(({ problem, at }) => {
      const sentence = sentenceOf(problem, rules, (path) => ` (line ${locate(path).line})`);
      return `${file}:${at.line}:${at.column}: ${sentence}`;
    });
}

/** `rule "wall": ingress.port: …` */
function sentenceOf({ path, text }: Problem, rules: DraftRules, placeOf: PlaceOf): string {
  const [list, index, ...rest] = path;
  const isInRule = list === "rule" && typeof index === "number";
  const where = isInRule ? [ruleLabel(rules, index), formatPath(rest)] : [formatPath(path)];
  return [...where.filter(Boolean), typeof text === "string" ? text : text(placeOf)].join(": ");
}

function parseToml(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (thrown) {
    // Every error has a line and column in this engine, but only this class means the file's.
    if (!(thrown instanceof TomlError)) throw thrown;
    const [first = ""] = thrown.message.replace(/^Invalid TOML document: /, "").split("\n");
    return fail(
      `${file}:${thrown.line}:${thrown.column}: not valid TOML: ${printable(first)}`,
      ExitCode.config,
    );
  }
}

async function readFile(file: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    await using handle = await open(file, "r");
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(256 * 1024));
      if (bytesRead === 0) return Buffer.concat(chunks);
      chunks.push(buffer.subarray(0, bytesRead));
      size += bytesRead;
      if (size > bytesMax) break;
    }
  } catch (thrown) {
    return fail(`cannot read ${file}: ${readingTrouble(thrown)}`, ExitCode.config);
  }
  return fail(`cannot read ${file}: it is larger than 64 MiB; give the rule file`, ExitCode.config);
}

function readingTrouble(thrown: unknown): string {
  const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
  switch (code) {
    case "ENOENT":
      return "no such file; give the path of the rule file, or create it";
    case "EACCES":
      return `permission denied; run as a user who may read it, or let this one: chmod o+r, chgrp or setfacl`;
    case "EISDIR":
      return "it is a directory; give the path of a file in it";
    case "ENOTDIR":
      return "a part of the path is not a directory; give the path of the rule file";
    case "ELOOP":
      return "too many symbolic links; give the path of the file itself";
    default:
      return `${thrown instanceof Error ? thrown.message : String(thrown)}; give the path of the rule file`;
  }
}

function decode(bytes: Uint8Array, file: string): string {
  try {
    // A byte order mark stays, for whoever writes the text back; parseConfig passes over it.
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail(`${file}: is not UTF-8 text, as TOML must be; convert it: iconv -t UTF-8`, ExitCode.config);
  }
}
