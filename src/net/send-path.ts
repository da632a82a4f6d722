// Which way an egress sends: frames of its own, made by the shim, or a UDP socket of the kernel. Pure. Frames are for
// groups out of Ethernet-like interfaces; the kernel's sockets do all that needs routes, neighbours or fragments.
import type { Egress } from "../config/schema.ts";
import { constants } from "../native/abi.ts";
import type { LinkHandle } from "../native/shim.ts";
import type { InterfaceState } from "./interfaces.ts";

export const sendPaths = ["frame", "socket"] as const;

/** Why it is not the frame path, in words; null where it is, or where the rule asks for the socket. */
export type SendPath =
  | { readonly path: "frame"; readonly link: LinkHandle; readonly reason: null }
  | { readonly path: "socket"; readonly reason: string | null }
  | { readonly path: "impossible"; readonly reason: string };

const etherType = 1; // ARPHRD_ETHER, linux/if_arp.h

/** What a rule may take from the packet. */
const keepFlags = {
  source: constants.MCR_KEEP_SOURCE,
  sourcePort: constants.MCR_KEEP_SOURCE_PORT,
  ttl: constants.MCR_KEEP_TTL,
  ttlLessOne: constants.MCR_KEEP_TTL_LESS_ONE,
  dscp: constants.MCR_KEEP_DSCP,
} as const;

export function keepOf({ source, source_port, ttl, dscp }: Egress): number {
  return (
    (source === "keep" ? keepFlags.source : 0) |
    (source_port === "keep" ? keepFlags.sourcePort : 0) |
    (ttl === "keep" ? keepFlags.ttl : 0) |
    (ttl === "decrement" ? keepFlags.ttlLessOne : 0) |
    (dscp === "keep" ? keepFlags.dscp : 0)
  );
}

/** Only frames can do what this egress asks for. */
export function needsFrames(egress: Egress): boolean {
  return egress.path === "frame" || keepOf(egress) !== 0;
}

/** What the rule alone decides: the reason for the socket, null when it asks for it, undefined when frames fit. */
export function socketReason({ path, address }: Egress): string | null | undefined {
  if (path === "socket") return null;
  return address === undefined ? undefined : "unicast";
}

/** Why no frames leave by an interface of this type. */
export function typeReason(name: string, type: number): string | undefined {
  return type === etherType ? undefined : `${name} is not Ethernet-like`;
}

/** @param link of the interface, or why there is none. */
export function chooseSendPath(
  egress: Egress,
  state: InterfaceState,
  link: LinkHandle | string | undefined,
): SendPath {
  const reason =
    socketReason(egress) ??
    (egress.path === "socket" ? null : typeReason(state.name, state.type)) ??
    (typeof link === "string" ? link : null);
  if (reason === null && typeof link === "number" && egress.path !== "socket")
    return { path: "frame", link, reason: null };
  if (!needsFrames(egress)) return { path: "socket", reason };
  return { path: "impossible", reason: reason ?? "no packet socket is open" };
}
