// RTP and RTCP: when two packets are one stream, and what hints say of its content.

import { describe, expect, test } from "bun:test";
import { announcedHint } from "../../src/wire/media.ts";
import { rtcp, rtp } from "../../src/wire/rtp.ts";
import { expectFlowSurvival } from "./damage.ts";
import { audio1, audio2, flowOf, rtcpReport, rtpTs1, rtpTs2, sampleOf, withBytes } from "./packets.ts";

interface Header {
  readonly first?: number;
  readonly payloadType?: number;
  readonly sequence: number;
  readonly timestamp?: number;
  readonly ssrc?: number;
}

function rtpOf(header: Header, content: readonly number[] = new Array<number>(160).fill(0x47)) {
  const { first = 0x80, payloadType = 96, sequence, timestamp = 0, ssrc = 0xcafe0001 } = header;
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, first);
  view.setUint8(1, payloadType);
  view.setUint16(2, sequence);
  view.setUint32(4, timestamp);
  view.setUint32(8, ssrc);
  bytes.set(content, 12);
  return sampleOf(bytes);
}

describe("RTP", () => {
  test("with MPEG-TS inside counts its programs", () => {
    expect(rtp(flowOf([rtpTs1, rtpTs2]))).toEqual({
      ...{ kind: "rtp", payloadType: 33, ssrc: 0x80d9d857, programs: 1 },
    });
  });

  test("is read behind its sources and its extension", () => {
    const { payload } = rtpTs1;
    const behind = (sequence: number) =>
      sampleOf(
        Uint8Array.from([
          ...[0x92, ...payload.subarray(1, 2), 0, sequence, ...payload.subarray(4, 12)],
          ...[1, 1, 1, 1, 2, 2, 2, 2], // two sources
          ...[0xbe, 0xde, 0, 1, 9, 9, 9, 9], // an extension of one word
          ...payload.subarray(12),
        ]),
      );
    expect(rtp(flowOf([behind(1), behind(2)]))?.programs).toBe(1);
    const bare = [1, 2].map((sequence) => withBytes(behind(sequence), 0, 0x80));
    expect(rtp(flowOf(bare))?.programs).toBeUndefined();
  });

  test("takes two packets in step, over the wrap of the sequence", () => {
    const [before, behind] = [rtpOf({ sequence: 65_535 }), rtpOf({ sequence: 0 })];
    expect(rtp(flowOf([before]))).toBeUndefined();
    expect(rtp(flowOf([before, behind]))).toEqual({ kind: "rtp", payloadType: 96, ssrc: 0xcafe0001 });
    expect(rtp(flowOf([behind, before]))).toBeUndefined();
  });

  test("is seen past RTCP on its own port", () => {
    const flow = flowOf([rtpOf({ sequence: 1 }), rtcpReport, rtpOf({ sequence: 2 })]);
    expect(rtp(flow)?.payloadType).toBe(96);
  });

  const ten = Array.from({ length: 10 }, (_, i) => i);
  test.each([
    ["two sources", ten.map((i) => rtpOf({ sequence: i, ssrc: i }))],
    ["a standstill", ten.map(() => rtpOf({ sequence: 7 }))],
    ["leaps", ten.map((i) => rtpOf({ sequence: (i * 5000) & 0xffff }))],
    ["another version", ten.map((i) => rtpOf({ sequence: i, first: 0x40 }))],
    ["sources beyond the datagram", ten.map((i) => rtpOf({ sequence: i, first: 0x8f }, [1, 2, 3]))],
    ["an extension beyond it", ten.map((i) => rtpOf({ sequence: i, first: 0x90 }, [0, 0, 0, 9, 1]))],
  ])("%s: none", (_, samples) => {
    expect(rtp(flowOf(samples))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(rtp, flowOf([rtpTs1, rtpTs2, audio1, audio2, rtcpReport]));
    expectFlowSurvival(rtp, flowOf([audio1, audio2]));
  });
});

describe("RTCP", () => {
  test("is a report whose length fits the datagram", () => {
    expect(rtcp(flowOf([rtcpReport]))).toEqual({ kind: "rtcp" });
    expect(rtcp(flowOf([withBytes(rtcpReport, 1, 207)]))).toEqual({ kind: "rtcp" });
    expect(rtcp(flowOf([sampleOf("80c90001 cafe0001")]))).toEqual({ kind: "rtcp" });
  });

  test.each([
    ["a length beyond the datagram", withBytes(rtcpReport, 3, 7)],
    ["a type below", withBytes(rtcpReport, 1, 199)],
    ["a type above", withBytes(rtcpReport, 1, 208)],
    ["another version", withBytes(rtcpReport, 0, 0x40)],
    ["seven bytes", sampleOf(rtcpReport.payload.subarray(0, 7), 28)],
  ])("%s: none", (_, sample) => {
    expect(rtcp(flowOf([rtcpReport, sample]))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(rtcp, flowOf([rtcpReport, rtcpReport]));
  });
});

describe("a hint of what RTP carries", () => {
  test("is AES67 where the clock counts its samples for each packet", () => {
    expect(rtp(flowOf([audio1, audio2]))).toEqual({
      ...{ kind: "rtp", payloadType: 97, ssrc: 0x401535cc },
      detail: "hint: AES67 audio, L24 × 2 or L16 × 3, 1 ms",
    });
  });

  test("is none where the clock counts otherwise, or sizes differ", () => {
    const otherClock = withBytes(audio2, 4, 0x54, 0xa9, 0xb3, 0xec);
    expect(rtp(flowOf([audio1, otherClock]))?.detail).toBeUndefined();
    expect(rtp(flowOf([audio1, { ...audio2, bytes: 299 }]))?.detail).toBeUndefined();
  });

  test.each([
    [6, 6 * 3, "L24 × 1, 125 µs"],
    [12, 12 * 2, "L16 × 1, 250 µs"],
    [16, 16 * 4, "L16 × 2, 333 µs"],
    [48, 48 * 9, "L24 × 3, 1 ms"],
    [192, 192 * 2, "L16 × 1, 4 ms"],
    [6, 6 * 192, "L24 × 64 or L16 × 96, 125 µs"],
    [6, 6 * 195, undefined],
    [48, 48, undefined],
    [48, 48 * 5, undefined],
    [20, 20 * 6, undefined],
  ])("of %p samples in %p bytes is %p", (step, bytes, hint) => {
    const samples = [1, 2, 4].map((sequence) =>
      rtpOf({ sequence, timestamp: step * sequence }, new Array<number>(bytes).fill(1)),
    );
    const detail = rtp(flowOf(samples))?.detail;
    expect(detail).toBe(hint === undefined ? undefined : `hint: AES67 audio, ${hint}`);
    const fixed = samples.map((sample) => withBytes(sample, 1, 11));
    expect(rtp(flowOf(fixed))?.detail).toBeUndefined();
  });

  // ST 2022-6: | 0 F VSID | frame | R S FEC CF | … |, here with the source's format and without a time stamp.
  const sdi = [0x08, 0x01, 0, 0, 0x10, 0x18, 0x05, 0x00, ...new Array<number>(1376).fill(0x80)];
  // ST 2022-1: SN base 100, length 0, E and PT 33, mask 0, TS, column of offset 5 and 10 packets, SN base 0.
  const fec = [
    0,
    100,
    0,
    0,
    0xa1,
    0,
    0,
    0,
    1,
    2,
    3,
    4,
    0x00,
    5,
    10,
    0,
    ...new Array<number>(1316).fill(0x47),
  ];
  test.each([
    ["ST 2022-6 SDI", 98, sdi],
    ["ST 2022-1 FEC", 96, fec],
  ])("is %s by its payload header", (name, payloadType, content) => {
    const flow = flowOf([1, 2].map((sequence) => rtpOf({ sequence, payloadType }, content)));
    expect(rtp(flow)?.detail).toBe(`hint: ${name}`);
    expect(
      rtp(flowOf([1, 2].map((sequence) => rtpOf({ sequence, payloadType: 97 }, content))))?.detail,
    ).toBeUndefined();
    expectFlowSurvival(rtp, flow);
  });

  test.each([
    ["FEC of no offset", 96, fec.with(13, 0)],
    ["FEC of no packets", 96, fec.with(14, 0)],
    ["FEC with a mask", 96, fec.with(5, 1)],
    ["FEC without its first bit", 96, fec.with(4, 0x21)],
    ["FEC of another type", 96, fec.with(12, 8)],
    ["SDI with an extension", 98, sdi.with(0, 0x18)],
    ["SDI of another size", 98, [...sdi, 0]],
    ["SDI with a time that is not there", 98, sdi.with(3, 0x20)],
  ])("is none for %s", (_, payloadType, content) => {
    const flow = flowOf([1, 2].map((sequence) => rtpOf({ sequence, payloadType }, content)));
    expect(rtp(flow)).toMatchObject({ kind: "rtp", detail: undefined });
  });

  test.each([
    ["raw/90000", "raw/90000, hint: ST 2110-20 video"],
    ["jxsv/90000", "jxsv/90000, hint: ST 2110-22 JPEG XS video"],
    ["L24/48000/8", "L24/48000/8, hint: AES67 or ST 2110-30 audio"],
    ["smpte291/90000", "smpte291/90000, hint: ST 2110-40 ancillary data"],
    ["H264/90000", "H264/90000"],
  ])("is %p as announced", (encoding, hint) => {
    expect(announcedHint(encoding)).toBe(hint);
  });
});
