// What an interface is good for now, in words.

import { describe, expect, test } from "bun:test";
import { type InterfaceReader, isUsable, readInterface } from "../../src/net/interfaces.ts";
import { veth2Address, veth2Mac } from "../support/fakes.ts";

const upFlag = 0x1;
const broadcastFlag = 0x2;
const runningFlag = 0x40;

/** A host with one interface, veth2, in the state of these flags. */
function host(flags: number): InterfaceReader {
  return {
    readInterface: (name) =>
      name === "veth2"
        ? { ifindex: 4, flags, mtu: 1500, address: veth2Address, mac: veth2Mac, type: 1 }
        : undefined,
  };
}

describe("an interface", () => {
  test("that is up and has carrier is usable, with what sockets need of it", () => {
    const state = readInterface(host(upFlag | broadcastFlag | runningFlag), "veth2");
    expect(isUsable(state)).toBe(true);
    expect(state).toEqual({
      name: "veth2",
      ifindex: 4,
      mtu: 1500,
      address: veth2Address,
      mac: veth2Mac,
      type: 1,
      isUp: true,
      hasCarrier: true,
    });
  });

  test("that does not exist is named, with how to see the ones that do", () => {
    const state = readInterface(host(upFlag | runningFlag), "veth9");
    expect(isUsable(state)).toBe(false);
    expect(state).toEqual({
      name: "veth9",
      unusable: "interface veth9 does not exist (ip link shows the ones that do)",
    });
  });

  test("that is down says how to bring it up, carrier or not", () => {
    const expected = { name: "veth2", unusable: "interface veth2 is down (ip link set veth2 up)" };
    expect(readInterface(host(0), "veth2")).toEqual(expected);
    expect(readInterface(host(runningFlag), "veth2")).toEqual(expected);
  });

  test("that is up without carrier points at its cable or peer", () => {
    expect(readInterface(host(upFlag), "veth2")).toEqual({
      name: "veth2",
      unusable: "interface veth2 has no carrier (check its cable or peer)",
    });
  });
});
