// `mcr init` in a real terminal, against live RTP, MPEG-TS and plain UDP: what it writes relays exactly those streams,
// and however it ends, the process is gone and the terminal is as it was.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { executable, RelayUnderTest } from "../support/relay.ts";
import { Terminal } from "../support/tmux.ts";
import { address, openTopology, repository, type Topology } from "../support/topology.ts";
import { waitFor } from "../support/wait.ts";

const media = join(repository, "dist/test/media");
const packets = 4_000;

/** RTP and MPEG-TS as gateways send them, and plain UDP. */
const rtp = { group: "239.1.1.1", port: 5004 };
const ts = { group: "239.1.2.1", port: 1234 };
const plain = { group: "239.1.3.1", port: 7000 };

function sources(topology: Topology, count: number) {
  const common = ["--interface-address", address.gen, "--count", String(count)];
  const to = ({ group, port }: { group: string; port: number }) => ["--group", group, "--port", String(port)];
  return [
    topology.spawn("gen-ns", [media, ...common, ...to(rtp)]),
    topology.spawn("gen-ns", [media, ...common, ...to(ts), "--ts"]),
    topology.spawn("gen-ns", [
      ...[executable, "send", `${plain.group}:${plain.port}`, "--interface", "veth0"],
      ...["--rate", "2000", "--count", String(count)],
    ]),
  ];
}

interface Target {
  readonly group: string;
  readonly port: number;
}

/** Relays by the file, and counts at the sink what the three sources send from now on. */
async function expectNothingLost(
  topology: Topology,
  file: string,
  targets: readonly Target[],
): Promise<void> {
  const started = topology.spawn("relay-ns", [executable, "run", file]);
  await started.waitForOutput(/running \d+ rules/, 15_000);
  await using relay = new RelayUnderTest(topology, file, started);
  const receivers = targets.map(({ group, port }) =>
    topology.spawn("sink-ns", [
      ...[executable, "receive", `${group}:${port}`, "--interface", "veth3"],
      ...["--expect", String(packets), "--deadline", "40s", "--json"],
    ]),
  );
  for (const receiver of receivers) await receiver.waitForOutput("ready");
  const senders = sources(topology, packets);
  for (const sender of senders) expect((await sender.exited).exitCode).toBe(0);
  for (const receiver of receivers) {
    const { exitCode, stdout } = await receiver.exited;
    const result = JSON.parse(stdout);
    expect(result.streams).toMatchObject([{ received: packets, lost: 0, duplicated: 0 }]);
    expect(exitCode).toBe(0);
  }
  expect((await relay.stop()).exitCode).toBe(0);
}

