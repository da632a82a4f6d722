// Which way an egress sends, and what is said where it is not the usual one.

import { describe, expect, test } from "bun:test";
import { chooseSendPath, keepOf, needsFrames } from "../../src/net/send-path.ts";
import { egressOf, interfaceState, linkHandle } from "../support/fakes.ts";

const link = linkHandle(31);
const tunType = 0xfffe; // ARPHRD_NONE

describe("the way of an egress", () => {
  test("to a group out of an Ethernet-like interface is frames", () => {
    expect(chooseSendPath(egressOf(), interfaceState(), link)).toEqual({ path: "frame", link, reason: null });
    expect(chooseSendPath(egressOf({ path: "frame" }), interfaceState(), link).path).toBe("frame");
  });

  test("is the socket where the rule asks for it, without a reason to tell", () => {
    expect(chooseSendPath(egressOf({ path: "socket" }), interfaceState(), link)).toEqual({
      path: "socket",
      reason: null,
    });
  });

  test.each([
    ["to one host", { address: "10.100.0.2" }, {}, link, "unicast"],
    ["out of a tunnel", {}, { type: tunType }, undefined, "veth2 is not Ethernet-like"],
    ["where no packet socket is to be had", {}, {}, "no more files", "no more files"],
  ] as const)("is the socket %s, with the reason", (_, keys, state, found, reason) => {
    expect(chooseSendPath(egressOf(keys), interfaceState(state), found)).toEqual({ path: "socket", reason });
  });

  test.each([{ path: "frame" }, { ttl: "keep" }, { source: "keep" }, { dscp: "keep" }])(
    "is none where %j wants frames and none can leave",
    (keys) => {
      const egress = egressOf(keys);
      expect(needsFrames(egress)).toBe(true);
      expect(chooseSendPath(egress, interfaceState({ type: tunType }), undefined)).toEqual({
        path: "impossible",
        reason: "veth2 is not Ethernet-like",
      });
    },
  );
});

test("what is kept of a packet is one bit each, as c/mcr.h has them", () => {
  expect(keepOf(egressOf())).toBe(0);
  const kept = [{ source: "keep" }, { source_port: "keep" }, { ttl: "keep" }, { ttl: "decrement" }];
  expect([...kept, { dscp: "keep" }].map((keys) => keepOf(egressOf(keys)))).toEqual([1, 2, 4, 8, 16]);
});
