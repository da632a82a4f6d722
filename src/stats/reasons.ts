// Why a packet was dropped: the one list of reasons, which answers, metrics, events and screens go by. c/mcr.h tells
// what each means.
import type { EgressCounts, InterfaceCounts } from "./counters.ts";

export const ingressReasons = [
  "ring",
  "no_match",
  "tagged",
  "malformed",
  "truncated",
  "bad_checksum",
  "fragment_late",
  "fragment_overlap",
  "fragment_full",
  "fragment_malformed",
  "other_host",
  "looped",
] as const;
export type IngressReason = (typeof ingressReasons)[number];
export type IngressDrops = Readonly<Record<IngressReason, number>>;

/** What no rule wants, or has had already, is counted as well, and is no loss. */
const unwanted: ReadonlySet<string> = new Set(["no_match", "tagged", "other_host", "looped"]);
export const lossReasons = ingressReasons.filter((reason) => !unwanted.has(reason));

/** What DROPPED says of an interface, and `ingress_dropped` of all: not what nobody wanted. */
export function sumOfLosses(dropped: IngressDrops): number {
  return lossReasons.reduce((total, reason) => total + dropped[reason], 0);
}

export const egressReasons = ["full", "error", "unavailable", "expired"] as const;
export type EgressReason = (typeof egressReasons)[number];
export type EgressDrops = Readonly<Record<EgressReason, number>>;

/** @param ring frames that found the ring full, were left unread in it, or could not be described: no worker saw them. */
export function ingressDrops(counts: InterfaceCounts, ring: number): IngressDrops {
  const dropped = ingressReasons.map((reason) => [reason, reason === "ring" ? ring : counts[reason]]);
  return Object.fromEntries(dropped);
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

/** What the kernel dropped behind `sent`: of the device and of its queue, in the kernel's unit. */
export function sumOfDeviceDrops(device: {
  readonly dropped: number;
  readonly errors: number;
  readonly qdisc: { readonly dropped: number } | null;
}): number {
  return device.dropped + device.errors + (device.qdisc?.dropped ?? 0);
}
