// The executable as a user meets it: words, exit codes, pipes, and surroundings that are empty or mean harm.
// Nothing here relays; test/e2e does.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import packageJson from "../package.json" with { type: "json" };
import { systemClock } from "../src/clock.ts";
import { RulesSchema } from "../src/control/protocol.ts";
import { type ControlServer, openControlServer } from "../src/control/server.ts";
import { Log } from "../src/log.ts";
import { ruleText } from "./config/rules.ts";
import { fakeRelay, reloaded, rule } from "./control/fake-relay.ts";

const executable = join(import.meta.dir, "../dist/mcr");
const ruleCount = 1_500;

let directory: string;
let good: string;
let many: string;
let bad: string;

beforeAll(() => {
  if (!existsSync(executable)) throw new Error("dist/mcr is missing: build it with make, then test again");
  directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
  // A user without privileges goes through it.
  chmodSync(directory, 0o755);
  good = write("good.toml", ruleText());
  bad = write("bad.toml", `x = 1\n${ruleText({ egress: ["ttl = 0"] })}`);
  const rules = Array.from({ length: ruleCount }, (_, i) =>
    ruleText({
      name: `rule-${i}`,
      ingress: `interface = "eth0", group = "239.1.${i >> 8}.${i & 255}", port = 5001`,
    }),
  );
  many = write("many.toml", rules.join(""));
});
afterAll(() => {
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
});

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

