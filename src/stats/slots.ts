// Numbers for counter slots: the lowest free one, so that the pages in use stay few. A slot is released only when no
// worker can write it any more; whoever takes it next resets its counters.
import { assert } from "../error.ts";

export class SlotPool {
  /** Highest first once sorted, which a take needs and a row of releases does not. */
  readonly #free: number[] = [];
  #isSorted = true;
  #next = 0;

  constructor(readonly slotsMax: number) {}

  take(): number {
    if (!this.#isSorted) this.#free.sort((a, b) => b - a);
    this.#isSorted = true;
    const slot = this.#free.pop() ?? this.#next++;
    assert(slot < this.slotsMax, `no more than ${this.slotsMax} counter slots are asked for`);
    return slot;
  }

  release(slot: number): void {
    this.#free.push(slot);
    this.#isSorted = false;
  }

  get taken(): number {
    return this.#next - this.#free.length;
  }
}
