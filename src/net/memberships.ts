// Group memberships: which (interface, group, source) somebody wants, and the sockets that hold them.
// The kernel speaks IGMP; a membership lives as long as its socket. Limits are per socket (igmp_max_memberships,
// igmp_max_msf, optmem_max), so a pool of small sockets needs no sysctl. The relay states what is wanted; what is
// missing is joined, what is wanted no longer is left, the rest is not touched.
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import type { Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { type Address, addressBytes, anySource } from "./address.ts";

/** net.ipv4.igmp_max_memberships and igmp_max_msf as kernels ship them. */
const groupsPerSocketMax = 20;
const sourcesPerGroupMax = 10;
/** A switch loses reports that come in one burst, so joins go out a few at a time. */
const joinsPerPause = 50;
const retryMsMin = 1_000;
const retryMsMax = 60_000;

export interface Membership {
  readonly interface: string;
  readonly ifindex: number;
  readonly group: Address;
  /** Absent: any source. */
  readonly source?: Address;
}

export interface FailedJoin {
  readonly reason: string;
  /** The time of day of the next try, as it is told. */
  readonly retryAtMs: number;
}

export type MemberShim = Pick<Shim, "openMember" | "join" | "leave" | "close">;

export interface MembershipDependencies {
  readonly shim: MemberShim;
  readonly log: Log;
  readonly clock: Clock;
  /** Lets other work happen between bursts of joins. */
  readonly pause: () => Promise<void>;
  /** Groups by interface as the kernel lists them; undefined when it cannot be read. */
  readonly joinedGroups: () => ReadonlyMap<string, ReadonlySet<string>> | undefined;
  /** Hears of every change, as it happens. */
  readonly onChange?: (change: "joined" | "left" | "failed", membership: Membership, reason?: string) => void;
}

interface Entry {
  readonly membership: Membership;
  state: "wanted" | "joined" | "failed";
  socket: MemberSocket | undefined;
  failure: FailedJoin | undefined;
  /** The next try of what failed; by the clock that is never set. */
  dueAtMs: number;
  /** In a row, joins that the kernel then did not list among them. */
  failures: number;
  /** Names of the rules that count on it; it is left when there are none. */
  users: ReadonlySet<string>;
}

/** One helper socket and what it holds: group → its sources, or undefined for any source. */
interface MemberSocket {
  readonly fd: number;
  readonly groups: Map<Address, Set<Address> | undefined>;
  isFull: boolean;
}

export function membershipKey({ ifindex, group, source }: Membership): string {
  return `${ifindex} ${group} ${source ?? "*"}`;
}

export class Memberships {
  readonly statistics = { attempted: 0, succeeded: 0, failed: 0 };
  readonly #entries = new Map<string, Entry>();
  readonly #sockets = new Map<number, MemberSocket[]>();
  /** Joined groups by interface, with how many memberships (sources) each has. */
  readonly #active = new Map<string, number>();

  constructor(readonly dependencies: MembershipDependencies) {}

  get activeGroups(): number {
    return this.#active.size;
  }

  /** Every (interface, group) that is wanted; joined when it is so from every source that is. */
  get joins(): readonly { readonly interface: string; readonly group: Address; readonly joined: boolean }[] {
    const byGroup = Map.groupBy(
      this.#entries.values().filter(({ users }) => users.size > 0),
      ({ membership }) => `${membership.ifindex} ${membership.group}`,
    );
    return [...byGroup.values()].flatMap((entries) =>
      entries.slice(0, 1).map(({ membership }) => ({
        interface: membership.interface,
        group: membership.group,
        joined: entries.every(({ state }) => state === "joined"),
      })),
    );
  }

  /** Why this membership is not there, `joining` while it is about to be, `joined`. */
  stateOf(membership: Membership): "joined" | "joining" | FailedJoin {
    const entry = this.#entries.get(membershipKey(membership));
    if (entry?.failure) return entry.failure;
    return entry?.state === "joined" ? "joined" : "joining";
  }

  /** All that are wanted, with the rules that count on them. */
  list(): readonly {
    readonly membership: Membership;
    readonly state: "joined" | "joining" | FailedJoin;
    readonly users: ReadonlySet<string>;
  }[] {
    return [...this.#entries.values()].map(({ membership, users }) => ({
      membership,
      state: this.stateOf(membership),
      users,
    }));
  }

  /** Takes what is wanted from now on: membership → the rules that want it. Joins nothing yet. */
  want(
    wanted: ReadonlyMap<string, { readonly membership: Membership; readonly users: ReadonlySet<string> }>,
  ): void {
    for (const [key, { membership, users }] of wanted) {
      const entry = this.#entries.get(key);
      if (entry) entry.users = users;
      else
        this.#entries.set(key, {
          membership,
          state: "wanted",
          socket: undefined,
          failure: undefined,
          dueAtMs: 0,
          failures: 0,
          users,
        });
    }
    for (const [key, entry] of this.#entries) if (!wanted.has(key)) entry.users = new Set();
  }

  /** Joins what is wanted and due, then leaves what nobody wants. */
  async settle(): Promise<void> {
    const { clock, pause } = this.dependencies;
    const joined: Entry[] = [];
    let attempts = 0;
    for (const entry of this.#entries.values()) {
      const isDue = entry.state === "wanted" || (entry.failure && entry.dueAtMs <= clock.elapsedMs());
      if (entry.users.size === 0 || !isDue) continue;
      if (this.#join(entry)) joined.push(entry);
      attempts += 1;
      if (attempts % joinsPerPause === 0) await pause();
    }
    this.#verify(joined);
    for (const [key, entry] of this.#entries) {
      if (entry.users.size > 0) continue;
      this.#leave(entry);
      this.#entries.delete(key);
    }
  }

  /** By the clock that is never set; undefined when nothing has failed. */
  get nextRetryMs(): number | undefined {
    let next: number | undefined;
    for (const { failure, dueAtMs } of this.#entries.values())
      if (failure && (next === undefined || dueAtMs < next)) next = dueAtMs;
    return next;
  }

  /** Leaves every group: closing the sockets is what the kernel takes as leaving. */
  close(): void {
    for (const sockets of this.#sockets.values())
      for (const socket of sockets) this.dependencies.shim.close(socket.fd);
    this.#sockets.clear();
    this.#entries.clear();
    this.#active.clear();
  }

  /** True when the kernel has taken it; whether it is a success is for #verify to say. */
  #join(entry: Entry): boolean {
    this.statistics.attempted += 1;
    try {
      entry.socket = this.#joinOnSomeSocket(entry.membership);
      return true;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#fail(entry, `${error.message}; ${cure(error, entry.membership)}`);
      return false;
    }
  }

  /** A join that the kernel took and does not list is no join. */
  #verify(joined: readonly Entry[]): void {
    if (joined.length === 0) return;
    const listed = this.dependencies.joinedGroups();
    for (const entry of joined) {
      const { interface: name, group } = entry.membership;
      if (!listed || listed.get(name)?.has(group)) {
        this.#succeed(entry);
        continue;
      }
      this.#release(entry);
      this.#fail(entry, `/proc/net/igmp does not list it; check ip maddress show dev ${name}`);
    }
  }

  #succeed(entry: Entry): void {
    this.statistics.succeeded += 1;
    this.#countActive(entry.membership, 1);
    entry.state = "joined";
    entry.failure = undefined;
    entry.failures = 0;
    this.dependencies.log.info(
      "Ingress",
      `IGMP join successful: ${describe(entry.membership)} (total groups: ${this.activeGroups})`,
    );
    this.dependencies.onChange?.("joined", entry.membership);
  }

  #countActive({ ifindex, group }: Membership, change: 1 | -1): void {
    const key = `${ifindex} ${group}`;
    const count = (this.#active.get(key) ?? 0) + change;
    if (count > 0) this.#active.set(key, count);
    else this.#active.delete(key);
  }

  #fail(entry: Entry, why: string): void {
    const { log, clock } = this.dependencies;
    const { membership } = entry;
    this.statistics.failed += 1;
    entry.failures += 1;
    entry.state = "failed";
    const retryMs = Math.min(retryMsMin * 2 ** (entry.failures - 1), retryMsMax);
    const reason = `cannot join ${describe(membership)}: ${why}`;
    entry.failure = { reason, retryAtMs: clock.nowMs() + retryMs };
    entry.dueAtMs = clock.elapsedMs() + retryMs;
    const rules = [...entry.users].map((name) => `"${name}"`).join(", ");
    log.error("Ingress", `${reason} (rule ${rules}; next try in ${retryMs / 1000} s)`);
    this.dependencies.onChange?.("failed", membership, reason);
  }

  /** Sockets that have room first, then a new one: ENOBUFS on a new one is a limit that we cannot go round. */
  #joinOnSomeSocket(membership: Membership): MemberSocket {
    const { shim } = this.dependencies;
    const sockets = this.#sockets.get(membership.ifindex) ?? [];
    this.#sockets.set(membership.ifindex, sockets);
    for (const socket of sockets) {
      if (!hasRoom(socket, membership)) continue;
      try {
        this.#joinOn(socket, membership);
        return socket;
      } catch (error) {
        if (!(error instanceof SystemError) || error.code !== "ENOBUFS") throw error;
        socket.isFull = true;
      }
    }
    const socket: MemberSocket = { fd: shim.openMember(), groups: new Map(), isFull: false };
    try {
      this.#joinOn(socket, membership);
    } catch (error) {
      shim.close(socket.fd);
      throw error;
    }
    sockets.push(socket);
    return socket;
  }

  #joinOn(socket: MemberSocket, { ifindex, group, source }: Membership): void {
    const sourceBytes = source === undefined ? anySource : addressBytes(source);
    this.dependencies.shim.join(socket.fd, ifindex, addressBytes(group), sourceBytes);
    if (source === undefined) socket.groups.set(group, undefined);
    else socket.groups.set(group, (socket.groups.get(group) ?? new Set()).add(source));
  }

  #leave(entry: Entry): void {
    if (entry.state !== "joined") return;
    this.#release(entry);
    this.#countActive(entry.membership, -1);
    this.dependencies.log.info("Ingress", `IGMP leave: ${describe(entry.membership)}`);
    this.dependencies.onChange?.("left", entry.membership);
  }

  /** Gives the membership back to the kernel, and the socket with its last one. */
  #release(entry: Entry): void {
    const { shim, log } = this.dependencies;
    const { membership, socket } = entry;
    if (!socket) return;
    entry.socket = undefined;
    const { ifindex, group, source } = membership;
    const sourceBytes = source === undefined ? anySource : addressBytes(source);
    try {
      shim.leave(socket.fd, ifindex, addressBytes(group), sourceBytes);
    } catch (error) {
      // The interface is gone, and its memberships with it: ENODEV, EADDRNOTAVAIL.
      if (!(error instanceof SystemError)) throw error;
      log.debug("Ingress", `leaving ${describe(membership)}: ${error.message}`);
    }
    const sources = socket.groups.get(group);
    if (source !== undefined) sources?.delete(source);
    if (!sources || sources.size === 0) socket.groups.delete(group);
    socket.isFull = false;
    if (socket.groups.size > 0) return;
    shim.close(socket.fd);
    const sockets = this.#sockets.get(ifindex);
    sockets?.splice(sockets.indexOf(socket), 1);
  }
}

