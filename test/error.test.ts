// The error operators read, and the assertion they never should.

import { describe, expect, test } from "bun:test";
import { assert, ExitCode, fail, McrError, messageOf } from "../src/error.ts";

describe("expected trouble", () => {
  test("keeps its lines apart and reads as one text", () => {
    const error = new McrError(["rules.toml:3:1: one", "rules.toml:9:1: two"], ExitCode.config);
    expect(error.lines).toEqual(["rules.toml:3:1: one", "rules.toml:9:1: two"]);
    expect(error.message).toBe("rules.toml:3:1: one\nrules.toml:9:1: two");
    expect(error.name).toBe("McrError");
    expect(error.exitCode).toBe(78);
  });

  test("fail throws one line with its exit code", () => {
    const thrown = (() => {
      try {
        return fail("no daemon answers", ExitCode.unavailable);
      } catch (error) {
        return error;
      }
    })();
    expect(thrown).toBeInstanceOf(McrError);
    expect(thrown).toMatchObject({ lines: ["no daemon answers"], exitCode: 69 });
  });

  test("exit codes are those of sysexits.h", () => {
    expect(ExitCode).toEqual({
      ok: 0,
      failed: 1,
      usage: 64,
      unavailable: 69,
      noPermission: 77,
      config: 78,
    });
  });

  test("the text of anything thrown can be logged", () => {
    expect(messageOf(new RangeError("no worker 9"))).toBe("no worker 9");
    expect(messageOf("plain text")).toBe("plain text");
    expect(messageOf(undefined)).toBe("undefined");
    expect(messageOf(new McrError(["a", "b"], ExitCode.failed))).toBe("a\nb");
  });
});

describe("an invariant", () => {
  test("that holds passes in silence", () => {
    expect(() => assert(true, "one is one")).not.toThrow();
  });

  test("that is broken is no expected trouble", () => {
    const broken = () => assert(false, "a checked rule has a target");
    expect(broken).toThrow("broken invariant: a checked rule has a target");
    expect(broken).not.toThrow(McrError);
  });
});
