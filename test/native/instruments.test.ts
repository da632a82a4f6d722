// The instruments in this very process, over loopback: two objects side by side that share nothing but descriptors.

import { describe, expect, test } from "bun:test";
import { Instruments, type StreamSpec } from "../../src/native/measure/instruments.ts";
import { Shim } from "../../src/native/shim.ts";
import { SystemError } from "../../src/native/system-error.ts";
import { addressBytes } from "../../src/net/address.ts";
import { readGenerator, readStream } from "../../src/stats/instruments.ts";

const shim = new Shim();
const instruments = new Instruments();
const loopback = 1;
const clock = 7n;

async function freePort(): Promise<number> {
  const socket = await Bun.udpSocket({ hostname: "127.0.0.1" });
  const { port } = socket;
  socket.close();
  return port;
}

function openReceiver(streams: readonly StreamSpec[], expected: number) {
  const options = { clock, expect: expected, ifindex: loopback, buffer_bytes: 1 << 20 };
  return instruments.openReceiver(options, streams);
}

describe("the instruments", () => {
  test("send by a socket of the shim, and count what comes", async () => {
    const streams = [{ address: addressBytes("127.0.0.1"), port: await freePort() }];
    const count = 100;
    const receiver = openReceiver(streams, count);
    const fd = shim.openEgress({ ifindex: loopback, source: 0, source_port: 0, ttl: 1, dscp: 0 });
    const generator = instruments.openGenerator(
      { fd, clock, count, duration_ns: 0, payload_bytes: 64, rate_pps: 0, burst: 1, segments: 1 },
      streams,
      Buffer.from("text"),
    );
    expect(instruments.runGenerator(generator, 1_000)).toBe(true);
    expect(instruments.runReceiver(receiver, 200)).toBe(true);
    expect(readGenerator(instruments.generatorCounters(generator, 1)).sent_packets).toBe(count);
    expect(readStream(instruments.receiverCounters(receiver, 1), 0)).toMatchObject({
      ...{ packets: count, bytes: 64 * count },
      ...{ lost: 0, duplicated: 0, reordered: 0, corrupt: 0, foreign: 0 },
    });
    instruments.closeGenerator(generator);
    instruments.closeReceiver(receiver);
    shim.close(fd);
  });

  test("say which stream could not be opened", async () => {
    const [first, second] = [await freePort(), await freePort()].map((port) => ({
      address: addressBytes("127.0.0.1"),
      port,
    }));
    if (first === undefined || second === undefined) throw new Error("no ports");
    const receiver = openReceiver([second], 0);
    expect(() => openReceiver([first, second], 0)).toThrow(
      expect.objectContaining({ code: "EADDRINUSE", stream: 1 }),
    );
    instruments.closeReceiver(receiver);
    instruments.closeReceiver(openReceiver([first, second], 0));
  });

  test("hand out the sockets of their streams, and no other descriptor", async () => {
    const receiver = openReceiver([{ address: addressBytes("127.0.0.1"), port: await freePort() }], 0);
    expect(shim.egressPort(instruments.receiverFd(receiver, 0))).toBeGreaterThan(0);
    expect(() => instruments.receiverFd(receiver, 1)).toThrow(SystemError);
    instruments.closeReceiver(receiver);
  });

  test("open nothing without streams", () => {
    expect(() => openReceiver([], 0)).toThrow(expect.objectContaining({ code: "EINVAL" }));
  });
});
