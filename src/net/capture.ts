// Capture of one ingress interface: a ring for each worker, all in one fanout group, one filter for all of them.
// Opened and closed by the relay on the main thread; the workers read the rings through the rule table.

import { assert } from "../error.ts";
import { constants } from "../native/abi.ts";
import type { AddressRange, RingHandle, Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { parseAddressRange } from "./address.ts";
import type { InterfaceState } from "./interfaces.ts";
import { fanoutOfOne, type RingShape } from "./profile.ts";

/** More ranges than this are merged with their neighbours, so that two filters fit the 20 KiB that older kernels allow
 * a socket (net.core.optmem_max): the filter may admit more than the rules want. */
const filterRangesMax = 128;

export type RingShim = Pick<
  Shim,
  | "openRings"
  | "closeRing"
  | "ringFanoutId"
  | "ringReceiveBytes"
  | "filterRing"
  | "takeRingDrops"
  | "ringTaken"
  | "isRingBound"
  | "ringUnread"
  | "discardRing"
>;

/**
 * A capture of each interface, or the kernel's reason why there is none. All rings are opened at once: the kernel makes
 * every one of them wait.
 */
export function openCaptures(
  shim: RingShim,
  states: readonly InterfaceState[],
  workerCount: number,
  shape: RingShape,
): readonly (Capture | SystemError)[] {
  const fanout = workerCount === 1 ? fanoutOfOne : shape.fanout;
  const options = states.flatMap(({ ifindex }) =>
    Array.from({ length: workerCount }, () => ({
      ...shape,
      fanout,
      ifindex,
      fanout_id: constants.MCR_FANOUT_NEW,
    })),
  );
  const opened = shim.openRings(options);
  return states.map((state, i) => {
    const rings: RingHandle[] = [];
    let refusal: SystemError | undefined;
    for (const ring of opened.slice(i * workerCount, (i + 1) * workerCount)) {
      if (ring instanceof SystemError) refusal ??= ring;
      else rings.push(ring);
    }
    if (!refusal) return new Capture(shim, state, rings);
    for (const ring of rings) shim.closeRing(ring);
    return refusal;
  });
}

/** A ring that loses frames while no worker takes any from it is stuck after so many looks in a row. */
const stuckLooks = 4;

interface Progress {
  dropped: number;
  droppedBefore: number;
  taken: number;
  /** Looks in a row that found nothing taken, and more dropped than the look before. */
  stuckLooks: number;
}

export class Capture {
  #ranges = "";
  readonly #progress: readonly Progress[];

  /** Takes over the rings, which are of one fanout group and admit nothing until `admit`. */
  constructor(
    readonly shim: RingShim,
    readonly state: InterfaceState,
    readonly rings: readonly RingHandle[],
  ) {
    this.#progress = rings.map(() => ({ dropped: 0, droppedBefore: 0, taken: 0, stuckLooks: 0 }));
  }

  get ifindex(): number {
    return this.state.ifindex;
  }

  get fanoutId(): number {
    const [first] = this.rings;
    assert(first !== undefined, "a capture has a ring for each worker");
    return this.shim.ringFanoutId(first);
  }

  /** 0: by block. */
  get receiveBytes(): number {
    return Math.min(...this.rings.map((ring) => this.shim.ringReceiveBytes(ring)));
  }

  /** Admits IPv4 UDP to these groups (`A` or `A-B`), and nothing else. */
  admit(groups: Iterable<string>): void {
    const ranges = mergeRanges(groups, filterRangesMax);
    const key = JSON.stringify(ranges);
    if (key === this.#ranges) return;
    for (const ring of this.rings) this.shim.filterRing(ring, ranges);
    this.#ranges = key;
  }

  /** Frames that the kernel dropped, since the last call. */
  takeDrops(): number {
    let sum = 0;
    for (const [i, progress] of this.#progress.entries()) {
      const drops = this.shim.takeRingDrops(this.#ring(i));
      progress.dropped += drops;
      sum += drops;
    }
    return sum;
  }

  /** Looks once more, at regular times. True when a ring only drops: whatever the cause, a new one may not. */
  isStuck(): boolean {
    for (const [i, progress] of this.#progress.entries()) {
      const taken = this.shim.ringTaken(this.#ring(i));
      if (taken !== progress.taken) progress.stuckLooks = 0;
      else if (progress.dropped > progress.droppedBefore) progress.stuckLooks += 1;
      progress.taken = taken;
      progress.droppedBefore = progress.dropped;
    }
    return this.#progress.some((progress) => progress.stuckLooks >= stuckLooks);
  }

  /** False once the interface was taken from this namespace: also when it is back, with the same index. */
  get isBound(): boolean {
    return this.rings.every((ring) => this.shim.isRingBound(ring));
  }

  /** Frames that lie in the rings, captured and not sent yet. */
  get unread(): number {
    return this.rings.reduce((sum, ring) => sum + this.shim.ringUnread(ring), 0);
  }

  /** Frames that are left when no worker reads the rings any more: they are lost. */
  discard(): number {
    return this.rings.reduce((sum, ring) => sum + this.shim.discardRing(ring), 0);
  }

  /** Only when no worker uses the rings any more. */
  close(): void {
    for (const ring of this.rings) this.shim.closeRing(ring);
  }

  #ring(index: number): RingHandle {
    const ring = this.rings[index];
    assert(ring !== undefined, "each ring has its progress");
    return ring;
  }
}

function ipv4Number(address: string): number {
  return address.split(".").reduce((value, part) => value * 256 + Number(part), 0);
}

/** Sorted, disjoint, adjacent ones joined; then, beyond `rangesMax`, the ones with the smallest gaps joined as well. */
export function mergeRanges(groups: Iterable<string>, rangesMax: number): readonly AddressRange[] {
  const sorted = [...new Set(groups)]
    .map((group) => parseAddressRange(group))
    .filter((range) => range !== undefined)
    .map(({ first, last }) => ({ first: ipv4Number(first), last: ipv4Number(last) }))
    .sort((a, b) => a.first - b.first);
  const disjoint = join(sorted, (gap) => gap <= 1);
  const excess = disjoint.length - rangesMax;
  if (excess <= 0) return disjoint;
  const gaps = disjoint.slice(1).map((range, i) => ({ range, gap: range.first - (disjoint[i]?.last ?? 0) }));
  gaps.sort((a, b) => a.gap - b.gap);
  const closed = new Set(gaps.slice(0, excess).map(({ range }) => range));
  return join(disjoint, (_, range) => closed.has(range));
}

/** Joins sorted ranges to the one before where `isJoined` says so. */
function join(
  sorted: readonly AddressRange[],
  isJoined: (gap: number, range: AddressRange) => boolean,
): readonly AddressRange[] {
  const joined: { first: number; last: number }[] = [];
  for (const range of sorted) {
    const previous = joined.at(-1);
    if (previous && isJoined(range.first - previous.last, range))
      previous.last = Math.max(previous.last, range.last);
    else joined.push({ ...range });
  }
  return joined;
}
