// Waiting for a condition with a deadline, so that no test sleeps and hopes. Whoever waits says what for; when the
// deadline passes the error repeats it together with the last value seen, which is usually the whole diagnosis.

export interface WaitOptions {
  /** Completes "waited for …". */
  readonly what: string;
  /** Only a failure waits that long, so it may be far beyond what a busy machine needs. */
  readonly deadlineMs?: number;
  readonly intervalMs?: number;
}

/** Calls `probe` until `accepts` takes its value, and returns that value. An error thrown by either ends the wait. */
export async function waitFor<T>(
  probe: () => T | Promise<T>,
  accepts: (value: T) => boolean,
  { what, deadlineMs = 30_000, intervalMs = 10 }: WaitOptions,
): Promise<T> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const value = await probe();
    if (accepts(value)) return value;
    if (performance.now() >= deadline) {
      throw new Error(`waited ${deadlineMs} ms for ${what}; last seen: ${Bun.inspect(value)}`);
    }
    await Bun.sleep(intervalMs);
  }
}

/** Calls `condition` until it returns something truthy, and returns that. */
export async function waitUntil<T>(condition: () => T | Promise<T>, options: WaitOptions): Promise<T> {
  return waitFor(condition, (value) => Boolean(value), options);
}
