// The command line as an operator meets it: the program is started, its output and exit code are read.
// MCR_BIN names the program; else it is dist/mcr, else the sources.

import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import type { ControlledRelay, RuleSnapshot } from "../src/control/protocol.ts";
import { openControlServer } from "../src/control/server.ts";
import { Log } from "../src/log.ts";
import { fakeRelay, refused, rule, SocketDirectory } from "./control/fake-relay.ts";
import { type Completed, Process } from "./support/process.ts";

const root = join(import.meta.dir, "..");
const compiled = process.env["MCR_BIN"] ?? join(root, "dist/mcr");
const program = existsSync(compiled) ? [compiled] : [process.execPath, join(root, "src/main.ts")];
const noSocket = { MCR_SOCKET: "/nonexistent/mcr.sock" };

function mcr(words: readonly string[], env: Readonly<Record<string, string>> = noSocket): Promise<Completed> {
  return new Process([...program, ...words], { stdin: "", env }).exited;
}

/** Through a shell, "$@" being mcr. */
function shell(script: string, words: readonly string[], env: Readonly<Record<string, string>> = noSocket) {
  return new Process(["bash", "-c", script, "bash", ...program, ...words], { stdin: "", env }).exited;
}

/** Runs while a control server answers; the program finds it through its environment. */
async function withRelay<T>(
  relay: Partial<ControlledRelay>,
  use: (env: Readonly<Record<string, string>>) => Promise<T>,
): Promise<T> {
  using directory = new SocketDirectory();
  const log = new Log(
    { level: "info", format: "text", facility: {} },
    { write: () => {}, now: () => new Date(0), isJournal: false },
  );
  const server = await openControlServer({ path: directory.socket, relay: fakeRelay(relay), log });
  try {
    return await use({ MCR_SOCKET: directory.socket });
  } finally {
    await server.close();
  }
}

const manyRules = (count: number): readonly RuleSnapshot[] =>
  Array.from({ length: count }, (_, index) => ({ ...rule, name: `stream-${index}` }));

describe("mcr --version", () => {
  test("says the name and the version, in both spellings", async () => {
    for (const word of ["--version", "-V"])
      expect(await mcr([word])).toMatchObject({
        exitCode: 0,
        stdout: `mcr ${packageJson.version}\n`,
        stderr: "",
      });
  });

  test("needs nothing in its environment", async () => {
    const { stdout, exitCode } = await shell('exec env -i "$@"', ["--version"]);
    expect([stdout, exitCode]).toEqual([`mcr ${packageJson.version}\n`, 0]);
  });
});

describe("mcr --help", () => {
  test("lists commands, options and exit codes on stdout", async () => {
    const { exitCode, stdout, stderr } = await mcr(["--help"]);
    expect(stderr).toBe("");
    expect(exitCode).toBe(0);
    expect(stdout).toStartWith(
      `mcr ${packageJson.version}: multicast relay for Linux\n\nusage: mcr <command>`,
    );
    for (const command of ["run <file>", "check <file>", "show", "stats", "reload"])
      expect(stdout).toMatch(new RegExp(`^  ${command} +\\S`, "m"));
    for (const code of [0, 1, 64, 69, 77, 78]) expect(stdout).toMatch(new RegExp(`^  ${code} +\\S`, "m"));
    expect((await mcr(["-h"])).stdout).toBe(stdout);
  });

  test("without any word goes to stderr as wrong use", async () => {
    const { exitCode, stdout, stderr } = await mcr([]);
    expect(stdout).toBe("");
    expect(stderr).toBe((await mcr(["--help"])).stdout);
    expect(exitCode).toBe(64);
  });

  test("behind a command shows the options of that command, whatever else is there", async () => {
    expect((await mcr(["show", "--help"])).stdout).toMatchInlineSnapshot(`
      "Show the rules that run, their states and packets

      usage: mcr show [options]

      options:
        --json           print JSON
        --socket <path>  control socket of the running mcr (default: MCR_SOCKET, or /run/mcr/mcr.sock)
        -h, --help       show this help
      "
    `);
    for (const words of [
      ["run", "-h"],
      ["check", "--help"],
      ["stats", "--help", "surplus"],
      ["reload", "--nonsense", "-h"],
    ]) {
      const { exitCode, stdout, stderr } = await mcr(words);
      expect(stdout).toContain(`usage: mcr ${words[0]} `);
      expect(stderr).toBe("");
      expect(exitCode).toBe(0);
    }
  });
});

