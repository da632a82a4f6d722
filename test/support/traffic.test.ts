// The instruments measured: what send and receive count is what was there, faults included.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { joinedGroups, joinedSources, parseGroups, parseSources } from "./igmp.ts";
import { linkCounters } from "./link.ts";
import { address, openTopology, type Topology, whyNoTopology } from "./topology.ts";
import {
  faultsOf,
  noFaults,
  type ReceiveOptions,
  type SendOptions,
  send,
  startReceiver,
  startSender,
} from "./traffic.ts";
import { waitFor, waitUntil } from "./wait.ts";

setDefaultTimeout(60_000);

const netTest = test.skipIf(whyNoTopology() !== undefined);
const range = { group: "239.1.1.1", port: 5001 };

// The bare link of these tests is the chain's first: gen-ns veth0 to relay-ns veth1, with no relay running.
function receive(chain: Topology, options: Partial<ReceiveOptions> = {}) {
  const defaults = { interfaceAddress: address.relayIngress, streams: range, deadlineSeconds: 20 };
  return startReceiver(chain, "relay-ns", { ...defaults, ...options });
}

function generate(chain: Topology, options: Partial<SendOptions> = {}) {
  return send(chain, "gen-ns", { interfaceAddress: address.gen, ...range, ...options });
}

describe("exact counts on a bare link at 20 kpps", () => {
  netTest.each([1, 10, 500])("%i streams", async (streams) => {
    await using chain = await openTopology("chain");
    const countPerStream = Math.max(20_000 / streams, 100);
    const expected = streams * countPerStream;
    const receiver = await receive(chain, { streams: { ...range, streams }, expect: expected });
    const joined = await joinedGroups(chain, "relay-ns", "veth1");
    expect(joined.length).toBe(streams);
    expect(joined.at(-1)).toBe(streams === 500 ? "239.1.2.244" : `239.1.1.${streams}`);
    const sent = await generate(chain, { streams, countPerStream, ratePps: 20_000 });
    const result = await receiver.finished();
    expect({ sent: sent.sent, received: result.received, endedBy: result.ended_by }).toEqual({
      sent: expected,
      received: expected,
      endedBy: "expected",
    });
    expect(faultsOf(result)).toEqual(noFaults);
    expect(sent.streams.every((stream) => stream.sent === countPerStream)).toBe(true);
    expect(result.streams.every((stream) => stream.received === countPerStream)).toBe(true);
    expect(result.streams.every((stream) => stream.bytes === countPerStream * 1024)).toBe(true);
    expect(result.streams.map(({ group, port }) => `${group}:${port}`)).toEqual(
      sent.streams.map(({ group, port }) => `${group}:${port}`),
    );
    expect(await joinedGroups(chain, "relay-ns", "veth1")).toEqual([]);
  });
});

netTest("a super-frame arrives as the datagrams it was made of", async () => {
  await using chain = await openTopology("chain");
  const receiver = await receive(chain, { streams: { ...range, streams: 3 }, expect: 3 * 640 });
  await generate(chain, { streams: 3, countPerStream: 640, run: 32, gso: true, ratePps: 20_000, burst: 96 });
  const result = await receiver.finished();
  expect(result.received).toBe(3 * 640);
  expect(faultsOf(result)).toEqual(noFaults);
  // 60 super-frames and some neighbour discovery, not 1920 frames.
  expect((await linkCounters(chain, "relay-ns", "veth1")).rx.packets).toBeLessThan(300);
});

netTest("the digests of both ends are equal, and one wrong bit makes them differ", async () => {
  await using chain = await openTopology("chain");
  const streams = { ...range, streams: 2 };
  const load = { streams: 2, countPerStream: 640, run: 32, gso: true, ratePps: 20_000, digest: true };
  for (const corruptEvery of [undefined, 500]) {
    const receiver = await receive(chain, { streams, digest: true, expect: corruptEvery ? 1278 : 1280 });
    const sent = await generate(chain, corruptEvery ? { ...load, corruptEvery } : load);
    const received = await receiver.finished();
    const equal = sent.streams.map(({ sha256 }, i) => sha256 === received.streams[i]?.sha256);
    expect(sent.streams.map(({ sha256 }) => sha256?.length)).toEqual([64, 64]);
    expect(equal).toEqual(corruptEvery ? [false, false] : [true, true]);
  }
});

