// `mcr send`, PTP, KNXnet/IP and Dante.

import { describe, expect, test } from "bun:test";
import { dante, knx, mcr, ptp } from "../../src/wire/control.ts";
import { expectFlowSurvival } from "./damage.ts";
import { bytesOf, flowOf, hex, sampleOf, withBytes } from "./packets.ts";

/** c/payload.h: stream 1, sequence 2, times and check that nobody looks at here. */
const mcrPayload = sampleOf(`6d637231 01000000 0200000000000000 ${"00".repeat(20)} 00000000`);

/** A Sync of two steps, domain 3, IEEE 1588-2008 section 13.6. */
const ptpSync = sampleOf(`
  00 02 002c 03 00 0200     # Sync, version 2, 44 bytes, domain 3, two steps
  0000000000000000 00000000 # correction
  080027fffe123456 0001     # port identity
  0007 00 00                # sequence, control, interval
  00000000000000000000      # origin`);
/** A Sync of version 1, of 124 bytes: IEEE 1588-2002 annex D. */
const ptpSync1 = sampleOf(Buffer.concat([hex("0001 0001 5f44464c54"), new Uint8Array(115)]));

/** Routing indication: a group write of 1 to 1/0/1, from 1.1.1. */
const routing = sampleOf(`
  06 10 0530 0011    # header, version, routing indication, 17 bytes
  29 00 bc d0        # L_Data.ind, control
  1101 0801 01 0081  # from, to, length, GroupValueWrite 1`);
const searchRequest = sampleOf("06 10 0201 000e 08 01 0a000009 0e57");

/** | 2 | second | sample | 48 samples of 3 bytes in 2 channels |, as the open implementation Inferno sends it. */
const danteAudio = (second: number, sample: number) => {
  const bytes = new Uint8Array(9 + 48 * 6);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 2);
  view.setUint32(1, second);
  view.setUint32(5, sample);
  return sampleOf(bytes);
};
const danteControl = sampleOf(`
  ffff 0024 0001 0000  # start, 36 bytes, sequence, process
  001dc1fffe123456     # device
  417564696e617465     # Audinate
  0731 0000 0000 0000  # operation
  00000000`);

describe("mcr send", () => {
  test("is its magic before a whole header", () => {
    expect(mcr(flowOf([mcrPayload]))).toEqual({ kind: "mcr" });
    expect(mcr(flowOf([sampleOf(mcrPayload.payload.subarray(0, 35))]))).toBeUndefined();
    expect(mcr(flowOf([withBytes(mcrPayload, 3, 0x32)]))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(mcr, flowOf([mcrPayload]));
  });
});

describe("PTP", () => {
  test.each([
    [319, ptpSync, "version 2, domain 3"],
    [320, withBytes(ptpSync, 0, 0x0b, 0x12), "version 2, domain 3"],
    [319, ptpSync1, "version 1"],
  ])("on port %p", (port, sample, detail) => {
    expect(ptp(flowOf([sample], { group: "224.0.1.129", port }))).toEqual({ kind: "ptp", detail });
  });

  test.each([
    ["version 0", 320, withBytes(ptpSync, 1, 0)],
    ["version 3", 320, withBytes(ptpSync, 1, 3)],
    ["33 bytes", 319, sampleOf(ptpSync.payload.subarray(0, 33))],
    ["another port", 321, ptpSync],
  ])("%s: none", (_, port, sample) => {
    expect(ptp(flowOf([sample], { port }))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(ptp, flowOf([ptpSync, ptpSync1], { port: 319 }));
  });
});

describe("KNXnet/IP", () => {
  const at = { group: "224.0.23.12", port: 3671 };
  test("names the family of its service", () => {
    expect(knx(flowOf([routing, searchRequest], at))).toEqual({ kind: "knx", detail: "routing" });
    expect(knx(flowOf([searchRequest], at))).toEqual({ kind: "knx", detail: "core" });
  });

  test.each([
    ["another length", withBytes(routing, 5, 0x12)],
    ["another version", withBytes(routing, 1, 0x20)],
    ["another family", withBytes(routing, 2, 0x0f)],
  ])("%s in one of its samples: none", (_, sample) => {
    expect(knx(flowOf([routing, sample], at))).toBeUndefined();
  });

  test("another port: none", () => {
    expect(knx(flowOf([routing]))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(knx, flowOf([routing, searchRequest], at));
  });
});

describe("Dante", () => {
  const audio = { group: "239.255.17.4", port: 4321 };
  const control = { group: "224.0.0.231", port: 8702 };
  test("audio is a hint by group, port and a clock that goes on", () => {
    const samples = [danteAudio(1000, 47_952), danteAudio(1001, 0), danteAudio(1001, 48)];
    expect(dante(flowOf(samples, audio))).toEqual({ kind: "dante", detail: "hint: audio" });
    expect(dante(flowOf(samples))).toBeUndefined();
    expect(dante(flowOf([...samples].reverse(), audio))).toBeUndefined();
    expect(dante(flowOf([danteAudio(1000, 192_000)], audio))).toBeUndefined();
    expect(dante(flowOf([], audio))).toBeUndefined();
    expect(dante(flowOf(samples, { ...audio, group: "239.69.17.4" }))?.detail).toBe("hint: audio");
    expect(dante(flowOf(samples, { ...audio, group: "239.1.1.1" }))).toBeUndefined();
    expect(dante(flowOf(samples, { ...audio, port: 4322 }))).toBeUndefined();
  });

  test("control names the vendor", () => {
    expect(dante(flowOf([danteControl], control))).toEqual({
      kind: "dante",
      detail: "hint: control Audinate",
    });
    expect(dante(flowOf([danteControl], { ...control, port: 8709 }))).toBeUndefined();
    expect(dante(flowOf([danteControl], { ...control, port: 8700 }))?.kind).toBe("dante");
    expect(dante(flowOf([danteControl], { ...control, port: 8708, group: "224.0.0.233" }))?.kind).toBe(
      "dante",
    );
    expect(dante(flowOf([danteControl], { ...control, port: 8699 }))).toBeUndefined();
    expect(dante(flowOf([danteControl], { ...control, group: "224.0.0.234" }))).toBeUndefined();
    expect(dante(flowOf([withBytes(danteControl, 3, 0x25)], control))).toBeUndefined();
    expect(dante(flowOf([sampleOf(bytesOf("\xff\xff\x00\x04"))], control))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(dante, flowOf([danteAudio(1, 0), danteAudio(1, 48)], audio));
    expectFlowSurvival(dante, flowOf([danteControl], control));
  });
});
