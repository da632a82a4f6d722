// From the shim's record of a scan to what is printed of it and planned from it.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { formatBitRate } from "../../src/commands/figures.ts";
import { planRules, streamsOn } from "../../src/commands/init-plan.ts";
import { markRelayed } from "../../src/commands/relayed.ts";
import { formatScan, formatScanToml } from "../../src/commands/scan-report.ts";
import { parseConfig } from "../../src/config/parse.ts";
import type { HeardFlow } from "../../src/net/heard-flows.ts";
import type { HeardMember } from "../../src/net/heard-members.ts";
import type { Heard } from "../../src/net/hearing.ts";
import { ScanSchema, toScan } from "../../src/net/scan.ts";
import { heardFlow, heardScan } from "../support/scans.ts";

const flow: HeardFlow = {
  ...{
    group: "239.1.1.1",
    source: "10.0.0.1",
    packets: 501,
    bytes: 501_000,
    interface: 0,
    vlan: 0,
    port: 5004,
  },
  ...{ first_ns: 1e18, last_ns: 1e18 + 5e9, bytes_min: 1000, bytes_max: 1000, isEgress: false },
  recognised: { kind: "rtp", payloadType: 96, ssrc: 1 },
  checksums: { checked: 4, wrong: 0, unwritten: 0 },
};
const member: HeardMember = {
  ...{ address: "10.0.0.9", group: "239.1.1.1", packets: 2, last_ns: 1, interface: 1, vlan: 0 },
  ...{ kind: "report", version: 3, isEgress: false },
};
const sap = Buffer.from(
  "\x20\0\0\x01\x0a\0\0\x01v=0\ns=Studio A\nc=IN IP4 239.1.1.1/8\nm=video 5004 RTP/AVP 96\n",
);
const record: Heard = {
  flows: [flow, { ...flow, interface: 1, isEgress: true, source: "10.0.1.1" }],
  members: [member, { ...member, kind: "query", group: "0.0.0.0", address: "10.0.1.254" }],
  announcements: [sap],
  missed: { ringFull: 0, flowsFull: 0, othersFull: 0, malformed: 0 },
};
const interfaces = [
  { name: "eth0", address: "10.0.0.2", mtu: 1500 },
  { name: "eth1", address: "10.0.1.1", mtu: 1500 },
];

describe("a scan", () => {
  const scan = toScan(record, interfaces, 5000);

  test("has rates, names, directions, and where else a stream flows", () => {
    expect(scan.flows[0]).toMatchObject({
      ...{ interface: "eth0", group: "239.1.1.1", source: "10.0.0.1", kind: "rtp", payload_type: 96 },
      ...{ name: "Studio A", packets_per_second: 100, bits_per_second: 800_000 },
      elsewhere: [{ interface: "eth1", direction: "egress" }],
    });
    expect(scan.queriers).toMatchObject([{ interface: "eth1", address: "10.0.1.254", protocol: "IGMPv3" }]);
    expect(scan.members).toMatchObject([{ group: "239.1.1.1", address: "10.0.0.9", state: "member" }]);
  });

  test("takes what RTP carries from its announcement", () => {
    const text = sap.toString("latin1").replace("video", "audio");
    const audio = Buffer.from(`${text}a=rtpmap:96 L24/48000/2\n`, "latin1");
    const [first] = toScan({ ...record, announcements: [audio] }, interfaces, 5000).flows;
    expect(first?.detail).toBe("L24/48000/2, hint: AES67 or ST 2110-30 audio");
  });

  test("reads again what it prints as JSON", () => {
    expect(v.parse(ScanSchema, JSON.parse(JSON.stringify(scan)))).toEqual(scan);
  });

  test("is a table, and columns that say nothing are left out", () => {
    expect(formatScan(scan, 200)).toMatchInlineSnapshot(`
      "INTERFACE  GROUP           SOURCE                PACKETS/S  RATE        SIZE  KIND    NAME      ALSO ON
      eth0       239.1.1.1:5004  10.0.0.1                    100  800 kbit/s  1000  RTP 96  Studio A  eth1 (sent)
      eth1       239.1.1.1:5004  10.0.1.1 (this host)        100  800 kbit/s  1000  RTP 96  Studio A  eth0

      QUERIER  ADDRESS     PROTOCOL  QUERIES
      eth1     10.0.1.254  IGMPv3          2

      MEMBERS ON  GROUP      HOSTS
      eth1        239.1.1.1  10.0.0.9

      1 stream heard in 5 s on eth0, eth1
      no querier heard on eth0 (they ask every 125 s): without one, a snooping switch may stop a stream after some minutes
      "
    `);
    expect(formatScan(heardScan([heardFlow()]), 200)).not.toContain("NAME");
  });

  test("says what a running mcr takes and sends, by group, port, VLAN and source", () => {
    const running = parseConfig(
      `[[rule]]\nname = "a"\ningress = { interface = "eth0", group = "239.1.1.1", source = ["10.0.0.1"] }\negress = [{ interface = "eth1", group = "239.9.9.9", port = 6001 }]\n`,
      "",
    ).rules;
    const flows = [
      heardFlow(),
      heardFlow({ port: 5002 }),
      heardFlow({ source: "10.0.0.7" }),
      heardFlow({ vlan: 5 }),
      heardFlow({ interface: "eth1" }),
      heardFlow({ interface: "eth1", direction: "egress", group: "239.9.9.9", port: 6001 }),
      heardFlow({ interface: "eth1", direction: "egress", group: "239.9.9.9", port: 6002 }),
    ];
    const marked = markRelayed(heardScan(flows), running);
    const names = marked.flows.map(({ relayed_by }) => relayed_by);
    expect(names).toEqual(["a", "a", null, null, null, "a", null]);
    expect(formatScan(marked, 200)).toContain("RELAYED BY");
    expect(formatScan(heardScan(flows), 200)).not.toContain("RELAYED BY");
  });

  test("says where checksums are wrong, and of a tag that is not 802.1Q that it is none", () => {
    const flows = [
      heardFlow({ checksums: { checked: 4, wrong: 4, unwritten: 4 } }),
      heardFlow({ port: 5002, checksums: { checked: 4, wrong: 1, unwritten: 0 } }),
      heardFlow({ port: 5003, other_tag: 7 }),
    ];
    const text = formatScan(heardScan(flows), 200);
    expect(text).toMatch(/^eth0 +239\.1\.1\.1:5001 .* 4 of 4 packets$/m);
    expect(text).toMatch(/^eth0 +239\.1\.1\.1:5002 .* 1 of 4 packets$/m);
    expect(text).toMatch(/^eth0 tag 7 \(not 802\.1Q\) +239\.1\.1\.1:5003/m);
    expect(text).toContain("UDP checksums of 1 stream are wrong: receivers drop such packets");
    const tagged = toScan({ ...record, flows: [{ ...flow, vlan: 0x1000 | 7 }] }, interfaces, 5000);
    expect(tagged.flows[0]).toMatchObject({ vlan: null, other_tag: 7 });
    expect(v.parse(ScanSchema, JSON.parse(JSON.stringify(tagged)))).toEqual(tagged);
  });

  test("of nothing says what to try", () => {
    expect(formatScan(heardScan([]), 200)).toContain("--join");
  });
});

