// The neighbours of unicast egresses: one that does not answer makes its egress `failing`, since the kernel takes each
// packet for it and throws it away. The egress goes on sending, for that is what asks the neighbour again. Looked at
// once a second by relay.ts, and only on interfaces of egresses that send to hosts. A neighbour counts when two looks
// in a row find it unresolved: to be asked for takes any of them a moment. Who is never asked for is never failing, so
// neither are devices without neighbours, as tun and WireGuard.
import { SystemError } from "../native/system-error.ts";
import { type Address, addressFamily } from "./address.ts";
import { isUsable } from "./interfaces.ts";
import type { NetlinkShim } from "./netlink.ts";
import { isUnresolved, readNeighbours, readRoute } from "./next-hop.ts";
import type { RunningEgress, RunningRule } from "./running.ts";
import type { Interfaces } from "./wanted.ts";

/** Of one look, as many as the kernel's table has neighbours by default (gc_thresh3). What is beyond it keeps its state. */
const routesMax = 1_024;

export type NeighbourChange = (
  running: RunningRule,
  egress: RunningEgress,
  troubleBefore: string | null,
) => void;

interface Target {
  readonly running: RunningRule;
  readonly egress: RunningEgress;
  readonly host: Address;
}

export class Neighbours {
  /** Egresses whose neighbour did not answer at the last look. */
  #suspects: ReadonlySet<RunningEgress> = new Set();

  constructor(
    readonly shim: NetlinkShim,
    readonly onChange: NeighbourChange,
  ) {}

  look(rules: readonly RunningRule[], interfaces: Interfaces, nowMs: number): void {
    const suspects = new Set<RunningEgress>();
    const routes = new Routes(this.shim);
    for (const [name, targets] of Map.groupBy(targetsOf(rules), ({ egress }) => egress.egress.interface)) {
      const state = interfaces.get(name);
      if (!state || !isUsable(state)) continue;
      const known = this.#readOn(state.ifindex);
      if (known === undefined) continue; // nothing is known, and nothing changes
      const { silent, answering } = known;
      const isUrgent = ({ egress, host }: Target) => silent.has(host) || egress.status.state === "failing";
      const inOrder = [...targets.filter(isUrgent), ...targets.filter((each) => !isUrgent(each))];
      for (const { running, egress, host } of inOrder) {
        if (silent.size > 0 && routes.isSpent) break;
        const isAsked = silent.size > 0 || egress.status.state === "failing";
        const hop = isAsked ? routes.hopTo(host, state.ifindex) : undefined;
        // Whom nobody has asked for lately the kernel forgets: that is no answer.
        const isForgotten = hop !== undefined && !silent.has(hop) && !answering.has(hop);
        if (egress.status.state === "failing" && isForgotten) continue;
        const trouble = hop !== undefined && silent.has(hop) ? describeSilence(host, hop, name) : null;
        if (trouble !== null) suspects.add(egress);
        if (trouble !== null && !this.#suspects.has(egress)) continue;
        const before = egress.status.reason;
        if (egress.setTrouble(trouble, nowMs)) this.onChange(running, egress, before);
      }
    }
    this.#suspects = suspects;
  }

  /** Who has been asked for there and has not answered, and who has; undefined where the kernel does not tell. */
  #readOn(
    ifindex: number,
  ): { readonly silent: ReadonlySet<Address>; readonly answering: ReadonlySet<Address> } | undefined {
    try {
      const neighbours = readNeighbours(this.shim, ifindex);
      const addresses = (found: typeof neighbours) => new Set(found.map(({ address }) => address));
      return {
        silent: addresses(neighbours.filter(isUnresolved)),
        answering: addresses(neighbours.filter((each) => !isUnresolved(each))),
      };
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return undefined;
    }
  }
}

/** The routes of one look, each asked for once. */
class Routes {
  readonly #hops = new Map<string, Address | undefined>();

  constructor(readonly shim: NetlinkShim) {}

  get isSpent(): boolean {
    return this.#hops.size >= routesMax;
  }

  /** Whom the kernel asks for on the way to the host; undefined where it has no way. */
  hopTo(host: Address, ifindex: number): Address | undefined {
    const key = `${ifindex} ${host}`;
    if (!this.#hops.has(key)) this.#hops.set(key, this.#read(host, ifindex));
    return this.#hops.get(key);
  }

  #read(host: Address, ifindex: number): Address | undefined {
    try {
      return readRoute(this.shim, host, ifindex).gateway ?? host;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return undefined; // its packets are refused and counted: no matter of neighbours
    }
  }
}

/** The egresses that send to a host. */
function targetsOf(rules: readonly RunningRule[]): readonly Target[] {
  return rules.flatMap((running) =>
    running.egresses.flatMap((egress) => {
      const host = egress.egress.address;
      return host === undefined || !egress.isOpen ? [] : { running, egress, host };
    }),
  );
}

function describeSilence(host: Address, hop: Address, name: string): string {
  const who = hop === host ? hop : `the gateway ${hop} to ${host}`;
  const protocol = addressFamily(hop) === 4 ? "ARP" : "neighbour discovery";
  return `${who} does not answer ${protocol} on ${name}; it is asked again with every packet (ip neigh show dev ${name})`;
}
