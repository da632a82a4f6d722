// What is made of the packets that the shim keeps: kinds that settle, wishes that end, flows behind more IPv6 headers
// that join those of the table, and bounds that hold whatever comes.

import { describe, expect, test } from "bun:test";
import { rawOther } from "../../src/native/layouts.ts";
import type { CountedFlow, RawPacket, ScanHandle, ScanWish } from "../../src/native/shim.ts";
import { addressBytes } from "../../src/net/address.ts";
import { Hearing } from "../../src/net/hearing.ts";
import { Random } from "../config/random.ts";
import { igmpLeave, igmpQuery, rawPacket } from "../support/control-packets.ts";
import { recordedFrames } from "../support/goldens.ts";
import { rtcpReport, rtpTs1, rtpTs2, ts1, ts2 } from "../wire/packets.ts";

const recorded = await recordedFrames();
const packetsOf = (name: string) => (recorded.get(name) ?? []).map(({ bytes }) => bytes.subarray(14));

function counted(port: number, changes: Partial<CountedFlow> = {}): CountedFlow {
  return {
    ...{ group: addressBytes("239.1.1.1"), source: addressBytes("10.0.0.1"), interface: 0, vlan: 0, port },
    ...{ packets: 10, bytes: 1000, bytes_min: 100, bytes_max: 100, first_ns: 5, last_ns: 9, is_egress: 0 },
    ...changes,
  };
}

/** Of the flow at this position; the whole payload was captured, or its beginning. */
function sampled(flow: number, { payload, bytes }: { payload: Uint8Array; bytes: number }): RawPacket {
  const whole = new Uint8Array(28 + bytes);
  whole.set(payload, 28);
  return rawPacket({
    bytes: whole.subarray(0, 28 + payload.length),
    flow,
    payload: 28,
    payload_bytes: bytes,
  });
}

function setUp(flows: readonly CountedFlow[]) {
  const waiting: RawPacket[] = [];
  const wishes: ScanWish[] = [];
  const state = {
    ...{ frames: 0, flow_count: flows.length, packet_count: 0, flows_refused: 0, packets_refused: 0 },
    ...{ malformed: 0, ring_drops: 0 },
  };
  const shim = {
    scanState: () => state,
    scanFlows: (_: ScanHandle, first = 0) => flows.slice(first),
    takeScanPackets: () => waiting.splice(0),
    wishForPackets: (_: ScanHandle, more: readonly ScanWish[]) => void wishes.push(...more),
  };
  const hearing = new Hearing(shim, 0 as unknown as ScanHandle);
  const hear = (...packets: readonly RawPacket[]) => {
    waiting.push(...packets);
    hearing.take();
    return wishes.splice(0);
  };
  return { hearing, hear };
}

describe("a flow", () => {
  test("of MPEG-TS is asked for its table, and no more once that has come", () => {
    const { hearing, hear } = setUp([counted(5004)]);
    const first = hear(...Array.from({ length: 4 }, () => sampled(0, ts2)));
    expect(first).toEqual([
      { flow: 0, packets: 1, offset: 0, step: 188, word: 0x47400000, mask: 0xff5fff00 },
    ]);
    expect(hear(sampled(0, ts1))).toEqual([]);
    expect(hearing.all().flows[0]?.recognised).toMatchObject({ kind: "mpeg-ts", programs: 1 });
  });

  test("of MPEG-TS inside RTP is asked for it behind the header", () => {
    const { hearing, hear } = setUp([counted(5004)]);
    const later = { ...rtpTs2, payload: rtpTs2.payload.with(3, 0xda) };
    const last = { ...rtpTs2, payload: rtpTs2.payload.with(3, 0xdb) };
    const most = { ...rtpTs2, payload: rtpTs2.payload.with(3, 0xdc) };
    const [wish] = hear(...[rtpTs2, later, last, most].map((sample) => sampled(0, sample)));
    expect(wish).toMatchObject({ packets: 1, offset: 12, step: 188 });
    expect(hear(sampled(0, rtpTs1))).toEqual([]);
    expect(hearing.all().flows[0]?.recognised).toMatchObject({ kind: "rtp", payloadType: 33, programs: 1 });
  });

  test("that shares the port of RTCP becomes RTP when that begins", () => {
    const { hearing, hear } = setUp([counted(5004)]);
    const wish = hear(...Array.from({ length: 4 }, () => sampled(0, rtcpReport)));
    expect(wish).toMatchObject([{ packets: 4, mask: 0 }]);
    expect(hearing.all().flows[0]?.recognised.kind).toBe("rtcp");
    hear(sampled(0, rtpTs1), sampled(0, rtpTs2));
    expect(hearing.all().flows[0]?.recognised.kind).toBe("rtp");
  });

  test("that stays unknown is asked for a bounded number of packets", () => {
    const { hear } = setUp([counted(7000)]);
    const noise = { payload: new Uint8Array(100).fill(0x11), bytes: 100 };
    let looks = 0;
    for (let wanted = 4; wanted > 0 && looks < 1000; ) {
      looks += wanted;
      const wishes = hear(...Array.from({ length: wanted }, () => sampled(0, noise)));
      wanted = wishes.at(-1)?.packets ?? 0;
    }
    expect(looks).toBe(64);
  });

  test("behind more IPv6 headers joins the one of the table, and is one by itself without", () => {
    const table = { group: addressBytes("ff1e::3:1"), source: addressBytes("fd00::1") };
    const packets = packetsOf("rtp-ipv6").map((packet) => {
      const [head, body] = [packet.slice(0, 40), packet.subarray(40)];
      head[6] = 0;
      const longer = Uint8Array.from([...head, 17, 0, 1, 4, 0, 0, 0, 0, ...body]);
      new DataView(longer.buffer).setUint16(4, body.length + 8);
      return rawPacket({ bytes: longer });
    });
    const both = setUp([counted(5004, table)]);
    both.hear(...packets);
    expect(both.hearing.all().flows).toMatchObject([{ packets: 18, recognised: { kind: "rtp" } }]);
    const alone = setUp([]);
    alone.hear(...packets);
    expect(alone.hearing.all().flows).toMatchObject([
      { group: "ff1e::3:1", port: 5004, packets: 8, bytes_min: 942, bytes_max: 1430 },
    ]);
  });
});

