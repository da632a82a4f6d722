// `make profile`: where a packet's time goes in mcr. perf(1) samples every CPU while the chain carries a load; a sample
// belongs to the stage that its call chain names, and the samples of a stage over the packets sent are its time.
//   profile.ts [--write]
// Counted is what the relay adds: its worker, and in the sender's context (a veth receives there) the ring's copy and
// the relay's IP stack. The sender's own work is left out, as is everything behind the far end of the outgoing link.

import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "../../src/table.ts";
import { Process } from "../support/process.ts";
import { address, openTopology, repository, whyNoTopology } from "../support/topology.ts";
import { startSender, startTap } from "../support/traffic.ts";
import { generatorCpu, onCpu, startBurners } from "./cpu.ts";
import { headlineLoads, type Load } from "./load.ts";
import { hostLine } from "./report.ts";
import { startSystem } from "./systems.ts";

const { values } = parseArgs({ options: { write: { type: "boolean", default: false } } });
const seconds = 5;
const samplesPerSecond = 9973; // a prime: in step with nothing

/** In the order of a packet's way. */
const stages = [
  "ring: the kernel's copy into it",
  "IP stack of the relay's host, for joined groups",
  "wake-up: timer, poll, scheduler",
  "ring: walking the blocks",
  "parse",
  "match",
  "batch",
  "send: building messages",
  "send: the kernel's stack",
  "send: receiving at the far end of the veth",
  "worker, the rest",
] as const;
type Stage = (typeof stages)[number];

interface Sample {
  readonly thread: string;
  /** Innermost first. */
  readonly frames: readonly Frame[];
}
interface Frame {
  readonly ip: bigint;
  readonly symbol: string;
  /** The file it lies in. */
  readonly object: string;
}

async function profile(): Promise<number> {
  const obstacle = whyNoTopology();
  if (obstacle !== undefined) {
    console.error(obstacle);
    return 1;
  }
  using _burners = startBurners();
  const loads = headlineLoads;
  const columns: ReadonlyMap<Stage, number>[] = [];
  for (const load of loads) columns.push(await profileLoad({ ...load, seconds }));
  const cell = (ns: number) => Math.round(ns).toString();
  const rows = stages.map((stage) => [stage, ...columns.map((column) => cell(column.get(stage) ?? 0))]);
  const sum = (column: ReadonlyMap<Stage, number>) => [...column.values()].reduce((a, b) => a + b, 0);
  rows.push(["sum", ...columns.map((column) => cell(sum(column)))]);
  const table = formatTable(["STAGE", ...loads.map(({ name }) => name)], rows, 160);
  const text = `CPU time per packet by stage, ns, 25 kpps in bursts of 8, 1,316 bytes\n${table}`;
  console.log(text);
  if (values.write) {
    const section = `\n## Profile, ${hostLine()}\n\n\`make profile\`, ${samplesPerSecond} samples a second and CPU\n\n\`\`\`\n${text}\`\`\`\n`;
    await appendFile(join(import.meta.dir, "RESULTS.md"), section);
  }
  return 0;
}

/** Nanoseconds per packet in. */
async function profileLoad(load: Load): Promise<ReadonlyMap<Stage, number>> {
  await using topology = await openTopology("chain");
  await using running = await startSystem("mcr", topology, load);
  if (!running) throw new Error("mcr does not run");
  const sink = await startTap(topology, "sink-ns", address.sink);
  const sender = await startSender(topology, "gen-ns", {
    ...{ interfaceAddress: address.gen, group: "239.1.1.1", port: 5001, streams: load.streams },
    ...{ ratePps: load.ratePps, burst: load.burst, sizeBytes: load.sizeBytes, durationSeconds: load.seconds },
    prefix: onCpu(generatorCpu),
  });
  const directory = await mkdtemp(join(tmpdir(), "mcr-profile-"));
  try {
    const data = join(directory, "perf.data");
    const recorder = new Process([
      ...["perf", "record", "--quiet", "--all-cpus", "--call-graph", "fp", "--event", "cpu-clock"],
      ...["--freq", String(samplesPerSecond), "--output", data, "--", "sleep", String(load.seconds + 1)],
    ]);
    sender.go();
    const { sent } = await sender.finished();
    await sink.stop();
    await recorder.exited;
    const script = new Process(["perf", "script", "--input", data, "--fields", "comm,tid,ip,sym,dso"]);
    const { stdout } = await script.exited;
    const samples = parseScript(stdout);
    const symbols = await resolve(samples);
    const nsPerSample = 1e9 / samplesPerSecond;
    const byStage = new Map<Stage, number>();
    for (const sample of samples) {
      const stage = stageOf(sample, symbols);
      if (stage) byStage.set(stage, (byStage.get(stage) ?? 0) + nsPerSample / sent);
    }
    return byStage;
  } finally {
    await rm(directory, { recursive: true });
  }
}

