// IGMP and MLD as a Linux kernel sent them, and messages that no kernel sends.

import { describe, expect, test } from "bun:test";
import { sumOf } from "../../src/wire/checksum.ts";
import { type Membership, readIgmp, readMld } from "../../src/wire/membership.ts";
import { expectSurvival } from "./damage.ts";
import { hex } from "./packets.ts";

/** IPv4 with router alert, 10.9.0.1 to the group, TTL 1; then IGMP. */
const igmpPackets = {
  queryV2: hex(`46c0 0020 0000 4000 01 02 0417 00000000 e0000001 94040000
    11 64 ee9b 00000000              # query, 10 s, all groups`),
  queryV3: hex(`46c0 0024 0000 4000 01 02 0413 00000000 e0000001 94040000
    11 64 ec1e 00000000 02 7d 0000   # robustness 2, interval 125 s, no sources`),
  reportV1: hex(`46c0 0020 0000 4000 01 02 ea0b 0a090001 ef010101 94040000
    12 00 fdfc ef010101`),
  reportV2: hex(`46c0 0020 0000 4000 01 02 ea0a 0a090001 ef010102 94040000
    16 00 f9fb ef010102`),
  leaveV2: hex(`46c0 0020 0000 4000 01 02 fa0b 0a090001 e0000002 94040000
    17 00 f8fb ef010102`),
  reportV3: hex(`46c0 0034 0000 4000 01 02 f9e3 0a090001 e0000016 94040000
    22 00 f1eb 0000 0002             # report of two records
    05 00 0001 e8010101 0a000009     # allow new sources: 10.0.0.9
    04 00 0000 ef010103              # change to exclude: nobody`),
} as const;

/** IPv6 from a link-local address, hop-by-hop with router alert; then ICMPv6. */
const mldPackets = {
  queryV1: hex(`60000000 0020 00 01 fe80000000000000487045fffeb0baa8 ff020000000000000000000000000001
    3a 00 0502 0000 01 00
    82 00 114f 2710 0000 00000000000000000000000000000000`),
  queryV2: hex(`60000000 0024 00 01 fe80000000000000487045fffeb0baa8 ff020000000000000000000000000001
    3a 00 0502 0000 01 00
    82 00 0ece 2710 0000 00000000000000000000000000000000 02 7d 0000`),
  reportV1: hex(`60000000 0020 00 01 fe80000000000000005448fffed59dc0 ff1e0000000000000000000000000001
    3a 00 0502 0000 01 00
    83 00 9a02 0000 0000 ff1e0000000000000000000000000001`),
  doneV1: hex(`60000000 0020 00 01 fe80000000000000005448fffed59dc0 ff020000000000000000000000000002
    3a 00 0502 0000 01 00
    84 00 991d 0000 0000 ff1e0000000000000000000000000001`),
  reportV2: hex(`60000000 0038 00 01 fe80000000000000487045fffeb0baa8 ff020000000000000000000000000016
    3a 00 0502 0000 01 00
    8f 00 6a65 0000 0002                                   # report of two records
    04 00 0000 ff0200000000000000000001ffb0baa8            # change to exclude: nobody
    04 00 0000 ff02000000000000000000000000006a`),
} as const;

/** The message in a sound packet of 10.0.0.9, its checksum made right. */
function igmpOf(
  message: readonly number[],
  extra: { fragment?: number; destination?: readonly number[] } = {},
) {
  const { fragment = 0, destination = [224, 0, 0, 22] } = extra;
  const bytes = Uint8Array.from([
    ...[0x45, 0, 0, 20 + message.length, 0, 0, fragment >> 8, fragment & 0xff, 1, 2, 0, 0],
    ...[10, 0, 0, 9, ...destination, ...message],
  ]);
  const view = new DataView(bytes.buffer);
  view.setUint16(10, ~sumOf(bytes.subarray(0, 20)) & 0xffff);
  if (message.length >= 4) view.setUint16(22, ~sumOf(bytes.subarray(20)) & 0xffff);
  return bytes;
}

