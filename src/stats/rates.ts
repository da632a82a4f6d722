// Packets and bits per second of rules and egresses, from samples that the relay takes as time goes by: an answer needs
// no waiting, and covers the last one to two seconds up to the moment it is asked for.

interface Sample {
  readonly atMs: number;
  readonly packets: number;
  readonly bytes: number;
}

export interface Measured {
  readonly packets_per_s: number;
  readonly bits_per_s: number;
}

const sampleMs = 1_000;
/** A shorter time says more about the ring's blocks than about the stream. */
const windowMsMin = 250;

export class Rates {
  /** By what counts: [before the last, last]. They go with their rule. */
  readonly #samples = new WeakMap<object, readonly [Sample, Sample]>();
  #sampledAtMs = Number.NEGATIVE_INFINITY;

  /** @param nowMs a clock that is never set. */
  constructor(readonly nowMs: () => number) {}

  get isDue(): boolean {
    return this.nowMs() - this.#sampledAtMs >= sampleMs;
  }

  /** All that count, when due. */
  sample(counting: Iterable<readonly [what: object, packets: number, bytes: number]>): void {
    const atMs = this.nowMs();
    this.#sampledAtMs = atMs;
    for (const [what, packets, bytes] of counting) {
      const last = { atMs, packets, bytes };
      this.#samples.set(what, [this.#samples.get(what)?.[1] ?? last, last]);
    }
  }

  /** Undefined for what is too new. */
  of(what: object, packets: number, bytes: number): Measured | undefined {
    const from = this.#samples.get(what)?.[0];
    if (!from) return undefined;
    const ms = this.nowMs() - from.atMs;
    if (ms < windowMsMin) return undefined;
    const perSecond = (difference: number) => Math.round((difference / ms) * 1_000_000) / 1_000;
    return {
      packets_per_s: perSecond(packets - from.packets),
      bits_per_s: perSecond((bytes - from.bytes) * 8),
    };
  }
}
