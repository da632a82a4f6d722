// What is compared, each started for one load in relay-ns, all of its processes on one CPU: mcr with its default
// settings, mcr with exclusive ingress, socat with one process for each stream and output, the kernel's multicast router
// under smcroute (which forwards and does not rewrite), and nothing at all: the bare wire.

import { join } from "node:path";
import { offsetAddress } from "../../src/net/address.ts";
import { joinedGroups } from "../support/igmp.ts";
import type { Process } from "../support/process.ts";
import { executable, ruleText } from "../support/relay.ts";
import { address, type Topology } from "../support/topology.ts";
import { waitUntil } from "../support/wait.ts";
import { generatorCpu, moveAside, onCpu, relayCpu } from "./cpu.ts";
import type { Load } from "./load.ts";

/** What every load is measured with. */
export const comparedNames = ["none", "mcr", "mcr exclusive", "socat", "smcroute"] as const;

/** mcr with these lines of [relay]. */
const profiles = {
  "mcr throughput": 'profile = "throughput"\n',
  "mcr latency": 'profile = "latency"\n',
  "mcr latency, sleep 250 µs": 'profile = "latency"\nlatency_sleep_us = 250\n',
} as const;
export const profileNames = [
  "mcr throughput",
  "mcr latency",
  "mcr latency, sleep 250 µs",
] as const satisfies readonly (keyof typeof profiles)[];
export const systemNames = [...comparedNames, ...profileNames] as const;
/**
 * mcr whose workers have a CPU for themselves: left alone, asked for all it tells, or for the flows on the wire. Asking
 * takes CPU from the generator, and fewer packets cost more each: so beside it stands an mcr that is left alone while
 * one without traffic is asked the same.
 */
export const askedNames = ["mcr alone", "another mcr asked", "mcr asked", "mcr watching flows"] as const;
export type ComparedName = (typeof comparedNames)[number];
export type SystemName = (typeof systemNames)[number] | (typeof askedNames)[number];

const namespace = "relay-ns";

export interface Stream {
  readonly group: string;
  readonly port: number;
}

/** Stream i of the generator. */
export function ingressOf(i: number): Stream {
  return { group: offsetAddress("239.1.1.1", i), port: 5001 + i };
}

/** Copy k of stream i, for systems that rewrite. */
export function egressOf(i: number, k: number): Stream {
  return { group: offsetAddress("239.10.1.1", i + k * 256), port: 6001 + i };
}

/** The streams that reach the sink, copies of one stream beside each other. */
export function sinkStreams(system: SystemName, { streams, copies }: Load): readonly Stream[] {
  const each = Array.from({ length: streams }, (_, i) => i);
  if (system === "smcroute") return each.map(ingressOf);
  return each.flatMap((i) => Array.from({ length: copies }, (_, k) => egressOf(i, k)));
}

export class RunningSystem {
  constructor(
    readonly processes: readonly Process[],
    /** asker.ts, which is no part of the system. */
    readonly asker?: Process,
    /** Nor is this. */
    readonly bystander?: Process,
  ) {}

  get pids(): readonly number[] {
    return this.processes.map(({ pid }) => pid);
  }

  /** So far. */
  get answers(): number {
    return Number(this.asker?.stdout.trimEnd().split("\n").at(-1) ?? 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.processes, this.asker, this.bystander].filter((each) => each !== undefined);
    for (const each of all) each.kill("SIGKILL");
    await Promise.all(all.map(({ exited }) => exited));
  }
}

/**
 * Returns when every group is joined. Undefined when this system cannot carry this load. Another build of mcr may
 * stand for the one under test.
 */
export async function startSystem(
  name: SystemName,
  topology: Topology,
  load: Load,
  program = executable,
): Promise<RunningSystem | undefined> {
  switch (name) {
    case "none":
      return new RunningSystem([]);
    case "mcr":
      return startMcr(topology, load, { program });
    case "mcr exclusive":
      return startMcr(topology, load, { program, isExclusive: true });
    case "socat":
      return startSocat(topology, load);
    case "smcroute":
      return load.copies === 1 ? startSmcroute(topology, load) : undefined;
    case "mcr alone":
      return startAsked(topology, load);
    case "another mcr asked": {
      const { processes } = await startAsked(topology, load);
      const other = await startBystander(topology, load);
      const asker = await startAsker(topology, bystander.namespace, bystander.instance, "all");
      return new RunningSystem(processes, asker, other);
    }
    case "mcr asked":
      return startAsked(topology, load, "all");
    case "mcr watching flows":
      return startAsked(topology, load, "flows");
    default:
      return startMcr(topology, load, { program, settings: profiles[name] });
  }
}

async function startMcr(
  topology: Topology,
  load: Load,
  {
    program = executable,
    settings = "",
    isExclusive = false,
  }: { readonly program?: string; readonly settings?: string; readonly isExclusive?: boolean },
): Promise<RunningSystem> {
  const workers = load.workers === undefined ? "" : `workers = ${load.workers}\n`;
  const file = `[relay]\n${workers}${settings}\n${rulesOf(load, isExclusive)}`;
  await writeInside(topology, "/run/rules.toml", file);
  const relay = topology.spawn(namespace, [...onCpu(relayCpu), program, "run", "/run/rules.toml"]);
  await relay.waitForOutput(/running [\d,]+ rules? of/, 15_000);
  return new RunningSystem([relay]);
}

