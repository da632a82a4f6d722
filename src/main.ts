// mcr, the multicast relay: the table of its commands and its exit codes. The only file that ends the process.
//
// Where things are, each part using only those below it:
//   commands/   one file per command, all of the shape in command.ts: options in, text or JSON and an exit code out
//   answers.ts  what a running mcr answers to its control socket and to who scrapes its metrics
//   edits.ts    its rules changed while they run: reload, add, remove, save
//   relay.ts    its control plane: wanted rules → rings, sockets, rule table, memberships, workers
//   control/    how a running mcr is asked: its socket, what server and client say, metrics, the service manager
//   config/     the rule file: TOML → Config, every mistake with its line and column, the difference of two files
//   net/        addresses, interfaces, captures, scans, egresses, memberships, rules as they run, and what the kernel
//               tells over netlink
//   stats/      the counters that the workers write and everybody reads, and the reasons of drops
//   workers.ts  starts and ends the data-plane threads
//   worker.ts   one of them: a thread in one native call; the second entry point, beside this one
//   native/     the C shim of c/, and the only importer of bun:ffi; native/measure/ the instruments of c/measure/, which
//               send and receive map beside it; abi.ts of both is what `make abi` writes from their C headers
//   clock.ts error.ts log.ts numbers.ts table.ts terminal.ts   time, trouble as a sentence with an exit code, log lines,
//               sums and counts, columns of text, screens
//
// A packet never gets here: it stays in the C shim. A rule goes from the file down to the shim's rule table.
import packageJson from "../package.json" with { type: "json" };
import type { Command, Io } from "./commands/command.ts";
import { ExitCode, fail, McrError, messageOf } from "./error.ts";

// Imported when they are called for: `mcr --version` needs none of them, `mcr show` not the relay.
const commands: ReadonlyMap<string, () => Promise<Command>> = new Map<string, () => Promise<Command>>([
  ["init", async () => (await import("./commands/init.ts")).initCommand],
  ["run", async () => (await import("./commands/run.ts")).runCommand],
  ["check", async () => (await import("./commands/check.ts")).checkCommand],
  ["show", async () => (await import("./commands/show.ts")).showCommand],
  ["stats", async () => (await import("./commands/stats.ts")).statsCommand],
  ["top", async () => (await import("./commands/top.ts")).topCommand],
  ["events", async () => (await import("./commands/events.ts")).eventsCommand],
  ["ping", async () => (await import("./commands/ping.ts")).pingCommand],
  ["reload", async () => (await import("./commands/reload.ts")).reloadCommand],
  ["add", async () => (await import("./commands/add.ts")).addCommand],
  ["remove", async () => (await import("./commands/remove.ts")).removeCommand],
  ["save", async () => (await import("./commands/save.ts")).saveCommand],
  ["log-level", async () => (await import("./commands/log-level.ts")).logLevelCommand],
  ["explain", async () => (await import("./commands/explain.ts")).explainCommand],
  ["send", async () => (await import("./commands/send.ts")).sendCommand],
  ["scan", async () => (await import("./commands/scan.ts")).scanCommand],
  ["receive", async () => (await import("./commands/receive.ts")).receiveCommand],
]);

const stdoutClosed = new AbortController();
const io: Io = {
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => void process.stderr.write(text),
  env: process.env,
  get isTTY() {
    return process.stdout.isTTY === true;
  },
  get columns() {
    // watch(1) gives its width so; a pipe has none, and grep wants whole names.
    return process.stdout.columns || Number(process.env["COLUMNS"]) || Number.POSITIVE_INFINITY;
  },
  stdoutClosed: stdoutClosed.signal,
};

process.on("uncaughtException", (thrown) => process.exit(report(thrown)));
process.on("unhandledRejection", (thrown) => process.exit(report(thrown)));
// A log that nobody reads any more, or that is on a full disk, must not end a relay.
process.stderr.on("error", () => {});
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // `mcr show | head`: who closes the pipe has read enough.
  stdoutClosed.abort();
  if (error.code !== "EPIPE")
    process.exit(report(new McrError([`cannot write: ${error.message}`], ExitCode.failed)));
});

// Not exit(): it drops what a pipe has not taken yet. The commands close what they open, so the process ends here.
process.exitCode = await main(process.argv.slice(2)).catch(report);

async function main([name, ...words]: readonly string[]): Promise<ExitCode> {
  switch (name) {
    case "--version":
    case "-V":
      io.stdout(`mcr ${packageJson.version}\n`);
      return ExitCode.ok;
    case "--help":
    case "-h":
      io.stdout(await help());
      return ExitCode.ok;
    case undefined:
      io.stderr(await help());
      return ExitCode.usage;
    default:
      return runCommand(name, words);
  }
}

async function runCommand(name: string, words: readonly string[]): Promise<ExitCode> {
  const load = commands.get(name);
  if (!load) {
    const command = name.startsWith("-") ? words.find((word) => commands.has(word)) : undefined;
    if (command !== undefined) {
      const options = [name, ...words.filter((word) => word !== command)].join(" ");
      return fail(`options go behind the command: mcr ${command} ${options}`, ExitCode.usage);
    }
    const kind = name.startsWith("-") ? "option" : "command";
    return fail(`unknown ${kind} '${name}'; mcr --help lists the ${kind}s`, ExitCode.usage);
  }
  const { parseArguments } = await import("./commands/arguments.ts");
  const command = await load();
  const { wantsHelp, positionals, options } = parseArguments(command, words);
  if (!wantsHelp) return command.run(positionals, options, io);
  const { formatCommandHelp } = await import("./commands/help.ts");
  io.stdout(formatCommandHelp(command));
  return ExitCode.ok;
}

async function help(): Promise<string> {
  const { formatHelp } = await import("./commands/help.ts");
  return formatHelp(packageJson.version, await Promise.all([...commands.values()].map((load) => load())));
}

/** Prints what was thrown, one line for each sentence, and tells the exit code. */
function report(thrown: unknown): ExitCode {
  if (thrown instanceof McrError) {
    for (const line of thrown.lines) io.stderr(`${withProgram(line)}\n`);
    return thrown.exitCode;
  }
  io.stderr(`mcr: internal error: ${oneLine(messageOf(thrown))}\n`);
  if (process.env["MCR_DEBUG"] === "1" && thrown instanceof Error) io.stderr(`${thrown.stack}\n`);
  return ExitCode.failed;
}

/** A line about a place in the rule file begins with that place, as compilers write it; usage with `mcr check: `. */
function withProgram(line: string): string {
  const isWhole = /:\d+:\d+: /.test(line) || line.startsWith("mcr ");
  return oneLine(isWhole ? line : `mcr: ${line}`);
}

/** What came from a file or the command line may hold anything; a terminal must not act on it. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, " ");
}
