// The rule file written back: what stays, what is refused, and what a crash leaves.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fileSystem from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { formatRule } from "../../src/config/format.ts";
import { parseConfig } from "../../src/config/parse.ts";
import {
  type FileSystem,
  type Replacement,
  readFile as readState,
  replaceFile,
  type SaveOptions,
  saveRules,
} from "../../src/config/rule-file.ts";
import type { Rule } from "../../src/config/schema.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import { parseRule, parseRules, ruleText } from "./rules.ts";

const { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } = fileSystem;
const text = `# site 7\n\n[log]\nlevel = "debug" # for a while\n\n# first\n${ruleText({ name: "a" })}`;
const loaded = parseRules({ name: "a" });
const added = parseRule({ name: "x", ingress: 'interface = "eth0", group = "239.1.1.9"' });
const running: readonly Rule[] = [...loaded, added];
const savedText = `${text}\n${formatRule(added)}`;

let directory: string;
let file: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "mcr-test-"));
  file = join(directory, "rules.toml");
  await writeFile(file, text);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const save = (options: Partial<SaveOptions> = {}, fs: Partial<FileSystem> = {}) =>
  saveRules({ file, loaded, running, force: false, ...options }, { ...fileSystem, ...fs });

async function refusalOf(saving: Promise<unknown>): Promise<McrError> {
  const thrown = await saving.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(thrown instanceof McrError)) throw new Error(`expected a refusal, got ${Bun.inspect(thrown)}`);
  return thrown;
}

/** As node reports it. */
function systemError(code: string, reason: string): Error {
  return Object.assign(new Error(`${code}: ${reason}, rename 'a' -> 'b'`), { code });
}

