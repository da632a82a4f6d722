// `mcr init` in a real terminal, against live RTP, MPEG-TS (of ffmpeg, and counted ones) and plain UDP: what it writes
// relays exactly those streams,
// and however it ends, the process is gone and the terminal is as it was.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { parseStat } from "../../src/stats/cpu.ts";
import { rtpVideo, startFfmpeg, ts as tsVideo } from "../support/ffmpeg.ts";
import type { Process } from "../support/process.ts";
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

/** Video by ffmpeg for so long, and plain UDP beside it. */
function liveSources(topology: Topology, seconds: number) {
  return [
    startFfmpeg(
      topology,
      "gen-ns",
      seconds,
      rtpVideo({ ...rtp, from: address.gen }),
      tsVideo({ ...ts, from: address.gen }),
    ),
    topology.spawn("gen-ns", [
      ...[executable, "send", `${plain.group}:${plain.port}`, "--interface", "veth0"],
      ...["--rate", "2000", "--count", String(2000 * seconds)],
    ]),
  ];
}

async function relayBy(topology: Topology, file: string): Promise<RelayUnderTest> {
  const started = topology.spawn("relay-ns", [executable, "run", file]);
  await started.waitForOutput(/running [\d,]+ rules? of/, 15_000);
  return new RelayUnderTest(topology, file, started);
}

/** Relays by the file, and counts at the sink what the three sources send from now on. */
async function expectNothingLost(
  topology: Topology,
  file: string,
  targets: readonly Target[],
): Promise<void> {
  await using relay = await relayBy(topology, file);
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

const CountedSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({
    streams: v.tuple([
      v.object({ kind: v.string(), received: v.number(), lost: v.number(), duplicated: v.number() }),
    ]),
  }),
);

/**
 * The same of sources that do not tell how much they send: counted by a receiver of the ingress's link as well. RTP and
 * transport packets are numbered, so both know of gaps.
 */
async function expectNothingLostLive(topology: Topology, file: string, targets: readonly Target[]) {
  await using relay = await relayBy(topology, file);
  const receiversOn = (namespace: string, interfaceName: string) =>
    targets.map(({ group, port }) =>
      topology.spawn(namespace, [
        ...[executable, "receive", `${group}:${port}`, "--interface", interfaceName, "--json"],
      ]),
    );
  const [before, behind] = [receiversOn("relay-ns", "veth1"), receiversOn("sink-ns", "veth3")];
  for (const receiver of [...before, ...behind]) await receiver.waitForOutput("ready");
  for (const source of liveSources(topology, 4)) {
    const { exitCode, stderr } = await source.exited;
    expect([exitCode, stderr]).toEqual([0, expect.any(String)]);
  }
  const counted = async (receivers: readonly Process[]) => {
    for (const receiver of receivers) receiver.kill("SIGINT");
    const ended = await Promise.all(receivers.map(({ exited }) => exited));
    return ended.map(({ stdout }) => v.parse(CountedSchema, stdout).streams[0]);
  };
  const came = await counted(before);
  await waitFor(
    () => relay.rules(),
    (rules) =>
      came.every(({ received }, i) =>
        rules.some(
          ({ ingress, packets: taken, egress }) =>
            ingress === `${targets[i]?.group}:${targets[i]?.port}` &&
            taken >= received &&
            egress.every(({ sent_packets }) => sent_packets === taken),
        ),
      ),
    { what: "everything that came to be sent" },
  );
  expect(came.map(({ kind, lost }) => [kind, lost])).toEqual([
    ["rtp", 0],
    ["ts", 0],
    ["mcr", 0],
  ]);
  expect(came.every(({ received }) => received > 100)).toBe(true);
  expect(await counted(behind)).toEqual(came);
  expect((await relay.stop()).exitCode).toBe(0);
}

interface Sources {
  /** While the wizard listens. */
  alive(topology: Topology): readonly Process[];
  /** By the file that it wrote. */
  check(topology: Topology, file: string): Promise<void>;
}