function mldOf(message: readonly number[], extensions: readonly (readonly number[])[] = []) {
  const body = [...extensions.flat(), ...message];
  const first = extensions.length > 0 ? 60 : 58;
  return Uint8Array.from([
    ...[0x60, 0, 0, 0, 0, body.length, first, 1],
    ...[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ...[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16],
    ...body,
  ]);
}

describe("IGMP of a kernel", () => {
  const rows: readonly [keyof typeof igmpPackets, readonly Membership[]][] = [
    ["queryV2", [{ kind: "query", group: "0.0.0.0", version: 2 }]],
    ["queryV3", [{ kind: "query", group: "0.0.0.0", version: 3 }]],
    ["reportV1", [{ kind: "report", group: "239.1.1.1", version: 1 }]],
    ["reportV2", [{ kind: "report", group: "239.1.1.2", version: 2 }]],
    ["leaveV2", [{ kind: "leave", group: "239.1.1.2", version: 2 }]],
    [
      "reportV3",
      [
        { kind: "report", group: "232.1.1.1", version: 3, sources: ["10.0.0.9"] },
        { kind: "report", group: "239.1.1.3", version: 3 },
      ],
    ],
  ];
  test.each(rows)("%s", (name, memberships) => {
    expect(readIgmp(igmpPackets[name])).toEqual(memberships);
    // A short frame is padded.
    expect(readIgmp(Uint8Array.from([...igmpPackets[name], 1, 2, 3]))).toEqual(memberships);
  });

  test("one byte that is wrong is malformed", () => {
    for (const packet of Object.values(igmpPackets))
      for (let at = 8; at < packet.length; at += 1)
        expect(readIgmp(packet.map((byte, i) => (i === at ? byte ^ 0x10 : byte)))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectSurvival(Object.values(igmpPackets), readIgmp);
  });
});

describe("IGMP by hand", () => {
  const group = [239, 1, 1, 1];
  test.each([
    ["a query of version 1", [0x11, 0, 0, 0, 0, 0, 0, 0], [{ kind: "query", group: "0.0.0.0", version: 1 }]],
    [
      "a query for one group and source",
      [0x11, 100, 0, 0, ...group, 2, 125, 0, 1, 10, 0, 0, 7],
      [{ kind: "query", group: "239.1.1.1", version: 3, sources: ["10.0.0.7"] }],
    ],
    ...[1, 3].map((type) => [
      `include nobody, type ${type}`,
      [0x22, 0, 0, 0, 0, 0, 0, 1, type, 0, 0, 0, ...group],
      [{ kind: "leave", group: "239.1.1.1", version: 3 }],
    ]),
    [
      "include one source",
      [0x22, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, ...group, 10, 0, 0, 9],
      [{ kind: "report", group: "239.1.1.1", version: 3, sources: ["10.0.0.9"] }],
    ],
    [
      "block a source",
      [0x22, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 1, ...group, 10, 0, 0, 9],
      [{ kind: "leave", group: "239.1.1.1", version: 3, sources: ["10.0.0.9"] }],
    ],
    [
      "auxiliary data between records",
      [0x22, 0, 0, 0, 0, 0, 0, 2, 4, 1, 0, 0, ...group, 9, 9, 9, 9, 2, 0, 0, 0, ...group],
      [
        { kind: "report", group: "239.1.1.1", version: 3 },
        { kind: "report", group: "239.1.1.1", version: 3 },
      ],
    ],
    [
      "more records and sources than it holds",
      [0x22, 0, 0, 0, 0, 0, 0xff, 0xff, 4, 0, 0xff, 0xff, ...group],
      [{ kind: "report", group: "239.1.1.1", version: 3 }],
    ],
    ["PIM's forerunner", [0x13, 0, 0, 0, 0, 0, 0, 0], []],
  ] as readonly [string, number[], Membership[]][])("%s", (_, message, memberships) => {
    expect(readIgmp(igmpOf(message))).toEqual(memberships);
  });

  const ipv5 = igmpOf([0x16, 0, 0, 0, 239, 1, 1, 1]).with(0, 0x55);
  new DataView(ipv5.buffer).setUint16(10, 0);
  new DataView(ipv5.buffer).setUint16(10, ~sumOf(ipv5.subarray(0, 20)) & 0xffff);
  test.each([
    ["seven bytes", igmpOf([0x16, 0, 0, 0, 0, 0, 0])],
    ["a query of a length that no version has", igmpOf([0x11, 100, 0, 0, 0, 0, 0, 0, 0, 0])],
    ["a query that lacks its sources", igmpOf([0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 1])],
    ["a unicast destination", igmpOf([0x16, 0, 0, 0, 239, 1, 1, 1], { destination: [10, 0, 0, 2] })],
    ["version 5", ipv5],
    ["nothing", new Uint8Array()],
    ["19 bytes of a header", igmpPackets.queryV2.subarray(0, 19)],
    ["IPv6", mldPackets.queryV1],
  ])("%s is malformed", (_, packet) => {
    expect(readIgmp(packet)).toBeUndefined();
  });

  test("another protocol, and a later fragment, say nothing", () => {
    const udp = igmpOf([0x16, 0, 0, 0, 239, 1, 1, 1]);
    udp.set([17], 9);
    udp.set([0, 0], 10);
    new DataView(udp.buffer).setUint16(10, ~sumOf(udp.subarray(0, 20)) & 0xffff);
    expect(readIgmp(udp)).toEqual([]);
    expect(readIgmp(igmpOf([0x16, 0, 0, 0, 239, 1, 1, 1], { fragment: 1 }))).toEqual([]);
  });

  test("a message that was not captured whole is not judged by its checksum", () => {
    const whole = igmpPackets.reportV3;
    expect(readIgmp(whole.subarray(0, 44))).toEqual([
      { kind: "report", group: "232.1.1.1", version: 3, sources: ["10.0.0.9"] },
    ]);
    expect(readIgmp(whole.subarray(0, 40))).toEqual([{ kind: "report", group: "232.1.1.1", version: 3 }]);
  });

  test("64 sources are enough", () => {
    const sources = new Array<number>(50 * 4).fill(1);
    const message = [0x22, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 50, 239, 1, 1, 1, ...sources];
    expect(readIgmp(igmpOf(message))?.[0]?.sources?.length).toBe(50);
    const many = Uint8Array.from([...igmpOf(message), ...new Array<number>(400).fill(1)]);
    const view = new DataView(many.buffer);
    view.setUint16(2, many.length + 1);
    view.setUint16(10, 0);
    view.setUint16(10, ~sumOf(many.subarray(0, 20)) & 0xffff);
    many.set([150], 31);
    expect(readIgmp(many)?.[0]?.sources?.length).toBe(64);
  });
});

describe("MLD of a kernel", () => {
  const rows: readonly [keyof typeof mldPackets, readonly Membership[]][] = [
    ["queryV1", [{ kind: "query", group: "::", version: 1 }]],
    ["queryV2", [{ kind: "query", group: "::", version: 2 }]],
    ["reportV1", [{ kind: "report", group: "ff1e::1", version: 1 }]],
    ["doneV1", [{ kind: "leave", group: "ff1e::1", version: 1 }]],
    [
      "reportV2",
      [
        { kind: "report", group: "ff02::1:ffb0:baa8", version: 2 },
        { kind: "report", group: "ff02::6a", version: 2 },
      ],
    ],
  ];
  test.each(rows)("%s", (name, memberships) => {
    expect(readMld(mldPackets[name])).toEqual(memberships);
  });

  test("damage is survived", () => {
    expectSurvival(Object.values(mldPackets), readMld);
  });
});

describe("MLD by hand", () => {
  const group = [0xff, 0x1e, ...new Array<number>(13).fill(0), 1];
  const report = [143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, ...group];
  const found: readonly Membership[] = [{ kind: "report", group: "ff1e::1", version: 2 }];
  /** Destination options of six bytes of padding, before `next`. */
  const options = (next: number) => [next, 0, 1, 4, 0, 0, 0, 0];
  const chain = (count: number) =>
    Array.from({ length: count }, (_, i) => options(i === count - 1 ? 58 : 60));

  test("is read behind eight headers, and no more", () => {
    for (let count = 0; count <= 8; count += 1) expect(readMld(mldOf(report, chain(count)))).toEqual(found);
    expect(readMld(mldOf(report, chain(9)))).toBeUndefined();
  });

  test("a first fragment is read behind its header, and behind one of routing", () => {
    const first = mldOf(report, [[58, 0, 0, 1, 0, 0, 0, 1]]);
    first.set([44], 6);
    expect(readMld(first)).toEqual(found);
    const routed = mldOf(report, [[58, 0, 0, 0, 0, 0, 0, 0]]);
    routed.set([43], 6);
    expect(readMld(routed)).toEqual(found);
  });

  test("a source that is asked for is named", () => {
    const query = [
      130,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      ...group,
      2,
      125,
      0,
      1,
      0xfe,
      0x80,
      ...new Array<number>(13).fill(0),
      9,
    ];
    expect(readMld(mldOf(query))).toEqual([
      { kind: "query", group: "ff1e::1", version: 2, sources: ["fe80::9"] },
    ]);
  });

  test("a neighbour's solicitation, a later fragment and a message cut short say nothing", () => {
    expect(readMld(mldOf([135, ...report.slice(1)]))).toEqual([]);
    const later = mldOf(report, [[58, 0, 0, 8, 0, 0, 0, 1]]);
    later.set([44], 6);
    expect(readMld(later)).toEqual([]);
    expect(readMld(mldPackets.reportV1.subarray(0, 71))).toEqual([]);
  });

  test.each([
    ["39 bytes", mldPackets.queryV1.subarray(0, 39)],
    ["an extension that is longer than the packet", mldOf(report, [[58, 9, 1, 4, 0, 0, 0, 0]])],
    ["a unicast destination", mldOf(report).map((byte, at) => (at === 24 ? 0xfe : byte))],
    ["IPv4", igmpPackets.reportV2],
  ])("%s is malformed", (_, packet) => {
    expect(readMld(packet)).toBeUndefined();
  });
});
