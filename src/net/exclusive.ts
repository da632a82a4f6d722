// Exclusive ingress: what rules with `exclusive = true` capture goes no further than the ring. For each interface one
// drop list in the kernel, by a tcx link or, where that cannot be had, by a table of nftables; both end with this
// process. Owned by the relay. A stream is dropped only while it is captured: it is listed after the rule table that
// relays it is published, and taken off the list before that table is replaced.
import type { Log } from "../log.ts";
import {
  type ExclusiveEntry,
  type ExclusiveHandle,
  type ExclusiveMethod,
  exclusiveKinds,
  exclusiveMethods,
  type Shim,
} from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { addressBytes, anySource } from "./address.ts";
import type { RunningRule } from "./running.ts";
import type { ExclusiveState } from "./state.ts";

export type ExclusiveShim = Pick<Shim, "openExclusive" | "setExclusive" | "closeExclusive">;

/** Entries by the key that the kernel looks up. */
export type DropList = ReadonlyMap<string, ExclusiveEntry>;

/**
 * What is dropped on one interface. Rules that are not exclusive are listed as exceptions where an exclusive rule is
 * wider: every port against one port, any source against one. Fragments tell no port (RFC 791), so they are dropped
 * only where every port of a group is.
 */
export function dropList(rules: readonly RunningRule[]): DropList {
  const flows = rules.flatMap(({ rule, flows }) =>
    flows.map((flow) => ({ ...flow, drops: rule.ingress.exclusive ? 1 : 0 })),
  );
  const exclusiveGroups = new Set(flows.flatMap(({ address, drops }) => (drops === 1 ? [address] : [])));
  const excepted = new Set(flows.flatMap(({ address, drops }) => (drops === 0 ? [address] : [])));
  const list = new Map<string, ExclusiveEntry>();
  for (const { address, port, sources, drops } of flows) {
    if (!exclusiveGroups.has(address)) continue;
    const kinds = port === 0 ? ["anyPort" as const, "fragment" as const] : ["port" as const];
    for (const kind of kinds) {
      if (kind === "fragment" && excepted.has(address)) continue;
      for (const source of sources.length > 0 ? sources : ["*"])
        list.set(`${address} ${source} ${kind} ${port}`, {
          address: addressBytes(address),
          source: source === "*" ? anySource : addressBytes(source),
          port,
          kind: exclusiveKinds[kind],
          drops,
        });
    }
  }
  return list;
}

/** Between two lists: drops only what both drop, passes what either passes. */
export function commonList(before: DropList, after: DropList): DropList {
  const common = new Map<string, ExclusiveEntry>();
  for (const [key, entry] of before)
    if (entry.drops === 0 || after.get(key)?.drops === 1) common.set(key, entry);
  for (const [key, entry] of after) if (entry.drops === 0) common.set(key, entry);
  return common;
}

function isSameList(a: DropList, b: DropList): boolean {
  return a.size === b.size && [...a].every(([key, { drops }]) => b.get(key)?.drops === drops);
}

interface Open {
  readonly handle: ExclusiveHandle;
  readonly method: ExclusiveMethod;
  readonly ifindex: number;
  list: DropList;
}

export class Exclusives {
  readonly #open = new Map<string, Open>();
  readonly #refusals = new Map<string, string>();

  constructor(
    readonly shim: ExclusiveShim,
    readonly log: Log,
  ) {}

  /** Before a table is published: drops no more what it does not capture. @param captured interface → ifindex. */
  withdraw(rules: readonly RunningRule[], captured: ReadonlyMap<string, number>): void {
    for (const [name, open] of this.#open) {
      const list = captured.get(name) === open.ifindex ? dropList(on(rules, name)) : undefined;
      if (list === undefined || list.size === 0) this.#close(name);
      else this.#set(name, open, commonList(open.list, list));
    }
  }

