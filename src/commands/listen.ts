// Listening to the network for a while: what `mcr scan` and `mcr init` have in common. Passive unless groups to join
// are given. Every way not to be allowed or able to is one sentence.
import { ExitCode, fail } from "../error.ts";
import { scanInterfacesMax } from "../native/layouts.ts";
import { ListenError, type ScanState, type Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { type Address, addressBytes, offsetAddress, parseAddressRange } from "../net/address.ts";
import { firstSamples, sapPort } from "../net/heard-flows.ts";
import { Hearing, type HearingShim } from "../net/hearing.ts";
import type { ListedInterface } from "../net/interface-list.ts";
import { type Scan, toScan } from "../net/scan.ts";
import { runSlices } from "./slices.ts";

export interface ListenOptions {
  readonly interfaces: readonly ListedInterface[];
  readonly durationMs: number;
  readonly join?: readonly Address[];
  /** Ends it early. */
  readonly isEnough?: () => boolean;
  readonly onProgress?: (state: ScanState, elapsedMs: number) => void;
}

export type ListenShim = Pick<Shim, "openScan" | "runScan" | "closeScan" | "openMember" | "join" | "close"> &
  HearingShim;

export async function listen(shim: ListenShim, command: string, options: ListenOptions): Promise<Scan> {
  const { interfaces, durationMs, join = [], isEnough = () => false, onProgress } = options;
  const scan = openScan(shim, command, interfaces);
  const sockets: number[] = [];
  try {
    for (const { name, ifindex } of join.length > 0 ? interfaces : [])
      joinAll(shim, command, { name, ifindex }, join, sockets);
    const hearing = new Hearing(shim, scan);
    const startMs = performance.now();
    await runSlices({
      run: (budgetMs) => {
        shim.runScan(scan, budgetMs);
        hearing.take();
        return isEnough();
      },
      progress: () => onProgress?.(shim.scanState(scan), performance.now() - startMs),
      deadlineMs: durationMs,
    });
    const heard = interfaces.map(({ name, address, mtu }) => ({ name, address, mtu }));
    return toScan(hearing.all(), heard, performance.now() - startMs);
  } finally {
    for (const fd of sockets) shim.close(fd);
    shim.closeScan(scan);
  }
}

/** The interfaces that can be heard now: up, with carrier, and not the loopback. */
export function audible(interfaces: readonly ListedInterface[]): readonly ListedInterface[] {
  return interfaces
    .filter(({ isUp, hasCarrier, isLoopback }) => isUp && hasCarrier && !isLoopback)
    .slice(0, scanInterfacesMax);
}

/** `239.1.1.1`, `239.1.1.1-239.1.1.9` or `239.1.1.0/28`; several with commas. Undefined when one is none. */
export function parseGroups(text: string, countMax: number): readonly Address[] | undefined {
  const ranges = text.split(",").map((part) => parseAddressRange(part.trim()));
  const groups: Address[] = [];
  for (const range of ranges) {
    const isGroups = range?.first.match(/^(22[4-9]|23\d)\./) && range.last.match(/^(22[4-9]|23\d)\./);
    if (!range || !isGroups || groups.length + range.size > countMax) return undefined;
    for (let i = 0; i < range.size; i += 1) groups.push(offsetAddress(range.first, i));
  }
  return groups;
}

function openScan(shim: ListenShim, command: string, interfaces: readonly ListedInterface[]) {
  try {
    return shim.openScan(
      interfaces.map(({ ifindex }) => ifindex),
      { samples: firstSamples, wholePort: sapPort },
    );
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (error.code === "EPERM" || error.code === "EACCES")
      return fail(
        `mcr ${command}: cannot listen: ${error.message}. Run as root, or give the process CAP_NET_RAW`,
        ExitCode.noPermission,
      );
    const name = error instanceof ListenError ? interfaces[error.index]?.name : undefined;
    const where = name === undefined ? "" : ` on ${name}`;
    return fail(`mcr ${command}: cannot listen${where}: ${error.message}`, ExitCode.failed);
  }
}

function joinAll(
  shim: ListenShim,
  command: string,
  { name, ifindex }: { readonly name: string; readonly ifindex: number },
  groups: readonly Address[],
  sockets: number[],
): void {
  const anySource = new Uint8Array(16);
  let fd = shim.openMember();
  sockets.push(fd);
  for (const group of groups) {
    for (let isFresh = false; ; isFresh = true) {
      try {
        shim.join(fd, ifindex, addressBytes(group), anySource);
        break;
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        // net.ipv4.igmp_max_memberships is a limit of each socket.
        if (error.code === "ENOBUFS" && !isFresh) {
          fd = shim.openMember();
          sockets.push(fd);
          continue;
        }
        const cure =
          error.code === "ENODEV" ? `; give it an address (ip address add ADDRESS/LENGTH dev ${name})` : "";
        fail(`mcr ${command}: cannot join ${group} on ${name}: ${error.message}${cure}`, ExitCode.failed);
      }
    }
  }
}
