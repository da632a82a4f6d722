// Watching interfaces: read often, every ring closed, and one that cannot be opened named with its cure.

import { expect, test } from "bun:test";
import type { ObserverHandle, SeenFlow } from "../../src/native/shim.ts";
import { SystemError } from "../../src/native/system-error.ts";
import { addressBytes } from "../../src/net/address.ts";
import { type ObserveShim, observe } from "../../src/net/observe.ts";

const flow: SeenFlow = {
  source: addressBytes("10.0.0.1"),
  destination: addressBytes("239.1.1.1"),
  packets: 1000,
  bytes: 1_024_000,
  first_ns: 1e18,
  last_ns: 1e18 + 1e9,
  size_min: 1000,
  size_max: 1100,
  port: 5001,
  vlan: 5,
  kind: 0,
  ttl: 16,
  sample_bytes: 2,
  sample: new Uint8Array([1, 2]),
};

function fakeShim(failing: ReadonlyMap<number, number> = new Map()) {
  const calls = { reads: 0, open: 0 };
  const shim: ObserveShim = {
    openObserver({ ifindex }) {
      const errno = failing.get(ifindex);
      if (errno !== undefined) throw new SystemError(errno);
      calls.open += 1;
      return ifindex as unknown as ObserverHandle;
    },
    readObserver() {
      calls.reads += 1;
    },
    observed: () => ({
      totals: { flows: 1, frames: 1000, dropped: 2, overflow: 3, fragments: 0, malformed: 0 },
      flows: [flow],
    }),
    closeObserver() {
      calls.open -= 1;
    },
  };
  return { shim, calls };
}

async function watch(shim: ObserveShim) {
  let nowMs = 0;
  return observe({
    shim,
    interfaces: [
      { name: "eth0", ifindex: 2 },
      { name: "eth1", ifindex: 3 },
    ],
    durationMs: 1000,
    nowMs: () => nowMs,
    pause: async (ms) => {
      nowMs += ms;
    },
  });
}

test("every interface is read until the time is over, then closed", async () => {
  const { shim, calls } = fakeShim();
  const { seconds, seen, dropped, overflow, failures } = await watch(shim);
  expect(seconds).toBe(1);
  expect(calls).toEqual({ reads: 100, open: 0 });
  expect([dropped, overflow, failures]).toEqual([4, 6, []]);
  expect(seen.map((each) => each.interface)).toEqual(["eth0", "eth1"]);
  expect(seen[0]).toEqual({
    interface: "eth0",
    vlan: 5,
    source: "10.0.0.1",
    destination: "239.1.1.1",
    port: 5001,
    kind: "udp",
    packets: 1000,
    bytes: 1_024_000,
    size_min: 1000,
    size_max: 1100,
    first_ms: 1e12,
    last_ms: 1e12 + 1000,
    ttl: 16,
    sample: new Uint8Array([1, 2]),
  });
});

test("an interface that cannot be watched does not keep the others from it", async () => {
  const { shim, calls } = fakeShim(new Map([[2, 1]]));
  const { seen, failures } = await watch(shim);
  expect(seen.map((each) => each.interface)).toEqual(["eth1"]);
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
  expect(calls).toEqual({ reads: 0, open: 0 });
});

test("a read that fails closes what is open", async () => {
  const { shim, calls } = fakeShim();
  const failing = {
    ...shim,
    readObserver() {
      throw new SystemError(9);
    },
  };
  expect(watch(failing)).rejects.toThrow("EBADF");
  await Bun.sleep(0);
  expect(calls.open).toBe(0);
});
