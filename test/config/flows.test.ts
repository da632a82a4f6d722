// A rule as its flows: how ranges pair up, how many there may be, and that a huge range costs nothing.

import { describe, expect, test } from "bun:test";
import { checkEgressCount, countFlows, expandFlows } from "../../src/config/flows.ts";
import { cpuMsOf } from "../support/cpu-time.ts";
import { mistakesOf, parseRule, type RuleParts, ruleText } from "./rules.ts";

describe("flows of a rule", () => {
  test("50 groups and 50 ports are 50 flows, each with its own egress", () => {
    const rule = parseRule({
      ingress: 'interface = "eth0", group = "239.1.1.1-239.1.1.50", port = "5001-5050"',
      egress: ['interface = "eth1", group = "239.10.1.1-239.10.1.50", port = "6001-6050"'],
    });
    const flows = expandFlows(rule);
    expect(countFlows(rule)).toBe(50);
    expect(flows).toHaveLength(50);
    for (const [i, flow] of flows.entries())
      expect(flow).toEqual({
        address: `239.1.1.${i + 1}`,
        port: 5001 + i,
        sources: [],
        egress: [{ address: `239.10.1.${i + 1}`, port: 6001 + i }],
      });
  });

  test("a single value stretches over a range, on either side", () => {
    const onePort = expandFlows(
      parseRule({
        ingress: 'interface = "eth0", group = "239.1.1.254-239.1.2.1", port = 5001',
        egress: [
          'interface = "eth1"',
          'interface = "eth2", port = "6001-6004"',
          'interface = "eth3", address = "10.0.0.1"',
        ],
      }),
    );
    expect(onePort.map(({ address, port }) => `${address}:${port}`)).toEqual([
      "239.1.1.254:5001",
      "239.1.1.255:5001",
      "239.1.2.0:5001",
      "239.1.2.1:5001",
    ]);
    expect(onePort[3]?.egress).toEqual([
      { address: "239.1.2.1", port: 0 },
      { address: "239.1.2.1", port: 6004 },
      { address: "10.0.0.1", port: 0 },
    ]);
    const oneGroup = expandFlows(
      parseRule({ ingress: 'interface = "eth0", group = "239.1.1.1", port = "5001-5003"' }),
    );
    expect(oneGroup.map(({ address, port }) => `${address}:${port}`)).toEqual([
      "239.1.1.1:5001",
      "239.1.1.1:5002",
      "239.1.1.1:5003",
    ]);
  });

  test("no port is one flow for every port of a group, 0 in the table", () => {
    const flows = expandFlows(
      parseRule({ ingress: 'interface = "eth0", group = "239.1.1.0/30", source = ["10.0.0.2", "10.0.0.1"]' }),
    );
    expect(flows).toHaveLength(4);
    expect(flows[0]).toEqual({
      address: "239.1.1.0",
      port: 0,
      sources: ["10.0.0.1", "10.0.0.2"],
      egress: [{ address: "239.1.1.0", port: 0 }],
    });
  });
});

