// Who may ask the control socket: root, the user that mcr runs as, and the members of the socket's group. The file's
// mode says so already; this says it again by the peer's own credentials, should somebody have widened the mode.
import { readFileSync } from "node:fs";
import { ExitCode, fail } from "../error.ts";

/** unix(7) SO_PEERCRED, and whether the socket's group is one of the peer's. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly isInGroup: boolean;
}

/** Undefined for whoever may; the sentence for whoever may not. */
export function refusalOf(peer: Peer, ownUid: number, path: string): string | undefined {
  if (peer.uid === 0 || peer.uid === ownUid || peer.isInGroup) return undefined;
  return `user ${peer.uid} may not ask the mcr at ${path}: run as root, or as a member of the group that owns it (ls -l ${path})`;
}

/** The number of a group of this host, by its name in /etc/group or its own digits. */
export function groupId(name: string, file = "/etc/group"): number {
  if (/^\d{1,9}$/.test(name)) return Number(name);
  const line = readGroups(file).find((text) => text.startsWith(`${name}:`));
  const id = line?.split(":")[2];
  if (id === undefined || !/^\d+$/.test(id))
    fail(
      `[relay] control_group: there is no group "${name}" in ${file}: make it (groupadd --system ${name}), or give its number`,
      ExitCode.config,
    );
  return Number(id);
}

function readGroups(file: string): readonly string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}
