// Capture of an interface: its rings, and the filter they share.

import { describe, expect, test } from "bun:test";
import type { AddressRange } from "../../src/native/shim.ts";
import { Capture, mergeRanges, openCaptures } from "../../src/net/capture.ts";
import { ringShape } from "../../src/net/profile.ts";
import { Random } from "../config/random.ts";
import { FakeRings, interfaceState, ringHandle } from "../support/fakes.ts";

const shape = ringShape({ profile: "balanced", fanout: "flow", ring_bytes: 64 << 20, latency_sleep_us: 0 });
const veth1 = interfaceState({ name: "veth1", ifindex: 3 });

function numberOf(address: string): number {
  return address.split(".").reduce((value, part) => value * 256 + Number(part), 0);
}

function textOf({ first, last }: AddressRange): string {
  const dotted = (value: number) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
  return first === last ? dotted(first) : `${dotted(first)}-${dotted(last)}`;
}

function merged(groups: readonly string[], rangesMax = 128): readonly string[] {
  return mergeRanges(groups, rangesMax).map(textOf);
}

function opened(shim: FakeRings, workerCount: number, itsShape = shape): Capture {
  const [capture] = openCaptures(shim, [veth1], workerCount, itsShape);
  if (!(capture instanceof Capture)) throw capture ?? new Error("nothing was opened");
  return capture;
}

describe("a capture", () => {
  test("has a ring for each worker, all in the new fanout group of the first", () => {
    const shim = new FakeRings();
    const capture = opened(shim, 3);
    expect(capture.rings).toEqual([ringHandle(1), ringHandle(2), ringHandle(3)]);
    expect(capture.fanoutId).toBe(7);
    expect(shim.opened.map(({ ifindex, fanout_id }) => [ifindex, fanout_id])).toEqual([
      [3, 0xffff_ffff],
      [3, 0xffff_ffff],
      [3, 0xffff_ffff],
    ]);
  });

  test("opens every ring in the shape it is told", () => {
    const shim = new FakeRings();
    opened(shim, 2, { ...shape, retire_ms: 4, sleep_us: 50, fanout: 3 });
    for (const opened of shim.opened)
      expect(opened).toMatchObject({ ...shape, retire_ms: 4, sleep_us: 50, fanout: 3 });
  });

  test("of one worker has nothing to choose, so it takes the cheapest mode", () => {
    const shim = new FakeRings();
    opened(shim, 1, shape);
    expect(shim.opened).toMatchObject([{ ...shape, fanout: 4 }]);
  });

  test("closes the first ring when the second cannot be opened", () => {
    const shim = new FakeRings();
    shim.failAt = 1;
    expect(() => opened(shim, 2)).toThrow("not enough memory (ENOMEM)");
    expect(shim.closed).toEqual([ringHandle(1)]);
  });

  test("that cannot be opened costs no other interface its rings", () => {
    const shim = new FakeRings();
    shim.failAt = 1;
    const captures = openCaptures(shim, [veth1, interfaceState({ name: "veth5", ifindex: 8 })], 1, shape);
    expect(captures[0]).toBeInstanceOf(Capture);
    expect(captures[1]).toMatchObject({ code: "ENOMEM" });
    expect(shim.closed).toEqual([]);
  });

  test("of several interfaces gets the rings of its own", () => {
    const shim = new FakeRings();
    const captures = openCaptures(shim, [veth1, interfaceState({ name: "veth5", ifindex: 8 })], 2, shape);
    expect(captures.map((capture) => capture instanceof Capture && capture.rings)).toEqual([
      [ringHandle(1), ringHandle(2)],
      [ringHandle(3), ringHandle(4)],
    ]);
    expect(shim.opened.map(({ ifindex }) => ifindex)).toEqual([3, 3, 8, 8]);
  });

  test("gives every ring the same filter", () => {
    const shim = new FakeRings();
    opened(shim, 2).admit(["239.1.1.1", "239.1.1.2", "239.1.9.9"]);
    const ranges = [
      { first: numberOf("239.1.1.1"), last: numberOf("239.1.1.2") },
      { first: numberOf("239.1.9.9"), last: numberOf("239.1.9.9") },
    ];
    expect(shim.filters).toEqual([
      { ring: ringHandle(1), ranges },
      { ring: ringHandle(2), ranges },
    ]);
  });

  test("sends only a filter that differs from the last one", () => {
    const shim = new FakeRings();
    const capture = opened(shim, 1);
    capture.admit(["239.1.1.1", "239.1.1.2"]);
    capture.admit(["239.1.1.2", "239.1.1.1", "239.1.1.1"]);
    capture.admit(["239.1.1.1-239.1.1.2"]);
    expect(shim.filters).toHaveLength(1);
    capture.admit(["239.1.1.1-239.1.1.3"]);
    expect(shim.filters).toHaveLength(2);
    capture.admit(["239.1.1.1-239.1.1.2"]);
    expect(shim.filters).toHaveLength(3);
  });

  test("admits nothing when there are no groups, and says so to the rings once", () => {
    const shim = new FakeRings();
    const capture = opened(shim, 1);
    capture.admit([]);
    capture.admit([]);
    expect(shim.filters).toEqual([{ ring: ringHandle(1), ranges: [] }]);
  });

  test("tries a filter again that one ring refused", () => {
    const shim = new FakeRings();
    const capture = opened(shim, 2);
    const filterRing = shim.filterRing.bind(shim);
    shim.filterRing = () => {
      throw new RangeError("refused");
    };
    expect(() => capture.admit(["239.1.1.1"])).toThrow("refused");
    shim.filterRing = filterRing;
    capture.admit(["239.1.1.1"]);
    expect(shim.filters).toHaveLength(2);
  });

  test("adds up the drops of its rings since the last call", () => {
    const shim = new FakeRings();
    const capture = opened(shim, 3);
    shim.drops.set(ringHandle(1), 5);
    shim.drops.set(ringHandle(3), 37);
    expect(capture.takeDrops()).toBe(42);
    expect(capture.takeDrops()).toBe(0);
  });

  test("closes every ring", () => {
    const shim = new FakeRings();
    const capture = opened(shim, 3);
    capture.close();
    expect(shim.closed).toEqual([...capture.rings]);
  });
});

