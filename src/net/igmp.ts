// What the kernel itself says it has joined: /proc/net/igmp of this namespace. The proof of a join.

/**
 * Groups by interface. The file's form (net/ipv4/igmp.c, igmp_mc_seq_show):
 *
 *     Idx  Device    : Count Querier  Group    Users Timer  Reporter
 *     3    veth1     :     2      V3
 *                              010101EF     1 0:00000000  0
 */
export function parseProcIgmp(text: string): ReadonlyMap<string, ReadonlySet<string>> {
  const groups = new Map<string, Set<string>>();
  let current = new Set<string>();
  for (const line of text.split("\n").slice(1)) {
    const device = /^\d+\s+(\S+)\s*:/.exec(line);
    const group = /^\s+([0-9A-F]{8})\s/.exec(line);
    if (device?.[1]) {
      current = new Set();
      groups.set(device[1], current);
    } else if (group?.[1]) {
      current.add(groupOf(group[1]));
    }
  }
  return groups;
}

/** The kernel prints the address as one number of this machine's byte order: little-endian on all we build for. */
function groupOf(hex: string): string {
  return [6, 4, 2, 0].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join(".");
}
