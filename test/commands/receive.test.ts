// `mcr receive`: from counters to what it says, and to its exit code.

import { describe, expect, test } from "bun:test";
import {
  faultsOf,
  formatResult,
  formatTime,
  type Received,
  resultOf,
} from "../../src/commands/receive-result.ts";
import { parseStreams } from "../../src/commands/streams.ts";
import { bucketEnd, readLatency, type StreamCounters } from "../../src/stats/instruments.ts";

const streams = parseStreams(["239.1.1.1:5001+2"], { command: "receive", hasSource: true });
const intact: StreamCounters = {
  ...{ kind: 1, packets: 1000, bytes: 1_024_000, lost: 0, duplicated: 0, reordered: 0, corrupt: 0 },
  ...{ foreign: 0, restarts: 0, first_ns: 1.7e18, last_ns: 1.7e18 + 1e9, socket_drops: 0 },
};
const silent: StreamCounters = { ...intact, kind: 0, packets: 0, bytes: 0, first_ns: 0, last_ns: 0 };

const result = (counters: readonly StreamCounters[], changes: Partial<Received> = {}) =>
  resultOf({
    ...{ streams, counters, latency: undefined, expected: undefined, endedBy: "done" },
    ...{ checksumErrors: 0, bufferBytes: 425_984 },
    ...changes,
  });
const faults = (...of: Parameters<typeof result>) => faultsOf(result(...of), "eth0");

describe("what is a failure", () => {
  test("nothing, when all came exactly once", () => {
    expect(faults([intact, intact], { expected: 2000 })).toEqual([]);
    expect(faults([intact, { ...intact, reordered: 5, restarts: 1 }])).toEqual([]);
  });

  test.each([
    [{ lost: 2 }, "2 lost"],
    [{ corrupt: 1 }, "1 corrupt"],
    [{ duplicated: 1234 }, "1,234 duplicated"],
    [{ foreign: 1 }, "1 of another stream"],
  ])("%p", (changes, sentence) => {
    expect(faults([intact, { ...intact, ...changes }])).toEqual([sentence]);
  });

  test("fewer and more than expected", () => {
    expect(faults([intact, intact], { expected: 2001 })).toEqual(["1 packet fewer than expected"]);
    expect(faults([intact, intact], { expected: 1998 })).toEqual(["2 packets more than expected"]);
  });

  test("silence, with what to look at", () => {
    expect(faults([intact, silent])).toEqual([
      "nothing arrived for 1 stream of 2, the first is 239.1.1.2:5002",
    ]);
    expect(faults([silent, silent])).toEqual([expect.stringContaining("tcpdump -ni eth0")]);
  });

  test("its own drops are told apart from the network's, and wrong checksums from both", () => {
    const dropped = { ...intact, lost: 5, socket_drops: 5 };
    expect(faults([intact, dropped])).toEqual([
      "5 lost",
      "5 dropped by this receiver's own sockets, not by the network: their buffers of 425,984 bytes were full (run it with CAP_NET_ADMIN, or raise net.core.rmem_max)",
    ]);
    expect(faults([intact, dropped], { checksumErrors: 5 })[1]).toEndWith(
      "5 of them for a wrong UDP checksum",
    );
  });
});

test("a stream of an unknown kind is only counted", () => {
  const { streams: found } = result([{ ...intact, kind: 0 }, intact]);
  expect(found[0]).toMatchObject({ kind: "unknown", received: 1000, lost: null, duplicated: null });
  expect(found[1]).toMatchObject({ kind: "mcr", received: 1000, lost: 0 });
});

test("duplicates, corrupt and foreign packets are not received", () => {
  const { streams: found } = result([{ ...intact, duplicated: 1, corrupt: 2, foreign: 3 }, intact]);
  expect(found[0]?.received).toBe(994);
});

test("the table, the latency and the verdict", () => {
  const latency = {
    ...{ samples: 2000, min_ns: 900, p50_ns: 47_100, p90_ns: 94_200 },
    ...{ p99_ns: 1_670_000, p999_ns: 3_600_000, max_ns: 1_520_000_000 },
  };
  const text = formatResult(
    result([intact, { ...intact, lost: 2 }], { latency, expected: 2002 }),
    "eth0",
    120,
  );
  // Times of day depend on the time zone.
  expect(text.replace(/\d\d:\d\d:\d\d\.\d{3}/g, "hh:mm:ss.mmm")).toMatchInlineSnapshot(`
    "STREAM          KIND  RECEIVED  LOST  DUPLICATED  REORDERED  CORRUPT  FIRST         LAST
    239.1.1.1:5001  mcr       1000     0           0          0        0  hh:mm:ss.mmm  hh:mm:ss.mmm
    239.1.1.2:5002  mcr       1000     2           0          0        0  hh:mm:ss.mmm  hh:mm:ss.mmm
    latency: p50 47.1 µs, p90 94.2 µs, p99 1.67 ms, p99.9 3.60 ms, max 1.52 s
    2,000 packets received of 2,002
    failed: 2 packets fewer than expected
    failed: 2 lost
    "
  `);
});

describe("latency", () => {
  test("has its percentiles from the buckets of c/measure/measure.h", () => {
    const words = new BigUint64Array(8 + 1920);
    words.set([100n, 10n, 1000n]);
    words[8 + 10] = 50n;
    words[8 + 32 * 4 + 62] = 50n; // 992 to 1007 ns
    expect(readLatency(words)).toEqual({
      ...{ samples: 100, min_ns: 10, p50_ns: 10, p90_ns: 1000, p99_ns: 1000, p999_ns: 1000, max_ns: 1000 },
    });
    expect(readLatency(new BigUint64Array(8 + 1920))).toBeUndefined();
  });

  test("buckets follow each other without a gap", () => {
    expect([0, 63, 64, 95, 96, 127, 128].map(bucketEnd)).toEqual([0, 63, 65, 127, 131, 255, 263]);
  });

  test("is shown with three digits", () => {
    expect([999, 47_123, 1_670_000, 2.5e9].map(formatTime)).toEqual([
      "999 ns",
      "47.1 µs",
      "1.67 ms",
      "2.50 s",
    ]);
  });
});
