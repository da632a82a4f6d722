// CPU time as the kernel accounts it in nanoseconds (/proc/PID/task/*/schedstat), stolen time, and the burners that
// keep a virtual CPU awake: an idle one is slow to come back, and that would be measured instead of the relay.

import { readdirSync, readFileSync } from "node:fs";

/** The generator and the sink run here, the relay on the other one. */
export const generatorCpu = 0;
export const relayCpu = 1;

/** What the names of mcr's data-plane threads begin with. */
export const workerThreads = "mcr-worker-";

/**
 * Tells what all threads of these processes have used since the call, or those whose names begin so. Each thread is
 * counted by itself: one that ends takes nothing back of what it used before. (What it used since is not seen; the
 * runtime ends its compiler threads when they have been idle for 10 s.)
 */
export function meterCpu(pids: readonly number[], name = ""): () => number {
  const before = new Map(threadsOf(pids, name));
  return () => {
    let ns = 0;
    for (const [thread, ran] of threadsOf(pids, name)) ns += ran - (before.get(thread) ?? 0);
    return ns;
  };
}

/** Each with the CPU time it has used so far, ns. */
function* threadsOf(pids: readonly number[], name: string): Generator<[thread: string, ranNs: number]> {
  for (const pid of pids)
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const task = `${pid}/task/${thread}`;
      if (!commandOf(task).startsWith(name)) continue;
      const [ran = ""] = readIfThere(`/proc/${task}/schedstat`).split(" ");
      if (ran !== "") yield [thread, Number(ran)];
    }
}

/** The kernel threads that take over interrupt work under load. */
export const interruptThreads: readonly number[] = readdirSync("/proc")
  .filter((name) => /^\d+$/.test(name))
  .map(Number)
  .filter((pid) => commandOf(String(pid)).startsWith("ksoftirqd/"));

/** All threads of an mcr but its workers go to this CPU; those that they start later, too. */
export function moveAside(pid: number, cpu: number): void {
  for (const thread of readdirSync(`/proc/${pid}/task`))
    if (!commandOf(`${pid}/task/${thread}`).startsWith(workerThreads))
      Bun.spawnSync(["taskset", "--pid", "--cpu-list", String(cpu), thread]);
}

function commandOf(task: string): string {
  return readIfThere(`/proc/${task}/comm`);
}

/** Empty when the task has ended. */
function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** Starts to watch; the function it returns tells which share of the wall time the host has taken away since. */
export function watchSteal(): () => number {
  const before = stolenSeconds();
  const began = performance.now();
  return () => (stolenSeconds() - before) / ((performance.now() - began) / 1000);
}

/** Over all CPUs, in ticks of 10 ms: proc(5), /proc/stat. */
function stolenSeconds(): number {
  return Number(readFileSync("/proc/stat", "utf8").split("\n")[0]?.trim().split(/\s+/)[8] ?? 0) / 100;
}

/** A spinning process on each CPU that runs only when nothing else wants to: sched(7), SCHED_IDLE. */
export function startBurners(): Disposable {
  const burners = [generatorCpu, relayCpu].map((cpu) =>
    Bun.spawn([
      ...onCpu(cpu),
      "chrt",
      "--idle",
      "0",
      "setpriv",
      "--pdeathsig",
      "KILL",
      "sh",
      "-c",
      "while :; do :; done",
    ]),
  );
  return {
    [Symbol.dispose]() {
      for (const burner of burners) burner.kill("SIGKILL");
    },
  };
}

export function onCpu(cpu: number): readonly string[] {
  return ["taskset", "--cpu-list", String(cpu)];
}
