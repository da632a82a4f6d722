// Market-data framings: each by a packet written from its specification, and by what makes it none.

import { describe, expect, test } from "bun:test";
import type { Sample } from "../../src/wire/flow.ts";
import { marketData } from "../../src/wire/market-data.ts";
import { expectFlowSurvival } from "./damage.ts";
import { flowOf, sampleOf, withBytes } from "./packets.ts";

/** MoldUDP64: an order added (36 bytes) and one deleted (19), of ITCH 5.0. */
const mold = sampleOf(`
  30303030313131313141 0000000000001234 0002                           # session 000011111A, sequence, two messages
  0024 41 0001 0000 0a2d5e1c3f00 0000000000000001 42 00000064          # A: Add Order, locate, tracking, time, buy 100
       4d43522020202020 000186a0                                       # MCR, 10.0000
  0013 44 0001 0000 0a2d5e1c4000 0000000000000001                      # D: Order Delete`);
const moldHeartbeat = sampleOf("30303030313131313141 0000000000001236 0000");

/** CME MDP 3.0, little-endian: an incremental refresh without entries, and a heartbeat (template 12). */
const mdp = sampleOf(`
  39300000 00c81bc2d9e3a117                       # sequence 12345, 2023-12-17
  1800 0b00 2e00 0100 0900 00c81bc2d9e3a117 840000 000000  # size 24, block 11, template 46, schema 1, version 9
  0a00 0000 0c00 0100 0900                        # size 10, block 0, template 12`);

/** B3 UMDF, little-endian: channel 84, one message of 12 + 8 bytes. */
const umdf = sampleOf(`
  54 00 0100 07000000 00c81bc2d9e3a117            # channel, reserved, version, sequence, time
  1400 50eb 0800 0b00 0200 0900 0102030405060708  # 20 bytes, SBE, block 8, template 11, schema 2, version 9`);

/** NYSE XDP, little-endian: an order deleted (25 bytes). */
const xdp = sampleOf(`
  2900 0b 01 10000000 80057f65 ffc99a3b           # 41 bytes, original, one message, sequence, seconds, ns
  1900 6600 00010203 04050607 08090a0b 0000000000000001 00  # 25 bytes, type 102`);
const xdpHeartbeat = sampleOf("1000 01 00 11000000 80057f65 00000000");

/** OPRA: version 6, 21 bytes, no messages (a line integrity message would follow in practice). */
const opra = sampleOf("06 0015 4f 20 00 00000009 00 657f0580 075bcd15 beef");

/** Cboe PITCH, little-endian: a time (6 bytes) and an order deleted (14). */
const pitch = sampleOf(`
  1c00 02 01 64000000               # 28 bytes, two messages, unit 1, sequence 100
  06 20 98850200                    # Time
  0e 29 18d20600 0540f1d8d4000000   # Delete Order`);
const pitchHeartbeat = sampleOf("0800 00 01 66000000");

/** IEX-TP, little-endian: TOPS, one message of 10 bytes (system event), and a heartbeat. */
const iex = sampleOf(`
  01 00 0380 01000000 00008742 0c00 0100                     # version, protocol, channel, session, 12 bytes, one message
  8000000000000000 0100000000000000 00c81bc2d9e3a117         # offset, sequence, time
  0a00 53 4f 00c81bc2d9e3a117                                # S: start of messages`);
const iexHeartbeat = sampleOf(`
  01 00 0380 01000000 00008742 0000 0000
  8c00000000000000 0200000000000000 00c81bc2d9e3a117`);

const wholes: readonly [string, readonly Sample[]][] = [
  ["MoldUDP64, session 000011111A, ITCH 5.0", [mold, moldHeartbeat]],
  ["CME MDP 3.0", [mdp]],
  ["B3 UMDF, channel 84", [umdf]],
  ["NYSE XDP", [xdp, xdpHeartbeat]],
  ["OPRA", [opra]],
  ["Cboe PITCH, unit 1", [pitch, pitchHeartbeat]],
  ["IEX-TP, channel 1", [iex, iexHeartbeat]],
];

