// What the kernel says about memberships, read where an operator would: /proc/net/igmp and /proc/net/mcfilter of a
// namespace, and the forwarding table of a snooping bridge.

import * as v from "valibot";
import type { Topology } from "./topology.ts";

/** Groups joined on the interface, in numeric order, without 224.0.0.1, which every interface has. */
export async function joinedGroups(
  topology: Topology,
  namespace: string,
  interfaceName: string,
): Promise<string[]> {
  return parseGroups(await topology.output(namespace, ["cat", "/proc/net/igmp"]), interfaceName);
}

export interface JoinedSource {
  readonly group: string;
  readonly source: string;
}

/** The (S,G) joins on the interface, in the kernel's order. */
export async function joinedSources(
  topology: Topology,
  namespace: string,
  interfaceName: string,
): Promise<JoinedSource[]> {
  return parseSources(await topology.output(namespace, ["cat", "/proc/net/mcfilter"]), interfaceName);
}

const SnoopedSchema = v.array(
  v.object({ mdb: v.array(v.object({ port: v.string(), grp: v.string(), src: v.optional(v.string()) })) }),
);

/** IPv4 groups the bridge forwards to this port because somebody behind it joined them. */
export async function snoopedGroups(
  topology: Topology,
  namespace: string,
  bridge: string,
  port: string,
): Promise<string[]> {
  const text = await topology.output(namespace, ["bridge", "-json", "mdb", "show", "dev", bridge]);
  const entries = v.parse(SnoopedSchema, JSON.parse(text)).flatMap((each) => each.mdb);
  const groups = entries
    .filter((entry) => entry.port === port && !entry.grp.includes(":"))
    .map((entry) => entry.grp);
  return [...new Set(groups)].sort((a, b) => numberOf(a) - numberOf(b));
}

/**
 * /proc/net/igmp: a line per interface, then an indented line per group. The group is the address's four bytes
 * printed as one host-order number, so on a little-endian host 010000E0 is 224.0.0.1.
 */
export function parseGroups(text: string, interfaceName: string): string[] {
  const groups: string[] = [];
  let isWanted = false;
  for (const line of text.split("\n").slice(1)) {
    const header = /^\d+\s+(\S+)\s*:/.exec(line);
    if (header) isWanted = header[1] === interfaceName;
    const group = /^\s+([0-9A-Fa-f]{8})\s/.exec(line)?.[1];
    if (isWanted && group !== undefined) groups.push(dotted(octets(group).reverse()));
  }
  return groups.filter((group) => group !== "224.0.0.1").sort((a, b) => numberOf(a) - numberOf(b));
}

/** /proc/net/mcfilter: index, device, group, source, and how many sockets include and exclude it; network order. */
export function parseSources(text: string, interfaceName: string): JoinedSource[] {
  const sources: JoinedSource[] = [];
  for (const line of text.split("\n")) {
    const [, , device, group, source, included] =
      /^\s*(\d+)\s+(\S+)\s+0x([0-9a-f]{8})\s+0x([0-9a-f]{8})\s+(\d+)/i.exec(line) ?? [];
    if (device !== interfaceName || group === undefined || source === undefined || included === "0") continue;
    sources.push({ group: dotted(octets(group)), source: dotted(octets(source)) });
  }
  return sources;
}

function octets(hex: string): number[] {
  return [0, 2, 4, 6].map((start) => Number.parseInt(hex.slice(start, start + 2), 16));
}

function dotted(bytes: readonly number[]): string {
  return bytes.join(".");
}

function numberOf(address: string): number {
  return address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
}