  /** After it has been published: drops what it captures. */
  apply(rules: readonly RunningRule[], captured: ReadonlyMap<string, number>): void {
    const names = new Set(
      rules.filter(({ rule }) => rule.ingress.exclusive).map(({ rule }) => rule.ingress.interface),
    );
    for (const name of [...this.#refusals.keys()]) if (!names.has(name)) this.#refusals.delete(name);
    for (const name of names) {
      const ifindex = captured.get(name);
      if (ifindex === undefined) continue;
      const open = this.#open.get(name) ?? this.#openOn(name, ifindex);
      if (open) this.#set(name, open, dropList(on(rules, name)));
    }
  }

  /** Nothing is dropped any more. */
  close(): void {
    for (const name of [...this.#open.keys()]) this.#close(name);
  }

  stateOf({ rule }: RunningRule): { readonly state: ExclusiveState; readonly reason: string | null } {
    if (!rule.ingress.exclusive) return { state: "off", reason: null };
    const name = rule.ingress.interface;
    const refusal = this.#refusals.get(name);
    if (refusal !== undefined) return { state: "refused", reason: refusal };
    return { state: this.#open.get(name)?.method ?? "waiting", reason: null };
  }

  #openOn(name: string, ifindex: number): Open | undefined {
    const failures: [ExclusiveMethod, SystemError][] = [];
    for (const method of exclusiveMethods) {
      let handle: ExclusiveHandle;
      try {
        handle = this.shim.openExclusive(ifindex, method);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        failures.push([method, error]);
        continue;
      }
      const open: Open = { handle, method, ifindex, list: new Map() };
      this.#open.set(name, open);
      this.log.info("Ingress", `exclusive on ${name} by ${method}`);
      return open;
    }
    this.#refuse(name, refusal(name, failures));
    return undefined;
  }

  #set(name: string, open: Open, list: DropList): void {
    if (isSameList(open.list, list)) return;
    try {
      this.shim.setExclusive(open.handle, [...list.values()]);
      open.list = list;
      this.#refusals.delete(name);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      // Rather drop nothing than what was to be dropped before.
      this.#close(name);
      this.#refuse(name, refusal(name, [[open.method, error]]));
    }
  }

  #refuse(name: string, reason: string): void {
    if (this.#refusals.get(name) !== reason) this.log.warning("Ingress", reason);
    this.#refusals.set(name, reason);
  }

  #close(name: string): void {
    const open = this.#open.get(name);
    if (!open) return;
    this.#open.delete(name);
    this.shim.closeExclusive(open.handle);
  }
}

function on(rules: readonly RunningRule[], name: string): readonly RunningRule[] {
  return rules.filter(({ rule }) => rule.ingress.interface === name);
}

/** Which methods work for this process on this kernel: the first that does, or why none. */
export function probeExclusive(
  shim: Pick<Shim, "probeExclusive">,
): { readonly method: ExclusiveMethod } | { readonly refusal: string } {
  const failures: [ExclusiveMethod, SystemError][] = [];
  for (const method of exclusiveMethods) {
    try {
      shim.probeExclusive(method);
      return { method };
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      failures.push([method, error]);
    }
  }
  return { refusal: reasonAndCure(failures) };
}

function refusal(name: string, failures: readonly (readonly [ExclusiveMethod, SystemError])[]): string {
  return `ingress ${name} is relayed, but not exclusive: ${reasonAndCure(failures)}`;
}

function reasonAndCure(failures: readonly (readonly [ExclusiveMethod, SystemError])[]): string {
  const what = failures.map(([method, error]) => `${method}: ${error.message}`).join(", ");
  return `${what}; ${cure(failures.map(([, { code }]) => code))}`;
}

function cure(codes: readonly string[]): string {
  const orLeave = "or leave exclusive out";
  // The last is nftables, which asks for the least.
  switch (codes.at(-1)) {
    case "EPERM":
    case "EACCES":
      return `run as root, or give the process CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN), ${orLeave}`;
    case "ENOMEM":
    case "ENOBUFS":
      return `free some memory and reload, ${orLeave}`;
    case "ENODEV":
    case "ENOLINK":
      return `the interface has gone: it is tried again when it is back`;
    default:
      if (codes.includes("EPERM"))
        return `nftables with netdev tables (Linux 5.12) is not there, and tcx (Linux 6.6) needs more: run as root, or give the process CAP_BPF and CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF), ${orLeave}`;
      return `the kernel needs tcx (Linux 6.6) or nftables with netdev tables (Linux 5.12), ${orLeave}`;
  }
}
