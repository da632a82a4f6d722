// The rule file on disk, written at once and whole. `saveRules` puts the rules that run into its text (edit.ts), for
// `mcr save`; `mcr init` begins or extends a file by `replaceFile`. A reader sees the old file or the new one; so does
// whoever comes after a crash: the new text is on disk under another name, with the old one's owner and mode, before it
// takes its name.
import { constants } from "node:fs";
import * as fileSystem from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { ExitCode, fail, McrError } from "../error.ts";
import { type Change, describeChanges, list } from "./changes.ts";
import { diffRules } from "./diff.ts";
import { updateRules } from "./edit.ts";
import { parseConfig, readText } from "./parse.ts";
import type { Rule } from "./schema.ts";

/** What of node:fs/promises is used, so that a test can let it fail half-way. */
export type FileSystem = Pick<
  typeof fileSystem,
  "copyFile" | "link" | "open" | "realpath" | "rename" | "rm" | "stat"
>;

export interface SaveOptions {
  readonly file: string;
  /** What the file had when it was loaded, or last saved. */
  readonly loaded: readonly Rule[];
  readonly running: readonly Rule[];
  /** Also over rules that somebody has changed in the file since. */
  readonly force: boolean;
}

/** What was changed in the file. Throws McrError, and the file is as it was. */
export async function saveRules(
  { file, loaded, running, force }: SaveOptions,
  fs: FileSystem = fileSystem,
): Promise<readonly Change[]> {
  const before = await readFile(file, fs).catch((thrown) => refuse(file, thrown));
  const onDisk = parseConfig(before.text, file).rules;
  const foreign = diffRules(loaded, onDisk);
  const changes = describeChanges(diffRules(onDisk, running));
  if (changes.length === 0) return changes;
  if (!force) checkUnchanged(file, describeChanges(foreign));
  const updated = updateRules(before.text, running);
  try {
    await replaceFile({ file, before, text: updated, command: "mcr save" }, fs);
  } catch (thrown) {
    refuse(file, thrown);
  }
  return changes;
}

/** Other comments or settings than at the load are no conflict: the edit keeps them. */
function checkUnchanged(file: string, foreign: readonly Change[]): void {
  if (foreign.length === 0) return;
  const names = list(foreign.map(({ kind, name }) => `${name} ${kind}`));
  fail(
    `${file} has other rules than when it was loaded (${names}): mcr reload takes them, and drops what was edited at run time; mcr save --force replaces them by what runs`,
    ExitCode.config,
  );
}

/** A file as it was when it was read. */
export interface FileState {
  /** Where a symbolic link leads: the link stays, and this is replaced. */
  readonly target: string;
  readonly text: string;
  readonly stamp: Stamp;
}

interface Stamp {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
}

/** Throws the system's error where there is none, McrError where it is no text. */
export async function readFile(file: string, fs: FileSystem = fileSystem): Promise<FileState> {
  const target = await fs.realpath(file);
  // Before the text: what is written while it is read makes a difference then.
  const stamp = await stampOf(target, fs);
  return { target, text: await readText(target), stamp };
}

async function stampOf(path: string, fs: FileSystem): Promise<Stamp> {
  const { dev, ino, size, mtimeNs, mode, uid, gid } = await fs.stat(path, { bigint: true });
  return { dev, ino, size, mtimeNs, mode, uid, gid };
}

export interface Replacement {
  readonly file: string;
  /** What the text was made from, and the only thing that it replaces; undefined: there must be no file. */
  readonly before: FileState | undefined;
  readonly text: string;
  /** The file as it was stays beside it, as FILE.bak. */
  readonly hasBackup?: boolean;
  /** What to type again when somebody else has written the file meanwhile. */
  readonly command: string;
}

/** Throws the system's error, or McrError when somebody else has written it; the file is then as it was. */
export async function replaceFile(
  { file, before, text, hasBackup = false, command }: Replacement,
  fs: FileSystem = fileSystem,
): Promise<void> {
  const target = before?.target ?? resolve(file);
  const temporary = join(dirname(target), `.${basename(target)}.mcr-save`);
  // What a write that was killed has left.
  await fs.rm(temporary, { force: true });
  try {
    await writeNew(temporary, text, before?.stamp, fs);
    if (before === undefined) {
      // Unlike rename, link puts nothing in the place of what somebody else has created meanwhile.
      await fs.link(temporary, target);
      await fs.rm(temporary, { force: true });
    } else {
      if (!Bun.deepEquals(await stampOf(target, fs), before.stamp))
        fail(`${file} was written by somebody else meanwhile: ${command} again`, ExitCode.config);
      if (hasBackup) await fs.copyFile(target, `${target}.bak`);
      await fs.rename(temporary, target);
    }
  } catch (thrown) {
    await fs.rm(temporary, { force: true }).catch(() => undefined);
    throw thrown;
  }
  await syncDirectory(dirname(target), fs);
}

/** With owner and mode of what it is to replace; of a new file as every user's are. */
async function writeNew(path: string, text: string, before: Stamp | undefined, fs: FileSystem) {
  // With O_EXCL nothing is followed either: a symbolic link under this name is a refusal (open(2)).
  const { O_CREAT, O_EXCL, O_WRONLY } = constants;
  const mode = before === undefined ? 0o644 : 0o600;
  const handle = await fs.open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  try {
    await handle.writeFile(text);
    if (before !== undefined) {
      const own = await handle.stat({ bigint: true });
      if (own.uid !== before.uid || own.gid !== before.gid)
        await handle.chown(Number(before.uid), Number(before.gid));
      await handle.chmod(Number(before.mode & 0o7777n));
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The new name, too, survives a power cut. The file is in place already, so a refusal here is none of the write. */
async function syncDirectory(path: string, fs: FileSystem): Promise<void> {
  try {
    await using directory = await fs.open(path, constants.O_RDONLY);
    await directory.sync();
  } catch {
    // Some network file systems know no fsync of a directory.
  }
}

function refuse(file: string, thrown: unknown): never {
  const { code, reason } = systemErrorOf(thrown);
  const what = `cannot save ${file}: ${reason}, and the file is as it was`;
  switch (code) {
    case "EACCES":
    case "EPERM":
      return fail(
        `${what}; let the user that mcr runs as write the file and its directory ${dirname(file)}, and own the file`,
        ExitCode.noPermission,
      );
    case "EROFS":
      return fail(
        `${what}; let mcr write there (systemd: ReadWritePaths=${dirname(file)})`,
        ExitCode.noPermission,
      );
    case "ENOSPC":
    case "EDQUOT":
      return fail(`${what}; make room (df ${dirname(file)}) and save again`, ExitCode.failed);
    case "ENOENT":
      return fail(`${what}; put the file back, then mcr save --force`, ExitCode.config);
    default:
      return fail(`${what}; mend that and save again`, ExitCode.failed);
  }
}

/** Throws again what is none. The reason is `ENOENT: no such file or directory, open '…'` without its frame. */
export function systemErrorOf(thrown: unknown): { readonly code: string; readonly reason: string } {
  if (thrown instanceof McrError || !(thrown instanceof Error) || !("code" in thrown)) throw thrown;
  const reason = /^E[A-Z0-9]+: ([^,]+)/.exec(thrown.message)?.[1] ?? thrown.message;
  return { code: String(thrown.code), reason };
}
