// Which state a rule is in: the first broken link from the wire to the packet decides.

import { describe, expect, test } from "bun:test";
import { type Evidence, ruleState, silentMs } from "../../src/net/rule-state.ts";
import { interfaceState, startMs } from "../support/fakes.ts";

/** A rule that has just been joined, changed in what a test is about. */
function stateOf(changes: Partial<Evidence> = {}) {
  return ruleState({
    interface: interfaceState({ name: "veth1" }),
    captureFailure: undefined,
    joins: ["joined"],
    quietMs: 0,
    ...changes,
  });
}

const down = { name: "veth1", unusable: "interface veth1 is down (ip link set veth1 up)" };
const captureFailure = "cannot capture on veth1: not enough memory (ENOMEM)";
const refused = { reason: "cannot join 239.1.1.7 on veth1: ENOBUFS", retryAtMs: startMs + 2000 };
const refusedToo = { reason: "cannot join 239.1.1.9 on veth1: ENOBUFS", retryAtMs: startMs + 9000 };

describe("a rule", () => {
  test("waits while its interface cannot be used, whatever else is wrong", () => {
    expect(stateOf({ interface: down })).toEqual(["waiting", down.unusable]);
    expect(stateOf({ interface: down, captureFailure, joins: [refused] })).toEqual([
      "waiting",
      down.unusable,
    ]);
  });

  test("fails when nothing can be captured, joined or not", () => {
    expect(stateOf({ captureFailure })).toEqual(["failed", captureFailure]);
    expect(stateOf({ captureFailure, joins: [refused] })).toEqual(["failed", captureFailure]);
  });

  test("fails when one of its joins did, and says when that is tried again", () => {
    expect(stateOf({ joins: ["joined", "joining", refused, refusedToo] })).toEqual([
      "failed",
      "cannot join 239.1.1.7 on veth1: ENOBUFS; next try at 2026-01-02T03:04:07.000Z",
    ]);
  });

  test("is joining while one of its joins is not done", () => {
    expect(stateOf({ joins: ["joined", "joining"] })).toEqual(["joining", null]);
    expect(stateOf({ joins: ["joining"], quietMs: 9_000 })).toEqual(["joining", null]);
  });

  test("is active until it has been quiet for 5 s, and silent from then on", () => {
    expect(stateOf()).toEqual(["active", null]);
    expect(stateOf({ quietMs: 4_999 })).toEqual(["active", null]);
    expect(stateOf({ quietMs: 5_000 })).toEqual(["silent", null]);
    expect(silentMs).toBe(5_000);
  });
});
