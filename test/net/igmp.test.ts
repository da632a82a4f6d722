// Reading /proc/net/igmp as Linux prints it.

import { describe, expect, test } from "bun:test";
import { parseProcIgmp } from "../../src/net/igmp.ts";

const text = [
  "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter",
  "1\tlo        :     1      V3",
  "\t\t\t\t010000E0     1 0:00000000\t\t0",
  "3\tveth1     :     4      V3",
  "\t\t\t\t320101EF     1 0:00000000\t\t0",
  "\t\t\t\t020101EF     2 1:00000A3F\t\t1",
  "\t\t\t\tFFFFFFEF     1 0:00000000\t\t0",
  "\t\t\t\t010000E0     1 0:00000000\t\t0",
  "12\tenp134s0f1.100:     2      V2",
  "\t\t\t\t010A0AE8     1 0:00000000\t\t0",
  "\t\t\t\t010000E0     1 0:00000000\t\t0",
  "",
].join("\n");

describe("/proc/net/igmp", () => {
  test("groups are listed under the interface above them", () => {
    const groups = parseProcIgmp(text);
    expect([...groups.keys()]).toEqual(["lo", "veth1", "enp134s0f1.100"]);
    expect([...(groups.get("lo") ?? [])]).toEqual(["224.0.0.1"]);
    expect([...(groups.get("veth1") ?? [])]).toEqual([
      "239.1.1.50",
      "239.1.1.2",
      "239.255.255.255",
      "224.0.0.1",
    ]);
  });

  test("an interface name that fills its column is read whole", () => {
    expect([...(parseProcIgmp(text).get("enp134s0f1.100") ?? [])]).toEqual(["232.10.10.1", "224.0.0.1"]);
  });

  test("an interface without groups is there, with none", () => {
    const groups = parseProcIgmp("Idx\tDevice\n5\tdummy0    :     0      V3\n");
    expect([...groups]).toEqual([["dummy0", new Set()]]);
  });

  test("a file with the heading alone, or nothing, lists no interface", () => {
    expect(parseProcIgmp("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n").size).toBe(0);
    expect(parseProcIgmp("").size).toBe(0);
  });
});