/** A directory of its own, and the sources alive while the wizard listens. */
async function withWizard(
  arguments_: string,
  given: string | undefined,
  walk: (terminal: Terminal, topology: Topology) => Promise<void>,
  { alive, check }: Sources,
): Promise<{ text: string; backup: string | undefined }> {
  await using topology = await openTopology("chain");
  const directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
  const file = join(directory, "rules.toml");
  if (given !== undefined) writeFileSync(file, given);
  try {
    const started = alive(topology);
    await using terminal = await Terminal.open(topology, "relay-ns");
    const modes = await terminal.modes();
    await terminal.command(
      `${executable} init ${file} --duration 1500ms ${arguments_}; echo "ended with $?"`,
    );
    await walk(terminal, topology);
    await terminal.waitFor("ended with 0");
    expect(await terminal.modes()).toBe(modes);
    expect(await terminal.isCursorShown()).toBe(true);
    for (const source of started) {
      source.kill("SIGKILL");
      await source.exited;
    }
    await check(topology, file);
    const backup = `${file}.bak`;
    return {
      text: readFileSync(file, "utf8"),
      backup: existsSync(backup) ? readFileSync(backup, "utf8") : undefined,
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Those that are counted to the last packet. */
function countedTo(targets: readonly Target[]): Sources {
  return {
    alive: (topology) => sources(topology, 1_000_000),
    check: (topology, file) => expectNothingLost(topology, file, targets),
  };
}

describe("the file that the wizard wrote relays the streams that it heard, 0 lost", () => {
  test("of ffmpeg, to the same groups", async () => {
    const { text, backup } = await withWizard(
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
        await terminal.waitFor(" egresses: ok");
      },
      {
        alive: (topology) => liveSources(topology, 600),
        check: (topology, file) => expectNothingLostLive(topology, file, [rtp, ts, plain]),
      },
    );
    expect(text).toContain("# RTP 32 (MPEG video)");
    expect(text).toContain("# MPEG-TS, 1 program,");
    expect(backup).toBeUndefined();
  }, 120_000);

  test("to other groups, by the relay that the wizard started first", async () => {
    const { text } = await withWizard(
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
        await terminal.answer("And now?", "Down", "Down", "Enter");
        await terminal.waitFor("running 3 rules");
        await terminal.press("C-c");
      },
      countedTo([
        { ...rtp, group: "239.10.1.1" },
        { ...ts, group: "239.10.2.1" },
        { ...plain, group: "239.10.3.1" },
      ]),
    );
    expect(text).toContain("# RTP 8 (PCMA)");
    expect(text).toContain("# MPEG-TS, 2 programs,");
  }, 120_000);

  test("behind the rules of an existing file, to a host", async () => {
    const existing = `# ours\n[[rule]]\nname = "before" # stays\ningress = { interface = "veth1", group = "239.1.3.1", port = 7000 }\negress = [{ interface = "veth2", address = "${address.sink}" }]\n`;
    const { text, backup } = await withWizard(
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
      countedTo([rtp, ts, plain].map(({ port }) => ({ group: address.sink, port }))),
    );
    expect(text).toStartWith(existing);
    expect(backup).toBe(existing);
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
  const cpuSeconds = (pid: number) =>
    parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"))[0]?.seconds ?? Number.NaN;
  const questions: readonly [string, readonly string[]][] = [
    ["Where do the streams come from?", ["Enter"]],
    ["Which groups and ports?", ["239.1.1.1:5004", "Enter"]],
    ["Where do they go?", ["Enter"]],
    ["To which groups?", ["Down", "Enter"]],
    ["The first group", ["239.10.1.1", "Enter"]],
    ["Anything special?", ["Space", "Down", "Space", "Down", "Down", "Space", "Enter"]],
    ["TTL: 1-255", ["Enter"]],
    ["DSCP: 0-63", ["Enter"]],
    ["Which send path?", ["Down", "Enter"]],
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

  test("and until then it takes no CPU while it waits for an answer, in every prompt", async () => {
    await using topology = await openTopology("chain");
    const directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
    try {
      await using terminal = await Terminal.open(topology, "relay-ns");
      await terminal.command(`${executable} init ${join(directory, "rules.toml")} --duration 100ms`);
      for (const [seen, keys] of questions) {
        await terminal.waitFor(seen);
        const pid = (await wizardPid(terminal)) ?? 0;
        const before = cpuSeconds(pid);
        // A second without a key: what spins takes most of it.
        await Bun.sleep(1_000);
        expect([seen, cpuSeconds(pid) - before < 0.25]).toEqual([seen, true]);
        await terminal.press(...keys);
      }
      await terminal.press("C-c");
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }, 120_000);

  test("by an end of the input: 64, and at once", async () => {
    await using topology = await openTopology("chain");
    const ended = await topology.run("relay-ns", ["sh", "-c", `exec ${executable} init < /dev/null`], {
      deadlineMs: 5_000,
    });
    expect(ended.exitCode).toBe(64);
  });
});