describe("merging ranges", () => {
  test("keeps disjoint ones apart, sorted by number and not by text", () => {
    expect(merged(["239.1.1.20", "239.1.1.3", "232.0.0.1-232.0.0.9"])).toEqual([
      "232.0.0.1-232.0.0.9",
      "239.1.1.3",
      "239.1.1.20",
    ]);
  });

  test("joins adjacent ones, also across a byte", () => {
    expect(merged(["239.1.1.255", "239.1.2.0", "239.1.1.254"])).toEqual(["239.1.1.254-239.1.2.0"]);
  });

  test("joins overlapping ones, and one inside another", () => {
    expect(merged(["239.1.1.1-239.1.1.50", "239.1.1.40-239.1.1.60"])).toEqual(["239.1.1.1-239.1.1.60"]);
    expect(merged(["239.1.1.1-239.1.1.50", "239.1.1.7", "239.1.1.51"])).toEqual(["239.1.1.1-239.1.1.51"]);
  });

  test("counts a group named twice once", () => {
    expect(merged(["239.1.1.1", "239.1.1.1"])).toEqual(["239.1.1.1"]);
  });

  test("of nothing is nothing", () => {
    expect(merged([])).toEqual([]);
  });

  test("reaches from the first to the last multicast address", () => {
    expect(merged(["224.0.0.0-239.255.255.255"])).toEqual(["224.0.0.0-239.255.255.255"]);
    expect(mergeRanges(["224.0.0.0-239.255.255.255"], 128)).toEqual([
      { first: 0xe000_0000, last: 0xefff_ffff },
    ]);
  });

  test("leaves 128 as they are and joins the two nearest of 129", () => {
    const apart = Array.from({ length: 128 }, (_, i) => `239.1.${i}.10`);
    expect(merged(apart)).toEqual(apart);
    expect(merged([...apart, "239.1.5.13"])).toEqual(
      apart.map((group) => (group === "239.1.5.10" ? "239.1.5.10-239.1.5.13" : group)),
    );
  });

  test("closes the smallest gaps when there are too many", () => {
    const groups = ["239.1.0.0", "239.1.0.10", "239.1.0.13", "239.1.0.50", "239.1.0.55"];
    expect(merged(groups, 3)).toEqual(["239.1.0.0", "239.1.0.10-239.1.0.13", "239.1.0.50-239.1.0.55"]);
    expect(merged(groups, 1)).toEqual(["239.1.0.0-239.1.0.55"]);
  });

  test("closes no more gaps than it must, also where all are equal", () => {
    const groups = Array.from({ length: 200 }, (_, i) => `239.${i}.1.1`);
    const ranges = mergeRanges(groups, 128);
    expect(ranges).toHaveLength(128);
    const wide = ranges.filter(({ first, last }) => last > first);
    const addresses = ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    expect(wide.length).toBeLessThanOrEqual(72);
    expect(addresses).toBe(128 + 72 * 65_536);
  });

  test("of random groups covers them all, adds the least, and stays within its number", () => {
    const random = new Random(20_260_102);
    for (let round = 0; round < 300; round += 1) {
      const rangesMax = 1 + random.below(20);
      const spread = random.pick([60, 3_000, 1_000_000]);
      const wanted = Array.from({ length: random.below(60) }, () => {
        const first = numberOf("239.0.0.0") + random.below(spread);
        return { first, last: first + (random.below(3) === 0 ? random.below(9) : 0) };
      });
      const ranges = mergeRanges(wanted.map(textOf), rangesMax);
      expect(ranges.length).toBeLessThanOrEqual(rangesMax);
      for (const { first, last } of wanted)
        expect(ranges.some((range) => range.first <= first && last <= range.last)).toBe(true);
      for (const [i, { first, last }] of ranges.entries()) {
        expect(first).toBeLessThanOrEqual(last);
        expect(first - (ranges[i - 1]?.last ?? Number.NEGATIVE_INFINITY)).toBeGreaterThan(1);
      }
      expect(sizeOf(ranges)).toBe(leastSize(wanted, rangesMax));
    }
  });
});

function sizeOf(ranges: readonly AddressRange[]): number {
  return ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

/** Addresses in the best cover: the wanted ones and the smallest of the gaps between them, address by address. */
function leastSize(wanted: readonly AddressRange[], rangesMax: number): number {
  const addresses = new Set(
    wanted.flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i)),
  );
  const sorted = [...addresses].sort((a, b) => a - b);
  const gaps = sorted
    .map((address, i) => (i === 0 ? 0 : address - (sorted[i - 1] ?? address) - 1))
    .filter((gap) => gap > 0)
    .sort((a, b) => a - b);
  const closed = Math.max(0, gaps.length + 1 - rangesMax);
  return addresses.size + gaps.slice(0, closed).reduce((sum, gap) => sum + gap, 0);
}