netTest("the same sequence numbers twice are duplicates, and are not received twice", async () => {
  await using chain = await openTopology("chain");
  const receiver = await receive(chain, { expect: 150 });
  await generate(chain, { countPerStream: 100, sourcePort: 4001 });
  await generate(chain, { countPerStream: 100, sourcePort: 4002, firstSequence: 50 });
  const result = await receiver.finished();
  expect({ received: result.received, ...faultsOf(result) }).toEqual({
    ...noFaults,
    received: 150,
    duplicated: 50,
  });
  expect(result.streams[0]).toMatchObject({ source: "10.0.0.1:4002", source_changes: 1, missing: [] });
});

netTest("lower numbers after higher ones are reordered, and gaps are named", async () => {
  await using chain = await openTopology("chain");
  const receiver = await receive(chain, { expect: 30 });
  await generate(chain, { countPerStream: 10, firstSequence: 100 });
  await generate(chain, { countPerStream: 10 });
  await generate(chain, { countPerStream: 10, firstSequence: 20 });
  const result = await receiver.finished();
  expect({ received: result.received, ...faultsOf(result) }).toEqual({
    ...noFaults,
    received: 30,
    reordered: 20,
  });
  expect(result.streams[0]).toMatchObject({
    first_sequence: 100,
    highest_sequence: 109,
    missing: [
      [10, 19],
      [30, 99],
    ],
  });
});

netTest("one wrong bit anywhere in a datagram is corrupt", async () => {
  await using chain = await openTopology("chain");
  const receiver = await receive(chain);
  await generate(chain, { countPerStream: 1000, sizeBytes: 101, corruptEvery: 1, ratePps: 20_000 });
  const result = await receiver.stop();
  expect({ received: result.received, ...faultsOf(result) }).toEqual({
    ...noFaults,
    received: 0,
    corrupt: 1000,
  });
  expect(result.ended_by).toBe("signal");
});

netTest("another stream's payload is told apart from a damaged one", async () => {
  await using chain = await openTopology("chain");
  const strict = await receive(chain);
  const lenient = await receive(chain, { anyStream: true });
  await generate(chain, { countPerStream: 100, firstStream: 7 });
  expect(faultsOf(await strict.stop())).toEqual({ ...noFaults, wrong_stream: 100 });
  expect((await lenient.stop()).received).toBe(100);
});

netTest("what the receiver's own socket drops is reported as that", async () => {
  await using chain = await openTopology("chain");
  const receiver = await receive(chain);
  receiver.process.kill("SIGSTOP");
  const sent = await generate(chain, { countPerStream: 100_000, ratePps: 0 });
  receiver.process.kill("SIGCONT");
  const result = await receiver.stop();
  expect(result.socket_drops).toBeGreaterThan(0);
  expect(result.receive_buffer_errors).toBe(result.socket_drops);
  expect(result.received + result.socket_drops).toBe(sent.sent);
});

netTest("an (S,G) join takes its source only", async () => {
  await using chain = await openTopology("chain");
  await chain.output("gen-ns", ["ip", "address", "add", "10.0.0.9/24", "dev", "veth0"]);
  const receiver = await receive(chain, { sources: ["10.0.0.9"] });
  expect(await joinedSources(chain, "relay-ns", "veth1")).toEqual([
    { group: "239.1.1.1", source: "10.0.0.9" },
  ]);
  await generate(chain, { countPerStream: 50 });
  await generate(chain, { countPerStream: 70, source: "10.0.0.9" });
  const result = await receiver.stop();
  expect(result.received).toBe(70);
  expect(result.streams[0]?.source).toStartWith("10.0.0.9:");
});