describe("wrong use is one line on stderr and 64:", () => {
  const cases: readonly (readonly [words: readonly string[], line: string])[] = [
    [["frob"], "mcr: unknown command 'frob'; mcr --help lists the commands"],
    [["constructor"], "mcr: unknown command 'constructor'; mcr --help lists the commands"],
    [[""], "mcr: unknown command ''; mcr --help lists the commands"],
    [["a\nb\x1b[2J"], "mcr: unknown command 'a b [2J'; mcr --help lists the commands"],
    [["--frob"], "mcr: unknown option '--frob'; mcr --help lists the options"],
    [["show", "--frob"], "mcr show: unknown option --frob; mcr show --help lists the options"],
    [["show", "--frob-it=1"], "mcr show: unknown option --frob-it; mcr show --help lists the options"],
    [["show", "-x"], "mcr show: unknown option -x; mcr show --help lists the options"],
    [["run"], "mcr run: <file> is missing; usage: mcr run <file> [options]"],
    [["check"], "mcr check: <file> is missing; usage: mcr check <file> [options]"],
    [["check", "a", "b"], "mcr check: surplus argument 'b'; usage: mcr check <file> [options]"],
    [["show", "rules"], "mcr show: surplus argument 'rules'; usage: mcr show [options]"],
    [["show", "--json", "007"], "mcr show: surplus argument '7'; usage: mcr show [options]"],
    [["show", "--socket"], "mcr show: --socket takes one path (a name of digits as ./42)"],
    [["show", "--socket", "--json"], "mcr show: --socket takes one path (a name of digits as ./42)"],
    [["show", "--socket", "0042"], "mcr show: --socket takes one path (a name of digits as ./42)"],
    [["show", "--socket=a", "--socket=b"], "mcr show: --socket takes one path (a name of digits as ./42)"],
  ];
  test.each(cases)("mcr %p", async (words, line) => {
    expect(await mcr(words)).toMatchObject({ exitCode: 64, stdout: "", stderr: `${line}\n` });
  });
});

describe("trouble", () => {
  test("with no daemon is 69, and the line names the socket that was asked", async () => {
    for (const command of ["show", "stats", "reload"])
      for (const [words, env] of [
        [["--socket", "/nonexistent/a"], noSocket],
        [["--socket=/nonexistent/a", "--json"], noSocket],
        [[], { MCR_SOCKET: "/nonexistent/a" }],
      ] as const)
        expect(await mcr([command, ...words], env)).toMatchObject({
          exitCode: 69,
          stdout: "",
          stderr:
            "mcr: no mcr answers at /nonexistent/a: start it: mcr run FILE; or name its socket: --socket PATH or MCR_SOCKET\n",
        });
  });

  test("with a rule file that cannot be read is 78, also for a name behind --", async () => {
    for (const command of ["run", "check"]) {
      const { exitCode, stdout, stderr } = await mcr([command, "--", "-no-such-file"]);
      expect(exitCode).toBe(78);
      expect(stdout).toBe("");
      expect(stderr).toMatch(/^mcr: cannot read -no-such-file: no such file[^\n]*\n$/);
    }
  });

  test("in a rule file is 78, and its lines begin with the place", async () => {
    using directory = new SocketDirectory();
    const file = join(directory.path, "rules.toml");
    writeFileSync(file, "[relay]\nworkers = 0\nfrob = 1\n");
    for (const command of ["run", "check"]) {
      const { exitCode, stderr } = await mcr([command, file]);
      expect(exitCode).toBe(78);
      const lines = stderr.trimEnd().split("\n");
      expect(lines).toHaveLength(2);
      for (const line of lines) expect(line).toStartWith(`${file}:`);
    }
  });

  test("that a reload found is 78, place by place, and says that nothing was changed", async () => {
    await withRelay({ reload: async () => refused }, async (env) => {
      const { exitCode, stdout, stderr } = await mcr(["reload"], env);
      expect(exitCode).toBe(78);
      expect(stdout).toBe("");
      const end = "mcr: reload refused: the running rules are unchanged";
      expect(stderr).toBe([...refused.errors, end, ""].join("\n"));
    });
  });
});

describe("output", () => {
  test("of a running mcr is shown by each command", async () => {
    await withRelay({}, async (env) => {
      expect((await mcr(["show"], env)).stdout).toContain("studio-a  eth0 239.1.1.1:5001");
      expect((await mcr(["stats"], env)).stdout).toContain("igmp: attempted=5");
      expect((await mcr(["reload"], env)).stdout).toStartWith("reload: 2 added");
      const { stdout, exitCode } = await mcr(["show", "--json", "--socket", env["MCR_SOCKET"] ?? ""]);
      expect(JSON.parse(stdout)).toHaveProperty("rules");
      expect(exitCode).toBe(0);
    });
  });

  test("into a pipe that is read late comes whole, and the program ends", async () => {
    await withRelay({ rules: () => manyRules(5_000) }, async (env) => {
      const { stdout } = await shell(
        '"$@" | (read -r first; echo "$first"; sleep 0.3; cat)',
        ["show", "--json"],
        env,
      );
      expect(stdout.length).toBeGreaterThan(1_000_000);
      expect(JSON.parse(stdout).rules).toHaveLength(5_000);
    });
  });

  test("into a pipe that is closed early is no error", async () => {
    await withRelay({ rules: () => manyRules(5_000) }, async (env) => {
      const { exitCode, stderr } = await shell('set -o pipefail; "$@" | head -n 1', ["show"], env);
      expect(stderr).toBe("");
      expect(exitCode).toBe(0);
    });
  });

  test("that cannot be written is an error", async () => {
    const { exitCode, stderr } = await shell('"$@" > /dev/full', ["--help"]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^mcr: cannot write: [^\n]*no space left[^\n]*\n$/);
  });

  test("has the width that watch(1) gives, and is cut nowhere else than in names", async () => {
    const name = "a-rule-with-a-name-that-is-rather-long";
    await withRelay({ rules: () => [{ ...rule, name }] }, async (env) => {
      expect((await mcr(["show"], { ...env, COLUMNS: "200" })).stdout).toContain(name);
      expect((await mcr(["show"], { ...env, COLUMNS: "80" })).stdout).toContain("a-rule-with-a-name-tha…");
    });
  });
});
