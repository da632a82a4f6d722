// The scenarios of one relay in the chain: workers, sizes, bursts, rules that come while traffic runs, socat at both
// ends. The receiver checks every byte of every packet; nothing may be lost, doubled, reordered or damaged.

import { describe, expect, test } from "bun:test";
import { expectEveryPacket } from "../support/accounting.ts";
import { ruleText, startRelay, streamRules } from "../support/relay.ts";
import { address, openTopology } from "../support/topology.ts";
import { type SendOptions, send, startReceiver } from "../support/traffic.ts";
import { waitUntil } from "../support/wait.ts";

const ingress = { group: "239.1.1.1", port: 5001, streams: 8 };
const egress = { group: "239.10.1.1", port: 6001, streams: 8 };

async function expectWhole(shape: Partial<SendOptions>, workers?: number): Promise<void> {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(
    topology,
    streamRules(ingress, egress),
    workers === undefined ? {} : { workers },
  );
  const countPerStream = shape.countPerStream ?? 2_500;
  const receiver = await startReceiver(topology, "sink-ns", {
    interfaceAddress: address.sink,
    streams: egress,
    expect: countPerStream * ingress.streams,
    deadlineSeconds: 60,
  });
  const sent = await send(topology, "gen-ns", {
    ...ingress,
    interfaceAddress: address.gen,
    ratePps: 20_000,
    countPerStream,
    ...shape,
  });
  expectEveryPacket({ sent, received: await receiver.finished(), stats: await relay.stats() });
}

describe("workers on one interface", () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])(
    "%d forward 8 streams once and in order",
    (workers) => expectWhole({ sizeBytes: 1400 }, workers),
    60_000,
  );
});

describe("payloads and bursts", () => {
  test(
    "75,000 packets of 1,400 bytes arrive byte for byte",
    () => expectWhole({ sizeBytes: 1400, countPerStream: 9_375, ratePps: 25_000 }),
    60_000,
  );
  test.each([46, 64, 1400, 1472])("packets of %d bytes", (sizeBytes) => expectWhole({ sizeBytes }), 60_000);
  test.each([1, 8, 32, 512])(
    "bursts of %d packets",
    (burst) => expectWhole({ burst, sizeBytes: 200 }),
    60_000,
  );
});

test("rules that are added under traffic relay from their first packet on, and what came before is counted", async () => {
  const rule = (n: number) =>
    ruleText({
      name: `rule-${n}`,
      ingress: `interface = "veth1", group = "239.1.1.${n}", port = ${5000 + n}`,
      egress: [`interface = "veth2", group = "239.10.1.${n}", port = ${6000 + n}`],
    });
  await using topology = await openTopology("chain");
  // The first rule holds the group, on another port, so that the packets of the first phase reach the relay at all.
  const holder = rule(1).replace("port = 5001", "port = 5999");
  await using relay = await startRelay(topology, holder);
  const countPerStream = 10_000;
  const phase = (streams: number) =>
    send(topology, "gen-ns", {
      interfaceAddress: address.gen,
      group: "239.1.1.1",
      port: 5001,
      streams,
      ratePps: 20_000,
      countPerStream,
    });
  await phase(1);
  await waitUntil(async () => (await relay.stats()).interfaces[0]?.dropped.no_match === countPerStream, {
    what: "the packets without a rule to be counted",
  });

  for (const streams of [1, 2]) {
    const settings = '[relay]\ncontrol = "/run/mcr/mcr.sock"\n';
    await relay.write(settings + Array.from({ length: streams }, (_, i) => rule(i + 1)).join("\n"));
    expect(await relay.reload()).toMatchObject({ ok: true });
    const receiver = await startReceiver(topology, "sink-ns", {
      interfaceAddress: address.sink,
      streams: { group: "239.10.1.1", port: 6001, streams },
      expect: countPerStream * streams,
      deadlineSeconds: 30,
    });
    await phase(streams);
    const received = await receiver.finished();
    expect(received.streams.map((stream) => stream.received)).toEqual(
      Array.from({ length: streams }, () => countPerStream),
    );
  }
  const { totals, igmp } = await relay.stats();
  expect(totals).toMatchObject({ packets: 4 * countPerStream, matched: 3 * countPerStream });
  expect(totals.sent_packets).toBe(3 * countPerStream);
  expect(igmp.active_groups).toBe(2);
}, 60_000);

test("100 datagrams from socat arrive at socat, 100 of 100", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(
    topology,
    streamRules({ ...ingress, streams: 1 }, { ...egress, streams: 1 }),
  );
  const lines = Array.from({ length: 100 }, (_, i) => `datagram ${i + 1} of 100`);
  const sink = topology.spawn("sink-ns", [
    "socat",
    "-u",
    `UDP4-RECV:6001,ip-add-membership=239.10.1.1:${address.sink}`,
    "STDOUT",
  ]);
  await waitUntil(
    async () => (await topology.output("sink-ns", ["cat", "/proc/net/igmp"])).includes("01010AEF"),
    { what: "socat to have joined 239.10.1.1" },
  );
  // One process for each, so that each line is a datagram of its own.
  const script = `while read -r line; do echo "$line" | socat -u STDIN UDP4-DATAGRAM:239.1.1.1:5001,ip-multicast-if=${address.gen}; done`;
  await topology.output("gen-ns", ["sh", "-c", script], { stdin: `${lines.join("\n")}\n` });
  await waitUntil(() => sink.stdout.split("\n").length > lines.length, { what: "the last datagram" });
  expect(sink.stdout.trimEnd().split("\n")).toEqual(lines);
  expect((await relay.stats()).totals).toMatchObject({ matched: 100, sent_packets: 100 });
}, 60_000);
