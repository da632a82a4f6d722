// The interfaces of this network namespace, all of them: what scan and init choose from.
import { readFileSync } from "node:fs";
import { dotted } from "./address.ts";
import type { InterfaceReader } from "./interfaces.ts";

export interface ListedInterface {
  readonly name: string;
  readonly ifindex: number;
  readonly mtu: number;
  /** First IPv4 address. */
  readonly address: string | null;
  readonly isUp: boolean;
  readonly hasCarrier: boolean;
  readonly isLoopback: boolean;
}

// netdevice(7)
const up = 0x1;
const loopback = 0x8;
const running = 0x40;

export function listInterfaces(
  reader: InterfaceReader,
  names: readonly string[] = interfaceNames(),
): readonly ListedInterface[] {
  return names.flatMap((name) => {
    const found = reader.readInterface(name);
    if (!found) return [];
    return {
      name,
      ifindex: found.ifindex,
      mtu: found.mtu,
      address: found.address === 0 ? null : dotted(found.address),
      isUp: (found.flags & up) !== 0,
      hasCarrier: (found.flags & running) !== 0,
      isLoopback: (found.flags & loopback) !== 0,
    };
  });
}

/** /proc/net/dev of this namespace: two lines of headings, then `name: numbers`. */
function interfaceNames(): readonly string[] {
  return readFileSync("/proc/net/dev", "utf8")
    .split("\n")
    .slice(2)
    .map((line) => line.slice(0, Math.max(0, line.lastIndexOf(":"))).trim())
    .filter((name) => name !== "")
    .sort();
}
