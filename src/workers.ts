// The data-plane threads: one for each CPU given, started once, ended only by the relay's stop.
// Spawns them, so it lies beside worker.ts: a compiled program finds a worker only beside its entry.
import { Worker } from "node:worker_threads";
import { messageOf } from "./error.ts";
import type { Log } from "./log.ts";
import type { RelayHandle, Shim } from "./native/shim.ts";
import type { WorkerData } from "./native/worker-data.ts";

/** INT and TERM end within 2 s, whatever a worker does. */
const stopMs = 1_500;

export class Workers {
  readonly #threads: Worker[] = [];
  readonly #ended: Promise<unknown>[] = [];
  #isStopping = false;
  /** A worker that works, or sleeps because there is nothing to do, raises its word about once a second. */
  readonly beats: Int32Array<SharedArrayBuffer>;
  /** A worker has ended: nothing that waits for all of them will come to pass. */
  hasEnded = false;

  constructor(
    readonly shim: Shim,
    readonly relay: RelayHandle,
    readonly cpus: readonly number[],
    readonly log: Log,
    /** A worker ended unasked: the process has to end, and the service manager starts it again. */
    readonly onFatal: (reason: string) => void,
  ) {
    this.beats = new Int32Array(new SharedArrayBuffer(4 * cpus.length));
  }

  /** Returns when every worker is on its CPU. */
  async start(): Promise<void> {
    await Promise.all(this.cpus.map((cpu, worker) => this.#start(worker, cpu)));
  }

  /** The workers send what is captured, then end; one that does not within the time is ended. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.shim.stop(this.relay);
    const timer = setTimeout(() => {
      for (const thread of this.#threads) void thread.terminate();
    }, stopMs);
    await Promise.all(this.#ended);
    clearTimeout(timer);
  }

  #start(worker: number, cpu: number): Promise<void> {
    const workerData: WorkerData = {
      path: this.shim.path,
      relay: this.relay,
      worker,
      cpu,
      beats: this.beats,
    };
    const thread = new Worker(new URL("./worker.ts", import.meta.url), { workerData });
    this.#threads.push(thread);
    this.#ended.push(new Promise((end) => thread.once("exit", end)));
    return new Promise((ready) => {
      let reason = "it ended unasked";
      thread.on("error", (error) => {
        reason = messageOf(error);
      });
      thread.on("message", (message: unknown) => {
        if (message === "ready") {
          this.log.info("DataPlane", `worker ${worker} on CPU ${cpu}`);
          ready();
        } else if (typeof message === "object" && message !== null && "fatal" in message) {
          reason = String(message.fatal);
        }
      });
      thread.on("exit", () => {
        this.hasEnded = true;
        if (!this.#isStopping) this.onFatal(`worker ${worker} on CPU ${cpu} failed: ${reason}`);
      });
    });
  }
}
