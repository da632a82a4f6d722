// How the kernel would reach a host: the route, and what it knows of the neighbour that the route leads to first.
// Asked by neighbours.ts for the unicast egresses that run, and by `mcr explain`.
import { SystemError } from "../native/system-error.ts";
import { type Address, addressBytes, addressFamily, addressOf } from "./address.ts";
import {
  ask,
  decodeAttributes,
  type Message,
  messageTypes,
  type NetlinkShim,
  word,
  wordAt,
} from "./netlink.ts";

/** NUD_* of linux/neighbour.h. A neighbour of a device that resolves nothing is noarp. */
const neighbourStates: ReadonlyMap<number, string> = new Map([
  [0x00, "NONE"],
  [0x01, "INCOMPLETE"],
  [0x02, "REACHABLE"],
  [0x04, "STALE"],
  [0x08, "DELAY"],
  [0x10, "PROBE"],
  [0x20, "FAILED"],
  [0x40, "NOARP"],
  [0x80, "PERMANENT"],
]);

export interface Neighbour {
  readonly address: Address;
  readonly ifindex: number;
  /** As ip-neighbour(8) has it: REACHABLE, FAILED … */
  readonly state: string;
}

export interface Route {
  /** The router on the way; undefined: the host itself is asked for. */
  readonly gateway: Address | undefined;
}

const families = { 4: 2, 6: 10 } as const; // AF_INET, AF_INET6
/** linux/rtnetlink.h, linux/neighbour.h */
const route = { bodyBytes: 12, destination: 1, oif: 4, gateway: 5, via: 18 } as const;
const fibMatch = 0x2000; // RTM_F_FIB_MATCH, Linux 4.13
const neighbour = { bodyBytes: 12, destination: 1, interface: 8 } as const;

/** Of one interface, of both families. Throws SystemError. */
export function readNeighbours(shim: NetlinkShim, ifindex: number): readonly Neighbour[] {
  const messages = ask(shim, {
    type: messageTypes.getNeighbour,
    body: new Uint8Array(neighbour.bodyBytes),
    attributes: [[neighbour.interface, word(ifindex)]],
    isDump: true,
  });
  return decodeNeighbours(messages).filter((each) => each.ifindex === ifindex);
}

/** It has been asked for, and has not answered. */
export function isUnresolved({ state }: Pick<Neighbour, "state">): boolean {
  return state === "INCOMPLETE" || state === "FAILED";
}

/** As the kernel would send to the host out of this interface; throws SystemError where it would not. */
export function readRoute(shim: NetlinkShim, host: Address, ifindex: number): Route {
  return decodeRoute(ask(shim, routeRequest(host, ifindex, 0)));
}

/**
 * Whether a route of the tables leads there. Where none does, the kernel takes a host for a neighbour of the interface
 * that a socket is bound to.
 */
export function isCovered(shim: NetlinkShim, host: Address, ifindex: number): boolean {
  try {
    ask(shim, routeRequest(host, ifindex, fibMatch));
    return true;
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return false;
  }
}

function routeRequest(host: Address, ifindex: number, flags: number) {
  const bytes = bytesOf(host);
  const body = new Uint8Array(route.bodyBytes); // struct rtmsg
  const view = new DataView(body.buffer);
  view.setUint8(0, families[addressFamily(host)]);
  view.setUint8(1, bytes.length * 8);
  view.setUint32(8, flags, true);
  return {
    type: messageTypes.getRoute,
    body,
    attributes: [[route.destination, bytes] as const, [route.oif, word(ifindex)] as const],
  };
}

export function decodeRoute(messages: readonly Message[]): Route {
  for (const { type, payload } of messages) {
    if (type !== messageTypes.newRoute) continue;
    const attributes = decodeAttributes(payload, route.bodyBytes);
    // RTA_VIA: a router of the other family (RFC 5549), two bytes of which name the family.
    const gateway = attributes.get(route.gateway) ?? attributes.get(route.via)?.subarray(2);
    return { gateway: gateway && addressFrom(gateway) };
  }
  return { gateway: undefined };
}

export function decodeNeighbours(messages: readonly Message[]): readonly Neighbour[] {
  return messages.flatMap(({ type, payload }) => {
    if (type !== messageTypes.newNeighbour) return [];
    const ifindex = wordAt(payload, 4, 4); // struct ndmsg
    const state = wordAt(payload, 8, 2);
    const destination = decodeAttributes(payload, neighbour.bodyBytes).get(neighbour.destination);
    const address = destination && addressFrom(destination);
    if (ifindex === undefined || state === undefined || address === undefined) return [];
    return [{ address, ifindex, state: neighbourStates.get(state) ?? `0x${state.toString(16)}` }];
  });
}

/** In network order; undefined where they are no address. */
function addressFrom(bytes: Uint8Array): Address | undefined {
  if (bytes.length === 16) return addressOf(bytes);
  return bytes.length === 4 ? bytes.join(".") : undefined;
}

/** As the kernel has it: IPv4 in four bytes. */
function bytesOf(address: Address): Uint8Array {
  const bytes = addressBytes(address);
  return addressFamily(address) === 4 ? bytes.subarray(12) : bytes;
}
