// Whether two interfaces of this host look like one layer 2, and why: for `mcr check`, which warns of packets that would
// come back. A guess from what the host says of itself; where it says nothing, so does this. A VLAN and the interface
// below it are two networks.
import { existsSync, readlinkSync } from "node:fs";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { basename } from "node:path";
import { prefixStart } from "./address.ts";

export interface Attachment {
  /** First IPv4 address. */
  readonly address: string | undefined;
  /** IPv4, `10.0.0.0/24`. */
  readonly networks: readonly string[];
  /** The bridge that it is a port of. */
  readonly bridge: string | undefined;
}
export type AttachmentReader = (name: string) => Attachment;

/** As this host is now; an interface that is down, or not there, has nothing. */
export function hostAttachments(): AttachmentReader {
  const all = networkInterfaces();
  const known = new Map<string, Attachment>();
  return (name) => {
    const attachment = known.get(name) ?? attachmentOf(name, all[name] ?? []);
    known.set(name, attachment);
    return attachment;
  };
}

function attachmentOf(name: string, addresses: readonly NetworkInterfaceInfo[]): Attachment {
  const ipv4 = addresses.filter(({ family }) => family === "IPv4");
  return {
    address: ipv4[0]?.address,
    networks: ipv4.flatMap(({ cidr }) => networkOf(cidr ?? "")),
    bridge: bridgeOf(name),
  };
}

/** Completes "they look like one network: …"; undefined where nothing says so. */
export function whyOneNetwork(a: string, b: string, attachmentOf: AttachmentReader): string | undefined {
  const [first, second] = [attachmentOf(a), attachmentOf(b)];
  if (first.bridge !== undefined && first.bridge === second.bridge)
    return `both are ports of bridge ${first.bridge}`;
  if (first.bridge === b) return `${a} is a port of bridge ${b}`;
  if (second.bridge === a) return `${b} is a port of bridge ${a}`;
  const network = first.networks.find((each) => second.networks.includes(each));
  return network === undefined ? undefined : `both have an address of ${network}`;
}

/** A single address is no network. */
function networkOf(cidr: string): readonly string[] {
  const start = prefixStart(cidr);
  return start === undefined || cidr.endsWith("/32") ? [] : [`${start}${cidr.slice(cidr.indexOf("/"))}`];
}

function bridgeOf(name: string): string | undefined {
  try {
    const master = basename(readlinkSync(`/sys/class/net/${name}/master`));
    return existsSync(`/sys/class/net/${master}/bridge`) ? master : undefined;
  } catch {
    return undefined;
  }
}