describe("market data", () => {
  test.each(wholes)("%s", (detail, samples) => {
    expect(marketData(flowOf(samples))).toEqual({ kind: "market-data", detail });
  });

  test.each(wholes)("%s: another length is none", (_, [first, ...rest]) => {
    const { payload } = first ?? sampleOf("");
    for (const other of [payload.subarray(0, -1), Uint8Array.from([...payload, 0])])
      expect(marketData(flowOf([sampleOf(other), ...rest]))).toBeUndefined();
  });

  test.each(wholes)("%s: one sample of something else is none", (_, samples) => {
    expect(marketData(flowOf([...samples, sampleOf("47".repeat(188))]))).toBeUndefined();
  });

  test("OPRA sends again, too", () => {
    expect(marketData(flowOf([opra, withBytes(opra, 4, 0x56)]))?.detail).toBe("OPRA");
  });

  test("the beginning of a packet is enough", () => {
    for (const [sample, detail] of [
      [mold, "MoldUDP64, session 000011111A, ITCH 5.0"],
      [xdp, "NYSE XDP"],
      [umdf, "B3 UMDF, channel 84"],
    ] as const) {
      const cut = { ...sample, payload: sample.payload.subarray(0, 30) };
      expect(marketData(flowOf([cut]))).toEqual({ kind: "market-data", detail });
    }
  });

  test.each([
    ["a session that is no text", [withBytes(mold, 0, 0x01)]],
    ["a session with a gap", [withBytes(mold, 5, 0x20)]],
    ["sessions that differ", [mold, withBytes(moldHeartbeat, 0, 0x39)]],
    ["more messages than it holds", [withBytes(mold, 19, 3)]],
    ["fewer messages than it holds", [withBytes(mold, 19, 1)]],
    ["a time of 1970", [withBytes(mdp, 4, 0, 0, 0, 0, 0, 0, 0, 0)]],
    ["another schema", [withBytes(mdp, 18, 2)]],
    ["another encoding", [withBytes(umdf, 18, 0x5b)]],
    ["a delivery flag that is none", [withBytes(xdp, 2, 2)]],
    ["more than a second of nanoseconds", [withBytes(xdp, 12, 0xff, 0xff, 0xff, 0xff)]],
    ["one packet of PITCH", [pitch]],
    ["heartbeats of PITCH alone", [pitchHeartbeat, pitchHeartbeat]],
    ["a message of no bytes", [withBytes(pitch, 8, 0), pitch]],
    ["another protocol of IEX", [withBytes(iex, 3, 0x7f)]],
    ["IEX-TP of 1970", [withBytes(iex, 39, 0)]],
    ["UMDF of 1970", [withBytes(umdf, 15, 0)]],
    ["another schema of UMDF", [withBytes(umdf, 24, 3)]],
    ["another count of XDP", [withBytes(xdp, 3, 2)]],
    ["another count of PITCH", [withBytes(pitch, 2, 3), pitch]],
    ["PITCH without a unit", [withBytes(pitch, 3, 0), withBytes(pitch, 3, 0)]],
    ["units of PITCH that differ", [pitch, withBytes(pitch, 3, 2)]],
    ["another feed", [withBytes(opra, 3, 0x50)]],
    ["another indicator of OPRA", [withBytes(opra, 4, 0x55)]],
    ["no sample", []],
  ])("%s: none", (_, samples) => {
    expect(marketData(flowOf(samples))).toBeUndefined();
  });

  test("MoldUDP64 with messages of another protocol says no more", () => {
    const other = withBytes(mold, 22, 0x5a);
    expect(marketData(flowOf([other]))?.detail).toBe("MoldUDP64, session 000011111A");
  });

  test("a length in front, as many protocols have it, is not PITCH", () => {
    const samples = [1, 2].map((i) => sampleOf(`1000 0${i} 00 ${"01".repeat(12)}`));
    expect(marketData(flowOf(samples))).toBeUndefined();
  });

  test.each(wholes)("%s: damage is survived", (_, samples) => {
    expectFlowSurvival(marketData, flowOf(samples));
  });
});
