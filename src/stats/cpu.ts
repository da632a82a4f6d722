// CPU time of the process and of each worker's thread, as the kernel accounts it: system calls included.
// proc(5), /proc/PID/task/TID/stat; the workers are known by the name that c/forward.c gives them.
import { readdirSync, readFileSync } from "node:fs";

/** USER_HZ, in which every Linux that Bun runs on tells times. */
const ticksPerSecond = 100;

export interface CpuSeconds {
  readonly process: number;
  /** In order; undefined for a worker that has not started, or has ended. */
  readonly workers: readonly (number | undefined)[];
}

export function readCpuSeconds(workerCount: number): CpuSeconds {
  const { user, system } = process.cpuUsage();
  const byName = new Map(readThreads().map(({ name, seconds }) => [name, seconds]));
  return {
    process: (user + system) / 1e6,
    workers: Array.from({ length: workerCount }, (_, worker) => byName.get(`mcr-worker-${worker}`)),
  };
}

function readThreads(): { name: string; seconds: number }[] {
  try {
    return readdirSync("/proc/self/task").flatMap((tid) =>
      parseStat(readFileSync(`/proc/self/task/${tid}/stat`, "utf8")),
    );
  } catch {
    return []; // a thread ended while its file was read
  }
}

/** `123 (name) S …`: utime and stime are the 14th and 15th field, and the name may hold anything. */
export function parseStat(stat: string): { name: string; seconds: number }[] {
  const end = stat.lastIndexOf(")");
  const fields = stat.slice(end + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks)
    ? [{ name: stat.slice(stat.indexOf("(") + 1, end), seconds: ticks / ticksPerSecond }]
    : [];
}
