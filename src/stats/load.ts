// How busy each worker is: its time spent on batches, over the last seconds. The workers count their time, the relay's
// tick takes it down here, and readers get the difference.
import type { Counters } from "./counters.ts";

const nsPerMs = 1_000_000;

interface Reading {
  readonly atMs: number;
  /** By worker. */
  readonly busyNs: readonly number[];
}

export class LoadMeter {
  readonly #readings: Reading[];

  constructor(
    readonly counters: Counters,
    /** Over which the load is told. */
    readonly windowMs: number,
    /** Of a clock that is never set. */
    nowMs: number,
  ) {
    this.#readings = [this.#read(nowMs)];
  }

  /** Once a tick. */
  take(nowMs: number): void {
    this.#readings.push(this.#read(nowMs));
    // One that is as old as the window stays, so that the window is full.
    while ((this.#readings[1]?.atMs ?? nowMs) <= nowMs - this.windowMs) this.#readings.shift();
  }

  /** Of each worker, 0 to 100: it counts a batch when it is done, so the newest one may be missing. */
  percent(nowMs: number): readonly number[] {
    const now = this.#read(nowMs);
    const [then = now] = this.#readings;
    const elapsedNs = (nowMs - then.atMs) * nsPerMs;
    return now.busyNs.map((busyNs, worker) => {
      const share = (busyNs - (then.busyNs[worker] ?? 0)) / elapsedNs;
      return elapsedNs > 0 ? Math.round(Math.min(1, share) * 1000) / 10 : 0;
    });
  }

  #read(atMs: number): Reading {
    const busyNs = this.counters.areas.map((_, worker) => {
      const { gather_ns, send_ns } = this.counters.worker(worker);
      return gather_ns + send_ns;
    });
    return { atMs, busyNs };
  }
}
