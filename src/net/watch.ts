// What arrives on interfaces for a short while, by a scan (c/scan.c) beside the workers, which know nothing of it: for
// `mcr show flows`, in the running mcr, and `mcr explain`. It leaves the interfaces as they are and the event loop free:
// the rings are emptied now and then. It needs CAP_NET_RAW. IPv4 only, as the rules are.
import { scanInterfacesMax } from "../native/layouts.ts";
import { ListenError, type ScanHandle, type Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import type { Address } from "./address.ts";
import type { HeardFlow } from "./heard-flows.ts";
import type { HeardMember } from "./heard-members.ts";
import { type Heard, Hearing, type HearingShim } from "./hearing.ts";

/** Of one (interface, VLAN, source, destination, port). Sizes and bytes are of the UDP payload. */
export interface WatchedFlow {
  readonly interface: string;
  /** 0: untagged. Above 4095: 4096 more than the id of a tag that is not 802.1Q. */
  readonly vlan: number;
  readonly source: Address;
  readonly destination: Address;
  readonly port: number;
  readonly packets: number;
  readonly bytes: number;
  readonly size_min: number;
  readonly size_max: number;
  /** Since 1970. */
  readonly last_ms: number;
}

/** Of one (interface, VLAN, source, group), and whether it asks or answers. */
export interface WatchedIgmp {
  readonly interface: string;
  readonly vlan: number;
  readonly kind: HeardMember["kind"];
  readonly source: Address;
  /** The group; of a query for any group 224.0.0.1, where it is sent to. */
  readonly destination: Address;
  readonly packets: number;
  readonly last_ms: number;
}

export interface Watched {
  readonly seconds: number;
  readonly flows: readonly WatchedFlow[];
  readonly igmp: readonly WatchedIgmp[];
  /** Frames that this host was too slow to look at. */
  readonly dropped: number;
  /** Packets of flows beyond the most that are told apart. */
  readonly overflow: number;
  readonly failures: readonly { readonly interface: string; readonly reason: string }[];
}

export type WatchShim = Pick<Shim, "openScan" | "runScan" | "closeScan"> & HearingShim;

interface Interface {
  readonly name: string;
  readonly ifindex: number;
}

export interface WatchOptions {
  readonly shim: WatchShim;
  readonly interfaces: readonly Interface[];
  readonly durationMs: number;
  /** Of a clock that is never set. */
  readonly nowMs: () => number;
  readonly pause: (ms: number) => Promise<void>;
}

/** 8 MiB take 20,000 frames: 500,000 a second for twice this. */
const readEveryMs = 20;
const nsPerMs = 1_000_000;

interface Opened {
  readonly names: readonly string[];
  readonly scan: ScanHandle;
  readonly hearing: Hearing;
}

export async function watchWire({
  shim,
  interfaces,
  durationMs,
  nowMs,
  pause,
}: WatchOptions): Promise<Watched> {
  const opened: Opened[] = [];
  const failures: { interface: string; reason: string }[] = [];
  try {
    for (let first = 0; first < interfaces.length; first += scanInterfacesMax)
      openAll(shim, interfaces.slice(first, first + scanInterfacesMax), opened, failures);
    const beganMs = nowMs();
    let endedMs = beganMs;
    while (endedMs - beganMs < durationMs && opened.length > 0) {
      await pause(Math.min(readEveryMs, Math.max(1, durationMs - (endedMs - beganMs))));
      for (const { scan, hearing } of opened) {
        shim.runScan(scan, 0);
        hearing.take();
      }
      endedMs = nowMs();
    }
    const all = opened.map(({ names, hearing }) => ({ names, heard: hearing.all() }));
    const total = (of: (missed: Heard["missed"]) => number) =>
      all.reduce((sum, { heard }) => sum + of(heard.missed), 0);
    return {
      seconds: (endedMs - beganMs) / 1000,
      flows: all.flatMap(({ names, heard }) => heard.flows.map((flow) => watchedFlow(names, flow))),
      igmp: all.flatMap(({ names, heard }) => heard.members.map((member) => watchedIgmp(names, member))),
      dropped: total(({ ringFull }) => ringFull),
      overflow: total(({ flowsFull }) => flowsFull),
      failures,
    };
  } finally {
    for (const { scan } of opened) shim.closeScan(scan);
  }
}

/** Without those that cannot be watched, of which `failures` tells. */
function openAll(
  shim: WatchShim,
  interfaces: readonly Interface[],
  opened: Opened[],
  failures: { interface: string; reason: string }[],
): void {
  if (interfaces.length === 0) return;
  try {
    const scan = shim.openScan(
      interfaces.map(({ ifindex }) => ifindex),
      { ingressOnly: true },
    );
    opened.push({
      names: interfaces.map(({ name }) => name),
      scan,
      hearing: new Hearing(shim, scan),
    });
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const isBad = (_: Interface, index: number) => !(error instanceof ListenError) || index === error.index;
    for (const { name } of interfaces.filter(isBad))
      failures.push({
        interface: name,
        reason: `cannot watch ${name}: ${error.message}; ${cure(name, error)}`,
      });
    openAll(
      shim,
      interfaces.filter((each, index) => !isBad(each, index)),
      opened,
      failures,
    );
  }
}

function cure(name: string, { code }: SystemError): string {
  if (code === "EPERM" || code === "EACCES") return "run as root, or give the process CAP_NET_RAW";
  return code === "ENOMEM" ? "it takes 8 MiB of kernel memory" : `check ip link show ${name}`;
}

function watchedFlow(names: readonly string[], flow: HeardFlow): WatchedFlow {
  return {
    interface: names[flow.interface] ?? "",
    vlan: flow.vlan,
    source: flow.source,
    destination: flow.group,
    port: flow.port,
    packets: flow.packets,
    bytes: flow.bytes,
    size_min: flow.bytes_min,
    size_max: flow.bytes_max,
    last_ms: flow.last_ns / nsPerMs,
  };
}

function watchedIgmp(names: readonly string[], member: HeardMember): WatchedIgmp {
  return {
    interface: names[member.interface] ?? "",
    vlan: member.vlan,
    kind: member.kind,
    source: member.address,
    destination: member.group.replace("0.0.0.0", "224.0.0.1"),
    packets: member.packets,
    last_ms: member.last_ns / nsPerMs,
  };
}
