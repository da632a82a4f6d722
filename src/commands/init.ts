// `mcr init`: listens to the network and writes the rule file, by questions on a terminal or by flags alone. An
// existing file is extended. There is no SIGHUP listener here: it would keep the wizard alive after its terminal.
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { ExitCode, fail, messageOf } from "../error.ts";
import { Shim } from "../native/shim.ts";
import { type ListedInterface, listInterfaces } from "../net/interface-list.ts";
import { type Scan, ScanSchema } from "../net/scan.ts";
import { plural } from "../numbers.ts";
import { checkCommand } from "./check.ts";
import { type Command, type Io, parseOptions, Switch } from "./command.ts";
import { formatChange, openRuleFile, type RuleFile, withRules, writeRuleFile } from "./init-file.ts";
import { type HostFacts, hintsFor } from "./init-hints.ts";
import { readMapping, readStreams } from "./init-input.ts";
import { type Choices, planRules, type Settings, type Stream, streamsOn, takenBy } from "./init-plan.ts";
import { Prompts } from "./init-prompts.ts";
import { runWizard } from "./init-wizard.ts";
import { audible, listen } from "./listen.ts";
import { markRelayed, runningRules } from "./relayed.ts";
import { runCommand } from "./run.ts";
import { Duration, whole, word } from "./values.ts";

const Words = v.pipe(
  v.union([v.string(), v.array(v.string())], "takes names"),
  v.transform((given) => [given].flat().flatMap((each) => each.split(/[\s,]+/))),
  v.transform((words) => words.filter((each) => each !== "")),
);

const OptionsSchema = v.object({
  from: v.optional(word("a file of mcr scan --json")),
  ingress: v.optional(word("the name of one interface")),
  egress: v.optional(Words, []),
  stream: v.optional(Words, []),
  to: v.optional(word("a group or a host, such as 239.10.1.1:6001")),
  ttl: v.optional(
    v.union([whole(1, 255), v.picklist(["keep", "decrement"])], "takes 1 to 255, keep or decrement"),
  ),
  dscp: v.optional(v.union([whole(0, 63), v.literal("keep")], "takes 0 to 63 or keep")),
  path: v.optional(v.picklist(["frame", "socket"], "takes frame or socket")),
  senders: Switch,
  exclusive: Switch,
  duration: v.optional(Duration, "5s"),
  backup: Switch,
  yes: Switch,
});
type Options = v.InferOutput<typeof OptionsSchema>;

const defaultFile = "rules.toml";

export const initCommand: Command = {
  name: "init",
  parameters: "[file]",
  summary: "listen, ask, and write or extend a rule file (rules.toml)",
  options: [
    { flags: "--from <file>", description: "what mcr scan --json heard, instead of listening" },
    { flags: "--duration <time>", description: "listens for so long: 500ms, 10s, 2m (5s)" },
    { flags: "--backup", description: "keeps the file as it was as FILE.bak" },
    { flags: "--yes", description: "asks nothing: needs --ingress and --egress, takes all that was heard" },
    { flags: "--ingress <name>", description: "with --yes: where the streams come from" },
    { flags: "--egress <names>", description: "with --yes: where they go; several with commas" },
    { flags: "--stream <streams>", description: "with --yes: these instead, as GROUP:PORT or ranges" },
    {
      flags: "--to <target>",
      description: "with --yes: first group, or host, each with :PORT (the same groups)",
    },
    { flags: "--ttl <hops>", description: "with --yes: 1-255, keep or decrement (groups: 1, hosts: 64)" },
    { flags: "--dscp <class>", description: "with --yes: 0-63 or keep (0)" },
    { flags: "--path <path>", description: "with --yes: frame or socket (mcr chooses)" },
    { flags: "--senders", description: "with --yes: only from the senders that were heard" },
    { flags: "--exclusive", description: "with --yes: local programs get none of the streams" },
  ],
  async run([path = defaultFile], given, io) {
    const options = parseOptions("init", OptionsSchema, given);
    const hasTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
    if (!options.yes && !hasTerminal)
      fail(
        "mcr init: asks questions, and there is no terminal: give --yes with --ingress and --egress (mcr init --help)",
        ExitCode.usage,
      );
    const file = await openRuleFile(path);
    const scan = options.from === undefined ? undefined : await readScan(options.from);
    const shim = new Shim();
    const interfaces = listInterfaces(shim);
    return options.yes
      ? runWithoutQuestions({ io, options, file, scan, shim, interfaces })
      : runWithQuestions({ io, options, file, scan, shim, interfaces });
  },
};

