// What `mcr explain` says of queriers, from what the running mcr remembers and what was on the wire just now, of what
// came back, the cures of what an egress refuses, and what the kernel dropped behind it.

import { describe, expect, test } from "bun:test";
import { explain, firstTrouble } from "../../src/commands/explain-chain.ts";
import { type Evidence, interfaceFound, type Running } from "../../src/commands/explain-evidence.ts";
import type { DeviceStats, EgressSnapshot, Flows, InterfaceStats } from "../../src/control/protocol.ts";
import { egress as egressSnapshot, flows, now, rule, stats } from "../control/fake-relay.ts";
import { interfaceState, ruleOf } from "../support/fakes.ts";

const group = "239.1.1.1";
const nowMs = now.getTime();
const ago = (ms: number) => new Date(nowMs - ms).toISOString();
const query = (agoMs: number) => ({ time: ago(agoMs), from: "10.0.0.1", version: 2 });
const onTheWire: Flows = {
  ...flows,
  flows: flows.flows.map((flow) => ({ ...flow, interface: "veth1" })),
  igmp: [],
  failures: [],
};
const asked: Flows = { ...onTheWire, igmp: flows.igmp.map((each) => ({ ...each, interface: "veth1" })) };

/** With 1000 packets that passed, or none on the wire. */
function links(
  heard: Pick<Running, "lastQuery" | "listeningSince"> | null,
  {
    wire = onTheWire,
    egress = {},
    after = {},
    looped = 0,
    devices = [],
    ingress = [],
    paths = [undefined],
  }: {
    readonly wire?: Flows;
    readonly egress?: Readonly<Record<string, unknown>>;
    readonly after?: Partial<EgressSnapshot>;
    readonly looped?: number;
    /** Of veth2, before and after. */
    readonly devices?: readonly DeviceStats[];
    /** Of veth1, before and after. */
    readonly ingress?: readonly InterfaceStats[];
    readonly paths?: Evidence["paths"];
  } = {},
) {
  const running = heard && {
    ...heard,
    before: rule,
    after: { ...rule, looped, packets: rule.packets + 1000, egress: [{ ...egressSnapshot, ...after }] },
    interfaceBefore: ingress[0],
    interfaceAfter: ingress[1],
    devicesBefore: devices[0] ? [devices[0]] : [],
    devicesAfter: devices[1] ? [devices[1]] : [],
    memberships: [],
  };
  return explain({
    rule: ruleOf({
      ingress: { interface: "veth1", group, port: 5001 },
      egress: [{ interface: "veth2", ...egress }],
    }),
    running,
    start: "mcr run -i studio rules.toml",
    nowMs,
    interfaces: new Map(["veth1", "veth2"].map((name) => [name, interfaceState({ name })])),
    kernelGroups: new Map([["veth1", new Set([group])]]),
    wire,
    paths,
  });
}

function querierLinks(heard: Pick<Running, "lastQuery" | "listeningSince"> | null, wire: Flows = onTheWire) {
  return links(heard, { wire })
    .filter(({ link }) => link === "querier")
    .map(({ verdict, text }) => `${verdict}: ${text}`);
}

describe("the querier is", () => {
  test("the one that the running mcr has heard last, however short the wire was watched", () => {
    expect(querierLinks({ lastQuery: query(34_000), listeningSince: ago(60_000) })).toEqual([
      "ok: last query 34s ago from 10.0.0.1 (IGMPv2)",
    ]);
  });

  test("the one on the wire, where none runs", () => {
    expect(querierLinks(null, asked)).toEqual(["ok: 10.10.1.1 sends IGMP queries on veth1"]);
  });

  test("worth a look when it has not asked for longer than switches remember", () => {
    expect(querierLinks({ lastQuery: query(600_000), listeningSince: ago(900_000) })).toEqual([
      "warn: no IGMP query on veth1 for 10m, the last from 10.0.0.1",
    ]);
  });

  test("unknown where none was heard, and for how long tells whether that means anything", () => {
    expect(querierLinks({ lastQuery: null, listeningSince: ago(14_000) })).toEqual([
      "unknown: no IGMP query on veth1 in 14 s, and queriers ask every 125 s",
    ]);
    expect(querierLinks({ lastQuery: null, listeningSince: ago(7_200_000) })).toEqual([
      "unknown: no IGMP query on veth1 in 2h 0m",
    ]);
    expect(querierLinks(null)).toEqual([
      "unknown: no IGMP query on veth1 in 1.0 s, and queriers ask every 125 s",
    ]);
  });
});

