// Interfaces as they are now: what a rule needs to know before a ring, a socket or a membership is opened on one.
import type { Shim } from "../native/shim.ts";

const up = 0x1; // IFF_UP, netdevice(7)
const running = 0x40; // IFF_RUNNING: carrier

export interface InterfaceState {
  readonly name: string;
  readonly ifindex: number;
  readonly mtu: number;
  /** First IPv4 address in network order, 0 when there is none. */
  readonly address: number;
  /** Six bytes as a frame has them, the first one lowest. */
  readonly mac: number;
  /** ARPHRD_ETHER ...: linux/if_arp.h. */
  readonly type: number;
  readonly isUp: boolean;
  readonly hasCarrier: boolean;
}

/** A name that no interface has, or one that carries nothing now: in words, with what cures it. */
export interface Unusable {
  readonly name: string;
  readonly unusable: string;
}

export type InterfaceReader = Pick<Shim, "readInterface">;

export function readInterface(reader: InterfaceReader, name: string): InterfaceState | Unusable {
  const found = reader.readInterface(name);
  if (!found) return { name, unusable: `interface ${name} does not exist (ip link shows the ones that do)` };
  const state: InterfaceState = {
    name,
    ifindex: found.ifindex,
    mtu: found.mtu,
    address: found.address,
    mac: found.mac,
    type: found.type,
    isUp: (found.flags & up) !== 0,
    hasCarrier: (found.flags & running) !== 0,
  };
  if (!state.isUp) return { name, unusable: `interface ${name} is down (ip link set ${name} up)` };
  if (!state.hasCarrier)
    return { name, unusable: `interface ${name} has no carrier (check its cable or peer)` };
  return state;
}

export function isUsable(state: InterfaceState | Unusable): state is InterfaceState {
  return !("unusable" in state);
}
