// What is on the wire: a passive look at interfaces for a short while, by rings of its own (c/observe.c) that the main
// thread reads; the workers know nothing of it. For `mcr show flows` through the daemon; `explain` and `scan` may call
// it in a process of their own: it needs CAP_NET_RAW and no daemon.
import type { ObserverHandle, SeenFlow, Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { type Address, addressOf } from "./address.ts";

/** In the order of c/mcr.h, enum mcr_seen_kind. */
export const seenKinds = ["udp", "query", "report", "leave"] as const;
export type SeenKind = (typeof seenKinds)[number];

/** One (interface, VLAN, source, destination, port, kind). Sizes and bytes are of the UDP payload. */
export interface Seen {
  readonly interface: string;
  /** 0: untagged. */
  readonly vlan: number;
  readonly source: Address;
  readonly destination: Address;
  /** Destination port; 0 for IGMP. */
  readonly port: number;
  readonly kind: SeenKind;
  readonly packets: number;
  readonly bytes: number;
  readonly size_min: number;
  readonly size_max: number;
  /** Since 1970. */
  readonly first_ms: number;
  readonly last_ms: number;
  readonly ttl: number;
  /** The first 64 bytes of the first payload; of IGMP the message. */
  readonly sample: Uint8Array;
}

export interface Observation {
  readonly seconds: number;
  readonly seen: readonly Seen[];
  /** Frames that this host was too slow to look at. */
  readonly dropped: number;
  /** Packets of flows beyond `flowsMax`. */
  readonly overflow: number;
  readonly failures: readonly { readonly interface: string; readonly reason: string }[];
}

export type ObserveShim = Pick<Shim, "openObserver" | "readObserver" | "observed" | "closeObserver">;

export interface ObserveOptions {
  readonly shim: ObserveShim;
  readonly interfaces: readonly { readonly name: string; readonly ifindex: number }[];
  readonly durationMs: number;
  /** UDP to these, 224.0.0.0 to 239.255.255.255 unless given; IPv4 as numbers. */
  readonly destinations?: { readonly first: number; readonly last: number };
  /** Told apart on each interface. */
  readonly flowsMax?: number;
  /** Of a clock that is never set. */
  readonly nowMs: () => number;
  readonly pause: (ms: number) => Promise<void>;
}

const multicast = { first: 0xe0_00_00_00, last: 0xef_ff_ff_ff };
/** 8 MiB take 40,000 frames: a million a second for twice this. */
const readEveryMs = 20;
const nsPerMs = 1_000_000;

interface Observer {
  readonly name: string;
  readonly handle: ObserverHandle;
}

export async function observe(options: ObserveOptions): Promise<Observation> {
  const { shim, durationMs, nowMs, pause } = options;
  const observers: Observer[] = [];
  const failures: { interface: string; reason: string }[] = [];
  try {
    for (const each of options.interfaces) open(options, each, observers, failures);
    const beganMs = nowMs();
    let endedMs = beganMs;
    while (endedMs - beganMs < durationMs && observers.length > 0) {
      await pause(Math.min(readEveryMs, Math.max(1, durationMs - (endedMs - beganMs))));
      for (const { handle } of observers) shim.readObserver(handle);
      endedMs = nowMs();
    }
    const results = observers.map(({ name, handle }) => ({ name, ...shim.observed(handle) }));
    return {
      seconds: (endedMs - beganMs) / 1000,
      seen: results.flatMap(({ name, flows }) => flows.map((flow) => seenOf(name, flow))),
      dropped: results.reduce((sum, { totals }) => sum + totals.dropped, 0),
      overflow: results.reduce((sum, { totals }) => sum + totals.overflow, 0),
      failures,
    };
  } finally {
    for (const { handle } of observers) shim.closeObserver(handle);
  }
}

function open(
  { shim, destinations = multicast, flowsMax = 4096 }: ObserveOptions,
  { name, ifindex }: { readonly name: string; readonly ifindex: number },
  observers: Observer[],
  failures: { interface: string; reason: string }[],
): void {
  try {
    const handle = shim.openObserver({
      ifindex,
      destination_first: destinations.first,
      destination_last: destinations.last,
      flows_max: flowsMax,
    });
    observers.push({ name, handle });
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    failures.push({
      interface: name,
      reason: `cannot watch ${name}: ${error.message}; ${cure(name, error)}`,
    });
  }
}

function cure(name: string, { code }: SystemError): string {
  if (code === "EPERM" || code === "EACCES") return "run as root, or give the process CAP_NET_RAW";
  return code === "ENOMEM" ? "it takes 8 MiB of kernel memory" : `check ip link show ${name}`;
}

function seenOf(name: string, flow: SeenFlow): Seen {
  return {
    interface: name,
    vlan: flow.vlan,
    source: addressOf(flow.source),
    destination: addressOf(flow.destination),
    port: flow.port,
    kind: seenKinds[flow.kind] ?? "udp",
    packets: flow.packets,
    bytes: flow.bytes,
    size_min: flow.size_min,
    size_max: flow.size_max,
    first_ms: flow.first_ns / nsPerMs,
    last_ms: flow.last_ns / nsPerMs,
    ttl: flow.ttl,
    sample: flow.sample,
  };
}