describe("where nothing arrives", () => {
  const silence: Flows = { ...onTheWire, flows: [] };
  const [flow] = onTheWire.flows;
  if (!flow) throw new Error("there is a flow");
  const only = (destination: string): Flows => ({ ...silence, flows: [{ ...flow, destination }] });
  const short = { lastQuery: null, listeningSince: ago(29_000) };
  const long = { lastQuery: null, listeningSince: ago(7_200_000) };
  const broken = (...given: Parameters<typeof links>) =>
    links(...given).filter(({ verdict }) => verdict === "broken");

  test("a querier that has asked lately is not to blame", () => {
    const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
    expect(broken(heard, { wire: silence })).toMatchObject([
      {
        link: "wire",
        text: "nothing of 239.1.1.1:5001 arrives on veth1 in 1.0 s: its sender is silent, or is not on this network",
        cure: "tcpdump -ni veth1 udp and dst 239.1.1.1",
      },
    ]);
  });

  test("and no other group either, one that was not heard is, in one line that says for how long", () => {
    for (const [heard, text] of [
      [{ lastQuery: query(600_000), listeningSince: null }, "for 10m, the last from 10.0.0.1: a switch"],
      [long, "in 2h 0m: a switch"],
      [short, "in 29 s, and queriers ask every 125 s: a switch"],
    ] as const)
      expect(querierLinks(heard, silence)).toEqual([
        expect.stringContaining(
          `broken: no group at all arrives on veth1; no IGMP query on veth1 ${text} that snoops forwards nothing`,
        ),
      ]);
  });

  test("but other groups do, the sender is, and the querier only maybe, however long none was heard", () => {
    for (const heard of [short, long]) {
      const [wire, ...others] = broken(heard, { wire: only("239.9.9.9") });
      expect(others).toEqual([]);
      expect(wire?.link).toBe("wire");
      expect(wire?.text).toEndWith("its sender is silent, or a switch without a querier withholds it");
      expect(wire?.cure).toStartWith("tcpdump -ni veth1 udp and dst 239.1.1.1; if it is sent: switch on an");
      expect(wire?.cure).toContain("mcast_querier 1");
    }
  });

  test("but groups of the link, which switches always pass on, they say nothing", () => {
    expect(broken(long, { wire: only("224.0.0.251") })).toMatchObject([{ link: "querier" }]);
  });

  test("where nobody looked, or nobody joined, the querier is not to blame", () => {
    const failures = [{ interface: "veth1", reason: "no permission" }];
    expect(broken(long, { wire: { ...silence, failures } }).map(({ link }) => link)).not.toContain("querier");
    expect(broken(null, { wire: silence }).map(({ link }) => link)).not.toContain("querier");
    expect(links(null, { wire: silence }).find(({ link }) => link === "wire")).toMatchObject({
      verdict: "unknown",
      cure: "mcr run -i studio rules.toml",
    });
  });
});

describe("frames that the kernel could not hand over", () => {
  const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
  const ring = (lost: number, undescribed: number) => {
    const counted = (times: number) =>
      stats.interfaces.map((each) => ({
        ...each,
        dropped: { ...each.dropped, ring: 7 + times * lost },
        undescribed: 3 + times * undescribed,
      }));
    return links(heard, { ingress: [0, 1].flatMap(counted) }).find(({ link }) => link === "ring");
  };

  test("are the guest's to cure where the kernel cannot describe them, and no fault of the workers", () => {
    expect(ring(5, 5)).toMatchObject({
      verdict: "warn",
      text: "5 frames of veth1 were lost: they have an offload type that the kernel cannot hand over (UDP fragmentation offload of an old guest)",
      cure: expect.stringContaining("ethtool -K eth0 ufo off"),
    });
  });

  test("are the workers' where the ring was full", () => {
    expect(ring(5, 2)?.text).toStartWith("3 frames of veth1 found the ring full");
    expect(ring(0, 0)).toMatchObject({ verdict: "ok", text: "the kernel handed over every frame of veth1" });
  });
});

test("what the relay dropped beside packets that matched is worth a look", () => {
  const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
  const ingress = [1, 21].flatMap((late) =>
    stats.interfaces.map((each) => ({ ...each, dropped: { ...each.dropped, fragment_late: late } })),
  );
  expect(links(heard, { ingress }).find(({ link }) => link === "match")).toMatchObject({
    verdict: "warn",
    text: "1000 packets matched meanwhile; on veth1 others were dropped, of this rule or of another: fragment_late 20",
    cure: "mcr stats",
  });
});

