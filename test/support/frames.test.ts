// The frame builder against the kernel: a plain socket takes what it builds, and receive.c finds every byte intact.

import { expect, test } from "bun:test";
import { type Datagram, fragmentsOf, frameOf, superFrameOf, testPayload, withByte } from "./frames.ts";
import type { Frame } from "./records.ts";
import { startInjector } from "./records.ts";
import { address, openTopology } from "./topology.ts";
import { faultsOf, noFaults, startReceiver } from "./traffic.ts";

const to = { source: address.gen, destination: "239.1.1.1", port: 5001 } as const;

function datagram(sequence: number, size: number): Datagram {
  return { ...to, id: sequence, payload: testPayload(0, sequence, size) };
}

test("a frame, fragments and a super-frame reach a plain socket byte for byte; a changed byte does not", async () => {
  await using topology = await openTopology("chain");
  const receiver = await startReceiver(topology, "relay-ns", {
    interfaceAddress: address.relayIngress,
    streams: { group: to.destination, port: to.port },
    expect: 2 + 2 + 10,
    deadlineSeconds: 10,
  });
  const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
  const ten = Array.from({ length: 10 }, (_, i) => testPayload(0, 10 + i, 200));
  const frames: readonly Frame[] = [
    ...[32, 999].map((size, i) => frameOf(datagram(i, size))),
    ...[1473, 9001].flatMap((size, i) => fragmentsOf(datagram(2 + i, size))),
    superFrameOf({ ...to, payload: new Uint8Array(Buffer.concat(ten)) }, 200),
    withByte(frameOf(datagram(50, 100)), 80, (old) => old ^ 1),
  ];
  await injector.inject(frames);
  const received = await receiver.finished();
  expect(received.received).toBe(14);
  // The kernel refuses the changed one by its checksum.
  expect(faultsOf(received)).toEqual({ ...noFaults, socket_drops: received.socket_drops });
  expect(received.checksum_errors).toBe(1);
  expect(injector.refused()).toEqual([]);
}, 60_000);
