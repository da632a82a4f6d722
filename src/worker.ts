// Data-plane thread: ties itself to its CPU, then sits in one native call. Started once, never restarted, silent.
// It ends when the relay stops; any other end is fatal for the process, and relay.ts sees to that.
import { parentPort, workerData } from "node:worker_threads";
import { messageOf } from "./error.ts";
import { Shim } from "./native/shim.ts";
import { workerDataOf } from "./native/worker-data.ts";

/** How long one native call lasts, so that it beats once in this time; wake-ups do not wait for it. */
const budgetMs = 1_000;

const { path, relay, worker, cpu, beats } = workerDataOf(workerData);
try {
  const shim = new Shim(path);
  shim.pinWorker(worker, cpu);
  parentPort?.postMessage("ready");
  while (shim.runWorker(relay, worker, budgetMs) === "again") Atomics.add(beats, worker, 1);
  process.exit(0); // ends this thread only
} catch (error) {
  // A thrown error can vanish in a worker; a message and an exit code cannot.
  parentPort?.postMessage({ fatal: messageOf(error) });
  setTimeout(() => process.exit(1), 0);
}
