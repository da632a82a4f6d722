// Netlink as bytes: what is asked, what real answers say, and that no answer, however broken, is believed or read beyond
// its end.

import { describe, expect, test } from "bun:test";
import { Shim } from "../../src/native/shim.ts";
import { decodeLink, decodeQueue } from "../../src/net/device-drops.ts";
import {
  ask,
  decodeAttributes,
  decodeMessages,
  encodeRequest,
  linkBody,
  messageTypes,
} from "../../src/net/netlink.ts";
import { decodeNeighbours, decodeRoute, readNeighbours, readRoute } from "../../src/net/next-hop.ts";
import { systemError } from "../support/fakes.ts";
import * as answers from "./netlink-answers.ts";

const veth2 = 3;

/** Numbers that look random and are the same each time: mulberry32. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

describe("a request", () => {
  test("for one thing asks for an acknowledgement, and pads what it holds", () => {
    const body = new Uint8Array(12);
    const request = encodeRequest({
      type: messageTypes.getRoute,
      body,
      attributes: [[1, Uint8Array.of(7, 8)]],
    });
    const header = "24000000 1a00 0d00 00000000 00000000"; // 36 bytes, REQUEST ACK ECHO
    const attribute = "0600 0100 0708 0000";
    expect(request.toHex()).toBe(`${header}${"00".repeat(12)}${attribute}`.replaceAll(" ", ""));
  });

  test("for all there are is a dump", () => {
    const request = encodeRequest({
      type: messageTypes.getNeighbour,
      body: new Uint8Array(12),
      isDump: true,
    });
    expect(request.subarray(4, 8).toHex()).toBe("1e000103");
  });
});

describe("a real answer says", () => {
  test("what a device dropped and failed to send", () => {
    expect(decodeLink(decodeMessages(answers.link), veth2)).toEqual({ type: "veth", dropped: 0, errors: 0 });
    expect(decodeLink(decodeMessages(answers.link), veth2 + 1)).toBeUndefined();
  });

  test("what the queue of a device dropped and holds", () => {
    expect(decodeQueue(decodeMessages(answers.qdisc), veth2)).toEqual({
      kind: "tbf",
      dropped: 8038,
      overlimits: expect.any(Number),
      requeues: 0,
      backlog_packets: expect.any(Number),
      backlog_bytes: expect.any(Number),
    });
    expect(decodeQueue(decodeMessages(answers.qdisc), veth2 + 1)).toBeUndefined();
  });

  test("who answers and who does not", () => {
    expect(decodeNeighbours(decodeMessages(answers.neighbours)).slice(0, 3)).toEqual([
      { address: "10.0.1.2", ifindex: veth2, state: "REACHABLE" },
      { address: "10.0.1.9", ifindex: veth2, state: "INCOMPLETE" },
      { address: "ff02::1:ffc3:9c84", ifindex: veth2, state: "NOARP" },
    ]);
  });

  test("who is asked for on the way to a host", () => {
    const gateways = [answers.routeDirect, answers.routeGateway, answers.routeVia].map(
      (answer) => decodeRoute(decodeMessages(answer)).gateway,
    );
    expect(gateways).toEqual([undefined, "10.0.1.2", "fe80::1"]);
  });

  test("counts beyond 2^32 of a device", () => {
    const large = answers.link.slice();
    const stats = Buffer.from(large).indexOf(Buffer.from("cc001700", "hex")) + 4;
    const view = new DataView(large.buffer);
    view.setBigUint64(stats + 40, 5_000_000_001n, true);
    view.setBigUint64(stats + 56, 5_000_000_002n, true);
    expect(decodeLink(decodeMessages(large), veth2)).toEqual({
      type: "veth",
      dropped: 5_000_000_002,
      errors: 5_000_000_001,
    });
  });
});

describe("a broken answer", () => {
  const whole = Object.entries(answers);
  /** Everything that is ever read of an answer. */
  function decodeAll(bytes: Uint8Array): void {
    const messages = decodeMessages(bytes);
    const link = decodeLink(messages, veth2);
    const queue = decodeQueue(messages, veth2);
    for (const count of [link?.dropped ?? 0, link?.errors ?? 0, queue?.dropped ?? 0])
      expect(Number.isInteger(count) && count >= 0).toBe(true);
    expect((queue?.kind ?? "").length).toBeLessThanOrEqual(64);
    decodeRoute(messages);
    for (const { address } of decodeNeighbours(messages)) expect(address).toMatch(/^[0-9a-f.:]+$/);
  }

  test.each(whole)("%s, cut short anywhere, is read to its end and no further", (_, bytes) => {
    for (let length = 0; length <= bytes.length; length += 1) decodeAll(bytes.subarray(0, length));
  });

  test.each(whole)("%s, with bytes changed at random, is read to its end and no further", (_, bytes) => {
    const random = seeded(bytes.length);
    for (let round = 0; round < 2_000; round += 1) {
      const changed = bytes.slice();
      for (let changes = 1 + random(8); changes > 0; changes -= 1)
        changed[random(changed.length)] = [0, 1, 0xff, 0x80, random(256)][random(5)] ?? 0;
      decodeAll(changed);
    }
  });

  test("of noise alone says nothing, and ends", () => {
    const random = seeded(1);
    for (let round = 0; round < 2_000; round += 1)
      decodeAll(Uint8Array.from({ length: random(200) }, () => random(256)));
  });

  test("whose messages or attributes claim no length at all ends there", () => {
    expect(decodeMessages(new Uint8Array(64))).toEqual([]);
    expect(decodeAttributes(new Uint8Array(64)).size).toBe(0);
  });
});

describe("a list that changes while it is read", () => {
  const request = { type: messageTypes.getNeighbour, body: new Uint8Array(12), isDump: true };
  function interrupted(times: number) {
    let calls = 0;
    const shim = {
      netlink: () => {
        calls += 1;
        if (calls <= times) throw systemError("EINTR");
        return answers.neighbours;
      },
    };
    return { shim, calls: () => calls };
  }

  test("is read again", () => {
    const { shim, calls } = interrupted(2);
    expect(ask(shim, request)).not.toEqual([]);
    expect(calls()).toBe(3);
  });

  test("is left alone when it goes on changing", () => {
    const { shim, calls } = interrupted(100);
    expect(() => ask(shim, request)).toThrow(/EINTR/);
    expect(calls()).toBe(3);
  });
});

describe("the kernel of this host", () => {
  const shim = new Shim();
  const loopback = 1;

  test("answers what it is asked of the loopback interface", () => {
    expect(readRoute(shim, "127.0.0.9", loopback)).toEqual({ gateway: undefined });
    expect(readNeighbours(shim, loopback)).toEqual(expect.any(Array));
  });

  test("refuses in its own words", () => {
    expect(() => ask(shim, { type: messageTypes.getLink, body: linkBody(0x7fff_fff0) })).toThrow(/ENODEV/);
  });
});