interface Surroundings {
  readonly cwd?: string;
  /** All of the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

async function spawn(argv: readonly string[], { cwd = directory, env = {} }: Surroundings = {}) {
  const child = Bun.spawn([...argv], {
    cwd,
    env: { ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { exitCode: await child.exited, stdout, stderr };
}
function mcr(...words: readonly string[]) {
  return spawn([executable, ...words]);
}
/** $1 is the executable, $2 the first word, and so on. */
function shell(script: string, ...words: readonly string[]) {
  const env = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" };
  return spawn(["/bin/sh", "-c", script, "sh", executable, ...words], { env });
}

async function commandNames(): Promise<readonly string[]> {
  const { stdout } = await mcr("--help");
  const names = [...stdout.matchAll(/^ {2}([a-z][a-z-]*) /gm)].map(([, name = ""]) => name);
  expect(names.length).toBeGreaterThanOrEqual(17);
  return names;
}

describe("help and version", () => {
  test("--version and -V say name and version", async () => {
    for (const word of ["--version", "-V"])
      expect(await mcr(word)).toEqual({ exitCode: 0, stdout: `mcr ${packageJson.version}\n`, stderr: "" });
  });

  test("--help and -h list every command and exit code", async () => {
    const { exitCode, stdout, stderr } = await mcr("--help");
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toMatchInlineSnapshot(`
      "mcr 0.1.0: multicast relay for Linux

      usage: mcr <command> [options]

      commands:
        init [file]                   listen, ask, and write or extend a rule file (rules.toml)
        run <file>                    relay by a rule file; SIGHUP reloads it, SIGUSR1 logs statistics
        check <file>                  check a rule file and show what it would run
        show [what]                   show rules, flows, interfaces, memberships, workers or config
        stats                         show every counter: interfaces, workers, rules, egresses, IGMP
        top                           watch rates, drops and load live; plain lines in a pipe
        events                        follow states, memberships, drops, reloads and edits as JSON lines
        ping                          ask whether a running mcr answers, and how fast
        reload                        read the rule file again, wait, and show what changed
        add                           add a rule to those that run; mcr save writes it into the file
        remove <...names>             remove running rules; mcr save takes them out of the file
        save                          write the running rules into the rule file, keeping its comments
        log-level [facility] [level]  show the log levels of a running mcr, or change one at once
        explain <rule> [file]         name the broken link between a rule and its receivers, and its cure
        send <...streams>             send test traffic to GROUP:PORT, GROUP:PORT+N or ADDRESS:PORT
        scan [...interfaces]          list the multicast that is there, on all interfaces or these
        receive <...streams>          count what arrives; streams as for send, or SOURCE,GROUP:PORT

      options:
        -h, --help     show this help; behind a command, its options
        -V, --version  show the version

      exit codes:
        0   ok
        1   failed while running
        64  the command line is wrong
        69  no mcr answers
        77  no permission
        78  the configuration is wrong
      "
    `);
    expect(await mcr("-h")).toEqual({ exitCode, stdout, stderr });
  });

  test("no command at all is wrong use, with the help on stderr", async () => {
    const { stdout: help } = await mcr("--help");
    expect(await mcr()).toEqual({ exitCode: 64, stdout: "", stderr: help });
  });

  test("every command has its own, which asks for nothing else", async () => {
    for (const command of await commandNames()) {
      const { exitCode, stdout, stderr } = await mcr(command, "--help");
      expect([command, exitCode, stderr]).toEqual([command, 0, ""]);
      const [summary = "", , usage = ""] = stdout.split("\n");
      expect(summary).toMatch(/^[a-z].*[^.]$/);
      expect(usage).toStartWith(`usage: mcr ${command} `);
      expect(stdout).toContain("  -h, --help");
      expect(await mcr(command, "-h", "surplus", "--unknown")).toEqual({ exitCode, stdout, stderr });
      expect(stdout).toMatchSnapshot(`mcr ${command} --help`);
    }
  }, 60_000);

  test("fits 100 columns", async () => {
    for (const words of [[], ...(await commandNames()).map((name) => [name])]) {
      const { stdout } = await mcr(...words, "--help");
      const widest = Math.max(...stdout.split("\n").map((line) => Bun.stringWidth(line)));
      expect([words, widest <= 100]).toEqual([words, true]);
    }
  }, 60_000);
});

describe("wrong use is one line on stderr and exit code 64", () => {
  const cases: readonly (readonly [readonly string[], string])[] = [
    [["bogus"], "mcr: unknown command 'bogus'; mcr --help lists the commands"],
    [["--bogus"], "mcr: unknown option '--bogus'; mcr --help lists the options"],
    [["-i", "foo", "ping", "--json"], "mcr: options go behind the command: mcr ping -i foo --json"],
    [["two\nlines"], "mcr: unknown command 'two lines'; mcr --help lists the commands"],
    [[""], "mcr: unknown command ''; mcr --help lists the commands"],
    [["check"], "mcr check: <file> is missing; usage: mcr check <file> [options]"],
    [["check", ""], "mcr check: <file> is empty; usage: mcr check <file> [options]"],
    [["run"], "mcr run: <file> is missing; usage: mcr run <file> [options]"],
    [["check", "a", "b"], "mcr check: surplus argument 'b'; usage: mcr check <file> [options]"],
    [["show", "a", "b"], "mcr show: surplus argument 'b'; usage: mcr show [what] [options]"],
    [
      ["run", "-i", "a/b", "x"],
      "mcr run: --instance takes a name of letters, digits, dots, dashes and underscores",
    ],
    [["ping", "-i", "a", "-i", "b"], "mcr ping: --instance takes one name"],
    [["check", "--jsn", "a"], "mcr check: unknown option --jsn; mcr check --help lists the options"],
    [["check", "-x", "a"], "mcr check: unknown option -x; mcr check --help lists the options"],
    [["run", "--json", "a"], "mcr run: unknown option --json; mcr run --help lists the options"],
    [
      ["check", "--socket", "s", "a"],
      "mcr check: --socket and -i go with --diff, which asks the running mcr",
    ],
    [["remove"], "mcr remove: <...names> is missing; usage: mcr remove <...names> [options]"],
    [["add"], "mcr add: --name is missing: give the rule its own name, such as --name studio-a"],
    [
      ["add", "--name", "a"],
      "mcr add: --ingress is missing: give INTERFACE:GROUP:PORT, such as --ingress eth0:239.1.1.1:5001",
    ],
    [
      ["add", "--name", "a", "--ingress", "eth0:ff05::1:5001", "--egress", "eth1"],
      "mcr add: --ingress 'eth0:ff05::1:5001' has more than two colons: an IPv6 address goes into brackets, INTERFACE:[ADDRESS]:PORT, such as eth0:239.1.1.1:5001",
    ],
    [["show", "--socket"], "mcr show: --socket takes one path"],
    [["show", "--socket", ""], "mcr show: --socket takes one path"],
    [["show", "--socket="], "mcr show: --socket takes one path"],
    [["show", "--socket", "a", "--socket", "b"], "mcr show: --socket takes one path"],
  ];
  for (const [words, line] of cases)
    test(JSON.stringify(words.join(" ")), async () => {
      expect(await mcr(...words)).toEqual({ exitCode: 64, stdout: "", stderr: `${line}\n` });
    });
});

test("every command says in one sentence what is wrong with its words", async () => {
  const wrong = [
    "init a b",
    "init",
    "init --yes",
    "init --yes --ttl 0",
    "run --socket x y",
    "check --diff",
    "show nothing --json=x",
    "stats x",
    "top x",
    "top --interval 0s",
    "top --count 0",
    "top --json",
    "events x",
    "ping x",
    "reload x",
    "add x",
    "add --name a --ingress eth0:239.1.1.1",
    "remove",
    "save x",
    "log-level a b c",
    "explain",
    "explain a b c",
    "explain a --seconds 0",
    "send",
    "send 239.1.1.1:5001",
    "send 239.1.1.1 --interface lo",
    "scan --duration 0",
    "scan --join 10.0.0.1",
    "receive",
    "receive 239.1.1.1:5001",
  ];
  const said: string[] = [];
  for (const line of wrong) {
    const { exitCode, stdout, stderr } = await mcr(...line.split(" "));
    expect([line, exitCode, stdout]).toEqual([line, 64, ""]);
    said.push(`${line}\n  ${stderr}`);
  }
  expect(said.join("")).toMatchInlineSnapshot(`
    "init a b
      mcr init: surplus argument 'b'; usage: mcr init [file] [options]
    init
      mcr init: asks questions, and there is no terminal: give --yes with --ingress and --egress (mcr init --help)
    init --yes
      mcr init: --yes needs --ingress and --egress
    init --yes --ttl 0
      mcr init: --ttl takes a whole number from 1 to 255
    run --socket x y
      mcr run: unknown option --socket; mcr run --help lists the options
    check --diff
      mcr check: <file> is missing; usage: mcr check <file> [options]
    show nothing --json=x
      mcr show: --json takes no value
    stats x
      mcr stats: surplus argument 'x'; usage: mcr stats [options]
    top x
      mcr top: surplus argument 'x'; usage: mcr top [options]
    top --interval 0s
      mcr top: --interval takes a time such as 500ms, 10s or 2m
    top --count 0
      mcr top: --count takes a whole number from 1 to 1,000,000,000
    top --json
      mcr top: unknown option --json; mcr top --help lists the options
    events x
      mcr events: surplus argument 'x'; usage: mcr events [options]
    ping x
      mcr ping: surplus argument 'x'; usage: mcr ping [options]
    reload x
      mcr reload: surplus argument 'x'; usage: mcr reload [options]
    add x
      mcr add: surplus argument 'x'; usage: mcr add [options]
    add --name a --ingress eth0:239.1.1.1
      mcr add: --egress is missing: give INTERFACE[:GROUP[:PORT]] at least once, such as --egress eth1:239.2.2.2:6001
    remove
      mcr remove: <...names> is missing; usage: mcr remove <...names> [options]
    save x
      mcr save: surplus argument 'x'; usage: mcr save [options]
    log-level a b c
      mcr log-level: surplus argument 'c'; usage: mcr log-level [facility] [level] [options]
    explain
      mcr explain: <rule> is missing; usage: mcr explain <rule> [file] [options]
    explain a b c
      mcr explain: surplus argument 'c'; usage: mcr explain <rule> [file] [options]
    explain a --seconds 0
      mcr explain: --seconds takes a whole number from 1 to 3,600
    send
      mcr send: <...streams> is missing; usage: mcr send <...streams> [options]
    send 239.1.1.1:5001
      mcr send: --interface is missing: give the name of an interface (ip link shows them)
    send 239.1.1.1 --interface lo
      mcr send: 239.1.1.1 is no stream: write GROUP:PORT, such as 239.1.1.1:5001 or 239.1.1.1:5001+50
    scan --duration 0
      mcr scan: --duration takes a time such as 500ms, 10s or 2m
    scan --join 10.0.0.1
      mcr scan: --join takes groups: 239.1.1.1, 239.1.1.1-239.1.1.9 or 239.1.1.0/28, at most 1,024
    receive
      mcr receive: <...streams> is missing; usage: mcr receive <...streams> [options]
    receive 239.1.1.1:5001
      mcr receive: --interface is missing: give the name of an interface (ip link shows them)
    "
  `);
}, 60_000);

describe("mcr check", () => {
  test("of a good file prints what would run", async () => {
    const { exitCode, stdout, stderr } = await mcr("check", good);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toEndWith(`\n${good}: 1 rule, 1 flow, 1 egress: ok\n`);
  });

  test("of a bad file prints its mistakes as compilers do, and ends with 78", async () => {
    const { exitCode, stdout, stderr } = await mcr("check", bad);
    expect([exitCode, stdout]).toEqual([78, ""]);
    const lines = stderr.trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    for (const line of lines) expect(line).toStartWith(`${bad}:`);
  });

  test("of a file that cannot be read ends with 78 and the reason", async () => {
    expect(await mcr("check", "none.toml")).toEqual({
      exitCode: 78,
      stdout: "",
      stderr: "mcr: cannot read none.toml: no such file; give the path of the rule file, or create it\n",
    });
  });

  test("takes the same words in another order, and files that look like options or numbers", async () => {
    const { stdout } = await mcr("check", good, "--json");
    expect(await mcr("check", "--json", good)).toEqual({ exitCode: 0, stdout, stderr: "" });
    expect(await mcr("check", "--json", "--json", good)).toEqual({ exitCode: 0, stdout, stderr: "" });
    write("-x", "");
    write("007", "");
    expect((await mcr("check", "--", "-x")).stdout).toStartWith("-x: no rules: ok");
    expect((await mcr("check", "007")).stdout).toStartWith("007: no rules: ok");
  });
});

describe("commands that ask a running mcr", () => {
  test("end with 69 in one line when there is none", async () => {
    const rule = ["--name", "a", "--ingress", "eth0:239.1.1.1", "--egress", "eth1"];
    const asking = [
      ["show"],
      ["stats"],
      ["events"],
      ["ping"],
      ["reload"],
      ["log-level"],
      ["save"],
      ["remove", "a"],
      ["add", ...rule],
      ["top"],
      ["explain", "a"],
      ["check", good, "--diff"],
    ];
    for (const words of asking) {
      const socket = join(directory, "none.sock");
      const { exitCode, stdout, stderr } = await mcr(...words, "--socket", socket);
      expect([exitCode, stdout]).toEqual([69, ""]);
      expect(stderr).toBe(
        `mcr: no mcr answers at ${socket}: start it: mcr run FILE; or name its socket: --socket PATH or MCR_SOCKET\n`,
      );
    }
  });

  describe("with one that has many rules", () => {
    let server: ControlServer;
    let socket: string;
    beforeAll(async () => {
      const log = new Log(
        { level: "info", format: "text", facility: {} },
        { write: () => {}, clock: systemClock, isJournal: false },
      );
      socket = join(directory, "mcr.sock");
      const rules = Array.from({ length: ruleCount }, (_, i) => ({ ...rule, name: `rule-${i}` }));
      server = await openControlServer({ path: socket, relay: fakeRelay({ rules: () => rules }), log });
    });
    afterAll(() => server?.close());

    test("find it by --socket and by MCR_SOCKET", async () => {
      const { exitCode, stdout } = await mcr("reload", "--socket", socket);
      expect([exitCode, stdout]).toEqual([0, expect.stringContaining(reloaded.difference ?? "")]);
      const env = { MCR_SOCKET: socket };
      expect((await spawn([executable, "reload"], { env })).stdout).toBe(stdout);
    });

    test("write all of their JSON into a slow pipe", async () => {
      const { stdout, stderr } = await shell('"$1" show --json --socket "$2" | { sleep 0.5; cat; }', socket);
      expect(stderr).toBe("");
      expect(v.parse(RulesSchema, JSON.parse(stdout)).rules).toHaveLength(ruleCount);
    });

    test("are content when nobody reads on", async () => {
      const script = '{ "$1" show --socket "$2"; echo "exit $?" >&2; } | head -1';
      const { stdout, stderr } = await shell(script, socket);
      expect(stdout).toMatch(/^mcr .*\n$/);
      expect(stderr).toBe("exit 0\n");
    });
  });
});

describe("pipes", () => {
  test("a slow reader gets all of a large answer", async () => {
    const { stdout } = await shell('"$1" check --json "$2" | { sleep 0.5; cat; }', many);
    expect(v.parse(v.object({ rules: v.array(v.unknown()) }), JSON.parse(stdout)).rules).toHaveLength(
      ruleCount,
    );
    expect(stdout.length).toBeGreaterThan(500_000);
  });

  test("a reader that has enough is no error", async () => {
    const { stdout, stderr } = await shell('{ "$1" check "$2"; echo "exit $?" >&2; } | head -1', many);
    expect(stdout).toMatch(/^RULE +INGRESS.*\n$/);
    expect(stderr).toBe("exit 0\n");
  });

  test("a full disk is an error in one line", async () => {
    const { exitCode, stderr } = await shell('"$1" check "$2" > /dev/full', many);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^mcr: cannot write: .*\n$/);
  });

  test("a closed stdin, stdout or stderr harms nothing", async () => {
    expect((await shell('"$1" check "$2" <&-', good)).exitCode).toBe(0);
    expect((await shell('"$1" bogus 2>&-')).exitCode).toBe(64);
  });
});

