// Profiles as ring shapes, and how check and the start log say them.

import { describe, expect, test } from "bun:test";
import { describeRing, type RingSettings, ringShape } from "../../src/net/profile.ts";

function settings(given: Partial<RingSettings> = {}): RingSettings {
  return { profile: "balanced", fanout: "flow", ring_bytes: 64 << 20, latency_sleep_us: 0, ...given };
}

describe("a profile", () => {
  test("balanced: blocks of 128 KiB, after 1 ms", () => {
    expect(ringShape(settings())).toEqual({
      block_bytes: 131_072,
      block_count: 512,
      retire_ms: 1,
      receive_bytes: 0,
      sleep_us: 0,
      fanout: 0,
    });
    expect(describeRing(settings())).toBe(
      "profile balanced, 64 MiB per ring: 512 blocks of 128 KiB, handed over within 1 ms",
    );
  });

  test("throughput: blocks of 1 MiB, after 4 ms", () => {
    expect(ringShape(settings({ profile: "throughput" }))).toMatchObject({
      block_bytes: 1_048_576,
      block_count: 64,
      retire_ms: 4,
    });
    expect(describeRing(settings({ profile: "throughput" }))).toBe(
      "profile throughput, 64 MiB per ring: 64 blocks of 1 MiB, handed over within 4 ms",
    );
  });

  test("latency: frame by frame, with or without a sleep", () => {
    expect(ringShape(settings({ profile: "latency", latency_sleep_us: 50 }))).toMatchObject({
      block_bytes: 0,
      block_count: 0,
      receive_bytes: 64 << 20,
      sleep_us: 50,
    });
    expect(describeRing(settings({ profile: "latency" }))).toBe(
      "profile latency, 64 MiB per ring: frame by frame, woken for each",
    );
    expect(describeRing(settings({ profile: "latency", latency_sleep_us: 50 }))).toEndWith(
      ": frame by frame, looked for every 50 µs",
    );
  });

  test("an odd size is cut down to whole blocks, and what is taken is said", () => {
    const odd = settings({ ring_bytes: 5_000_001 });
    expect(ringShape(odd).block_count).toBe(38);
    expect(describeRing(odd)).toContain("4.75 MiB per ring: 38 blocks of 128 KiB");
    expect(ringShape({ ...odd, profile: "throughput" }).block_count).toBe(4);
  });

  test("the fanouts are enum mcr_fanout in its order", () => {
    const fanouts = (["flow", "hash", "cpu", "qm"] as const).map((fanout) => ringShape(settings({ fanout })));
    expect(fanouts.map(({ fanout }) => fanout)).toEqual([0, 1, 2, 3]);
  });
});