describe("rules from a scan", () => {
  test("pass the checks of the rule file, fold neighbours, and leave out what no rule can take", () => {
    const flows = [
      ...Array.from({ length: 50 }, (_, i) => heardFlow({ group: `239.1.1.${i + 1}`, port: 5001 + i })),
      heardFlow({ group: "239.1.2.1", port: 5004, kind: "rtp", payload_type: 96, name: 'Bob\'s "TV"' }),
      heardFlow({ group: "224.0.0.251", port: 5353, kind: "mdns" }),
      heardFlow({ group: "239.1.2.2", port: 5004, vlan: 5 }),
      heardFlow({ group: "239.1.2.3", port: 5004, direction: "egress" }),
    ];
    const text = formatScanToml(heardScan(flows), "eth1");
    const { rules } = parseConfig(text, "");
    expect(rules.map(({ name, ingress }) => [name, ingress.group, ingress.port])).toEqual([
      ["udp-239.1.1.1-x50", "239.1.1.1-239.1.1.50", "5001-5050"],
      ["bob-s-tv", "239.1.2.1", 5004],
    ]);
  });

  test("are left out with a sentence where they would take nothing", () => {
    const flows = [
      heardFlow({ checksums: { checked: 4, wrong: 4, unwritten: 4 } }),
      heardFlow({ port: 5002, checksums: { checked: 3, wrong: 3, unwritten: 0 } }),
      heardFlow({ port: 5003, other_tag: 7 }),
      heardFlow({ port: 5004, checksums: { checked: 4, wrong: 1, unwritten: 0 } }),
    ];
    const text = formatScanToml(heardScan(flows), "eth1");
    expect(parseConfig(text, "").rules.map(({ ingress }) => ingress.port)).toEqual([5004]);
    expect(text).toMatch(
      /^# Left out of eth0: its UDP checksums .* taken at its sender\)\n# {3}239\.1\.1\.1:5001$/m,
    );
    expect(text).toMatch(/^# Left out of eth0: its UDP checksums .* does mcr\n# {3}239\.1\.1\.1:5002$/m);
    expect(text).toMatch(/^# Left out of eth0: its tag .*\n# {3}239\.1\.1\.1:5003$/m);
  });

  test("keep distances when they are mapped, and names apart from those that are taken", () => {
    const scan = heardScan([
      heardFlow({ group: "239.1.1.1", port: 5001 }),
      heardFlow({ group: "239.1.1.1", port: 5002 }),
      heardFlow({ group: "239.1.3.1", port: 5001 }),
      heardFlow({ group: "239.1.3.1", port: 5001, source: "10.0.0.9" }),
    ]);
    const planned = planRules(
      {
        ...{ ingress: "eth0", egresses: ["eth1"], streams: streamsOn(scan, "eth0") },
        mapping: { kind: "shift", group: "239.10.1.1", port: 6001 },
        settings: { bySource: true },
      },
      ["udp-239.1.1.1"],
    );
    expect(
      planned.map(({ rule }) => [
        rule.name,
        rule.ingress.source,
        rule.egress[0]?.group,
        rule.egress[0]?.port,
      ]),
    ).toEqual([
      ["udp-239.1.1.1-2", ["10.0.0.1"], "239.10.1.1", 6001],
      ["udp-239.1.1.1-3", ["10.0.0.1"], "239.10.1.1", 6002],
      ["udp-239.1.3.1", ["10.0.0.1", "10.0.0.9"], "239.10.3.1", 6001],
    ]);
  });
});

test("bit rates have three digits", () => {
  expect([0, 999, 328_000, 999_600, 2_304_000, 17_600_000, 1.25e9].map(formatBitRate)).toEqual([
    ...["0 bit/s", "999 bit/s", "328 kbit/s", "1.00 Mbit/s", "2.30 Mbit/s", "17.6 Mbit/s", "1.25 Gbit/s"],
  ]);
});
