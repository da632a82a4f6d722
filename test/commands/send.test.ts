// `mcr send` and what it shares with `mcr receive`: the grammar of streams, times, the checks, the table.

import { describe, expect, test } from "bun:test";
import { parseOptions } from "../../src/commands/command.ts";
import { formatResult, resultOf } from "../../src/commands/send.ts";
import { planSend, SendOptionsSchema } from "../../src/commands/send-plan.ts";
import { formatStream, parseStreams } from "../../src/commands/streams.ts";
import { parseDuration } from "../../src/commands/values.ts";
import { McrError } from "../../src/error.ts";

const streams = (...words: string[]) =>
  parseStreams(words, { command: "receive", hasSource: true }).map(formatStream);

describe("streams as they are typed", () => {
  test.each([
    ["239.1.1.1:5001", ["239.1.1.1:5001"]],
    ["239.1.1.254:5001+3", ["239.1.1.254:5001", "239.1.1.255:5002", "239.1.2.0:5003"]],
    ["239.1.1.1-239.1.1.2:5001-5002", ["239.1.1.1:5001", "239.1.1.2:5002"]],
    ["239.1.1.1-239.1.1.2:5001", ["239.1.1.1:5001", "239.1.1.2:5001"]],
    ["239.1.1.1:5001-5002", ["239.1.1.1:5001", "239.1.1.1:5002"]],
    ["239.1.1.0/31:5001", ["239.1.1.0:5001", "239.1.1.1:5001"]],
    ["10.0.0.2:5001", ["10.0.0.2:5001"]],
    ["10.1.1.100,239.1.1.1:5001+2", ["10.1.1.100,239.1.1.1:5001", "10.1.1.100,239.1.1.2:5002"]],
  ])("%s", (word, expected) => {
    expect(streams(word)).toEqual(expected);
  });

  test.each([
    ["239.1.1.1", "is no stream: write GROUP:PORT, such as 239.1.1.1:5001 or 239.1.1.1:5001+50"],
    ["239.1.1:5001", 'has no IPv4 address before the port: "239.1.1"'],
    ["239.1.1.1:0", 'has no port from 1 to 65535: "0"'],
    ["239.1.1.1:65536", 'has no port from 1 to 65535: "65536"'],
    ["239.1.1.1:65535+2", "counts the port beyond 65535"],
    ["239.255.255.255:1+2", "counts the address beyond its kind"],
    ["255.255.255.255:1+2", "counts the address beyond its kind"],
    ["239.1.1.1:5001+0", 'has no number of streams after +: "0"'],
    ["239.1.1.1:5001+", 'has no number of streams after +: ""'],
    ["239.1.1.1:5001-5002+2", "has both a range and +N: give one of them"],
    ["239.1.1.1-239.1.1.3:5001-5002", "pairs 3 addresses with 2 ports: give as many, or one"],
    ["239.0.0.0/8:5001", "stands for more than 65536 streams"],
    ["223.255.255.255-224.0.0.1:1", "is neither groups (224.0.0.0 to 239.255.255.255) nor hosts"],
    ["0.0.0.0:5001", "is neither groups (224.0.0.0 to 239.255.255.255) nor hosts"],
    ["10.0.0.1,10.0.0.2:5001", "has a source, but 10.0.0.2 is not a group (224.0.0.0 to 239.255.255.255)"],
    ["239.1.1.2,239.1.1.1:5001", 'has no IPv4 host as its source: "239.1.1.2"'],
  ])("%s is refused", (word, why) => {
    expect(() => streams(word)).toThrow(new McrError([`mcr receive: ${word} ${why}`], 64));
  });

  test("one stream twice is refused, also within a range", () => {
    expect(() => streams("239.1.1.1:5001+3", "239.1.1.2:5002")).toThrow("239.1.1.2:5002 is given twice");
    expect(streams("10.0.0.1,239.1.1.1:5001", "10.0.0.2,239.1.1.1:5001")).toHaveLength(2);
  });

  test("a source is for receive", () => {
    const parse = () => parseStreams(["10.0.0.1,239.1.1.1:5001"], { command: "send", hasSource: false });
    expect(parse).toThrow("names a source; only mcr receive joins one");
  });
});

test("times have a unit", () => {
  expect(["500ms", "10s", "2m", "1h", "1.5s"].map(parseDuration)).toEqual([
    500, 10_000, 120_000, 3_600_000, 1500,
  ]);
  expect(["10", "0s", "-1s", "1 s", "s", "1e3s", ""].map(parseDuration)).toEqual(Array(7).fill(undefined));
});

