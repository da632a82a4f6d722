// What the egresses of removed rules have sent and dropped, by worker: so that totals only grow when rules go.
import type { Counters } from "./counters.ts";

export interface EgressTotals {
  readonly sent_packets: number;
  readonly sent_bytes: number;
  readonly full_packets: number;
  readonly error_packets: number;
  readonly unavailable_packets: number;
  readonly expired_packets: number;
}

const nothing: EgressTotals = {
  sent_packets: 0,
  sent_bytes: 0,
  full_packets: 0,
  error_packets: 0,
  unavailable_packets: 0,
  expired_packets: 0,
};

export class Retired {
  /** One for each worker. */
  readonly workers: EgressTotals[];

  constructor(readonly counters: Counters) {
    this.workers = counters.areas.map(() => nothing);
  }

  /** Takes the counts of a slot that no worker writes any more. */
  add(egressSlot: number): void {
    this.workers.forEach((totals, worker) => {
      this.workers[worker] = sumOf([totals, this.counters.egress(egressSlot, worker)]);
    });
  }
}

export function sumOf(parts: readonly EgressTotals[]): EgressTotals {
  return parts.reduce(
    (sum, part) => ({
      sent_packets: sum.sent_packets + part.sent_packets,
      sent_bytes: sum.sent_bytes + part.sent_bytes,
      full_packets: sum.full_packets + part.full_packets,
      error_packets: sum.error_packets + part.error_packets,
      unavailable_packets: sum.unavailable_packets + part.unavailable_packets,
      expired_packets: sum.expired_packets + part.expired_packets,
    }),
    nothing,
  );
}