/** What answers runs beside the generator, and so does who asks. */
async function startAsked(topology: Topology, load: Load, what?: "all" | "flows"): Promise<RunningSystem> {
  const { processes } = await startMcr(topology, load, { settings: askedSettings });
  for (const { pid } of processes) moveAside(pid, generatorCpu);
  return new RunningSystem(processes, what && (await startAsker(topology, namespace, "mcr", what)));
}

const askedSettings = 'metrics = ":9477"\n';
const bystander = { namespace: "gen-ns", instance: "bystander" };

/** The same rules where no packet comes for them. */
async function startBystander(topology: Topology, load: Load): Promise<Process> {
  const rules = rulesOf(load).replaceAll("veth1", "veth0").replaceAll("veth2", "lo");
  const file = `/run/${bystander.instance}.toml`;
  await writeInside(topology, file, `[relay]\nworkers = 1\n${askedSettings}\n${rules}`);
  const command = [executable, "run", "-i", bystander.instance, file];
  const relay = topology.spawn(bystander.namespace, [...onCpu(generatorCpu), ...command]);
  await relay.waitForOutput(/running [\d,]+ rules? of/, 15_000);
  return relay;
}

async function startAsker(
  topology: Topology,
  where: string,
  instance: string,
  what: "all" | "flows",
): Promise<Process> {
  const asker = topology.spawn(where, [
    ...[...onCpu(generatorCpu), process.execPath, join(import.meta.dir, "asker.ts")],
    ...[`/run/mcr/${instance}.sock`, "http://127.0.0.1:9477/metrics", what],
  ]);
  await asker.waitForOutput(/^\d+$/m);
  return asker;
}

/** A rule for each stream. */
export function rulesOf({ streams, copies }: Pick<Load, "streams" | "copies">, isExclusive = false): string {
  const rules = Array.from({ length: streams }, (_, i) => {
    const { group, port } = ingressOf(i);
    return ruleText({
      name: `stream-${i}`,
      ingress: `interface = "veth1", group = "${group}", port = ${port}, exclusive = ${isExclusive}`,
      egress: Array.from({ length: copies }, (_, k) => {
        const to = egressOf(i, k);
        return `interface = "veth2", group = "${to.group}", port = ${to.port}`;
      }),
    });
  });
  return rules.join("\n");
}

async function startSocat(topology: Topology, load: Load): Promise<RunningSystem> {
  const processes: Process[] = [];
  for (let i = 0; i < load.streams; i += 1) {
    const { group, port } = ingressOf(i);
    for (let k = 0; k < load.copies; k += 1) {
      const to = egressOf(i, k);
      processes.push(
        topology.spawn(namespace, [
          ...onCpu(relayCpu),
          "socat",
          "-u",
          `UDP4-RECV:${port},reuseaddr,bind=${group},ip-add-membership=${group}:veth1,rcvbuf=4194304`,
          `UDP4-DATAGRAM:${to.group}:${to.port},ip-multicast-if=${address.relayEgress},ip-multicast-ttl=1`,
        ]),
      );
    }
  }
  const running = new RunningSystem(processes);
  await waitForGroups(topology, load);
  return running;
}

async function startSmcroute(topology: Topology, load: Load): Promise<RunningSystem> {
  const routes = Array.from({ length: load.streams }, (_, i) => {
    const { group } = ingressOf(i);
    return `mgroup from veth1 group ${group}\nmroute from veth1 group ${group} source ${address.gen} to veth2\n`;
  });
  await writeInside(
    topology,
    "/run/smcroute.conf",
    `phyint veth1 enable ttl-threshold 1\nphyint veth2 enable ttl-threshold 1\n${routes.join("")}`,
  );
  // Its joins are on one socket, so the limit has to be raised for it.
  await topology.output(namespace, ["sh", "-c", "echo 10000 > /proc/sys/net/ipv4/igmp_max_memberships"]);
  const daemon = topology.spawn(namespace, [
    ...onCpu(relayCpu),
    ...[
      "smcrouted",
      "-n",
      "-N",
      "-f",
      "/run/smcroute.conf",
      "-P",
      "/run/smcroute.pid",
      "-u",
      "/run/smcroute.sock",
    ],
  ]);
  await waitForGroups(topology, load);
  return new RunningSystem([daemon]);
}

async function waitForGroups(topology: Topology, { streams }: Load): Promise<void> {
  await waitUntil(
    async () => {
      const groups = await joinedGroups(topology, namespace, "veth1");
      return groups.filter((group) => group.startsWith("239.")).length >= streams;
    },
    { what: `${streams} groups to be joined`, deadlineMs: 20_000, intervalMs: 50 },
  );
}

async function writeInside(topology: Topology, file: string, text: string): Promise<void> {
  const written = await topology.run(namespace, ["sh", "-c", `cat > ${file}`], { stdin: text });
  if (written.exitCode !== 0) throw new Error(`cannot write ${file}: ${written.stderr}`);
}