describe("control messages", () => {
  test("are members and queriers, and a damaged one is counted", () => {
    const { hearing, hear } = setUp([]);
    const damaged = igmpQuery("10.0.0.9", 2).with(23, 0);
    hear(
      ...[igmpQuery("10.0.0.254", 3), igmpLeave("10.0.0.7", "239.1.1.1"), damaged].map((bytes) =>
        rawPacket({ bytes }),
      ),
      ...[...packetsOf("mld-v2"), ...packetsOf("igmp-v3")].map((bytes) => rawPacket({ bytes })),
    );
    const { members, missed } = hearing.all();
    expect(members.find(({ kind }) => kind === "query")).toMatchObject({ address: "10.0.0.254", version: 3 });
    expect(members.map(({ group }) => group)).toEqual(
      expect.arrayContaining(["239.1.1.1", "239.5.5.3", "ff1e::5:2"]),
    );
    expect(missed.malformed).toBe(1);
  });

  test("of more members than there is room for are counted", () => {
    const { hearing, hear } = setUp([]);
    for (let i = 0; i < 5000; i += 1)
      hear(rawPacket({ bytes: igmpLeave(`10.0.${i >> 8}.${i & 255}`, "239.1.1.1") }));
    const { members, missed } = hearing.all();
    expect([members.length, missed.othersFull]).toEqual([4096, 904]);
  });
});

test("announcements are told apart by their hash, the newest stays, and more than there is room for are counted", () => {
  const { hearing, hear } = setUp([counted(9875)]);
  const announcement = (hash: number, text: string) => {
    const payload = Uint8Array.from([0x20, 0, hash >> 8, hash & 255, 10, 0, 0, 1, ...Buffer.from(text)]);
    return sampled(0, { payload, bytes: payload.length });
  };
  hear(announcement(1, "old"), announcement(2, "two"), announcement(1, "new"));
  const texts = hearing.all().announcements.map((bytes) => Buffer.from(bytes.subarray(8)).toString());
  expect(texts).toEqual(["new", "two"]);
  for (let hash = 3; hash < 600; hash += 1) hear(announcement(hash, "more"));
  const { announcements, missed } = hearing.all();
  expect([announcements.length, missed.othersFull]).toEqual([512, 87]);
});

test("damaged packets of every kind are survived, and what they leave is bounded", () => {
  const random = new Random(14);
  const { hearing, hear } = setUp([counted(5004), counted(9875)]);
  const all = [...recorded.values()].flat().map(({ bytes }) => bytes.subarray(14));
  for (let i = 0; i < 20_000; i += 1) {
    const bytes = Uint8Array.from(all[random.below(all.length)] ?? []);
    for (let left = random.below(6); left > 0; left -= 1)
      bytes[random.below(5) > 0 ? random.below(Math.min(80, bytes.length)) : random.below(bytes.length)] =
        random.below(256);
    const captured = bytes.subarray(0, random.below(4) === 0 ? random.below(bytes.length + 1) : bytes.length);
    const flow = [rawOther, 0, 1][random.below(3)] ?? rawOther;
    const start = Math.min(captured.length, 28);
    const place = flow === rawOther ? {} : { payload: start, payload_bytes: random.below(1500) };
    hear(rawPacket({ bytes: captured, flow, ...place }));
  }
  const { flows, members, announcements } = hearing.all();
  expect(flows.length).toBeLessThanOrEqual(2 + 4096);
  expect(members.length).toBeLessThanOrEqual(4096);
  expect(announcements.length).toBeLessThanOrEqual(512);
});