interface Run {
  readonly io: Io;
  readonly options: Options;
  readonly file: RuleFile;
  readonly scan: Scan | undefined;
  readonly shim: Shim;
  readonly interfaces: readonly ListedInterface[];
}

// -- by flags

async function runWithoutQuestions({ io, options, file, scan, shim, interfaces }: Run): Promise<ExitCode> {
  const { ingress, egress, to = "", backup } = options;
  if (ingress === undefined || egress.length === 0)
    return fail("mcr init: --yes needs --ingress and --egress", ExitCode.usage);
  const mapping = readMapping(to);
  if ("wrong" in mapping) return fail(`mcr init: --to ${mapping.wrong}`, ExitCode.usage);
  const streams = await streamsFor(ingress, { io, options, file, scan, shim, interfaces });
  const unheard = streams.find(({ heard }) => heard === undefined);
  if (options.senders && unheard)
    fail(
      `mcr init: --senders: nobody was heard sending ${unheard.group}; leave it out, or give what mcr scan heard with --from`,
      ExitCode.usage,
    );
  const choices: Choices = {
    ingress,
    egresses: egress,
    streams,
    mapping: mapping.value,
    settings: settingsOf(options),
  };
  const planned = planRules(
    choices,
    file.rules.map(({ name }) => name),
  );
  const text = withRules(file, planned);
  await writeRuleFile(file, text, backup);
  io.stdout(formatChange(file, text));
  for (const hint of hintsFor(choices, scan, interfaces, hostFacts(shim))) io.stderr(`mcr init: ${hint}\n`);
  io.stdout(`\n${formatNext(file.path, planned.length)}\n`);
  return ExitCode.ok;
}

function settingsOf({ ttl, dscp, path, senders, exclusive }: Options): Settings {
  return {
    ...(ttl === undefined ? {} : { ttl }),
    ...(dscp === undefined ? {} : { dscp }),
    ...(path === undefined ? {} : { path }),
    bySource: senders,
    exclusive,
  };
}

async function streamsFor(ingress: string, run: Run): Promise<readonly Stream[]> {
  const { options, file } = run;
  const taker = takenBy(file.rules, ingress);
  if (options.stream.length > 0) {
    const read = readStreams(options.stream.join(" "));
    if ("wrong" in read) return fail(`mcr init: --stream ${read.wrong}`, ExitCode.usage);
    const known = run.scan ? streamsOn(run.scan, ingress) : [];
    return read.value.map(
      (stream) =>
        known.find(
          ({ vlan, group, port }) => vlan === null && group === stream.group && port === stream.port,
        ) ?? stream,
    );
  }
  const scan = run.scan ?? (await hear(run));
  const heard = streamsOn(scan, ingress);
  const free = heard.filter((stream) => stream.refusal === undefined && taker(stream) === undefined);
  if (free.length > 0) return free;
  const places = scan.interfaces.map(({ name }) => name).join(", ");
  return fail(
    heard.length > 0
      ? `mcr init: all ${plural(heard.length, "stream")} heard on ${ingress} are in ${file.path} already, or cannot be relayed; nothing was written`
      : `mcr init: nothing was heard on ${ingress} (the scan was of ${places}); name the streams with --stream, nothing was written`,
    ExitCode.failed,
  );
}

// -- by questions

