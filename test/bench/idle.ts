// What an mcr of 500 rules and 2 workers costs while nothing comes: CPU, and resident memory without the rings, which
// are as large as they are set to be.

import { readFileSync } from "node:fs";
import { startRelay } from "../support/relay.ts";
import { openTopology } from "../support/topology.ts";
import { meterCpu } from "./cpu.ts";
import { spreadOf } from "./report.ts";
import { rulesOf } from "./systems.ts";
import type { Figures } from "./targets.ts";

/** What is left of the start is over: the runtime compiles for some ten seconds what it has run often. */
const settleMs = 20_000;

export async function idleFigures(seconds: number): Promise<Figures> {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, rulesOf({ streams: 500, copies: 1 }), { workers: 2 });
  await Bun.sleep(settleMs);
  const { pid } = relay.process;
  const percents: number[] = [];
  for (let second = 0; second < seconds; second += 1) {
    const usedNs = meterCpu([pid]);
    const beganMs = performance.now();
    await Bun.sleep(1000);
    percents.push(usedNs() / 1e4 / (performance.now() - beganMs));
  }
  return new Map([
    ["idle CPU", spreadOf(percents)],
    ["resident MB", spreadOf([residentMb(pid)])],
  ]);
}

/** Pages in memory of every mapping but those of packet sockets: proc(5), /proc/PID/smaps. */
function residentMb(pid: number): number {
  let isRing = false;
  let kib = 0;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isRing = line.includes(" socket:[");
    const rss = /^Rss:\s+(\d+) kB/.exec(line)?.[1];
    if (rss !== undefined && !isRing) kib += Number(rss);
  }
  return (kib * 1024) / 1e6;
}
