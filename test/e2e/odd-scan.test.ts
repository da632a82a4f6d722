// `mcr scan` and `mcr show flows` beside frames that no kernel made: the old offload type, cut off, lengths that lie,
// random bytes. Both survive them and count the streams beside them right, in rings that are full of an earlier lap.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { FlowsSchema } from "../../src/control/protocol.ts";
import { ScanSchema } from "../../src/net/scan.ts";
import { Random } from "../config/random.ts";
import {
  dot1ad,
  dot1q,
  fragmentsOf,
  frameOf,
  oldTypeFrameOf,
  superFrameOf,
  testPayload,
} from "../support/frames.ts";
import { type Frame, type Injector, startInjector } from "../support/records.ts";
import { executable, ruleText, startRelay } from "../support/relay.ts";
import { openTopology } from "../support/topology.ts";
import { waitFor } from "../support/wait.ts";
import { injectPaced, openTap } from "../support/wire.ts";

const flows = 5;
const sizeBytes = 700;

/** One datagram of each stream. */
function turn(source: string, sequence: number): readonly Frame[] {
  return Array.from({ length: flows }, (_, stream) =>
    frameOf({
      ...{ source, destination: `239.1.1.${stream + 1}`, port: 5001 + stream },
      payload: testPayload(stream, sequence, sizeBytes),
    }),
  );
}

/** Every kind of frame, from nobody and to nobody that the test counts. */
function templates(): readonly Frame[] {
  const stray = { source: "172.31.7.7", destination: "239.99.7.7", port: 7777 };
  const payload = new Uint8Array(1000).fill(0x55);
  const large = { ...stray, payload: new Uint8Array(5000).fill(0xaa) };
  return [
    frameOf({ ...stray, payload }),
    frameOf({ ...stray, payload: payload.subarray(0, 1) }),
    frameOf({ ...stray, payload }, { tags: [{ tpid: dot1q, id: 99 }] }),
    frameOf(
      { ...stray, payload },
      {
        tags: [
          { tpid: dot1ad, id: 5 },
          { tpid: dot1q, id: 6 },
        ],
      },
    ),
    ...fragmentsOf(large),
    superFrameOf(large, 500),
    oldTypeFrameOf(large),
  ];
}

/** Bytes changed, most of them in the headers; one in four is cut off as well, one in four has a changed offload header. */
function mutated(frame: Frame, random: Random): Frame {
  const bytes = Uint8Array.from(frame.bytes);
  for (let left = 1 + random.below(4); left > 0; left -= 1)
    bytes[random.below(5) > 0 ? random.below(Math.min(64, bytes.length)) : random.below(bytes.length)] =
      random.below(256);
  const length = random.below(4) === 0 ? 14 + random.below(bytes.length - 13) : bytes.length;
  const offload = { ...frame.offload };
  if (random.below(4) === 0) {
    const field = (["flags", "headerBytes", "gsoSize", "checksumStart"] as const)[random.below(4)] ?? "flags";
    offload[field] = field === "flags" ? random.below(4) : random.below(2000);
  }
  return { bytes: bytes.subarray(0, length), offload };
}

/** Frames of the old type and mutated ones, so many, shuffled into the turns; a lap of plain turns comes first. */
function mixed(source: string, turns: number, oddPerTurn: number, random: Random): readonly Frame[] {
  const kinds = templates();
  const old = kinds.slice(-1);
  const plain = Math.floor(turns / 3);
  return Array.from({ length: turns }, (_, sequence) => {
    const odd =
      sequence < plain
        ? []
        : Array.from({ length: oddPerTurn }, () => {
            const kind = kinds[random.below(kinds.length)];
            return kind ? mutated(kind, random) : [];
          }).flat();
    const untouched = sequence < plain ? [] : old;
    return turn(source, sequence).flatMap((frame, i) => [
      frame,
      ...untouched,
      ...odd.slice(Math.floor((i * odd.length) / flows), Math.floor(((i + 1) * odd.length) / flows)),
    ]);
  }).flat();
}

