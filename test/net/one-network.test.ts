// When two interfaces look like one layer 2.

import { expect, test } from "bun:test";
import { type Attachment, whyOneNetwork } from "../../src/net/one-network.ts";

const alone: Attachment = { address: undefined, networks: [], bridge: undefined };
const cases: readonly (readonly [string, Partial<Attachment>, Partial<Attachment>, string | undefined])[] = [
  ["nothing is known of them", {}, {}, undefined],
  [
    "they have addresses of different networks",
    { networks: ["10.0.0.0/24"] },
    { networks: ["10.0.1.0/24"] },
    undefined,
  ],
  [
    "they have addresses of one network",
    { networks: ["10.0.0.0/24", "10.0.9.0/24"] },
    { networks: ["10.0.9.0/24"] },
    "both have an address of 10.0.9.0/24",
  ],
  [
    "a network lies inside the other's",
    { networks: ["10.0.0.0/16"] },
    { networks: ["10.0.0.0/24"] },
    undefined,
  ],
  ["they are ports of one bridge", { bridge: "br0" }, { bridge: "br0" }, "both are ports of bridge br0"],
  ["they are ports of two bridges", { bridge: "br0" }, { bridge: "br1" }, undefined],
  ["one is a port of the other", { bridge: "eth1" }, {}, "eth0 is a port of bridge eth1"],
  ["the other is a port of it", {}, { bridge: "eth0" }, "eth1 is a port of bridge eth0"],
];

test.each(cases)("two interfaces, where %s", (_, a, b, why) => {
  const attachments: Readonly<Record<string, Attachment>> = {
    eth0: { ...alone, ...a },
    eth1: { ...alone, ...b },
  };
  expect(whyOneNetwork("eth0", "eth1", (name) => attachments[name] ?? alone)).toBe(why);
});