describe("surroundings", () => {
  test("a hostile directory: neither its bunfig.toml nor its .env is read", async () => {
    const cwd = join(directory, "hostile");
    const marker = join(directory, "evil-ran");
    mkdirSync(cwd);
    writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./evil.ts"]\n[test]\npreload = ["./evil.ts"]\n');
    writeFileSync(join(cwd, "evil.ts"), `await Bun.write(${JSON.stringify(marker)}, "");\n`);
    writeFileSync(join(cwd, "tsconfig.json"), "{ broken");
    writeFileSync(join(cwd, "package.json"), "{ broken");
    for (const name of [".env", ".env.local", ".env.production", ".env.development"])
      writeFileSync(join(cwd, name), `MCR_SOCKET=${join(cwd, "evil.sock")}\nMCR_DEBUG=1\n`);
    for (const words of [["--version"], ["--help"], ["check", good], ["show"]]) {
      const { stdout, stderr } = await spawn([executable, ...words], { cwd });
      expect(stdout + stderr).not.toContain("evil");
      expect(stdout + stderr).not.toBe("");
    }
    expect(existsSync(marker)).toBe(false);
  });

  test("an empty environment", async () => {
    expect((await spawn(["/usr/bin/env", "-i", executable, "check", good])).exitCode).toBe(0);
  });

  test("any current directory", async () => {
    for (const cwd of ["/", "/proc", "/dev"])
      expect((await spawn([executable, "check", good], { cwd })).exitCode).toBe(0);
  });

  test("a temporary directory that is missing, or that nobody can write", async () => {
    // Even root writes nothing in /proc.
    for (const TMPDIR of [join(directory, "none"), "/proc"]) {
      const env = { TMPDIR, TMP: TMPDIR, TEMP: TMPDIR, HOME: TMPDIR };
      expect(await spawn([executable, "--version"], { env })).toMatchObject({ exitCode: 0, stderr: "" });
      expect(await spawn([executable, "check", good], { env })).toMatchObject({ exitCode: 0, stderr: "" });
    }
  });

  describe("a user without privileges", () => {
    const isRoot = process.geteuid?.() === 0;
    const drop = isRoot ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : [];
    let copy: string;
    beforeAll(() => {
      // Nobody need be able to reach the tree that this is built in.
      copy = join(directory, "mcr");
      copyFileSync(executable, copy);
      chmodSync(copy, 0o755);
    });
    const asUser = (...words: readonly string[]) =>
      spawn([...drop, copy, ...words], { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });

    test("reads the help of run, and checks files", async () => {
      expect(await asUser("run", "--help")).toMatchObject({ exitCode: 0, stderr: "" });
      expect(await asUser("check", good)).toMatchObject({ exitCode: 0, stderr: "" });
    });

    test("is told what run needs, in one line, and ends with 77", async () => {
      const { exitCode, stdout, stderr } = await asUser("run", good);
      expect([exitCode, stdout]).toEqual([77, ""]);
      expect(stderr).toMatch(/^mcr: cannot open a packet socket: .*CAP_NET_RAW.*\n$/);
    });

    test("hears of the file's mistakes first", async () => {
      expect(await asUser("run", bad)).toMatchObject({ exitCode: 78, stdout: "" });
    });
  });
});
