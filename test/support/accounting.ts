// What every end-to-end case must show: the receiver got each datagram exactly once and intact, and sender, relay and
// receiver agree on the numbers, packet by packet and by name.

import { expect } from "bun:test";
import type { Stats } from "../../src/control/protocol.ts";
import { sumOfDrops } from "../../src/stats/reasons.ts";
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
  const { matched, ingress_dropped, sent_packets, egress_dropped } = stats.totals;
  // All in one, so that a packet that is missing shows where it was seen last.
  expect({
    ...{ matched, ingress_dropped, ring: ringDropped(stats) },
    ...{ sent_packets, egress_dropped, received: received.received },
  }).toEqual({
    ...{ matched: sent.sent, ingress_dropped: 0, ring: 0 },
    ...{ sent_packets: sent.sent * copies, egress_dropped: 0, received: sent.sent * copies },
  });
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

/**
 * A snapshot while packets are under way, c/mcr.h: no packet is counted on its way out that is not counted on its way
 * in. At rest the two are equal, for every interface and every egress of every rule; `expectAtRest` is for that.
 */
export function expectNoMoreOutThanIn({ totals, interfaces, rules, workers }: Stats, copies = 1): void {
  for (const { packets, matched, dropped } of interfaces)
    expect(matched + sumOfDrops({ ...dropped, ring: 0 })).toBeLessThanOrEqual(packets);
  expect(sum(rules.map(({ packets }) => packets))).toBeLessThanOrEqual(totals.matched);
  for (const { packets, egress } of rules)
    for (const each of egress)
      expect(each.sent_packets + sumOfDrops(each.dropped)).toBeLessThanOrEqual(packets);
  for (const { matched, sent_packets } of workers) expect(sent_packets).toBeLessThanOrEqual(matched * copies);
  expect(totals.sent_packets + totals.egress_dropped).toBeLessThanOrEqual(totals.matched * copies);
}

/** Nothing is under way, and no rule that carried packets was removed or changed. */
export function expectAtRest({ totals, interfaces, rules, workers }: Stats, copies = 1): void {
  for (const { packets, matched, dropped } of interfaces)
    expect(matched + sumOfDrops({ ...dropped, ring: 0 })).toBe(packets);
  expect(sum(rules.map(({ packets }) => packets))).toBe(totals.matched);
  for (const { packets, egress } of rules)
    for (const each of egress) expect(each.sent_packets + sumOfDrops(each.dropped)).toBe(packets);
  expect(sum(workers.map(({ matched }) => matched))).toBe(totals.matched);
  expect(sum(workers.map(({ sent_packets }) => sent_packets))).toBe(totals.sent_packets);
  expect(totals.sent_packets + totals.egress_dropped).toBe(totals.matched * copies);
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

export function ringDropped(stats: Stats): number {
  return sum(stats.interfaces.map(({ dropped }) => dropped.ring));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
