// When drops begin and when they end, out of counters that only grow: for the events. A drop counter that has been
// still for two seconds has ended. Pure but for what it remembers.

export interface DropCounter<Place> {
  /** The same counter has the same key for as long as it lives. */
  readonly key: string;
  readonly place: Place;
  readonly total: number;
}

export interface DropChange<Place> {
  readonly change: "began" | "ended";
  readonly place: Place;
  /** Since they began. */
  readonly packets: number;
}

interface Seen {
  total: number;
  /** When they began; undefined while nothing drops. */
  beganAt: number | undefined;
  grownAtMs: number;
}

const stillMs = 2_000;

export class DropWatch<Place> {
  #seen: Map<string, Seen> | undefined;

  /** What was dropped before the first look is no news; a counter that comes later began at zero. */
  look(counters: Iterable<DropCounter<Place>>, nowMs: number): readonly DropChange<Place>[] {
    const before = this.#seen;
    const now = new Map<string, Seen>();
    const changes: DropChange<Place>[] = [];
    for (const { key, place, total } of counters) {
      const seen = before?.get(key) ?? { total: before ? 0 : total, beganAt: undefined, grownAtMs: nowMs };
      now.set(key, seen);
      if (total > seen.total) {
        if (seen.beganAt === undefined) changes.push({ change: "began", place, packets: total - seen.total });
        seen.beganAt ??= seen.total;
        seen.grownAtMs = nowMs;
        seen.total = total;
      } else if (seen.beganAt !== undefined && nowMs - seen.grownAtMs >= stillMs) {
        changes.push({ change: "ended", place, packets: total - seen.beganAt });
        seen.beganAt = undefined;
      }
    }
    this.#seen = now;
    return changes;
  }

  /** Nobody looks any more. */
  forget(): void {
    this.#seen = undefined;
  }
}