describe("ranges of different sizes are refused", () => {
  const wide = 'interface = "eth0", group = "239.1.1.1-239.1.1.50", port = "5001-5050"';
  const cases: readonly (readonly [RuleParts, string])[] = [
    [
      { ingress: 'interface = "eth0", group = "239.1.1.1-239.1.1.50", port = "5001-5049"' },
      '3:72: rule "a": ingress.port: 49 ports do not pair with 50 groups: give as many of each, or one',
    ],
    [
      { ingress: 'interface = "eth0", group = "239.1.1.1-239.1.1.50", port = "5001-5051"' },
      '3:72: rule "a": ingress.port: 51 ports do not pair with 50 groups: give as many of each, or one',
    ],
    [
      { ingress: wide, egress: ['interface = "eth1", group = "239.2.1.1-239.2.1.49"'] },
      '4:41: rule "a": egress[1].group: 49 groups do not pair with the 50 flows of the ingress: give 50, or one',
    ],
    [
      { ingress: wide, egress: ['interface = "eth1", port = "6001-6051"'] },
      '4:40: rule "a": egress[1].port: 51 ports do not pair with the 50 flows of the ingress: give 50, or one',
    ],
    [
      { egress: ['interface = "eth1", group = "239.2.1.1-239.2.1.2"'] },
      '4:41: rule "a": egress[1].group: 2 groups do not pair with the 1 flow of the ingress: give one',
    ],
    [
      {
        ingress: 'interface = "eth0", group = "239.1.1.1"',
        egress: ['interface = "eth1", port = "6001-6002"'],
      },
      '4:40: rule "a": egress[1].port: 2 ports do not pair with the 1 flow of the ingress: give one (an ingress without a port keeps every port as it is)',
    ],
  ];
  for (const [parts, mistake] of cases)
    test(mistake, () => {
      expect(mistakesOf(parts)).toEqual([mistake]);
    });
});

describe("a file may have 65,536 flows", () => {
  const block: RuleParts = {
    name: "block",
    ingress: 'interface = "eth0", group = "239.5.0.0/16", port = 5001',
  };

  test("and not one more, in one rule", () => {
    expect(countFlows(parseRule(block))).toBe(65_536);
    expect(expandFlows(parseRule(block)).at(-1)).toMatchObject({ address: "239.5.255.255", port: 5001 });
    expect(
      mistakesOf({ ...block, ingress: 'interface = "eth0", group = "239.5.0.0-239.6.0.0", port = 5001' }),
    ).toEqual(['3:41: rule "block": ingress.group: stands for 65,537 flows: a file may have 65,536 in all']);
  });

  test("and not one more, in all rules", () => {
    expect(mistakesOf(block, {})).toEqual([
      '7:41: rule "a": ingress.group: brings the file to 65,537 flows: it may have 65,536 in all',
    ]);
  });

  test("and a range of millions, or of an IPv6 prefix, is refused at once", () => {
    const cpuMs = cpuMsOf(() => {
      expect(mistakesOf({ ingress: 'interface = "eth0", group = "239.0.0.0/8"' })).toEqual([
        '3:41: rule "a": ingress.group: stands for 16,777,216 flows: a file may have 65,536 in all',
      ]);
      expect(mistakesOf({ ingress: 'interface = "eth0", group = "ff3e::/16"' })).toContain(
        '3:41: rule "a": ingress.group: stands for far too many flows: a file may have 65,536 in all',
      );
    });
    expect(cpuMs).toBeLessThan(500);
  });

  test("which all parse and expand at a cost that grows with them, not with their square", () => {
    const cpuMs = cpuMsOf(() =>
      expandFlows(
        parseRule({
          ...block,
          ingress: 'interface = "eth0", group = "239.5.0.0/16", port = 5001, source = ["10.0.0.1"]',
          egress: ['interface = "eth1", group = "239.6.0.0/16"'],
        }),
      ),
    );
    expect(cpuMs).toBeLessThan(5_000);
  });
});

test("what is too large is not expanded for the other checks either", () => {
  const text = { ingress: 'interface = "eth0", group = "239.0.0.0/8"', egress: ['interface = "eth0"'] };
  const cpuMs = cpuMsOf(() => expect(mistakesOf(text)).toHaveLength(2));
  expect(cpuMs).toBeLessThan(500);
  expect(ruleText(text)).toContain("239.0.0.0/8");
});

test("more than 131,072 egresses in a file are refused at the rule that goes over", () => {
  const egress = new Array<null>(65_536).fill(null);
  expect(checkEgressCount([{ egress }, { egress }])).toEqual([]);
  expect(checkEgressCount([{ egress }, { egress }, { egress: [null] }, { egress }])).toEqual([
    { path: ["rule", 2, "egress"], text: "brings the file to 131,073 egresses: it may have 131,072 in all" },
  ]);
});
