// A rule as it runs: its flows, counter slots, egress sockets and states. The relay owns these; a rule that a reload
// leaves unchanged keeps its RunningRule, and with it packets, counters, sockets and source ports.
import { expandFlows, type Flow } from "../config/flows.ts";
import type { Egress, Rule } from "../config/schema.ts";
import type { LinkHandle, Shim, TableParts } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import type { Counters } from "../stats/counters.ts";
import { addressBytes } from "./address.ts";
import { type InterfaceState, isUsable, type Unusable } from "./interfaces.ts";
import { chooseSendPath, keepOf, type SendPath } from "./send-path.ts";
import { type EgressState, type ExclusiveState, type RuleState, Since } from "./state.ts";

const ipv4HeaderBytes = 20;
const udpHeaderBytes = 8;
/** No socket: the packets are dropped and counted as unavailable. */
const noSocket = -1;

export type EgressShim = Pick<Shim, "openEgress" | "egressPort" | "close">;

/** The link of an interface, or why it has none: links.ts. */
export type LinkFinder = (name: string) => LinkHandle | string | undefined;

export class RunningEgress {
  readonly status: Since<EgressState>;
  fd = noSocket;
  sourcePort: number | null = null;
  /** Payload that fits one frame of the interface. */
  segmentBytesMax = 0;
  /** How it sends, while it has a socket. */
  sendPath: Exclude<SendPath, { path: "impossible" }> = { path: "socket", reason: null };
  /** Of frames; IPv4, network order. */
  #frameSource = 0;
  #openedOn: number | undefined;
  /** An automatic port is kept when the interface comes back: receivers and firewalls know it. */
  #keptPort = 0;
  #refusedBefore = 0;
  /** Why what it sends goes nowhere: neighbours.ts. */
  #trouble: string | null = null;

  constructor(
    readonly egress: Egress,
    readonly slot: number,
    nowMs: number,
  ) {
    this.status = new Since("waiting", null, nowMs);
  }

