// MPEG transport streams: what is one, and how many programs its table counts.

import { describe, expect, test } from "bun:test";
import { mpegTs } from "../../src/wire/mpeg-ts.ts";
import { expectFlowSurvival } from "./damage.ts";
import { flowOf, hex, sampleOf, ts1, ts2 } from "./packets.ts";

const packetBytes = 188;

/** A table of these many entries, the first the network's, behind pointer bytes and an adaptation field. */
function patOf(entries: number, pointer: number, adaptation: number): Uint8Array {
  const packet = new Uint8Array(packetBytes).fill(0xff);
  packet.set([0x47, 0x40, 0, adaptation > 0 ? 0x30 : 0x10]);
  let at = 4;
  if (adaptation > 0) {
    packet[at] = adaptation;
    at += 1 + adaptation;
  }
  packet[at] = pointer;
  at += 1 + pointer;
  const length = 9 + 4 * entries;
  // Table 0, its length, stream 1, version, section 0 of 0.
  packet.set([0, 0xb0 | (length >> 8), length & 0xff, 0, 1, 0xc1, 0, 0], at);
  for (let i = 0; i < entries; i += 1) packet.set([0, i, 0xe0, i], at + 8 + 4 * i);
  return packet;
}

function datagramOf(pat: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(7 * packetBytes).fill(0x47);
  bytes.set(pat, 3 * packetBytes);
  return bytes;
}

describe("MPEG-TS", () => {
  test("is told by its packets, and one program by the table in them", () => {
    expect(mpegTs(flowOf([ts1, ts2]))).toEqual({ kind: "mpeg-ts", programs: 1 });
    expect(mpegTs(flowOf([ts2]))).toEqual({ kind: "mpeg-ts" });
  });

  test.each([
    [2, 0, 0, 1],
    [4, 0, 0, 3],
    [4, 20, 0, 3],
    [4, 0, 7, 3],
    [4, 20, 7, 3],
    [1, 0, 0, undefined],
  ])(
    "a table of %p entries, pointer %p, adaptation %p counts %p programs",
    (entries, pointer, adaptation, programs) => {
      const flow = flowOf([sampleOf(datagramOf(patOf(entries, pointer, adaptation)))]);
      expect(mpegTs(flow)).toEqual({ kind: "mpeg-ts", programs });
    },
  );

  test.each([
    ["of another PID", 2, 0x11],
    ["that begins in another packet", 1, 0x00],
    ["in a packet without payload", 3, 0x20],
    ["of another kind", 5, 0x42],
  ])("a table %s counts none", (_, at, byte) => {
    const pat = patOf(4, 0, 0);
    pat[at] = byte;
    expect(mpegTs(flowOf([sampleOf(pat)]))).toEqual({ kind: "mpeg-ts" });
  });

  test("a table whose lengths lie is read as far as its packet goes", () => {
    for (let value = 0; value < 256; value += 1) {
      const pat = patOf(4, 0, 0);
      pat[4] = value;
      pat.set([0xb0 | (value >> 4), (value << 4) & 0xff], 6);
      expect(mpegTs(flowOf([sampleOf(pat)]))?.kind).toBe("mpeg-ts");
    }
  });

  test.each([
    ["a length that is not of whole packets", [sampleOf(ts1.payload, 1315)]],
    ["a packet without its sync byte", [sampleOf(`${"47".repeat(188)}46`, 376)]],
    ["a sample of something else", [ts1, sampleOf("48656c6c6f")]],
    ["an empty datagram", [sampleOf("")]],
    ["nothing captured of it", [sampleOf("", 1316)]],
    ["no sample", []],
  ])("%s: none", (_, samples) => {
    expect(mpegTs(flowOf(samples))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(
      mpegTs,
      flowOf([ts1, ts2, sampleOf(datagramOf(patOf(4, 20, 7))), sampleOf(hex("47"), 188)]),
    );
  });
});
