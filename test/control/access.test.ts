// Who may ask, and groups of this host by name, as /etc/group lists them, or by number.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { groupId, refusalOf } from "../../src/control/access.ts";
import { McrError } from "../../src/error.ts";

test("a group's number is found by its name, and a number is itself", () => {
  const directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
  try {
    const file = join(directory, "group");
    writeFileSync(file, "root:x:0:\nmcr:x:991:alice,bob\nmcr-admin:x:992:\nbroken:x\n");
    expect(groupId("mcr", file)).toBe(991);
    expect(groupId("mcr-admin", file)).toBe(992);
    expect(groupId("1234", file)).toBe(1234);
    for (const name of ["mc", "alice", "broken", "none"]) expect(() => groupId(name, file)).toThrow(McrError);
    expect(() => groupId("mcr", join(directory, "none"))).toThrow("there is no group");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("root, the user that mcr runs as and members of the group may ask, and nobody else", () => {
  const ownUid = 1000;
  const peer = { pid: 42, uid: 1001, isInGroup: false };
  expect(refusalOf({ ...peer, uid: 0 }, ownUid, "/run/x")).toBeUndefined();
  expect(refusalOf({ ...peer, uid: ownUid }, ownUid, "/run/x")).toBeUndefined();
  expect(refusalOf({ ...peer, isInGroup: true }, ownUid, "/run/x")).toBeUndefined();
  expect(refusalOf(peer, ownUid, "/run/x")).toStartWith("user 1001 may not ask the mcr at /run/x");
  expect(refusalOf(peer, 0, "/run/x")).toStartWith("user 1001 may not ask");
});
