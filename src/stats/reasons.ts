// Why a packet was dropped: the one list of reasons, which answers, metrics, events and screens go by. c/mcr.h tells
// what each means.
import type { EgressCounts, InterfaceCounts } from "./counters.ts";

export const ingressReasons = [
  "ring",
  "no_match",
  "tagged",
  "fragment",
  "malformed",
  "truncated",
  "bad_checksum",
] as const;
export type IngressReason = (typeof ingressReasons)[number];
export type IngressDrops = Readonly<Record<IngressReason, number>>;

/** Frames that no rule wants are counted as well; these were wanted by somebody, or may have been. */
export const lossReasons = ingressReasons.filter((reason) => reason !== "no_match" && reason !== "tagged");

/** What DROPPED says of an interface, and `ingress_dropped` of all: not what nobody wanted. */
export function sumOfLosses(dropped: IngressDrops): number {
  return lossReasons.reduce((total, reason) => total + dropped[reason], 0);
}

export const egressReasons = ["full", "error", "unavailable", "expired"] as const;
export type EgressReason = (typeof egressReasons)[number];
export type EgressDrops = Readonly<Record<EgressReason, number>>;

/** @param ring frames that found the ring full or were left unread in it: the workers never saw them. */
export function ingressDrops(counts: InterfaceCounts, ring: number): IngressDrops {
  const { no_match, tagged, fragment, malformed, truncated, bad_checksum } = counts;
  return { ring, no_match, tagged, fragment, malformed, truncated, bad_checksum };
}

export function egressDrops(counts: Pick<EgressCounts, `${EgressReason}_packets`>): EgressDrops {
  return {
    full: counts.full_packets,
    error: counts.error_packets,
    unavailable: counts.unavailable_packets,
    expired: counts.expired_packets,
  };
}

/** Of all reasons. */
export function sumOfDrops(dropped: Readonly<Record<string, number>>): number {
  return Object.values(dropped).reduce((total, packets) => total + packets, 0);
}