describe("what came back", () => {
  const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
  const loop = (options: Parameters<typeof links>[1]) =>
    links(heard, options).find(({ link }) => link === "loop");

  test("from the rule's own egress is worth a look, with the egress and the cure", () => {
    expect(loop({ looped: 20, after: { returned_packets: 20 } })).toMatchObject({
      verdict: "warn",
      text: "20 packets on veth1 had been here before and were dropped, 20 of them meanwhile: they came back from its own egress eth1 239.10.1.1:6001",
      cure: expect.stringContaining("separate the two networks"),
    });
  });

  test("through other relays is worth a look as well", () => {
    const found = loop({ looped: 5 });
    expect(found?.verdict).toBe("warn");
    expect(found?.text).toContain("they came back through other relays");
    expect(found?.cure).toStartWith("let one relay of the circle send to another group");
  });

  test("is nothing as far as is known: sockets and plain egresses carry no hop mark", () => {
    const nothing = "no packet on veth1 is known to have come back";
    expect(loop({})).toMatchObject({ verdict: "ok", text: nothing, cure: null });
    for (const after of [{ path: "socket" }, { plain: true }] as const)
      expect(loop({ after })?.text).toBe(
        `${nothing}; what leaves by a socket or plain (eth1 239.10.1.1:6001) has no hop mark, so other relays that send it back are not recognised`,
      );
  });

  test("keeps the conclusion from saying that no link is broken", () => {
    expect(firstTrouble(links(heard, { looped: 5 }))?.link).toBe("loop");
    expect(firstTrouble(links(heard))).toBeUndefined();
  });
});

describe("packets that are larger than the MTU and may not be fragmented", () => {
  const large: Flows = { ...onTheWire, flows: onTheWire.flows.map((flow) => ({ ...flow, size_max: 3000 })) };
  const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
  const after = {
    dropped: { ...egressSnapshot.dropped, error: 7 },
    last_error: "message too long (EMSGSIZE)",
  };
  const refused = (egress: Readonly<Record<string, unknown>>, wire = large) =>
    links(heard, { wire, egress, after }).at(-1);
  const cure = (...given: Parameters<typeof refused>) => refused(...given)?.cure;

  test("are refused for the MTU there is", () => {
    expect(refused({ ttl: "decrement" })?.text).toBe(
      "7 of 7 packets meanwhile were refused: message too long (EMSGSIZE): the MTU of veth2 is 1500",
    );
  });

  test("need an MTU of their size, or a rule that does without frames", () => {
    expect(cure({ ttl: "decrement" })).toBe(
      "ip link set veth2 mtu 3028, or smaller packets at the sender, or a ttl that is a number (then the socket may fragment)",
    );
    expect(cure({ ttl: "keep", source: "keep" })).toEndWith(
      ', or a ttl that is a number and no source = "keep" (then the socket may fragment)',
    );
    expect(cure({})).toBe("ip link set veth2 mtu 3028, or smaller packets at the sender");
  });

  test("and that the wire did not show get no number", () => {
    expect(cure({}, onTheWire)).toBe("ip link show dev veth2, or smaller packets at the sender");
  });
});

describe("the cure is the command that the reason names", () => {
  test("of an interface", () => {
    for (const [unusable, text, cure] of [
      ["interface veth9 does not exist (ip link shows the ones that do)", "does not exist", "ip link"],
      ["interface veth9 is down (ip link set veth9 up)", "is down", "ip link set veth9 up"],
    ] as const) {
      const interfaces = new Map([["veth9", { name: "veth9", unusable }]]);
      expect(interfaceFound("veth9", interfaces, "interface")).toEqual({
        link: "interface",
        verdict: "broken",
        text: `interface veth9 ${text}`,
        cure,
      });
    }
  });

  test("of an egress, and where it names none it is where to look", () => {
    const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
    for (const [reason, text, cure] of [
      [
        "interface veth2 has no IPv4 address to send from (ip address add ADDRESS/24 dev veth2)",
        "failed: interface veth2 has no IPv4 address to send from",
        "ip address add ADDRESS/24 dev veth2",
      ],
      [
        "address not available (EADDRNOTAVAIL); 10.0.1.7 is no address of this host (ip address add 10.0.1.7/24 dev veth2)",
        "failed: address not available (EADDRNOTAVAIL); 10.0.1.7 is no address of this host",
        "ip address add 10.0.1.7/24 dev veth2",
      ],
      ["message too long (EMSGSIZE)", "failed: message too long (EMSGSIZE)", "mcr show rules"],
    ] as const)
      expect(links(heard, { after: { state: "failed", reason } }).at(-1)).toMatchObject({
        link: "egress",
        verdict: "broken",
        text,
        cure,
      });
  });
});