test("a scan counts every stream right beside 10,000 odd frames on a tap and on a veth", async () => {
  const turns = 300;
  const wires = [
    { name: "tap0", source: "10.0.2.9", seed: 1 },
    { name: "veth1", source: "10.0.0.9", seed: 2 },
  ];
  await using topology = await openTopology("chain");
  const injectors: readonly Injector[] = [
    await openTap(topology, "tap0", "10.0.2.1"),
    await startInjector(topology, "gen-ns", { interface: "veth0" }),
  ];
  const command = [executable, "scan", "tap0", "veth1", "--json", "--duration", "9s"];
  const scanning = topology.run("relay-ns", command);
  await waitFor(
    () => topology.output("relay-ns", ["cat", "/proc/net/packet"]),
    (text) => text.trim().split("\n").length === 1 + wires.length,
    { what: "the scan to listen", deadlineMs: 10_000 },
  );
  await Promise.all(
    wires.map(({ source, seed }, i) => {
      const frames = mixed(source, turns, 25, new Random(seed));
      return injectors[i] && injectPaced(injectors[i], frames, 2_500);
    }),
  );
  const { exitCode, stdout, stderr } = await scanning;
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  const heard = v.parse(v.pipe(v.string(), v.parseJson(), ScanSchema), stdout);
  for (const { name, source } of wires)
    for (let stream = 0; stream < flows; stream += 1) {
      const found = heard.flows.find(
        (flow) =>
          flow.interface === name &&
          flow.source === source &&
          flow.group === `239.1.1.${stream + 1}` &&
          flow.port === 5001 + stream,
      );
      expect(found).toMatchObject({
        ...{ packets: turns, bytes: turns * sizeBytes },
        ...{ bytes_min: sizeBytes, bytes_max: sizeBytes, vlan: null },
      });
    }
}, 60_000);

test("show flows counts no packet twice beside odd frames, and the relay goes on", async () => {
  await using topology = await openTopology("chain");
  const tap = await openTap(topology, "tap0", "10.0.2.1");
  const rule = ruleText({
    name: "all",
    ingress: `interface = "tap0", group = "239.1.1.1-239.1.1.${flows}", port = "5001-${5000 + flows}"`,
    egress: ['interface = "veth2"'],
  });
  await using relay = await startRelay(topology, rule, { workers: 1 });
  const source = "10.0.2.9";
  const [old] = templates().slice(-1);
  const random = new Random(3);
  const kinds = templates();
  const odd = Array.from({ length: 4_000 }, (_, i) => {
    const kind = kinds[i % kinds.length];
    return kind ? mutated(kind, random) : [];
  }).flat();
  let turns = 0;
  let isOver = false;
  const traffic = (async () => {
    for (; !isOver && turns < 20_000; turns += 1) {
      const frames = turn(source, turns).flatMap((frame) =>
        old && random.below(2) === 0 ? [frame, old] : [frame],
      );
      const more = turns % 10 === 0 ? odd.slice(turns, turns + 20) : [];
      await injectPaced(tap, [...frames, ...more], 2_400);
    }
  })();
  const watch = async () => {
    const before = turns;
    const { exitCode, stdout } = await relay.run("show", "flows", "--json");
    expect(exitCode).toBe(0);
    const seen = v.parse(v.pipe(v.string(), v.parseJson(), FlowsSchema), stdout);
    // One turn may be on its way.
    return { seen, sentMost: turns - before + 1 };
  };
  try {
    for (const { seen, sentMost } of [await watch(), await watch(), await watch()]) {
      const ours = seen.flows.filter((flow) => flow.source === source && flow.rule === "all");
      expect(ours).toHaveLength(flows);
      for (const { packets, bytes, size_min, size_max } of ours) {
        expect({ size_min, size_max, bytes }).toEqual({
          ...{ size_min: sizeBytes, size_max: sizeBytes },
          bytes: packets * sizeBytes,
        });
        expect(packets).toBeLessThanOrEqual(sentMost);
        expect(packets).toBeGreaterThan(sentMost / 4);
      }
    }
  } finally {
    isOver = true;
    await traffic;
  }
  await waitFor(
    () => relay.rule("all"),
    ({ packets }) => packets >= turns * flows,
    { what: "every ordinary packet to be matched", intervalMs: 50 },
  );
  expect(await relay.rule("all")).toMatchObject({ packets: turns * flows });
}, 60_000);
