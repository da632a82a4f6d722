// What every end-to-end case must show: the receiver got each datagram exactly once and intact, and sender, relay and
// receiver agree on the numbers, packet by packet and by name.

import { expect } from "bun:test";
import type { Stats } from "../../src/control/protocol.ts";
import { faultsOf, noFaults, type ReceiveResult, type SendResult } from "./traffic.ts";
import { mayReorder, variant } from "./variant.ts";

export interface Case {
  readonly sent: SendResult;
  readonly received: ReceiveResult;
  readonly stats: Stats;
  /** How many egresses each stream goes to. */
  readonly copies?: number;
  /** Does the relay promise the order of each stream? By default as the variant does. */
  readonly isOrdered?: boolean;
}

/** Nothing doubled, damaged, astray or dropped by the receiver; and in order, where that is promised. */
export function expectIntact(received: ReceiveResult, isOrdered = !mayReorder(variant.settings)): void {
  const faults = faultsOf(received);
  expect(isOrdered ? faults : { ...faults, reordered: 0 }).toEqual(noFaults);
}

/** 0 lost, 0 duplicated, in order, identical; and the relay's counters equal the receiver's. */
export function expectEveryPacket({ sent, received, stats, copies = 1, isOrdered }: Case): void {
  expectIntact(received, isOrdered);
  expect(received.received).toBe(sent.sent * copies);
  if (copies === 1)
    expect(received.streams.map((stream) => stream.received)).toEqual(
      sent.streams.map((stream) => stream.sent),
    );
  expectAccounted({ sent, received, stats, copies });
}

/** Sent = received + the relay's named drops; and what the relay says it sent is what arrived. */
export function expectAccounted({ sent, received, stats, copies = 1 }: Case): void {
  const { totals } = stats;
  expect(totals.packets + ringDropped(stats)).toBe(sent.sent);
  expect(totals.matched + totals.ingress_dropped).toBe(sent.sent);
  expect(totals.sent_packets + totals.egress_dropped).toBe(totals.matched * copies);
  expect(totals.sent_packets).toBe(received.received);
  expect(sum(stats.rules.map((rule) => rule.packets))).toBe(totals.matched);
  expect(sum(stats.workers.map((worker) => worker.matched))).toBe(totals.matched);
  expect(sum(stats.workers.map((worker) => worker.sent_packets))).toBe(totals.sent_packets);
}

/** Several receivers, or several senders, as one; what each of them got is compared on its own where it matters. */
export function receivedTogether(results: readonly ReceiveResult[]): ReceiveResult {
  const [first] = results;
  if (!first) throw new Error("there is a receiver");
  const total = (read: (result: ReceiveResult) => number) => sum(results.map(read));
  return {
    ...first,
    received: total((result) => result.received),
    duplicated: total((result) => result.duplicated),
    reordered: total((result) => result.reordered),
    corrupt: total((result) => result.corrupt),
    wrong_stream: total((result) => result.wrong_stream),
    socket_drops: total((result) => result.socket_drops),
    streams: results.flatMap((result) => result.streams),
  };
}

/** The same streams, sent several times with higher sequence numbers each time. */
export function sentInTurn(results: readonly SendResult[]): SendResult {
  const [first] = results;
  if (!first) throw new Error("there is a sender");
  return {
    ...first,
    sent: sum(results.map((result) => result.sent)),
    streams: first.streams.map((stream, i) => ({
      ...stream,
      sent: sum(results.map((result) => result.streams[i]?.sent ?? 0)),
    })),
  };
}

export function sentTogether(results: readonly SendResult[]): SendResult {
  const [first] = results;
  if (!first) throw new Error("there is a sender");
  return {
    ...first,
    sent: sum(results.map((result) => result.sent)),
    streams: results.flatMap((result) => result.streams),
  };
}

function ringDropped(stats: Stats): number {
  return sum(stats.interfaces.map(({ dropped }) => dropped.ring));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