describe("what is asked for", () => {
  const plan = (options: object, streamCount = 1, mtu = 1500) =>
    planSend(parseOptions("send", SendOptionsSchema, { interface: "eth0", ...options }), streamCount, mtu);

  test("the rate is of each stream unless it is the total", async () => {
    expect((await plan({ rate: "2000" }, 50)).totalRate).toBe(100_000);
    expect((await plan({ totalRate: "2000" }, 50)).totalRate).toBe(2000);
    expect((await plan({ rate: "0" }, 50)).totalRate).toBe(0);
    expect(plan({ rate: "1", totalRate: "1" })).rejects.toThrow("give --rate or --total-rate, not both");
  });

  test("a payload above the MTU needs --fragment", async () => {
    expect((await plan({ size: "1472" })).payloadBytes).toBe(1472);
    expect(plan({ size: "1473" })).rejects.toThrow(
      "mcr send: --size 1473 does not fit the MTU of eth0 (1500): give at most 1472, or --fragment to send fragments",
    );
    expect((await plan({ size: "65507", fragment: true })).payloadBytes).toBe(65_507);
    expect(plan({ size: "2000", fragment: true, gso: "2" })).rejects.toThrow("exclude each other");
    expect(plan({ size: "1472", gso: "64" })).rejects.toThrow(
      "--gso 64 of --size 1472 is above 65507 bytes: at most 44",
    );
  });

  test("a payload is text or a file", async () => {
    expect(new TextDecoder().decode((await plan({ payload: "abc" })).body)).toBe("abc");
    const file = await plan({ payload: `@${import.meta.path}` });
    expect(new TextDecoder().decode(file.body)).toStartWith("// `mcr send`");
    expect(plan({ payload: "@/nowhere" })).rejects.toThrow(
      "mcr send: --payload: cannot read /nowhere: ENOENT",
    );
  });

  test.each([
    [
      { interface: "" },
      "mcr send: --interface is missing: give the name of an interface (ip link shows them)",
    ],
    [{ size: "35" }, "mcr send: --size takes a whole number from 36 to 65,507"],
    [{ count: "1.5" }, "mcr send: --count takes a whole number from 1 to 1,000,000,000,000"],
    [{ duration: "10" }, "mcr send: --duration takes a time such as 500ms, 10s or 2m"],
    [{ totalRate: "fast" }, "mcr send: --total-rate takes a whole number from 1 to 100,000,000"],
    [{ size: "0100" }, "mcr send: --size takes a whole number from 36 to 65,507"],
    [{ size: "1e3" }, "mcr send: --size takes a whole number from 36 to 65,507"],
    [{ size: true }, "mcr send: --size takes a whole number from 36 to 65,507"],
    [{ payload: "" }, "mcr send: --payload takes a text, or @FILE"],
    [{ ttl: ["1", "2"] }, "mcr send: --ttl takes a whole number from 1 to 255"],
  ])("%p is refused", (options, message) => {
    expect(() => parseOptions("send", SendOptionsSchema, { interface: "eth0", ...options })).toThrow(message);
  });
});

test("the rate is that from the first batch to the last, and a standstill is told", async () => {
  const [stream] = parseStreams(["239.1.1.1:5001"], { command: "send", hasSource: false });
  const plan = {
    payloadBytes: 100,
    body: new Uint8Array(0),
    totalRate: 1000,
    count: 0,
    durationNs: 0,
    burst: 1,
  };
  const counters = {
    ...{ sent_packets: 1001, last_packets: 1, retries: 3, errors: 0, skipped_ns: 12e6 },
    ...{ first_ns: 1e9, last_ns: 2e9, end_ns: 2e9 + 1000 },
  };
  const result = resultOf(plan, stream ? [stream] : [], counters, [1001], "done");
  expect(result).toMatchObject({ rate_pps: 1000, accuracy_percent: 100, bytes: 100_100, skipped_ms: 12 });
  expect(formatResult(result, 100)).toMatchInlineSnapshot(`
    "STREAMS  SENT  SECONDS  RATE, PPS  WANTED  ACCURACY  RETRIES
          1  1001  1.000         1000    1000  100.00 %        3
    this machine stood still: 12 ms of the schedule were left out
    "
  `);
});
