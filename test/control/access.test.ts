// Groups of this host by name, as /etc/group lists them, or by number.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { groupId } from "../../src/control/access.ts";
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