  /**
   * Brings the socket in line with the interface. Returns the descriptor that is no longer used, for closing once no
   * worker sends on it, and whether the state changed.
   */
  refresh(
    shim: EgressShim,
    state: InterfaceState | Unusable,
    nowMs: number,
    linkOf: LinkFinder = () => undefined,
  ): { stale: number | undefined; changed: boolean } {
    if (!isUsable(state))
      return { stale: this.#drop(), changed: this.status.change("waiting", state.unusable, nowMs) };
    if (this.egress.source === "interface" && state.address === 0) {
      const reason = `interface ${state.name} has no IPv4 address to send from (ip address add ADDRESS/24 dev ${state.name})`;
      return { stale: this.#drop(), changed: this.status.change("failed", reason, nowMs) };
    }
    const sendPath = chooseSendPath(this.egress, state, linkOf(state.name));
    if (sendPath.path === "impossible") {
      const reason = `cannot send frames out of ${state.name}, which the rule asks for: ${sendPath.reason}`;
      return { stale: this.#drop(), changed: this.status.change("failed", reason, nowMs) };
    }
    this.sendPath = sendPath;
    this.#frameSource = frameSource(this.egress, state);
    this.segmentBytesMax = Math.max(0, state.mtu - ipv4HeaderBytes - udpHeaderBytes);
    // A new address of the interface needs no new socket: the kernel chooses the source for each packet.
    if (this.fd !== noSocket && this.#openedOn === state.ifindex) return this.#opened(undefined, nowMs);
    const stale = this.#drop();
    try {
      this.fd = this.#open(shim, state);
      this.sourcePort = shim.egressPort(this.fd);
      this.#keptPort = this.sourcePort;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const unused = this.#drop(); // no worker knows it yet
      if (unused !== undefined) shim.close(unused);
      return { stale, changed: this.status.change("failed", openFailure(this.egress, error), nowMs) };
    }
    this.#openedOn = state.ifindex;
    return this.#opened(stale, nowMs);
  }

  /** Who its packets are from, network and host order; undefined where that is not its own, or it sends nothing. */
  get origin(): { readonly source: number; readonly source_port: number } | undefined {
    const { source, source_port } = this.egress;
    if (source === "keep" || source_port === "keep" || this.sourcePort === null || this.#frameSource === 0)
      return undefined;
    return { source: this.#frameSource, source_port: this.sourcePort };
  }

  /** What the workers need of it. */
  get tableEntry(): TableParts["egresses"][number] {
    const { fd, slot, egress, segmentBytesMax, sendPath } = this;
    const socket = { fd, slot, segment_bytes_max: segmentBytesMax, plain: egress.plain ? 1 : 0 };
    const none = { link: 0, source: 0, source_port: 0, ttl: 0, dscp: 0, keep: 0 };
    if (fd === noSocket || sendPath.path === "socket") return { ...socket, ...none };
    return {
      ...socket,
      link: sendPath.link,
      source: this.#frameSource,
      source_port: this.sourcePort ?? 0,
      ttl: numberOr(egress.ttl, 0),
      dscp: numberOr(egress.dscp, 0),
      keep: keepOf(egress),
    };
  }

  get isOpen(): boolean {
    return this.fd !== noSocket;
  }

  /** Of an open egress: null ends it. True when the state or its reason is a new one. */
  setTrouble(trouble: string | null, nowMs: number): boolean {
    this.#trouble = trouble;
    return this.status.change(trouble === null ? "active" : "failing", trouble, nowMs);
  }

  #opened(stale: number | undefined, nowMs: number) {
    return { stale, changed: this.setTrouble(this.#trouble, nowMs) };
  }

  /** On the port it had before, unless somebody has taken that meanwhile. */
  #open(shim: EgressShim, state: InterfaceState): number {
    try {
      return shim.openEgress(socketOptions(this.egress, state, this.#keptPort));
    } catch (error) {
      const isTaken = error instanceof SystemError && error.code === "EADDRINUSE";
      if (!isTaken || this.#keptPort === 0) throw error;
      return shim.openEgress(socketOptions(this.egress, state, 0));
    }
  }

  /** Packets refused since the last call, and why; undefined when there were none. */
  newDrops(counters: Counters): { readonly packets: number; readonly reason: string } | undefined {
    const { packets, errno } = counters.egressRefused(this.slot);
    const fresh = packets - this.#refusedBefore;
    this.#refusedBefore = packets;
    return fresh > 0 ? { packets: fresh, reason: new SystemError(errno).message } : undefined;
  }

  /** The descriptor in use until now, or undefined. */
  #drop(): number | undefined {
    const stale = this.fd === noSocket ? undefined : this.fd;
    this.fd = noSocket;
    this.sourcePort = null;
    this.#trouble = null;
    return stale;
  }
}

function socketOptions(egress: Egress, state: InterfaceState, automaticPort: number) {
  return {
    ifindex: state.ifindex,
    source: hasOwnSource(egress) ? networkOrder(egress.source) : 0,
    source_port: typeof egress.source_port === "number" ? egress.source_port : automaticPort,
    ttl: numberOr(egress.ttl, 1),
    dscp: numberOr(egress.dscp, 0),
  };
}

function numberOr(value: number | string, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}

function frameSource(egress: Egress, state: InterfaceState): number {
  return hasOwnSource(egress) ? networkOrder(egress.source) : state.address;
}

/** It sends from an address that its rule names. */
function hasOwnSource({ source }: Egress): boolean {
  return source !== "interface" && source !== "keep";
}

function networkOrder(address: string): number {
  const bytes = addressBytes(address);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, true);
}

function openFailure(egress: Egress, error: SystemError): string {
  const what = `cannot send out of ${egress.interface}: ${error.message}`;
  switch (error.code) {
    case "EADDRNOTAVAIL":
      if (!hasOwnSource(egress)) break;
      return `${what}; ${egress.source} is no address of this host (ip address add ${egress.source}/24 dev ${egress.interface})`;
    case "EADDRINUSE":
      if (typeof egress.source_port !== "number")
        return `${what}; no source port is free (sysctl net.ipv4.ip_local_port_range shows how many there are)`;
      return `${what}; source port ${egress.source_port} is taken (ss -ulpn shows by whom)`;
    case "EACCES":
      return `${what}; source ports below 1024 need CAP_NET_BIND_SERVICE`;
    case "EMFILE":
    case "ENFILE":
      return `${what}; raise the limit of open files (ulimit -n, LimitNOFILE=)`;
  }
  return `${what}; check ip link show ${egress.interface}`;
}

export class RunningRule {
  readonly flows: readonly Flow[];
  readonly status: Since<RuleState>;
  exclusive: { readonly state: ExclusiveState; readonly reason: string | null } = {
    state: "off",
    reason: null,
  };
  #isJoined = false;
  #lastPacketMs = 0;
  /** When it was last seen to be joined anew or to have a new packet; by a clock that is never set. */
  #stirredAtMs = 0;

  constructor(
    readonly rule: Rule,
    readonly slot: number,
    readonly egresses: readonly RunningEgress[],
    nowMs: number,
  ) {
    this.flows = expandFlows(rule);
    this.status = new Since("waiting", null, nowMs);
  }

  /**
   * How long it has been joined without a packet; 0 while it is not.
   * @param lastPacketMs of the time of day, which may be set: only that it is another one than before tells anything
   */
  quietMs(isJoined: boolean, lastPacketMs: number, elapsedMs: number): number {
    if (!isJoined || !this.#isJoined || lastPacketMs !== this.#lastPacketMs) this.#stirredAtMs = elapsedMs;
    this.#isJoined = isJoined;
    this.#lastPacketMs = lastPacketMs;
    return elapsedMs - this.#stirredAtMs;
  }
}