netTest("unicast and streams named one by one", async () => {
  await using chain = await openTopology("chain");
  const unicast = await receive(chain, {
    streams: { group: address.relayIngress, port: 7001, streams: 3, groupStep: 0 },
    unicast: true,
    expect: 30,
  });
  const streams = [
    { group: "239.9.9.9", port: 6000 },
    { group: "239.7.7.7", port: 6000 },
  ];
  const named = await receive(chain, { streams, expect: 20 });
  await generate(chain, {
    group: address.relayIngress,
    port: 7001,
    streams: 3,
    groupStep: 0,
    countPerStream: 10,
  });
  await generate(chain, { group: "239.9.9.9", port: 6000, countPerStream: 10 });
  await generate(chain, { group: "239.7.7.7", port: 6000, countPerStream: 10, firstStream: 1 });
  expect((await unicast.finished()).streams.map((stream) => stream.received)).toEqual([10, 10, 10]);
  expect((await named.finished()).streams.map((stream) => stream.received)).toEqual([10, 10]);
});

netTest(
  "an unbounded sender keeps its rate, tells its progress and counts exactly when it is stopped",
  async () => {
    await using chain = await openTopology("chain");
    const receiver = await receive(chain, { streams: { ...range, streams: 4 } });
    const options = { interfaceAddress: address.gen, ...range, streams: 4, unbounded: true, ratePps: 5000 };
    const sender = await startSender(chain, "gen-ns", options);
    expect(receiver.receivedSoFar()).toBe(0);
    sender.go();
    await waitUntil(() => sender.sentSoFar() > 2000 && receiver.receivedSoFar() > 2000, {
      what: "progress on both ends",
    });
    const sent = await sender.stop();
    const result = await receiver.stop();
    expect(result.received).toBe(sent.sent);
    expect(faultsOf(result)).toEqual(noFaults);
    expect(sent.rate_pps).toBeGreaterThan(2500);
    expect(sent.rate_pps).toBeLessThan(5500);
  },
);

netTest("after a stall the sender goes on at no more than twice its rate, and takes longer", async () => {
  await using chain = await openTopology("chain");
  const options = { interfaceAddress: address.gen, ...range, countPerStream: 5000, ratePps: 10_000 };
  const sender = await startSender(chain, "gen-ns", options);
  sender.go();
  await waitUntil(() => sender.sentSoFar() > 0, { what: "the first progress" });
  sender.process.kill("SIGSTOP");
  await Bun.sleep(300);
  sender.process.kill("SIGCONT");
  const sent = await sender.finished();
  expect(sent.sent).toBe(5000);
  expect(sent.seconds).toBeGreaterThan(0.5 + 0.25);
});

netTest("a wrong command line is one sentence and exit 64", async () => {
  await using chain = await openTopology("chain");
  const wrong = generate(chain, { countPerStream: 1, sizeBytes: 8 });
  await expect(wrong).rejects.toThrow("--size 8: not a number from 32 to 65507");
});

test("/proc/net/igmp: groups of one interface, in numeric order, without 224.0.0.1", () => {
  const text = `Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\tveth1     :     3      V3
\t\t\t\t0A0101EF     1 0:00000000\t\t0
\t\t\t\t020101EF     1 0:00000000\t\t0
\t\t\t\t010000E0     1 0:00000000\t\t0
3\tveth10    :     2      V2
\t\t\t\t01010AEF     1 0:00000000\t\t0
`;
  expect(parseGroups(text, "veth1")).toEqual(["239.1.1.2", "239.1.1.10"]);
  expect(parseGroups(text, "veth10")).toEqual(["239.10.1.1"]);
  expect(parseGroups(text, "lo")).toEqual([]);
});

test("/proc/net/mcfilter: included sources of one interface", () => {
  const text = `Idx Device        MCA        SRC    INC    EXC
  2  veth1 0xef010101 0x0a000009      1      0
  2  veth1 0xef010102 0x0a000009      0      1
  3  veth2 0xef010103 0x0a000009      1      0
`;
  expect(parseSources(text, "veth1")).toEqual([{ group: "239.1.1.1", source: "10.0.0.9" }]);
});

test("a wait that fails says what for and what it saw last", async () => {
  let value = 0;
  const wait = waitFor(
    () => ++value,
    (seen) => seen > 1e9,
    { what: "the moon", deadlineMs: 30 },
  );
  await expect(wait).rejects.toThrow(/^waited 30 ms for the moon; last seen: \d+$/);
  expect(await waitUntil(() => value > 1 && "yes", { what: "a value" })).toBe("yes");
});