function stageOf(
  { thread, frames }: Sample,
  symbols: ReadonlyMap<bigint, readonly string[]>,
): Stage | undefined {
  const has = (...names: readonly string[]) =>
    frames.some(({ symbol }) => names.some((name) => symbol.startsWith(name)));
  if (has("prb_retire", "sock_def_readable", "try_to_wake_up") && has("tpacket_rcv", "prb_retire")) {
    return "wake-up: timer, poll, scheduler";
  }
  if (thread.startsWith("mcr-worker")) {
    if (has("__sys_sendmmsg", "__sys_sendmsg")) {
      return has("net_rx_action") ? "send: receiving at the far end of the veth" : "send: the kernel's stack";
    }
    if (has("__x64_sys_poll", "__se_sys_poll", "do_sys_poll", "schedule"))
      return "wake-up: timer, poll, scheduler";
    const [leaf] = frames;
    return workerStage(leaf ? (symbols.get(leaf.ip) ?? []) : []);
  }
  // In the sender's context a veth receives: what happens behind the first link is the relay's doing.
  if (thread === "send" || thread.startsWith("ksoftirqd")) {
    if (has("tpacket_rcv", "packet_rcv")) return "ring: the kernel's copy into it";
    if (has("ip_rcv")) return "IP stack of the relay's host, for joined groups";
  }
  return undefined;
}

/** By the innermost function of the shim, those that were inlined included. */
function workerStage(functions: readonly string[]): Stage {
  const has = (pattern: RegExp) => functions.some((name) => pattern.test(name));
  if (has(/send|message|run_|egress/)) return "send: building messages";
  if (has(/frame_parse|checksum|datagram/)) return "parse";
  if (has(/table_find|hash|candidate/)) return "match";
  if (has(/list_append/)) return "batch";
  if (has(/frame_read|gather|blocks_release/)) return "ring: walking the blocks";
  return "worker, the rest";
}

/** Of `perf script`: a line "thread tid", a line "ip symbol" for each frame, an empty line. */
function parseScript(text: string): readonly Sample[] {
  return text.split("\n\n").flatMap((part) => {
    const [head = "", ...lines] = part.split("\n").filter((line) => line !== "");
    const thread = /^(.*?)\s+\d+\s*$/.exec(head)?.[1]?.trim();
    const frames = lines.flatMap((line) => {
      const [, ip, symbol, object] = /^\s*([0-9a-f]+) (.*?) \((.*)\)$/.exec(line) ?? [];
      if (ip === undefined || symbol === undefined || object === undefined) return [];
      return [{ ip: BigInt(`0x${ip}`), symbol, object }];
    });
    return thread === undefined ? [] : [{ thread, frames }];
  });
}

/** Functions of the shim at these addresses, innermost first, from the same code built with debug information. */
async function resolve(samples: readonly Sample[]): Promise<ReadonlyMap<bigint, readonly string[]>> {
  // The shim is loaded from memory; perf gives addresses within it, and has no file with its symbols.
  const leaves = samples.flatMap(({ frames }) =>
    frames.slice(0, 1).filter(({ object }) => object.includes("libmcr.so")),
  );
  const ips = [...new Set(leaves.map(({ ip }) => ip))];
  const addr2line = new Process(
    [
      "addr2line",
      "--addresses",
      "--functions",
      "--inlines",
      "--exe",
      join(repository, "dist/profile/libmcr.so"),
    ],
    { stdin: ips.map((ip) => `0x${ip.toString(16)}\n`).join("") },
  );
  const { stdout } = await addr2line.exited;
  const parts = stdout.split(/^0x[0-9a-f]+$/m).slice(1);
  // Every second line is a source position.
  const functions = (part: string) =>
    part
      .trim()
      .split("\n")
      .filter((_, line) => line % 2 === 0);
  return new Map(ips.map((ip, i) => [ip, functions(parts[i] ?? "")]));
}

process.exitCode = await profile();
