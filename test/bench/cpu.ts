// CPU time as the kernel accounts it in nanoseconds (/proc/PID/task/*/schedstat), stolen time, and the burners that
// keep a virtual CPU awake: an idle one is slow to come back, and that would be measured instead of the relay.

import { readdirSync, readFileSync } from "node:fs";

/** The generator and the sink run here, the relay on the other one. */
export const generatorCpu = 0;
export const relayCpu = 1;

/** What the names of mcr's data-plane threads begin with. */
export const workerThreads = "mcr-worker-";

/** Of all threads of a process so far, or of those whose names begin so. */
export function cpuNs(pid: number, name = ""): number {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).reduce((sum, task) => {
    if (!commandOf(`${pid}/task/${task}`).startsWith(name)) return sum;
    const [ran = "0"] = readFileSync(`${tasks}/${task}/schedstat`, "utf8").split(" ");
    return sum + Number(ran);
  }, 0);
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
  try {
    return readFileSync(`/proc/${task}/comm`, "utf8");
  } catch {
    return ""; // it has ended
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
