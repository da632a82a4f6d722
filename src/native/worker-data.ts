// What the main thread hands to a worker at its start. A handle is an address, so it crosses the threads as a number.
import type { RelayHandle } from "./shim.ts";

export interface WorkerData {
  /** Of the extracted shim: every thread maps the same copy. */
  readonly path: string;
  readonly relay: RelayHandle;
  readonly worker: number;
  readonly cpu: number;
  /** Shared with the main thread; the word of each worker counts its native calls. */
  readonly beats: Int32Array<SharedArrayBuffer>;
}

/** node:worker_threads types it as any; only the relay starts workers, with exactly this. */
export function workerDataOf(data: unknown): WorkerData {
  return data as WorkerData;
}
