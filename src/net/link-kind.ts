// The kind of an interface, as `ip -d link` shows it: veth, bridge, vxlan … For `mcr explain`, since a veth hands
// super-frames to its other side as they are.
import { SystemError } from "../native/system-error.ts";
import { ask, decodeAttributes, linkBody, messageTypes, type NetlinkShim, textOf } from "./netlink.ts";

/** linux/if_link.h */
const link = { bodyBytes: 16, info: 18, infoKind: 1 } as const;

/** Undefined for hardware, which has none, and where the kernel does not tell. */
export function readKind(shim: NetlinkShim, ifindex: number): string | undefined {
  try {
    const answer = ask(shim, { type: messageTypes.getLink, body: linkBody(ifindex) });
    const found = answer.find(({ type }) => type === messageTypes.newLink);
    const info = found && decodeAttributes(found.payload, link.bodyBytes).get(link.info);
    const kind = info && decodeAttributes(info).get(link.infoKind);
    return kind && textOf(kind);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return undefined;
  }
}
