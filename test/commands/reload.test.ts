// `mcr reload`: what came of it, in text, JSON and exit code.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { reloadCommand } from "../../src/commands/reload.ts";
import { ReloadSchema } from "../../src/control/protocol.ts";
import { refused, reloaded } from "../control/fake-relay.ts";
import { runRemote } from "./remote.ts";

const reloadTo = (result: typeof reloaded) => ({ reload: async () => result });

describe("mcr reload", () => {
  test("prints the difference, the rules in it, and what only a restart changes", async () => {
    const { exitCode, stdout, errors } = await runRemote(reloadCommand, {});
    expect(stdout).toMatchInlineSnapshot(`
      "reload: 2 added, 1 removed, 1 changed, 47 unchanged
      + studio-b
          eth0 239.1.1.2:5002 → eth1 239.10.1.2:6002
      + studio-c
          eth0 239.1.1.3:5003 → eth1 239.10.1.3:6003
      - old
          eth0 239.1.1.9:5009 → eth1 239.10.1.9:6009
      ~ wall
          ingress.port: 5001-5050 → 5101-5150
      not touched: 47 rules, 1,234 flows: packets, counters and memberships go on
      note: [relay] workers changes only with a restart
      "
    `);
    expect(errors).toEqual([]);
    expect(exitCode).toBe(0);
  });

  test("of an unchanged file prints one line", async () => {
    const result = { ...reloaded, difference: "0 added, 0 removed, 0 changed, 50 unchanged" };
    const { stdout } = await runRemote(
      reloadCommand,
      reloadTo({ ...result, added: [], removed: [], changed: [], changes: [], notes: [] }),
    );
    expect(stdout).toBe("reload: 0 added, 0 removed, 0 changed, 50 unchanged\n");
  });

  test("of a broken file prints every mistake as an error and ends with 78", async () => {
    const { exitCode, stdout, errors } = await runRemote(reloadCommand, reloadTo(refused));
    expect(stdout).toBe("");
    expect(errors).toEqual([...refused.errors, "reload refused: the running rules are unchanged"]);
    expect(exitCode).toBe(78);
  });

  test("--json prints the answer as it came, with the same exit codes", async () => {
    for (const [result, expected] of [
      [reloaded, 0],
      [refused, 78],
    ] as const) {
      const { exitCode, stdout, errors } = await runRemote(reloadCommand, reloadTo(result), { json: true });
      expect(v.parse(ReloadSchema, JSON.parse(stdout))).toEqual(result);
      expect(errors).toEqual([]);
      expect(exitCode).toBe(expected);
    }
  });

  test("that fails inside the running mcr ends with 1", async () => {
    const relay = { reload: () => Promise.reject(new Error("relay is gone")) };
    const { exitCode, errors } = await runRemote(reloadCommand, relay);
    expect(exitCode).toBe(1);
    expect(errors).toEqual([expect.stringContaining("relay is gone")]);
  });

  test("without a running mcr ends with 69", async () => {
    expect((await runRemote(reloadCommand, null)).exitCode).toBe(69);
  });
});