/** A directory of its own, and the sources alive while the wizard listens. */
async function withWizard(
  arguments_: string,
  given: string | undefined,
  walk: (terminal: Terminal, topology: Topology) => Promise<void>,
  targets: readonly Target[],
): Promise<string> {
  await using topology = await openTopology("chain");
  const directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
  const file = join(directory, "rules.toml");
  if (given !== undefined) writeFileSync(file, given);
  try {
    const alive = sources(topology, 1_000_000);
    await using terminal = await Terminal.open(topology, "relay-ns");
    const modes = await terminal.modes();
    await terminal.command(
      `${executable} init ${file} --duration 1500ms ${arguments_}; echo "ended with $?"`,
    );
    await walk(terminal, topology);
    await terminal.waitFor("ended with 0");
    expect(await terminal.modes()).toBe(modes);
    expect(await terminal.isCursorShown()).toBe(true);
    for (const sender of alive) {
      sender.kill("SIGKILL");
      await sender.exited;
    }
    await expectNothingLost(topology, file, targets);
    return readFileSync(file, "utf8");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("the file that the wizard wrote relays the streams that it heard, 0 lost", () => {
  test("to the same groups", async () => {
    const text = await withWizard(
      "",
      undefined,
      async (terminal) => {
        await terminal.answer("Where do the streams come from?", "Enter");
        await terminal.answer("Which streams?", "Enter");
        await terminal.answer("Where do they go?", "Enter");
        await terminal.answer("To which groups?", "Enter");
        await terminal.answer("Anything special?", "Enter");
        await terminal.answer("Write ", "Enter");
        await terminal.answer("And now?", "Down", "Enter");
        await terminal.waitFor("3 rules, 3 flows, 3 egresses: ok");
      },
      [rtp, ts, plain],
    );
    expect(text).toContain("RTP 8 (PCMA)");
    expect(text).toContain("MPEG-TS");
  }, 120_000);

  test("to other groups and ports", async () => {
    await withWizard(
      "",
      undefined,
      async (terminal) => {
        await terminal.answer("Where do the streams come from?", "Enter");
        await terminal.answer("Which streams?", "Enter");
        await terminal.answer("Where do they go?", "Enter");
        await terminal.answer("To which groups?", "Down", "Enter");
        await terminal.answer("The first group", "239.10.1.1", "Enter");
        await terminal.answer("Anything special?", "Enter");
        await terminal.answer("Write ", "Enter");
        await terminal.answer("And now?", "Enter");
      },
      [
        { ...rtp, group: "239.10.1.1" },
        { ...ts, group: "239.10.2.1" },
        { ...plain, group: "239.10.3.1" },
      ],
    );
  }, 120_000);

  test("behind the rules of an existing file, to a host", async () => {
    const existing = `# ours\n[[rule]]\nname = "before" # stays\ningress = { interface = "veth1", group = "239.1.3.1", port = 7000 }\negress = [{ interface = "veth2", address = "${address.sink}" }]\n`;
    const text = await withWizard(
      "--backup",
      existing,
      async (terminal) => {
        await terminal.answer("Where do the streams come from?", "Enter");
        await terminal.answer("takes it already", "Enter");
        await terminal.answer("Where do they go?", "Enter");
        await terminal.answer("To which groups?", "Down", "Down", "Enter");
        await terminal.answer("Address of the host", address.sink, "Enter");
        await terminal.answer("Anything special?", "Enter");
        await terminal.answer("Write ", "Enter");
        await terminal.answer("And now?", "Enter");
      },
      [rtp, ts, plain].map(({ port }) => ({ group: address.sink, port })),
    );
    expect(text).toStartWith(existing);
  }, 120_000);
});

describe("without a terminal", () => {
  test("flags write the same file from a scan, and no flags end at once with 64", async () => {
    await using topology = await openTopology("chain");
    const directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
    try {
      const [scanFile, file] = [join(directory, "scan.json"), join(directory, "rules.toml")];
      const alive = sources(topology, 1_000_000);
      const scanned = await topology.run("relay-ns", [executable, "scan", "--duration", "1500ms", "--json"]);
      writeFileSync(scanFile, scanned.stdout);
      for (const sender of alive) {
        sender.kill("SIGKILL");
        await sender.exited;
      }
      const init = [executable, "init", file];
      const refused = await topology.run("relay-ns", init);
      expect([refused.exitCode, refused.stderr]).toEqual([
        64,
        expect.stringContaining("there is no terminal"),
      ]);
      expect((await topology.run("relay-ns", [...init, "--yes"])).exitCode).toBe(64);
      const flags = ["--from", scanFile, "--ingress", "veth1", "--egress", "veth2", "--yes"];
      const written = await topology.run("relay-ns", [...init, ...flags]);
      expect([written.exitCode, written.stdout]).toEqual([0, expect.stringContaining(`mcr run ${file}`)]);
      const again = await topology.run("relay-ns", [...init, ...flags]);
      expect([again.exitCode, again.stderr]).toEqual([1, expect.stringContaining("already")]);
      await expectNothingLost(topology, file, [rtp, ts, plain]);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }, 120_000);
});

describe("however it ends", () => {
  /** The wizard's process: the only child of the shell. */
  const wizardPid = async (terminal: Terminal): Promise<number | undefined> => {
    const shell = await terminal.shellPid();
    const children = readFileSync(`/proc/${shell}/task/${shell}/children`, "utf8").trim();
    return children === "" ? undefined : Number(children.split(" ")[0]);
  };
  const isGone = (pid: number) => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  };
  const questions: readonly [string, readonly string[]][] = [
    ["Where do the streams come from?", ["Enter"]],
    ["Which groups and ports?", ["239.1.1.1:5004", "Enter"]],
    ["Where do they go?", ["Enter"]],
    ["To which groups?", ["Down", "Enter"]],
    ["The first group", ["239.10.1.1", "Enter"]],
    ["Anything special?", ["Down", "Enter"]],
    ["TTL", ["Enter"]],
    ["DSCP", ["Enter"]],
    ["Write ", ["Enter"]],
    ["And now?", []],
  ];
  const endings: readonly [string, (terminal: Terminal, pid: number) => Promise<void> | void][] = [
    ["Ctrl-C", (terminal) => terminal.press("C-c")],
    ["SIGTERM", (_, pid) => void process.kill(pid, "SIGTERM")],
    ["the terminal closed", (terminal) => terminal.close()],
  ];

  for (const [name, end] of endings) {
    test(`by ${name}, in every prompt and while it listens: the process is gone, the terminal as it was`, async () => {
      await using topology = await openTopology("chain");
      const directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
      try {
        for (const at of [-1, ...questions.keys()]) {
          await using terminal = await Terminal.open(topology, "relay-ns");
          const modes = await terminal.modes();
          const file = join(directory, `${name.replaceAll(" ", "-")}-${at}.toml`);
          const duration = at < 0 ? "60s" : "100ms";
          await terminal.command(`${executable} init ${file} --duration ${duration}; echo "ended with $?"`);
          for (const [seen, keys] of questions.slice(0, Math.max(0, at)))
            await terminal.answer(seen, ...keys);
          await terminal.waitFor(questions[at]?.[0] ?? "Listening on");
          const pid = await wizardPid(terminal);
          expect(pid).toBeDefined();
          await end(terminal, pid ?? 0);
          await waitFor(
            () => isGone(pid ?? 0),
            (gone) => gone,
            { what: `the wizard to end at question ${at}`, deadlineMs: 5_000 },
          );
          if (name === "the terminal closed") continue;
          await terminal.waitFor("ended with");
          expect(await terminal.modes()).toBe(modes);
          expect(await terminal.isCursorShown()).toBe(true);
        }
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    }, 240_000);
  }

  test("by an end of the input: 64, and at once", async () => {
    await using topology = await openTopology("chain");
    const ended = await topology.run("relay-ns", ["sh", "-c", `exec ${executable} init < /dev/null`], {
      deadlineMs: 5_000,
    });
    expect(ended.exitCode).toBe(64);
  });
});
