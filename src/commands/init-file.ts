// The rule file that `mcr init` begins or extends: what is in it, what it would become, the difference as people read
// it, and the write. A reader sees the old file or the new one, and so does whoever comes after a crash.
import { constants } from "node:fs";
import { chmod, chown, copyFile, link, open, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { appendRules } from "../config/edit.ts";
import { formatRule } from "../config/format.ts";
import { parseConfig } from "../config/parse.ts";
import type { Rule } from "../config/schema.ts";
import { ExitCode, fail, McrError, messageOf } from "../error.ts";
import type { PlannedRule } from "./init-plan.ts";
import { fileHeader, formatPlanned } from "./init-text.ts";

export interface RuleFile {
  readonly path: string;
  /** Undefined: there is none yet. */
  readonly text: string | undefined;
  readonly rules: readonly Rule[];
}

/** Throws what `mcr check` would print: a broken file is mended first, not extended. */
export async function openRuleFile(path: string): Promise<RuleFile> {
  try {
    const bytes = await readFile(path);
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { path, text, rules: parseConfig(text, path).rules };
  } catch (thrown) {
    if (thrown instanceof McrError) throw thrown;
    if (codeOf(thrown) === "ENOENT") return { path, text: undefined, rules: [] };
    if (codeOf(thrown) === "ERR_ENCODING_INVALID_ENCODED_DATA" || thrown instanceof TypeError)
      return fail(`${path}: is not UTF-8 text, as TOML must be; convert it: iconv -t UTF-8`, ExitCode.config);
    return fail(`cannot read ${path}: ${reasonOf(thrown)}; give another file`, ExitCode.config);
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

/** Writes `text` in place of what the file had when it was opened; its owner and mode stay. */
export async function writeRuleFile(file: RuleFile, text: string, hasBackup: boolean): Promise<void> {
  try {
    // A symbolic link stays, and the file it leads to is replaced.
    const target = file.text === undefined ? resolve(file.path) : await realpath(file.path);
    const temporary = join(dirname(target), `.${basename(target)}.${process.pid}.mcr-init`);
    try {
      await writeNew(temporary, text);
      if (file.text === undefined) {
        // Unlike rename, link replaces nothing that somebody else has put there meanwhile.
        await link(temporary, target);
      } else {
        await checkUnchanged(file, target);
        const { mode, uid, gid } = await stat(target);
        await chown(temporary, uid, gid);
        await chmod(temporary, mode & 0o7777);
        if (hasBackup) await copyFile(target, `${target}.bak`);
        await rename(temporary, target);
      }
    } finally {
      await rm(temporary, { force: true });
    }
  } catch (thrown) {
    refuse(file.path, thrown);
  }
}

async function writeNew(path: string, text: string): Promise<void> {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  await using handle = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
  await handle.writeFile(text);
  await handle.sync();
}

async function checkUnchanged({ path, text }: RuleFile, target: string): Promise<void> {
  if ((await readFile(target)).equals(Buffer.from(text ?? ""))) return;
  fail(`${path} was changed meanwhile: mcr init again, nothing was written`, ExitCode.config);
}

function refuse(path: string, thrown: unknown): never {
  if (thrown instanceof McrError) throw thrown;
  const what = `cannot write ${path}: ${reasonOf(thrown)}, and nothing was written`;
  switch (codeOf(thrown)) {
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

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
}

/** `ENOENT: no such file or directory, open '…'` without its frame. */
function reasonOf(thrown: unknown): string {
  const message = messageOf(thrown);
  return /^E[A-Z0-9]+: ([^,]+)/.exec(message)?.[1] ?? message;
}
