// Watching interfaces: read often, every scan closed, and one that cannot be opened named with its cure.

import { expect, test } from "bun:test";
import { type CountedFlow, ListenError, type RawPacket, type ScanHandle } from "../../src/native/shim.ts";
import { SystemError } from "../../src/native/system-error.ts";
import { addressBytes } from "../../src/net/address.ts";
import { type WatchShim, watchWire } from "../../src/net/watch.ts";
import { igmpLeave, igmpQuery, rawPacket } from "../support/control-packets.ts";

const state = {
  ...{ frames: 1000, flow_count: 1, packet_count: 2, flows_refused: 3, packets_refused: 1 },
  ...{ malformed: 1, ring_drops: 2 },
};
const counted: CountedFlow = {
  ...{ group: addressBytes("239.1.1.1"), source: addressBytes("10.0.0.1"), interface: 1, vlan: 5 },
  ...{ packets: 1000, bytes: 1_024_000, bytes_min: 1000, bytes_max: 1100, port: 5001 },
  ...{ first_ns: 1e18, last_ns: 1e18 + 1e9, is_egress: 0 },
};
const packets: readonly RawPacket[] = [
  rawPacket({ bytes: igmpQuery("10.0.0.254", 3) }),
  rawPacket({ bytes: igmpLeave("10.0.0.9", "239.1.1.1") }),
  rawPacket({ bytes: igmpQuery("10.0.0.254", 3) }),
];

/** Of scans that are numbered as they are opened. */
function fakeShim(failing: ReadonlyMap<number, number> = new Map()) {
  const calls = { reads: 0, open: 0, opened: [] as (readonly number[])[] };
  const taken = new Set<ScanHandle>();
  const shim: WatchShim = {
    openScan(ifindexes, options) {
      expect(options).toEqual({ ingressOnly: true });
      const bad = ifindexes.findIndex((ifindex) => failing.has(ifindex));
      if (bad >= 0) throw new ListenError(failing.get(ifindexes[bad] ?? 0) ?? 0, bad);
      calls.open += 1;
      return calls.opened.push(ifindexes) as unknown as ScanHandle;
    },
    runScan(_, budgetMs) {
      expect(budgetMs).toBe(0);
      calls.reads += 1;
    },
    scanState: () => state,
    scanFlows: (_, first = 0) => [counted].slice(first),
    takeScanPackets: (scan) => {
      const isFirst = !taken.has(scan);
      taken.add(scan);
      return isFirst ? packets : [];
    },
    wishForPackets: (_, wishes) => expect(wishes).toEqual([]),
    closeScan() {
      calls.open -= 1;
    },
  };
  return { shim, calls };
}

const two = [
  { name: "eth0", ifindex: 2 },
  { name: "eth1", ifindex: 3 },
];

async function watch(shim: WatchShim, interfaces = two) {
  let nowMs = 0;
  return watchWire({
    shim,
    interfaces,
    durationMs: 1000,
    nowMs: () => nowMs,
    pause: async (ms) => {
      nowMs += ms;
    },
  });
}

test("every interface is read until the time is over, then closed", async () => {
  const { shim, calls } = fakeShim();
  const { seconds, flows, dropped, overflow, failures } = await watch(shim);
  expect(seconds).toBe(1);
  expect(calls).toEqual({ reads: 50, open: 0, opened: [[2, 3]] });
  expect([dropped, overflow, failures]).toEqual([2, 3, []]);
  expect(flows).toEqual([
    {
      interface: "eth1",
      vlan: 5,
      source: "10.0.0.1",
      destination: "239.1.1.1",
      port: 5001,
      packets: 1000,
      bytes: 1_024_000,
      size_min: 1000,
      size_max: 1100,
      last_ms: 1e12 + 1000,
    },
  ]);
});

test("IGMP stands by itself, with the group that it is about", async () => {
  const { igmp } = await watch(fakeShim().shim);
  expect(igmp).toMatchObject([
    { interface: "eth0", kind: "query", source: "10.0.0.254", destination: "224.0.0.1", packets: 2 },
    {
      interface: "eth0",
      kind: "leave",
      source: "10.0.0.9",
      destination: "239.1.1.1",
      packets: 1,
      last_ms: 1e12,
    },
  ]);
});

test("more interfaces than one scan takes are watched by several", async () => {
  const { shim, calls } = fakeShim();
  const many = Array.from({ length: 70 }, (_, i) => ({ name: `eth${i}`, ifindex: i + 1 }));
  const { flows } = await watch(shim, many);
  expect(calls.opened.map(({ length }) => length)).toEqual([64, 6]);
  expect(flows.map((flow) => flow.interface)).toEqual(["eth1", "eth65"]);
  expect(calls.open).toBe(0);
});

test("an interface that cannot be watched does not keep the others from it", async () => {
  const { shim, calls } = fakeShim(new Map([[2, 1]]));
  const { igmp, failures } = await watch(shim);
  expect(igmp[0]?.interface).toBe("eth1");
  expect(failures).toEqual([
    {
      interface: "eth0",
      reason:
        "cannot watch eth0: operation not permitted (EPERM); run as root, or give the process CAP_NET_RAW",
    },
  ]);
  expect(calls.open).toBe(0);
});

test("where none can be watched it ends at once", async () => {
  const { shim, calls } = fakeShim(
    new Map([
      [2, 12],
      [3, 100],
    ]),
  );
  const { seconds, failures } = await watch(shim);
  expect(seconds).toBe(0);
  expect(failures.map(({ reason }) => reason)).toEqual([
    expect.stringContaining("8 MiB of kernel memory"),
    expect.stringContaining("check ip link show eth1"),
  ]);
  expect(calls).toEqual({ reads: 0, open: 0, opened: [] });
});

test("where the tables have no room none is watched, and each says why", async () => {
  const { shim } = fakeShim();
  const { failures } = await watch({
    ...shim,
    openScan() {
      throw new SystemError(12);
    },
  });
  expect(failures.map((each) => each.interface)).toEqual(["eth0", "eth1"]);
});

test("a read that fails closes what is open", async () => {
  const { shim, calls } = fakeShim();
  const failing = {
    ...shim,
    runScan() {
      throw new SystemError(9);
    },
  };
  await expect(watch(failing)).rejects.toThrow("EBADF");
  expect(calls.open).toBe(0);
});
