// The rule file that `mcr init` begins or extends: what is in it, what it would become, the difference as people read
// it, and the write, which is that of config/rule-file.ts.
import { dirname } from "node:path";
import { appendRules } from "../config/edit.ts";
import { formatRule } from "../config/format.ts";
import { parseConfig } from "../config/parse.ts";
import { type FileState, readFile, replaceFile, systemErrorOf } from "../config/rule-file.ts";
import type { Rule } from "../config/schema.ts";
import { ExitCode, fail } from "../error.ts";
import type { PlannedRule } from "./init-plan.ts";
import { fileHeader, formatPlanned } from "./init-text.ts";

export interface RuleFile {
  readonly path: string;
  /** Undefined: there is none yet. */
  readonly text: string | undefined;
  readonly rules: readonly Rule[];
  readonly before: FileState | undefined;
}

/** Throws what `mcr check` would print: a broken file is mended first, not extended. */
export async function openRuleFile(path: string): Promise<RuleFile> {
  try {
    const before = await readFile(path);
    return { path, text: before.text, rules: parseConfig(before.text, path).rules, before };
  } catch (thrown) {
    const { code, reason } = systemErrorOf(thrown);
    if (code === "ENOENT") return { path, text: undefined, rules: [], before: undefined };
    return fail(`cannot read ${path}: ${reason}; give another file`, ExitCode.config);
  }
}

/** The whole text with the rules in it. Throws McrError where the checks of the rule file refuse it. */
export function withRules({ path, text }: RuleFile, planned: readonly PlannedRule[]): string {
  const whole =
    text === undefined || text.trim() === ""
      ? fileHeader + planned.map(formatPlanned).join("")
      : withComments(
          appendRules(
            text,
            planned.map(({ rule }) => rule),
          ),
          planned,
        );
  parseConfig(whole, path);
  return whole;
}

function withComments(text: string, planned: readonly PlannedRule[]): string {
  const end = text.includes("\r\n") ? "\r\n" : "\n";
  return planned.reduce((whole, { rule, comment }) => {
    const at = whole.lastIndexOf(formatRule(rule).replaceAll("\n", end));
    return comment === "" || at < 0 ? whole : `${whole.slice(0, at)}# ${comment}${end}${whole.slice(at)}`;
  }, text);
}

/** Lines that go with "- ", lines that come with "+ ", three around them; all of a new file as it is. */
export function formatChange({ text }: RuleFile, after: string): string {
  if (text === undefined) return after;
  const [old, now] = [text.split(/\r?\n/), after.split(/\r?\n/)];
  let head = 0;
  while (head < old.length && head < now.length && old[head] === now[head]) head += 1;
  let tail = 0;
  while (tail < old.length - head && tail < now.length - head && old.at(-1 - tail) === now.at(-1 - tail))
    tail += 1;
  const lines = [
    ...old.slice(Math.max(0, head - 3), head).map((line) => `  ${line}`),
    ...old.slice(head, old.length - tail).map((line) => `- ${line}`),
    ...now.slice(head, now.length - tail).map((line) => `+ ${line}`),
  ];
  return `${lines.map((line) => line.trimEnd()).join("\n")}\n`;
}

/** Writes `text` in place of what the file had when it was opened. Throws McrError, and nothing was written. */
export async function writeRuleFile(
  { path, before }: RuleFile,
  text: string,
  hasBackup: boolean,
): Promise<void> {
  try {
    await replaceFile({ file: path, before, text, hasBackup, command: "mcr init" });
  } catch (thrown) {
    refuse(path, thrown);
  }
}

function refuse(path: string, thrown: unknown): never {
  const { code, reason } = systemErrorOf(thrown);
  const what = `cannot write ${path}: ${reason}, and nothing was written`;
  switch (code) {
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return fail(`${what}; give a file in a directory that this user may write`, ExitCode.noPermission);
    case "ENOENT":
      return fail(`${what}; create its directory first (mkdir -p ${dirname(path)})`, ExitCode.config);
    case "EEXIST":
      return fail(`${what}; somebody else created it meanwhile: mcr init again`, ExitCode.config);
    case "ENOSPC":
    case "EDQUOT":
      return fail(`${what}; make room (df ${dirname(path)})`, ExitCode.failed);
    default:
      return fail(`${what}; give another file`, ExitCode.failed);
  }
}
