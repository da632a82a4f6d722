// A state, why, and since when.

import { describe, expect, test } from "bun:test";
import { type RuleState, Since } from "../../src/net/state.ts";

function waiting(): Since<RuleState> {
  return new Since<RuleState>("waiting", "interface veth1 is down", 1000);
}

describe("a state", () => {
  test("that changes begins anew", () => {
    const status = waiting();
    expect(status.change("active", null, 2000)).toBe(true);
    expect(status).toMatchObject({ state: "active", reason: null, sinceMs: 2000 });
  });

  test("that stays keeps its beginning and is no change", () => {
    const status = waiting();
    expect(status.change("waiting", "interface veth1 is down", 2000)).toBe(false);
    expect(status.sinceMs).toBe(1000);
  });

  test("with another reason is a change, and still the same since", () => {
    const status = waiting();
    expect(status.change("waiting", "interface veth1 does not exist", 2000)).toBe(true);
    expect(status).toMatchObject({
      state: "waiting",
      reason: "interface veth1 does not exist",
      sinceMs: 1000,
    });
  });
});
