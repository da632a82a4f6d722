// Opens a topology of topo/ and runs programs in its namespaces. A holder process keeps the namespaces; it ends when
// its stdin closes, so they vanish with this process however it ends. Programs started inside die with it as well
// (PDEATHSIG), and the pid of each is the program's own, so signals reach it.

import { readdirSync, readlinkSync } from "node:fs";
import { resolve } from "node:path";
import { turnOffloadsOff } from "./link.ts";
import { type Completed, Process, type SpawnOptions } from "./process.ts";
import { variant } from "./variant.ts";

export const repository = resolve(import.meta.dir, "../..");

export type TopologyName =
  | "bridges"
  | "chain"
  | "converge"
  | "downstream"
  | "hops"
  | "late"
  | "loop"
  | "tree"
  | "tunnel"
  | "vlan";

/** The addresses of chain and bridges; every other drawing says its own. */
export const address = {
  gen: "10.0.0.1",
  relayIngress: "10.0.0.2",
  relayEgress: "10.0.1.1",
  sink: "10.0.1.2",
} as const;

export interface InsideOptions extends SpawnOptions {
  /** Working directory; the root of the repository by default. */
  readonly cwd?: string;
}

export interface RunOptions extends InsideOptions {
  /** The program is killed after so long; 30 s by default. */
  readonly deadlineMs?: number;
}

/** Why this host cannot hold a topology, in one sentence; undefined when it can. For test.skipIf. */
export function whyNoTopology(name: TopologyName = "chain", ...parameters: string[]): string | undefined {
  const { exitCode, stderr } = Bun.spawnSync([script(name), ...parameters, "true"]);
  return exitCode === 0 ? undefined : stderr.toString().trim();
}

/** The parameters are those the script takes before its command: how many hops, which tunnel. */
export async function openTopology(name: TopologyName, ...parameters: string[]): Promise<Topology> {
  const holder = new Process([script(name), ...parameters, "sh", "-c", "echo ready; exec cat"]);
  await holder.waitForOutput("ready", 15_000);
  const topology = new Topology(name, holder);
  if (variant.offloads === "off") await turnOffloadsOff(topology);
  return topology;
}

function script(name: TopologyName): string {
  return `${repository}/topo/${name}.sh`;
}

export class Topology {
  readonly #holder: Process;
  readonly #enter: readonly string[];
  readonly #running = new Set<Process>();

  constructor(
    readonly name: TopologyName,
    holder: Process,
  ) {
    this.#holder = holder;
    const userNamespace = readlinkSync(`/proc/${holder.pid}/ns/user`);
    const isOurs = userNamespace === readlinkSync("/proc/self/ns/user");
    this.#enter = [
      "nsenter",
      `--target=${holder.pid}`,
      "--mount",
      ...(isOurs ? [] : ["--user", "--preserve-credentials"]),
      "--",
      "ip",
      "netns",
      "exec",
    ];
  }

  get holderPid(): number {
    return this.#holder.pid;
  }

  /** Their names: a file for each, ip-netns(8). */
  namespaces(): readonly string[] {
    return readdirSync(`/proc/${this.#holder.pid}/root/run/netns`).sort();
  }

  /** Starts argv in the namespace and returns at once. */
  spawn(
    namespace: string,
    argv: readonly string[],
    { cwd = repository, ...options }: InsideOptions = {},
  ): Process {
    // Entering the mount namespace moved us to /. The parent is checked after PDEATHSIG is set: had it died before,
    // no signal would come.
    const script = '[ "$PPID" -eq "$1" ] && cd "$2" && shift 2 && exec "$@"';
    const started = new Process(
      [
        ...this.#enter,
        namespace,
        ...["setpriv", "--pdeathsig", "KILL", "--"],
        ...["sh", "-c", script, "sh", String(process.pid), cwd],
        ...argv,
      ],
      { ...options, env: { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, ...options.env } },
    );
    this.#running.add(started);
    void started.exited.then(() => this.#running.delete(started));
    return started;
  }

  /** Runs argv to its end. Stdin is empty unless given. */
  async run(
    namespace: string,
    argv: readonly string[],
    { deadlineMs = 30_000, ...options }: RunOptions = {},
  ): Promise<Completed> {
    const started = this.spawn(namespace, argv, { stdin: "", ...options });
    const timer = setTimeout(() => started.kill("SIGKILL"), deadlineMs);
    const completed = await started.exited;
    clearTimeout(timer);
    return completed;
  }

  /** Runs argv, which must succeed, and returns its stdout. */
  async output(namespace: string, argv: readonly string[], options: RunOptions = {}): Promise<string> {
    const completed = await this.run(namespace, argv, options);
    if (completed.exitCode !== 0) {
      throw new Error(`${argv.join(" ")} in ${namespace} failed: ${Bun.inspect(completed)}`);
    }
    return completed.stdout;
  }

  /** Kills what still runs inside and lets the namespaces go. */
  async [Symbol.asyncDispose](): Promise<void> {
    const running = [...this.#running];
    for (const each of running) each.kill("SIGKILL");
    await Promise.all(running.map((each) => each.exited));
    this.#holder.closeStdin();
    await this.#holder.exited;
  }
}
