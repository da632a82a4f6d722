// The rule file on disk, written back: the rules that run go into its text (edit.ts), which replaces it at once and
// whole. Called by relay.ts for `mcr save`. A reader sees the old file or the new one; so does whoever comes after a
// crash: the new text is on disk under another name, with the old one's owner and mode, before it takes its name.
import { constants } from "node:fs";
import * as fileSystem from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ExitCode, fail, McrError } from "../error.ts";
import { type Change, describeChanges, list } from "./changes.ts";
import { diffRules } from "./diff.ts";
import { updateRules } from "./edit.ts";
import { parseConfig, readText } from "./parse.ts";
import type { Rule } from "./schema.ts";

/** What of node:fs/promises is used, so that a test can let it fail half-way. */
export type FileSystem = Pick<typeof fileSystem, "open" | "realpath" | "rename" | "rm" | "stat">;

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
  // A symbolic link stays, and the file it leads to is replaced.
  const target = await fs.realpath(file).catch((thrown) => refuse(file, thrown));
  const before = await stampOf(target, fs).catch((thrown) => refuse(file, thrown));
  const text = await readText(target);
  const onDisk = parseConfig(text, file).rules;
  const foreign = diffRules(loaded, onDisk);
  const changes = describeChanges(diffRules(onDisk, running));
  if (changes.length === 0) return changes;
  if (!force) checkUnchanged(file, describeChanges(foreign));
  const updated = updateRules(text, running);
  try {
    await replaceFile(target, updated, before, fs);
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

interface Stamp {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
}

async function stampOf(path: string, fs: FileSystem): Promise<Stamp> {
  const { dev, ino, size, mtimeNs, mode, uid, gid } = await fs.stat(path, { bigint: true });
  return { dev, ino, size, mtimeNs, mode, uid, gid };
}

/** `before` is what the text was made from. */
async function replaceFile(path: string, text: string, before: Stamp, fs: FileSystem): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.mcr-save`);
  // What a save that was killed has left.
  await fs.rm(temporary, { force: true });
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  const handle = await fs.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    try {
      const own = await handle.stat({ bigint: true });
      await handle.writeFile(text);
      if (own.uid !== before.uid || own.gid !== before.gid)
        await handle.chown(Number(before.uid), Number(before.gid));
      await handle.chmod(Number(before.mode & 0o7777n));
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (!Bun.deepEquals(await stampOf(path, fs), before))
      fail(`${path} was written by somebody else at the same moment: mcr save again`, ExitCode.config);
    await fs.rename(temporary, path);
  } catch (thrown) {
    await fs.rm(temporary, { force: true }).catch(() => undefined);
    throw thrown;
  }
  await syncDirectory(dirname(path), fs);
}

/** The new name, too, survives a power cut. The file is in place already, so a refusal here is none of the save. */
async function syncDirectory(path: string, fs: FileSystem): Promise<void> {
  try {
    await using directory = await fs.open(path, constants.O_RDONLY);
    await directory.sync();
  } catch {
    // Some network file systems know no fsync of a directory.
  }
}

function refuse(file: string, thrown: unknown): never {
  if (thrown instanceof McrError || !(thrown instanceof Error) || !("code" in thrown)) throw thrown;
  const reason = /^E[A-Z0-9]+: ([^,]+)/.exec(thrown.message)?.[1] ?? thrown.message;
  const what = `cannot save ${file}: ${reason}, and the file is as it was`;
  switch (thrown.code) {
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
