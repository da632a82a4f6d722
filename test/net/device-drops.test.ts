// What is known of the drops behind an egress, and how often the kernel is asked.

import { expect, test } from "bun:test";
import { DeviceDropsReader } from "../../src/net/device-drops.ts";
import { FakeClock } from "../support/fakes.ts";
import { FakeNetlink } from "../support/netlink.ts";

const veth2 = { name: "veth2", ifindex: 4 };
const none = { overlimits: 0, requeues: 0, backlog_packets: 0, backlog_bytes: 0 };

function reading() {
  const clock = new FakeClock();
  const kernel = new FakeNetlink();
  kernel.devices.set(4, { dropped: 3, errors: 2, qdisc: { kind: "tbf", dropped: 7991 } });
  return { clock, kernel, reader: new DeviceDropsReader(kernel, clock.elapsedMs) };
}

test("a device and its queue are counted each by itself", () => {
  expect(reading().reader.of([veth2])).toEqual([
    { interface: "veth2", type: null, dropped: 3, errors: 2, qdisc: { kind: "tbf", dropped: 7991, ...none } },
  ]);
});

test("a device without a queue has its own counts", () => {
  const { kernel, reader } = reading();
  kernel.devices.set(5, { dropped: 1, errors: 0 });
  expect(reader.of([{ name: "tun0", ifindex: 5 }])).toEqual([
    { interface: "tun0", type: null, dropped: 1, errors: 0, qdisc: null },
  ]);
});

test("a device that has gone is left out, and so is one of which the kernel does not tell", () => {
  const { kernel, reader } = reading();
  expect(reader.of([{ name: "gone", ifindex: 9 }, veth2])).toMatchObject([{ interface: "veth2" }]);
  kernel.isDeaf = true;
  expect(reader.of([{ name: "gone", ifindex: 9 }])).toEqual([]);
});

test("the kernel is asked once a second at most, whoever asks", () => {
  const { clock, kernel, reader } = reading();
  const dropped = () => reader.of([veth2])[0]?.dropped;
  expect(dropped()).toBe(3);
  kernel.devices.set(4, { dropped: 9, errors: 0 });
  clock.ms += 999;
  expect([dropped(), dropped(), kernel.asked.links]).toEqual([3, 3, 1]);
  clock.ms += 1;
  expect([dropped(), dropped(), kernel.asked.links]).toEqual([9, 9, 2]);
});

test("a device of the same name that was made anew is another one", () => {
  const { kernel, reader } = reading();
  kernel.devices.set(5, { dropped: 0, errors: 0 });
  expect(reader.of([veth2])).toMatchObject([{ dropped: 3 }]);
  expect(reader.of([{ name: "veth2", ifindex: 5 }])).toMatchObject([{ dropped: 0 }]);
});
