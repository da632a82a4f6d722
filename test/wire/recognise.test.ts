// What a flow is among all decoders, and that chance is not mistaken for one of them.

import { describe, expect, test } from "bun:test";
import type { Sample } from "../../src/wire/flow.ts";
import { recognise, type ScanKind } from "../../src/wire/recognise.ts";
import { Random } from "../config/random.ts";
import { expectFlowSurvival, randomBytes } from "./damage.ts";
import {
  audio1,
  audio2,
  bytesOf,
  flowOf,
  rtcpReport,
  rtpTs1,
  rtpTs2,
  sampleOf,
  sapPacket,
  ts1,
  ts2,
} from "./packets.ts";

describe("a flow", () => {
  test.each([
    ["rtp", [rtpTs1, rtpTs2], {}],
    ["rtp", [rtcpReport, audio1, audio2], {}],
    ["rtcp", [rtcpReport], {}],
    ["mpeg-ts", [ts1, ts2], {}],
    ["sap", [sapPacket], { port: 9875 }],
    ["mdns", [rtpTs1, rtpTs2], { port: 5353 }],
    ["mcr", [sampleOf(bytesOf("mcr1".padEnd(36, "\0")))], {}],
    ["unknown", [sampleOf(bytesOf("hello, world"))], {}],
    ["unknown", [audio1], {}],
    ["unknown", [], {}],
    ["unknown", [sampleOf(""), sampleOf("")], { port: 5353 }],
  ] as const)("is %s", (kind, samples, facts) => {
    expect(recognise(flowOf(samples, facts)).kind).toBe(kind);
  });

  test("damage is survived", () => {
    expectFlowSurvival(recognise, flowOf([rtpTs1, rtpTs2, audio1, audio2, rtcpReport, ts1]));
    expectFlowSurvival(recognise, flowOf([sapPacket, rtcpReport], { port: 9875 }));
  });

  test("of 65,535 bytes a sample is told within a bounded time", () => {
    const random = new Random(2);
    const start = performance.now();
    for (const first of [0x47, 0x80, 0x3c, 0x30, 0x00]) {
      const payload = randomBytes(random, 65_535 * 2)
        .subarray(0, 65_535)
        .fill(first, 0, 30_000);
      for (let i = 0; i < 20; i += 1)
        recognise(flowOf([sampleOf(payload), sampleOf(payload)], { port: 3702 }));
    }
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});

/**
 * How many of 100,000 flows of one random datagram each chance may name, by what the decoders state: up to 1,500 bytes
 * to random groups and ports. RTCP takes 2^-7 and a length that fits, mDNS one port of 65,536, MPEG-TS a length of
 * whole packets. All others together: less than one in 10^5 such runs.
 */
const expectedPerRun: Partial<Record<ScanKind, number>> = {
  rtcp: 2.3,
  mdns: 1.5,
  "mpeg-ts": 0.3,
  sap: 0.2,
  ptp: 0.4,
};

describe("chance", () => {
  const flows = 100_000;

  function countKinds(random: Random, samplesOf: () => readonly Sample[], facts = () => ({})) {
    const counts = new Map<ScanKind, number>();
    for (let i = 0; i < flows; i += 1) {
      const group = `${224 + random.below(16)}.${random.below(256)}.${random.below(256)}.${random.below(256)}`;
      const flow = flowOf(samplesOf(), { group, port: random.below(65_536), ...facts() });
      const { kind } = recognise(flow);
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    return counts;
  }

  /** Random bytes out of a stock: making each of 10^8 bytes anew would take longer than to decode them. */
  function stock(random: Random) {
    const bytes = Uint8Array.from({ length: 1 << 20 }, () => random.below(256));
    return (max: number): Sample => {
      const length = random.below(max + 1);
      const start = random.below(bytes.length - length);
      return sampleOf(bytes.subarray(start, start + length));
    };
  }

  test("names no more flows of one datagram than the decoders state", () => {
    const random = new Random(3);
    const sample = stock(random);
    const counts = countKinds(random, () => [sample(1_500)]);
    for (const [kind, count] of counts) {
      if (kind === "unknown") continue;
      const expected = expectedPerRun[kind] ?? 0;
      expect([kind, count <= Math.ceil(expected + 4 * Math.sqrt(expected))]).toEqual([kind, true]);
    }
  });

  test("names only what a port names, of two datagrams and more", () => {
    const random = new Random(4);
    const sample = stock(random);
    const counts = countKinds(random, () => Array.from({ length: 2 + random.below(3) }, () => sample(1_500)));
    for (const kind of counts.keys()) expect(["unknown", "mdns", "sap", "ptp"]).toContain(kind);
  });

  test("names nothing at the groups and ports of what has a form", () => {
    const random = new Random(5);
    const sample = stock(random);
    const places = [
      ...[5568, 6454, 1900, 3702, 3671].map((port) => ({ group: "239.255.255.250", port })),
      { group: "224.0.0.231", port: 8702 },
      { group: "239.255.1.1", port: 4321 },
    ] as const;
    const counts = countKinds(
      random,
      () => [sample(200), sample(200)],
      () => places[random.below(places.length)] ?? {},
    );
    expect([...counts.keys()]).toEqual(["unknown"]);
  });
});
