// Ranges compared as lines in the plane of groups and ports, against the same ranges written out flow by flow.

import { describe, expect, test } from "bun:test";
import type { Endpoint } from "../../src/config/pairing.ts";
import { overlaps, type Span, spansOf } from "../../src/config/span.ts";
import { SpanIndex } from "../../src/config/span-index.ts";
import { offsetAddress, parseAddressRange } from "../../src/net/address.ts";
import { Random } from "./random.ts";

function endpoint(first: string, groups: number, ports?: { first: number; size: number }): Endpoint {
  const addresses = parseAddressRange(`${first}-${offsetAddress(first, groups - 1)}`);
  if (!addresses) throw new Error(`${first} is no address`);
  return { addresses, ports };
}

/** Every "group:port" of a small endpoint; every port is written as ports 1 to 20. */
function pointsOf(
  { addresses, ports = { first: 1, size: 20 } }: Endpoint,
  isEveryPort: boolean,
): Set<string> {
  const points = new Set<string>();
  const isDiagonal = !isEveryPort && addresses.size > 1 && ports.size > 1;
  for (let i = 0; i < addresses.size; i += 1) {
    const group = offsetAddress(addresses.first, i);
    if (isDiagonal) points.add(`${group}:${ports.first + i}`);
    else for (let j = 0; j < ports.size; j += 1) points.add(`${group}:${ports.first + j}`);
  }
  return points;
}

function randomEndpoint(random: Random, base: string): Endpoint {
  const groups = 1 + random.below(5);
  const first = offsetAddress(base, random.below(10));
  const start = 1 + random.below(10);
  switch (random.below(4)) {
    case 0:
      return endpoint(first, groups);
    case 1:
      return endpoint(first, groups, { first: start, size: 1 });
    case 2:
      return endpoint(first, 1, { first: start, size: 1 + random.below(8) });
    default:
      return endpoint(first, groups, { first: start, size: groups });
  }
}

describe("spans", () => {
  for (const base of ["239.1.1.0", "239.1.0.250", "ff3e::ffff:fffa"]) {
    test(`overlap exactly where the flows of their ranges do, around ${base}`, () => {
      const random = new Random(1);
      for (let round = 0; round < 200; round += 1) {
        const endpoints = Array.from({ length: 12 }, () => randomEndpoint(random, base));
        const points = endpoints.map((each) => pointsOf(each, each.ports === undefined));
        const index = new SpanIndex();
        for (const [i, each] of endpoints.entries())
          for (const span of spansOf(each)) index.add("key", span, i);
        for (const [i, each] of endpoints.entries()) {
          const found = new Set(spansOf(each).flatMap((span) => [...index.find("key", span)]));
          const expected = [...points.keys()].filter(
            (j) => !(points[i] ?? new Set()).isDisjointFrom(points[j] ?? new Set()),
          );
          expect([round, i, [...found].sort((a, b) => a - b)]).toEqual([round, i, expected]);
        }
      }
    });
  }

  test("under different keys never meet", () => {
    const index = new SpanIndex();
    const [span] = spansOf(endpoint("239.1.1.1", 1));
    if (!span) throw new Error("expected a span");
    index.add("eth0", span, 1);
    expect([...index.find("eth1", span)]).toEqual([]);
    expect([...index.find("eth0", span)]).toEqual([1]);
  });

  test("of an IPv6 range over the edge of 32 bits are two, and both are found", () => {
    const wide = spansOf(endpoint("ff3e::ffff:fff0", 32, { first: 5001, size: 32 }));
    expect(wide).toHaveLength(2);
    const behind = spansOf(endpoint("ff3e::1:0:3", 1, { first: 5020, size: 1 }));
    const beside = spansOf(endpoint("ff3e::1:0:3", 1, { first: 5021, size: 1 }));
    const meets = (others: readonly Span[]) => wide.some((a) => others.some((b) => overlaps(a, b)));
    expect([meets(behind), meets(beside)]).toEqual([true, false]);
  });

  test("of ranges that do not pair, or that nobody could want, are none", () => {
    expect(spansOf(endpoint("239.1.1.1", 2, { first: 1, size: 3 }))).toEqual([]);
    const huge = parseAddressRange("ff00::/8");
    expect(huge && spansOf({ addresses: huge, ports: undefined })).toEqual([]);
  });
});

test("of 5,000 spans on one group a search looks at those near it", () => {
  const index = new SpanIndex();
  let looks = 0;
  /** Whoever compares a span reads where it begins. */
  const counted = (span: Span): Span => ({
    ...span,
    get from() {
      looks += 1;
      return span.from;
    },
  });
  const spans = Array.from({ length: 5_000 }, (_, i) =>
    spansOf(endpoint("239.1.1.1", 1, { first: i + 1, size: 1 })),
  );
  for (const [i, [span]] of spans.entries()) if (span) index.add("key", counted(span), i);
  looks = 0;
  for (const [i, [span]] of spans.entries()) expect(span && [...index.find("key", span)]).toEqual([i]);
  expect(looks).toBeGreaterThan(0);
  expect(looks).toBeLessThan(10 * spans.length);
});