/** `239.1.1.1 on veth1`, `232.1.1.1 from 10.0.0.1 on veth1`. */
function describe({ interface: name, group, source }: Membership): string {
  return source === undefined ? `${group} on ${name}` : `${group} from ${source} on ${name}`;
}

function hasRoom(socket: MemberSocket, { group, source }: Membership): boolean {
  if (socket.isFull) return false;
  if (!socket.groups.has(group)) return socket.groups.size < groupsPerSocketMax;
  // The group is here already: one more source fits, any source and one source do not mix on one socket.
  const sources = socket.groups.get(group);
  return source !== undefined && sources !== undefined && sources.size < sourcesPerGroupMax;
}

function cure(error: SystemError, { interface: name }: Membership): string {
  switch (error.code) {
    case "ENOBUFS":
      return "a fresh socket takes no group: raise net.ipv4.igmp_max_memberships (sysctl -w net.ipv4.igmp_max_memberships=20) or net.core.optmem_max";
    case "ENODEV":
    case "EADDRNOTAVAIL":
      return `${name} takes no IPv4 groups: check ip link show ${name} and give it an address (ip address add …/24 dev ${name})`;
    case "EMFILE":
    case "ENFILE":
      return "raise the limit of open files (ulimit -n, LimitNOFILE=)";
    default:
      return `check ip maddress show dev ${name}`;
  }
}