describe("saveRules", () => {
  test("writes what runs, keeps the rest, the mode and the owner, and leaves nothing beside it", async () => {
    await chmod(file, 0o640);
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) await fileSystem.chown(file, 65534, 65534);
    expect((await save()).map(({ kind, name }) => [kind, name])).toEqual([["added", "x"]]);
    expect(await readFile(file, "utf8")).toBe(savedText);
    const { mode, uid } = await stat(file);
    expect(mode & 0o7777).toBe(0o640);
    if (isRoot) expect(uid).toBe(65534);
    expect(await readdir(directory)).toEqual(["rules.toml"]);
  });

  test("writes nothing when the file has what runs", async () => {
    const before = await stat(file);
    expect(await save({ running: loaded })).toEqual([]);
    const after = await stat(file);
    expect([after.ino, after.mtimeMs]).toEqual([before.ino, before.mtimeMs]);
  });

  test("follows a symbolic link and leaves it", async () => {
    const link = join(directory, "link.toml");
    await symlink("rules.toml", link);
    await save({ file: link });
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
    expect(await readFile(file, "utf8")).toBe(savedText);
  });

  test("keeps other comments and settings that came into the file since it was loaded", async () => {
    const now = `# more\n${text.replace("debug", "info")}`;
    await writeFile(file, now);
    await save();
    expect(await readFile(file, "utf8")).toBe(`${now}\n${formatRule(added)}`);
  });

  test("refuses when the file's rules were changed since, unless it is forced", async () => {
    const now = text.replace("5001", "5555");
    await writeFile(file, now);
    const { lines, exitCode } = await refusalOf(save());
    expect(exitCode).toBe(ExitCode.config);
    expect(lines).toEqual([
      `${file} has other rules than when it was loaded (a changed): mcr reload takes them, and drops what was edited at run time; mcr save --force replaces them by what runs`,
    ]);
    expect(await readFile(file, "utf8")).toBe(now);
    await save({ force: true });
    expect(await readFile(file, "utf8")).toBe(savedText);
  });

  test("refuses a file that is broken or gone, forced or not", async () => {
    await writeFile(file, "[[rule]\n");
    for (const force of [false, true])
      expect((await refusalOf(save({ force }))).lines[0]).toMatch(/rules\.toml:\d+:\d+: not valid TOML/);
    await rm(file);
    const { lines } = await refusalOf(save());
    expect(lines[0]).toBe(
      `cannot save ${file}: no such file or directory, and the file is as it was; put the file back, then mcr save --force`,
    );
    expect(await readdir(directory)).toEqual([]);
  });

  test("killed before the rename leaves the old file; the next save clears up and succeeds", async () => {
    const { promise: never } = Promise.withResolvers<void>();
    const { promise: atRename, resolve: reach } = Promise.withResolvers<void>();
    const rename = () => {
      reach();
      return never;
    };
    void save({}, { rename });
    await atRename;
    expect(await readFile(file, "utf8")).toBe(text);
    expect(await readFile(join(directory, ".rules.toml.mcr-save"), "utf8")).toBe(savedText);
    await save();
    expect(await readFile(file, "utf8")).toBe(savedText);
    expect(await readdir(directory)).toEqual(["rules.toml"]);
  });

  test("of a system that refuses says why and what to do, and leaves the old file alone", async () => {
    for (const [code, reason, exitCode, cure] of [
      ["EACCES", "permission denied", ExitCode.noPermission, "let the user that mcr runs as write the file"],
      ["EROFS", "read-only file system", ExitCode.noPermission, `ReadWritePaths=${"/"}`],
      ["ENOSPC", "no space left on device", ExitCode.failed, "make room"],
      ["EIO", "i/o error", ExitCode.failed, "mend that"],
    ] as const) {
      const rename = () => Promise.reject(systemError(code, reason));
      const { lines, exitCode: actual } = await refusalOf(save({}, { rename }));
      expect(actual).toBe(exitCode);
      expect(lines[0]).toStartWith(`cannot save ${file}: ${reason}, and the file is as it was; `);
      expect(lines[0]).toContain(cure);
      expect(await readFile(file, "utf8")).toBe(text);
      expect(await readdir(directory)).toEqual(["rules.toml"]);
    }
  });

  test("refuses when somebody writes the file at the same moment", async () => {
    const open: FileSystem["open"] = async (...words) => {
      const handle = await fileSystem.open(...words);
      await writeFile(file, `${text}# by hand\n`);
      return handle;
    };
    expect((await refusalOf(save({}, { open }))).lines[0]).toContain("by somebody else meanwhile");
    expect(await readFile(file, "utf8")).toBe(`${text}# by hand\n`);
    expect(await readdir(directory)).toEqual(["rules.toml"]);
  });

  test("has the text on disk before it takes the name, and the name before it says so", async () => {
    const steps: string[] = [];
    const open: FileSystem["open"] = async (path, ...words) => {
      const handle = await fileSystem.open(path, ...words);
      const sync = handle.sync.bind(handle);
      return Object.assign(handle, {
        sync: async () => {
          steps.push(`sync ${basename(String(path))}: ${(await readdir(directory)).sort().join(" ")}`);
          await sync();
        },
      });
    };
    const rename: FileSystem["rename"] = async (from, to) => {
      steps.push("rename");
      await fileSystem.rename(from, to);
    };
    await save({}, { open, rename });
    expect(steps).toEqual([
      "sync .rules.toml.mcr-save: .rules.toml.mcr-save rules.toml",
      "rename",
      `sync ${basename(directory)}: rules.toml`,
    ]);
  });

  test("lets nobody else read the text before it has the mode of the old file", async () => {
    await chmod(file, 0o640);
    const modes: number[] = [];
    const open: FileSystem["open"] = async (...words) => {
      const handle = await fileSystem.open(...words);
      modes.push((await handle.stat()).mode & 0o7777);
      return handle;
    };
    await save({}, { open });
    expect(modes[0]).toBe(0o600);
  });

  test("writes into nothing that somebody else puts under its temporary name", async () => {
    const theirs = join(directory, "theirs");
    for (const plant of [
      (path: string) => symlink(theirs, path),
      (path: string) => fileSystem.link(theirs, path),
    ]) {
      await writeFile(theirs, "theirs");
      let isPlanted = false;
      const planting: FileSystem["rm"] = async (path, options) => {
        await rm(path, options);
        if (!isPlanted) await plant(String(path));
        isPlanted = true;
      };
      const { lines } = await refusalOf(save({}, { rm: planting }));
      expect(lines[0]).toStartWith(`cannot save ${file}: file already exists, and the file is as it was`);
      expect(await readFile(theirs, "utf8")).toBe("theirs");
      expect(await readFile(file, "utf8")).toBe(text);
    }
  });

  test("puts no directory in the place of a leftover out of the way", async () => {
    await mkdir(join(directory, ".rules.toml.mcr-save"));
    await refusalOf(save());
    expect(await readFile(file, "utf8")).toBe(text);
  });

  test("writes a file that parses to what runs, whatever runs", async () => {
    await save({ running: [] });
    expect(parseConfig(await readFile(file, "utf8"), file).rules).toEqual([]);
    expect(await readFile(file, "utf8")).toBe(`# site 7\n\n[log]\nlevel = "debug" # for a while\n`);
  });
});

