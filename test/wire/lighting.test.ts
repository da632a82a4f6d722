// sACN and Art-Net: the universe and who sends it.

import { describe, expect, test } from "bun:test";
import { artNet, sacn } from "../../src/wire/lighting.ts";
import { expectFlowSurvival } from "./damage.ts";
import { bytesOf, flowOf, hex, sampleOf, withBytes } from "./packets.ts";

/** E1.31 data of 3 slots in universe 7, from a source named Console. */
const dmx = sampleOf(
  Buffer.concat([
    hex(`
      0010 0000                          # preamble, postamble
      41 53 43 2d 45 31 2e 31 37 00 00 00 # ASC-E1.17
      7071 00000004                      # length 113, E1.31 data
      000102030405060708090a0b0c0d0e0f   # CID
      705b 00000002                      # length 91, data packet`),
    bytesOf("Console".padEnd(64, "\0")),
    hex(`
      64 0000 01 00 0007                 # priority, sync address, sequence, options, universe
      700e 02 a1 0000 0001 0004          # DMP: set property, addresses, count
      00 ff8040                          # start code, three slots`),
  ]),
);
/** Extended packets: a synchronization and a universe discovery. */
const sync = withBytes(withBytes(dmx, 21, 8), 43, 1);
const discovery = withBytes(withBytes(dmx, 21, 8), 43, 2);

describe("sACN", () => {
  test.each([
    ["data", dmx, "universe 7, Console"],
    ["data of which the beginning was captured", sampleOf(dmx.payload.subarray(0, 64), 130), "Console"],
    ["a source that writes escape sequences", withBytes(dmx, 44, 0x1b, 0x5b), "universe 7, [nsole"],
    ["synchronization", sync, "synchronization"],
    ["universe discovery", discovery, "universe discovery"],
  ])("%s", (_, sample, detail) => {
    expect(sacn(flowOf([sample], { group: "239.255.0.7", port: 5568 }))).toEqual({ kind: "sacn", detail });
  });

  test.each([
    ["another magic", withBytes(dmx, 12, 0x38)],
    ["another protocol of ACN", withBytes(dmx, 21, 1)],
    ["43 bytes", sampleOf(dmx.payload.subarray(0, 43))],
  ])("%s: none", (_, sample) => {
    expect(sacn(flowOf([sample]))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(sacn, flowOf([dmx, sync, discovery]));
  });
});

/** ArtDmx of two slots in net 1, subnet 2, universe 3; and a poll. */
const artDmx = sampleOf(`
  4172742d4e657400  # Art-Net
  0050 000e 01 00   # OpDmx, version 14, sequence, physical
  23 01 0002 ff80   # subnet and universe, net, length, slots`);
const artPoll = sampleOf("4172742d4e657400 0020 000e 02 00");

describe("Art-Net", () => {
  test.each([
    ["DMX", artDmx, "universe 291"],
    ["a poll", artPoll, "poll"],
    ["DMX cut short", sampleOf(artDmx.payload.subarray(0, 15), 20), "operation 0x5000"],
    ["an unknown operation", withBytes(artPoll, 8, 0x34, 0x12), "operation 0x1234"],
  ])("%s", (_, sample, detail) => {
    expect(artNet(flowOf([sample], { port: 6454 }))).toEqual({ kind: "art-net", detail });
  });

  test("a name without its end, or without an operation: none", () => {
    expect(artNet(flowOf([withBytes(artPoll, 7, 0x21)]))).toBeUndefined();
    expect(artNet(flowOf([sampleOf(artPoll.payload.subarray(0, 9))]))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(artNet, flowOf([artDmx, artPoll]));
  });
});
