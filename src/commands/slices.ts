// How an instrument runs: slice by slice of native work, with the event loop in between, so that a signal ends it and
// its result is still printed. A slice is short enough for Ctrl-C to feel immediate.

export type Ending = "done" | "deadline" | "signal";

const sliceMs = 100;

export interface Slices {
  /** Blocks for about budgetMs; true when there is no more to do. */
  run(budgetMs: number): boolean;
  /** After every slice. */
  progress(): void;
  readonly deadlineMs?: number | undefined;
}

export async function runSlices({ run, progress, deadlineMs = Infinity }: Slices): Promise<Ending> {
  const endMs = performance.now() + deadlineMs;
  let stopped = false;
  const stop = () => {
    stopped = true;
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    while (!stopped) {
      const leftMs = endMs - performance.now();
      if (leftMs <= 0) return "deadline";
      if (run(Math.max(1, Math.min(sliceMs, Math.ceil(leftMs))))) return "done";
      progress();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return "signal";
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
