// Spans filed under keys such as "eth0 udp", each with the number of its rule, and the question which of them a span
// overlaps. Used by duplicate.ts and cycle.ts. Add everything, then ask: an answer costs about as much as the spans
// near it, also when 5,000 rules share one group, or one rule has 65,536 groups.
import { overlaps, type Span } from "./span.ts";

interface Filed {
  readonly span: Span;
  readonly rule: number;
}

export class SpanIndex {
  readonly #shelves = new Map<string, Shelf>();

  add(key: string, span: Span, rule: number): void {
    const id = `${key} ${span.space}`;
    const shelf = this.#shelves.get(id) ?? new Shelf();
    this.#shelves.set(id, shelf);
    shelf.add({ span, rule });
  }

  /** The rule of every span under the key that overlaps this one; a rule may come twice. */
  *find(key: string, span: Span): Generator<number> {
    for (const filed of this.#shelves.get(`${key} ${span.space}`)?.near(span) ?? [])
      if (overlaps(filed.span, span)) yield filed.rule;
  }
}

/** A band this high would make every search among the ports of a group look at it; it is filed apart. */
const manyPorts = 32_768;

/** Upright lines by group, then port; everything else by group. */
class Shelf {
  readonly #upright = new Map<number, Intervals>();
  readonly #wide = new Intervals();
  readonly #everyPort = new Intervals();

  add(filed: Filed): void {
    const { from, to, portFrom, portTo } = filed.span;
    if (portTo - portFrom >= manyPorts) this.#everyPort.add(from, to, filed);
    else if (from !== to) this.#wide.add(from, to, filed);
    else this.#uprightAt(from).add(portFrom, portTo, filed);
  }

  #uprightAt(group: number): Intervals {
    const intervals = this.#upright.get(group) ?? new Intervals();
    this.#upright.set(group, intervals);
    return intervals;
  }

  *near(span: Span): Generator<Filed> {
    yield* this.#everyPort.meeting(span.from, span.to);
    yield* this.#wide.meeting(span.from, span.to);
    for (const group of this.#groupsIn(span)) {
      const shift = span.slope * (group - span.from);
      yield* this.#upright.get(group)?.meeting(span.portFrom + shift, span.portTo + shift) ?? [];
    }
  }

  *#groupsIn({ from, to }: Span): Generator<number> {
    if (to - from < this.#upright.size) {
      for (let group = from; group <= to; group += 1) yield group;
    } else {
      for (const group of this.#upright.keys()) if (group >= from && group <= to) yield group;
    }
  }
}

/** Intervals sorted by their start, with the furthest end so far: a search looks back no further than it can matter. */
class Intervals {
  #items: { start: number; end: number; filed: Filed; furthest: number }[] = [];
  #isSorted = true;

  add(start: number, end: number, filed: Filed): void {
    this.#items.push({ start, end, filed, furthest: end });
    this.#isSorted = false;
  }

  *meeting(start: number, end: number): Generator<Filed> {
    this.#sort();
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#items[middle]?.start ?? 0) <= end) low = middle + 1;
      else high = middle;
    }
    for (let i = low - 1; i >= 0; i -= 1) {
      const item = this.#items[i];
      if (!item || item.furthest < start) return;
      if (item.end >= start) yield item.filed;
    }
  }

  #sort(): void {
    if (this.#isSorted) return;
    this.#items.sort((a, b) => a.start - b.start);
    let furthest = 0;
    for (const item of this.#items) {
      furthest = Math.max(furthest, item.end);
      item.furthest = furthest;
    }
    this.#isSorted = true;
  }
}