describe("what the kernel drops behind an egress", () => {
  const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
  const none = { kind: "tbf", dropped: 10, overlimits: 0, requeues: 0, backlog_packets: 0, backlog_bytes: 0 };
  const quiet: DeviceStats = { interface: "veth2", type: "veth", dropped: 5, errors: 5, qdisc: none };
  const device = (...devices: readonly DeviceStats[]) =>
    links(heard, { devices })
      .filter(({ link }) => link === "device")
      .map(({ verdict, text, cure }) => [verdict, text, cure]);

  test("is a veth's business as well: who reads raw packets there gets runs as one frame, unless the egress is plain", () => {
    const reader = (devices: readonly DeviceStats[], after: Partial<EgressSnapshot>) =>
      links(heard, { devices, after }).filter(({ link }) => link === "reader");
    expect(reader([quiet, quiet], { path: "frame" })).toMatchObject([
      { verdict: "ok", text: expect.stringContaining("plain = true on this egress") },
    ]);
    expect(reader([quiet, quiet], { path: "socket" })).toEqual([]);
    expect(reader([quiet, { ...quiet, type: "vxlan" }], { path: "frame" })).toEqual([]);
    expect(reader([], { path: "frame" })).toEqual([]);
  });

  test("before the wire was watched is no news, and nothing is said of what is not known", () => {
    expect(device(quiet, quiet)).toEqual([]);
    expect(device()).toEqual([]);
  });

  test("is worth a look when its queue does, with the queue's kind and tc(8)", () => {
    expect(device(quiet, { ...quiet, qdisc: { ...none, dropped: 30 } })).toEqual([
      [
        "warn",
        expect.stringMatching(/^the queue of veth2, tbf, dropped 20 meanwhile /),
        expect.stringMatching(/^tc -s qdisc show dev veth2; /),
      ],
    ]);
  });

  test("is worth a look when the device does, with what such a device lacks", () => {
    expect(device(quiet, { ...quiet, dropped: 6 })).toEqual([
      [
        "warn",
        expect.stringMatching(/^veth2 itself dropped 1 \(a tun or tap that nobody reads [^)]*\) meanwhile/),
        "ip -s -s link show dev veth2; ip -d link show dev veth2",
      ],
    ]);
    expect(device(quiet, { ...quiet, errors: 8 })).toMatchObject([
      ["warn", expect.stringContaining("failed to send 3 (a tunnel without a route"), expect.any(String)],
    ]);
  });

  test("is not told of a queue that is another one by now", () => {
    expect(device(quiet, { ...quiet, qdisc: { ...none, kind: "fq_codel", dropped: 30 } })).toEqual([]);
  });

  test("is told beside what the egress found no room for", () => {
    const dropped = { ...egressSnapshot.dropped, full: 4 };
    const devices = [quiet, { ...quiet, qdisc: { ...none, dropped: 30 } }];
    expect(links(heard, { devices, after: { dropped } }).at(-1)).toMatchObject({
      link: "sent",
      verdict: "broken",
      text: expect.stringMatching(/^egress full: 4 of .*; its queue, tbf, counts 20 drops$/),
    });
  });
});

describe("a host that does not answer", () => {
  const heard = { lastQuery: query(34_000), listeningSince: ago(60_000) };
  const failing = { state: "failing", reason: "10.0.1.9 does not answer ARP on veth2" } as const;
  const to = (neighbour: string, gateway?: string) =>
    links(heard, {
      egress: { address: "10.0.1.9" },
      after: failing,
      paths: [{ route: { gateway }, error: undefined, neighbour }],
    });

  test("is the broken link, not the egress that it makes failing", () => {
    expect(to("FAILED").at(-1)).toMatchObject({
      link: "neighbour",
      verdict: "broken",
      text: "10.0.1.9 does not answer ARP on veth2 (FAILED)",
      cure: expect.stringContaining("ip neigh show dev veth2"),
    });
    expect(to("INCOMPLETE", "10.0.1.254").at(-1)?.text).toStartWith("10.0.1.254 does not answer ARP");
  });

  test("and answers just now is broken no more", () => {
    expect(to("REACHABLE").map(({ verdict }) => verdict)).not.toContain("broken");
  });
});