async function runWithQuestions(run: Run): Promise<ExitCode> {
  const { io, options, file, scan, shim, interfaces } = run;
  const prompts = new Prompts(process.stdin, process.stdout);
  const leave = () => prompts.leave();
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.on(signal, leave);
  let next: string | undefined;
  try {
    const outcome = await runWizard(prompts, {
      interfaces,
      file,
      scan,
      listen: () => hearWithProgress(run, prompts),
      hints: (choices, heard) => hintsFor(choices, heard, interfaces, hostFacts(shim)),
    });
    if (!outcome) return ExitCode.failed;
    await writeRuleFile(file, outcome.text, options.backup);
    prompts.say(`Written.\n${formatNext(file.path, outcome.rules)}`);
    const answer = await prompts.one("And now?", [
      { value: "done", label: "nothing more" },
      { value: "check", label: "check it", hint: `mcr check ${file.path}` },
      { value: "run", label: "run it here", hint: `mcr run ${file.path}; Ctrl-C ends it` },
    ]);
    next = answer.kind === "given" ? answer.value : undefined;
  } finally {
    for (const signal of signals) process.off(signal, leave);
    prompts.close();
  }
  if (next === "check") return checkCommand.run([file.path], {}, io);
  if (next === "run") return runCommand.run([file.path], {}, io);
  return ExitCode.ok;
}

async function hearWithProgress(run: Run, prompts: Prompts): Promise<Scan | undefined> {
  const { interfaces, options } = run;
  const where = audible(interfaces)
    .map(({ name }) => name)
    .join(", ");
  try {
    const scan = await hear(run, {
      isEnough: () => prompts.hasLeft,
      onProgress: ({ flow_count }, elapsedMs) =>
        prompts.progress(
          `Listening on ${where} for ${Math.max(0, Math.ceil((options.duration - elapsedMs) / 1000))} s: ${plural(flow_count, "stream")}`.slice(
            0,
            (process.stdout.columns || 80) - 1,
          ),
        ),
    });
    return prompts.hasLeft ? undefined : scan;
  } finally {
    prompts.progress("");
  }
}

type Progressing = Pick<Parameters<typeof listen>[2], "isEnough" | "onProgress">;

async function hear(run: Run, progressing: Progressing = {}): Promise<Scan> {
  const { io, shim, options } = run;
  const interfaces = audible(run.interfaces);
  if (interfaces.length === 0)
    fail("mcr init: no interface is up and has carrier (ip link shows them)", ExitCode.failed);
  const running = await runningRules(io.env);
  const heard = await listen(shim, "init", { interfaces, durationMs: options.duration, ...progressing });
  return markRelayed(heard, running);
}

// -- what both need

function formatNext(path: string, rules: number): string {
  const word = /^[\w./@:+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
  return `${plural(rules, "rule")} in ${path}. Next:\n  mcr check ${word}\n  mcr run ${word}`;
}

async function readScan(path: string): Promise<Scan> {
  const text = await readFile(path, "utf8").catch((error) =>
    fail(`mcr init: cannot read ${path}: ${messageOf(error)}`, ExitCode.config),
  );
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), ScanSchema), text);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const where = [v.getDotPath(issue), issue.message].filter(Boolean).join(": ");
  return fail(
    `mcr init: ${path} is not what mcr scan --json prints (${where}): mcr scan --json > ${path}`,
    ExitCode.config,
  );
}

function hostFacts(shim: Shim): HostFacts {
  return {
    mayCapture: succeeds(() => shim.checkPermission()),
    hasReversePathFilter: (name) =>
      ["all", name].some((each) => read(`/proc/sys/net/ipv4/conf/${each}/rp_filter`).trim() === "1"),
    hasFirewall:
      /^(nf_tables|ip_tables) /m.test(read("/proc/modules")) ||
      read("/proc/net/ip_tables_names").trim() !== "",
  };
}

function succeeds(action: () => void): boolean {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