describe("replaceFile", () => {
  const now = `${text}# more\n`;
  const replace = async (options: Partial<Replacement> = {}, fs: Partial<FileSystem> = {}) =>
    replaceFile(
      { file, before: await readState(file), text: now, command: "mcr init", ...options },
      { ...fileSystem, ...fs },
    );
  const created = () => join(directory, "new.toml");

  test("creates a file where there is none, as every user's are, and leaves nothing beside it", async () => {
    await replace({ file: created(), before: undefined });
    expect(await readFile(created(), "utf8")).toBe(now);
    expect((await stat(created())).mode & 0o7777).toBe(0o644 & ~process.umask());
    expect((await readdir(directory)).sort()).toEqual(["new.toml", "rules.toml"]);
  });

  test("creates nothing in the place of what somebody else has created meanwhile", async () => {
    const link: FileSystem["link"] = async (from, to) => {
      await writeFile(to, "theirs");
      return fileSystem.link(from, to);
    };
    await expect(replace({ file: created(), before: undefined }, { link })).rejects.toMatchObject({
      code: "EEXIST",
    });
    expect(await readFile(created(), "utf8")).toBe("theirs");
    expect((await readdir(directory)).sort()).toEqual(["new.toml", "rules.toml"]);
  });

  test("keeps the file as it was only if asked, as the last one only", async () => {
    await replace();
    expect(await readdir(directory)).toEqual(["rules.toml"]);
    await replace({ text: "second", hasBackup: true });
    expect(await readFile(`${file}.bak`, "utf8")).toBe(now);
    await replace({ text: "third", hasBackup: true });
    expect(await readFile(`${file}.bak`, "utf8")).toBe("second");
    expect(await readFile(file, "utf8")).toBe("third");
    expect((await readdir(directory)).sort()).toEqual(["rules.toml", "rules.toml.bak"]);
  });

  test("without room for a backup replaces nothing", async () => {
    const copyFile = () => Promise.reject(systemError("ENOSPC", "no space left on device"));
    await expect(replace({ hasBackup: true }, { copyFile })).rejects.toThrow("no space left");
    expect(await readFile(file, "utf8")).toBe(text);
    expect(await readdir(directory)).toEqual(["rules.toml"]);
  });

  test("replaces only what it was made from", async () => {
    const before = await readState(file);
    await writeFile(file, `${text}# by hand\n`);
    await expect(replace({ before })).rejects.toThrow("written by somebody else meanwhile: mcr init again");
    expect(await readFile(file, "utf8")).toBe(`${text}# by hand\n`);
  });

  test("keeps a byte order mark", async () => {
    await writeFile(file, `\uFEFF${text}`);
    expect((await readState(file)).text).toBe(`\uFEFF${text}`);
    await save();
    expect(await readFile(file, "utf8")).toBe(`\uFEFF${savedText}`);
  });
});
