// What a computation costs, for tests that refuse one that grows with the square of its input: CPU time, which other
// programs on a busy machine take none of. The bound is many times what it takes, and far below what the square would.

/** Milliseconds of this process, garbage collection included. */
export function cpuMsOf(action: () => void): number {
  const before = process.cpuUsage();
  action();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
