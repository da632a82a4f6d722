// The shim in this very process: that it loads, answers, and turns -errno into errors with words.

import { describe, expect, test } from "bun:test";
import { counterArea } from "../../src/native/layouts.ts";
import { Shim, type TableParts } from "../../src/native/shim.ts";
import { checked, SystemError } from "../../src/native/system-error.ts";

const shim = new Shim();
const upFlag = 0x1;
const loopbackFlag = 0x8;
const errno = { ENODEV: 19, EINVAL: 22 };

/** What a call throws; fails when it throws nothing, or anything but a SystemError. */
function refusal(call: () => unknown): SystemError {
  try {
    call();
  } catch (error) {
    if (error instanceof SystemError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("the shim", () => {
  test("is mapped from a file that a second thread can open too", () => {
    expect(new Shim(shim.path).cpus()).toEqual(shim.cpus());
  });

  test("lists the CPUs of this process, each once and in order", () => {
    const cpus = shim.cpus();
    expect(cpus.length).toBeGreaterThan(0);
    expect(cpus).toEqual([...new Set(cpus)].sort((a, b) => a - b));
  });

  test("reads the loopback interface", () => {
    const lo = shim.readInterface("lo");
    expect(lo?.ifindex).toBe(1);
    expect((lo?.flags ?? 0) & (upFlag | loopbackFlag)).toBe(upFlag | loopbackFlag);
    expect(lo?.mtu).toBeGreaterThan(1000);
    expect(lo?.address).toBe(0x0100_007f); // 127.0.0.1 in network order
  });

  test.each(["nosuch0", "", "a-name-that-is-too-long-for-the-kernel"])("knows no interface %p", (name) => {
    expect(shim.readInterface(name)).toBeUndefined();
  });

  test("opens a relay with 1 to 64 workers, with zeroed counters for each", () => {
    const relay = shim.openRelay(64);
    const { bytes, interfacesMax, rulesMax, egressesMax } = counterArea;
    const areaBytes =
      bytes.worker +
      interfacesMax * bytes.interface +
      rulesMax * bytes.rule +
      egressesMax * bytes.egress +
      (rulesMax + 1) * bytes.addedLatency;
    for (const area of [shim.counters(relay, 0), shim.counters(relay, 63)]) {
      expect([area.at(0), area.at(areaBytes / 8 - 1)]).toEqual([0n, 0n]);
      expect([area.at(-1), area.at(areaBytes / 8)]).toEqual([undefined, undefined]);
    }
    expect(() => shim.counters(relay, 64)).toThrow(RangeError);
    expect(shim.epochSeen(relay)).toBe(0);
  });

  test.each([0, 65])("opens no relay with %d workers", (count) => {
    expect(refusal(() => shim.openRelay(count)).errno).toBe(errno.EINVAL);
  });

  test("resets counters inside their area only", () => {
    const relay = shim.openRelay(1);
    shim.resetRuleCounters(relay, counterArea.rulesMax - 1);
    shim.resetEgressCounters(relay, counterArea.egressesMax - 1);
    expect(refusal(() => shim.resetRuleCounters(relay, counterArea.rulesMax)).errno).toBe(errno.EINVAL);
    expect(refusal(() => shim.resetEgressCounters(relay, counterArea.egressesMax)).errno).toBe(errno.EINVAL);
  });

  test("builds a table from its parts, and refuses one that points outside them", () => {
    const relay = shim.openRelay(1);
    const address = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 1, 1, 1]);
    const unavailable = {
      ...{ link: 0, fd: -1, slot: 0, segment_bytes_max: 1472 },
      ...{ source: 0, source_port: 0, ttl: 0, dscp: 0, keep: 0, plain: 0 },
    };
    const parts: TableParts = {
      epoch: 1,
      rings: [],
      matches: [{ address, source: new Uint8Array(16), port: 5001, vlan: 0, interface: 0, flow: 0 }],
      flows: [{ rule: 0, action_first: 0, action_count: 1 }],
      actions: [{ address, port: 6001, egress: 0 }],
      egresses: [unavailable],
      origins: [],
    };
    shim.freeTable(shim.buildTable(relay, parts));
    expect(refusal(() => shim.buildTable(relay, { ...parts, egresses: [] })).code).toBe("EINVAL");
    const twice = [...parts.matches, ...parts.matches];
    expect(refusal(() => shim.buildTable(relay, { ...parts, matches: twice })).code).toBe("EEXIST");
  });

  test("runs a worker for its budget, and ends it when the relay stops", () => {
    const relay = shim.openRelay(1);
    expect(shim.runWorker(relay, 0, 0)).toBe("again");
    shim.stop(relay);
    expect(shim.runWorker(relay, 0, 1000)).toBe("stopped");
    expect(refusal(() => shim.runWorker(relay, 1, 0)).code).toBe("EINVAL");
  });

  test("opens a socket that sends out of one interface, and keeps its port", () => {
    const options = { ifindex: 1, source: 0, source_port: 0, ttl: 1, dscp: 0 };
    const fd = shim.openEgress(options);
    const port = shim.egressPort(fd);
    expect(port).toBeGreaterThan(0);
    expect(shim.egressPort(fd)).toBe(port);
    shim.close(fd);
    expect(refusal(() => shim.openEgress({ ...options, ifindex: 2 ** 30 })).errno).toBe(errno.ENODEV);
  });
});

describe("a SystemError", () => {
  test("carries number, name and words", () => {
    const error = refusal(() => checked(-1));
    expect(error.errno).toBe(1);
    expect(error.code).toBe("EPERM");
    expect(error.reason).toBe("operation not permitted");
    expect(error.message).toBe("operation not permitted (EPERM)");
  });

  test("of a number that nobody knows still says the number", () => {
    expect(refusal(() => checked(-9999)).message).toBe("error 9999 (errno 9999)");
  });

  test("is not made of a result that is fine", () => {
    expect([checked(0), checked(7)]).toEqual([0, 7]);
  });
});
