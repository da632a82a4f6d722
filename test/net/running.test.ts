// An egress as it runs: when its socket is opened, kept and given up, and what its state says.

import { describe, expect, test } from "bun:test";
import type { Unusable } from "../../src/net/interfaces.ts";
import { RunningEgress } from "../../src/net/running.ts";
import { Counters } from "../../src/stats/counters.ts";
import {
  egressOf,
  FakeCounterArea,
  FakeEgresses,
  interfaceState,
  linkHandle,
  ruleOf,
  runningRule,
  startMs,
  systemError,
  veth2Address,
} from "../support/fakes.ts";

const missing: Unusable = {
  name: "veth2",
  unusable: "interface veth2 does not exist (ip link shows the ones that do)",
};

function egressWith(keys: Readonly<Record<string, unknown>> = {}) {
  return { egress: new RunningEgress(egressOf(keys), 3, startMs), shim: new FakeEgresses() };
}

describe("an egress", () => {
  test("waits at first, without a socket", () => {
    const { egress } = egressWith();
    expect(egress.status).toMatchObject({ state: "waiting", reason: null, sinceMs: startMs });
    expect([egress.fd, egress.sourcePort]).toEqual([-1, null]);
  });

  test("whose interface is missing waits, and says with what it would start", () => {
    const { egress, shim } = egressWith();
    expect(egress.refresh(shim, missing, startMs + 5)).toEqual({ stale: undefined, changed: true });
    expect(egress.status).toMatchObject({ state: "waiting", reason: missing.unusable, sinceMs: startMs });
    expect(egress.refresh(shim, missing, startMs + 6)).toEqual({ stale: undefined, changed: false });
    expect(shim.opened).toEqual([]);
  });

  test("whose interface is there sends from a port of its own", () => {
    const { egress, shim } = egressWith();
    expect(egress.refresh(shim, interfaceState(), startMs + 5)).toEqual({ stale: undefined, changed: true });
    expect(egress.status).toMatchObject({ state: "active", reason: null, sinceMs: startMs + 5 });
    expect([egress.fd, egress.sourcePort, egress.segmentBytesMax]).toEqual([201, 40_001, 1472]);
    expect(shim.opened).toEqual([{ ifindex: 4, source: 0, source_port: 0, ttl: 1, dscp: 0 }]);
  });

  test("asks for the source, port, TTL and DSCP of its rule", () => {
    const { egress, shim } = egressWith({ source: "10.0.1.7", source_port: 5500, ttl: 8, dscp: 46 });
    egress.refresh(shim, interfaceState(), startMs);
    expect(shim.opened).toEqual([{ ifindex: 4, source: 0x0701000a, source_port: 5500, ttl: 8, dscp: 46 }]);
    expect(egress.sourcePort).toBe(5500);
  });

  test("to one host has a TTL of 64", () => {
    const { egress, shim } = egressWith({ address: "10.100.0.2", port: 6001 });
    egress.refresh(shim, interfaceState(), startMs);
    expect(shim.opened[0]?.ttl).toBe(64);
  });

  test("on an interface without an address fails, with the cure", () => {
    const { egress, shim } = egressWith();
    expect(egress.refresh(shim, interfaceState({ address: 0 }), startMs + 5)).toEqual({
      stale: undefined,
      changed: true,
    });
    expect(egress.status).toMatchObject({
      state: "failed",
      reason: "interface veth2 has no IPv4 address to send from (ip address add ADDRESS/24 dev veth2)",
    });
  });

  test("with a source of its own does not need one on the interface", () => {
    const { egress, shim } = egressWith({ source: "10.0.1.7" });
    egress.refresh(shim, interfaceState({ address: 0 }), startMs);
    expect(egress.status.state).toBe("active");
  });

  test.each([
    [
      "EADDRNOTAVAIL",
      { source: "10.0.1.7" },
      "address not available (EADDRNOTAVAIL); 10.0.1.7 is no address of this host (ip address add 10.0.1.7/24 dev veth2)",
    ],
    [
      "EADDRINUSE",
      { source_port: 5500 },
      "address already in use (EADDRINUSE); source port 5500 is taken (ss -ulpn shows by whom)",
    ],
    [
      "EADDRINUSE",
      {},
      "address already in use (EADDRINUSE); no source port is free (sysctl net.ipv4.ip_local_port_range shows how many there are)",
    ],
    [
      "EACCES",
      { source_port: 53 },
      "permission denied (EACCES); source ports below 1024 need CAP_NET_BIND_SERVICE",
    ],
    ["EMFILE", {}, "too many open files (EMFILE); raise the limit of open files (ulimit -n, LimitNOFILE=)"],
    ["ENODEV", {}, "no such device (ENODEV); check ip link show veth2"],
    ["EADDRNOTAVAIL", {}, "address not available (EADDRNOTAVAIL); check ip link show veth2"],
  ] as const)("refused with %s (%j) fails and says what to do", (code, keys, reason) => {
    const { egress, shim } = egressWith(keys);
    shim.refusal = code;
    expect(egress.refresh(shim, interfaceState(), startMs + 5)).toEqual({ stale: undefined, changed: true });
    expect(egress.status).toMatchObject({ state: "failed", reason: `cannot send out of veth2: ${reason}` });
    expect([egress.fd, egress.sourcePort]).toEqual([-1, null]);
  });

  test("that failed is active at the next try that works", () => {
    const { egress, shim } = egressWith();
    shim.refusal = "EMFILE";
    egress.refresh(shim, interfaceState(), startMs + 5);
    expect(egress.refresh(shim, interfaceState(), startMs + 6)).toEqual({ stale: undefined, changed: false });
    shim.refusal = undefined;
    expect(egress.refresh(shim, interfaceState(), startMs + 9)).toEqual({ stale: undefined, changed: true });
    expect(egress.status).toMatchObject({ state: "active", reason: null, sinceMs: startMs + 9 });
  });

  test("lets a defect through: only the system's refusals are a state", () => {
    const { egress, shim } = egressWith();
    shim.openEgress = () => {
      throw new TypeError("not a system error");
    };
    expect(() => egress.refresh(shim, interfaceState(), startMs)).toThrow("not a system error");
  });
});

describe("an egress that sends", () => {
  function active(keys: Readonly<Record<string, unknown>> = {}) {
    const { egress, shim } = egressWith(keys);
    egress.refresh(shim, interfaceState(), startMs + 1);
    return { egress, shim };
  }

  test("keeps socket and source port while the interface is the same", () => {
    const { egress, shim } = active();
    for (let i = 0; i < 3; i += 1)
      expect(egress.refresh(shim, interfaceState(), startMs + 9)).toEqual({
        stale: undefined,
        changed: false,
      });
    expect([egress.fd, egress.sourcePort]).toEqual([201, 40_001]);
    expect(egress.status.sinceMs).toBe(startMs + 1);
    expect(shim.opened).toHaveLength(1);
  });

  test("follows the MTU on the same socket", () => {
    const { egress, shim } = active();
    expect(egress.refresh(shim, interfaceState({ mtu: 9000 }), startMs + 9).stale).toBeUndefined();
    expect(egress.segmentBytesMax).toBe(8972);
    expect(egress.fd).toBe(201);
    egress.refresh(shim, interfaceState({ mtu: 20 }), startMs + 9);
    expect(egress.segmentBytesMax).toBe(0);
  });

  test("gets a new socket on its old port when the interface has another index, and hands out the old one", () => {
    const { egress, shim } = active();
    const changed = interfaceState({ ifindex: 12 });
    expect(egress.refresh(shim, changed, startMs + 9)).toEqual({ stale: 201, changed: false });
    expect([egress.fd, egress.sourcePort]).toEqual([202, 40_001]);
    expect(shim.closed).toEqual([]);
    expect(egress.refresh(shim, changed, startMs + 10).stale).toBeUndefined();
  });

  test("takes another port when somebody has taken its own meanwhile", () => {
    const { egress, shim } = active();
    egress.refresh(shim, missing, startMs + 9);
    const open = shim.openEgress.bind(shim);
    shim.openEgress = (options) => {
      if (options.source_port === 40_001) throw systemError("EADDRINUSE");
      return open(options);
    };
    expect(egress.refresh(shim, interfaceState(), startMs + 10).changed).toBe(true);
    expect([egress.status.state, egress.sourcePort]).toEqual(["active", 40_002]);
  });

  test("keeps its socket when the interface gets another address: the kernel chooses it for each packet", () => {
    const { egress, shim } = active();
    const changed = interfaceState({ address: veth2Address + 0x0100_0000 });
    expect(egress.refresh(shim, changed, startMs + 9)).toEqual({ stale: undefined, changed: false });
    expect([egress.fd, egress.sourcePort]).toEqual([201, 40_001]);
  });

  test("waits when its interface goes, and hands out the socket once", () => {
    const { egress, shim } = active();
    expect(egress.refresh(shim, missing, startMs + 9)).toEqual({ stale: 201, changed: true });
    expect(egress.status).toMatchObject({ state: "waiting", reason: missing.unusable, sinceMs: startMs + 9 });
    expect([egress.fd, egress.sourcePort]).toEqual([-1, null]);
    expect(egress.refresh(shim, missing, startMs + 10)).toEqual({ stale: undefined, changed: false });
  });

  test("is active again when the interface returns just as it was", () => {
    const { egress, shim } = active();
    egress.refresh(shim, missing, startMs + 9);
    expect(egress.refresh(shim, interfaceState(), startMs + 10)).toEqual({ stale: undefined, changed: true });
    expect(egress.fd).toBe(202);
    expect(egress.status.state).toBe("active");
  });

  test("fails when the interface loses its address, and hands out the socket", () => {
    const { egress, shim } = active();
    expect(egress.refresh(shim, interfaceState({ address: 0 }), startMs + 9)).toEqual({
      stale: 201,
      changed: true,
    });
    expect(egress.status.state).toBe("failed");
    expect(egress.fd).toBe(-1);
  });

  test("fails when the new socket cannot be opened, and still hands out the old one", () => {
    const { egress, shim } = active();
    shim.refusal = "EMFILE";
    expect(egress.refresh(shim, interfaceState({ ifindex: 12 }), startMs + 9)).toEqual({
      stale: 201,
      changed: true,
    });
    expect(egress.status.state).toBe("failed");
    expect(egress.fd).toBe(-1);
  });

  test("does not send from a socket whose port cannot be read: it is closed, and the next try opens another", () => {
    const { egress, shim } = active();
    egress.refresh(shim, missing, startMs + 9);
    const egressPort = shim.egressPort.bind(shim);
    shim.egressPort = () => {
      throw systemError("ENOBUFS");
    };
    expect(egress.refresh(shim, interfaceState(), startMs + 10)).toEqual({ stale: undefined, changed: true });
    expect([egress.status.state, egress.fd, egress.sourcePort]).toEqual(["failed", -1, null]);
    expect(shim.closed).toEqual([202]);
    shim.egressPort = egressPort;
    egress.refresh(shim, interfaceState(), startMs + 11);
    expect([egress.status.state, egress.fd, egress.sourcePort]).toEqual(["active", 203, 40_001]);
  });
});

describe("an egress that sends frames", () => {
  const linkOf = () => linkHandle(31);

  test("stands in the table with its link, address, port, TTL and DSCP", () => {
    const { egress, shim } = egressWith({ ttl: 8, dscp: 46 });
    egress.refresh(shim, interfaceState(), startMs, linkOf);
    expect(egress.tableEntry).toEqual({
      ...{ link: linkHandle(31), fd: 201, slot: 3, segment_bytes_max: 1472 },
      ...{ source: veth2Address, source_port: 40_001, ttl: 8, dscp: 46, keep: 0, plain: 0 },
    });
  });

  test("tells the workers that it is plain, whichever way it sends", () => {
    const { egress, shim } = egressWith({ plain: true });
    egress.refresh(shim, interfaceState(), startMs, linkOf);
    expect(egress.tableEntry).toMatchObject({ link: linkHandle(31), plain: 1 });
    egress.refresh(shim, interfaceState(), startMs + 1, () => "it refuses");
    expect(egress.tableEntry).toMatchObject({ link: 0, plain: 1 });
  });

  test("follows the address of its interface, unless its rule names one", () => {
    const { egress, shim } = egressWith();
    const { egress: own } = egressWith({ source: "10.0.1.7" });
    for (const address of [veth2Address, veth2Address + 0x0100_0000]) {
      egress.refresh(shim, interfaceState({ address }), startMs, linkOf);
      own.refresh(shim, interfaceState({ address }), startMs, linkOf);
      expect([egress.tableEntry.source, own.tableEntry.source]).toEqual([address, 0x0701_000a]);
    }
  });

  test("fails where its rule asks for frames and none can leave", () => {
    const { egress, shim } = egressWith({ path: "frame" });
    egress.refresh(shim, interfaceState({ type: 0xfffe }), startMs + 5, () => undefined);
    expect(egress.status).toMatchObject({
      state: "failed",
      reason: "cannot send frames out of veth2, which the rule asks for: veth2 is not Ethernet-like",
    });
    expect(egress.tableEntry).toMatchObject({ fd: -1, link: 0, keep: 0 });
  });

  test("goes on by its socket when the link is given up", () => {
    const { egress, shim } = egressWith();
    egress.refresh(shim, interfaceState(), startMs, linkOf);
    expect(egress.refresh(shim, interfaceState(), startMs + 1, () => "it refuses").stale).toBeUndefined();
    expect(egress.sendPath).toEqual({ path: "socket", reason: "it refuses" });
    expect(egress.tableEntry).toMatchObject({ fd: 201, link: 0 });
  });
});

describe("what an egress refused", () => {
  function counted() {
    const area = new FakeCounterArea();
    return { area, counters: new Counters([area.words]), ...egressWith() };
  }

  test("is told once, with the system's words", () => {
    const { area, counters, egress } = counted();
    expect(egress.newDrops(counters)).toBeUndefined();
    area.set("egress", 3, { full_packets: 5, last_errno: 105 });
    expect(egress.newDrops(counters)).toEqual({
      packets: 5,
      reason: "no buffer space available (ENOBUFS)",
    });
    expect(egress.newDrops(counters)).toBeUndefined();
  });

  test("is the difference since it was asked last", () => {
    const { area, counters, egress } = counted();
    area.set("egress", 3, { full_packets: 5, error_packets: 1, last_errno: 1 });
    egress.newDrops(counters);
    area.set("egress", 3, { full_packets: 7, error_packets: 4, last_errno: 1 });
    expect(egress.newDrops(counters)).toEqual({ packets: 5, reason: "operation not permitted (EPERM)" });
  });

  test("is its own: other slots, and packets that never reached it, do not count", () => {
    const { area, counters, egress } = counted();
    area.set("egress", 2, { full_packets: 5, last_errno: 105 });
    area.set("egress", 3, { sent_packets: 9, unavailable_packets: 5 });
    expect(egress.newDrops(counters)).toBeUndefined();
  });
});

describe("a rule", () => {
  test("runs as its flows and waits at first", () => {
    const running = runningRule(
      ruleOf({ ingress: { interface: "veth1", group: "239.1.1.1-239.1.1.3", port: 5001 } }),
      6,
    );
    expect(running.flows.map(({ address, port }) => [address, port])).toEqual([
      ["239.1.1.1", 5001],
      ["239.1.1.2", 5001],
      ["239.1.1.3", 5001],
    ]);
    expect(running.slot).toBe(6);
    expect(running.status).toMatchObject({ state: "waiting", reason: null, sinceMs: startMs });
  });

  test("is quiet from its join on, and from each packet", () => {
    const running = runningRule(ruleOf({}));
    expect(running.quietMs(false, 0, 7_000)).toBe(0);
    expect(running.quietMs(true, 0, 9_000)).toBe(0);
    expect(running.quietMs(true, 0, 12_000)).toBe(3_000);
    expect(running.quietMs(true, startMs, 13_000)).toBe(0);
    expect(running.quietMs(true, startMs, 19_000)).toBe(6_000);
    expect(running.quietMs(false, startMs, 20_000)).toBe(0);
    expect(running.quietMs(true, startMs, 30_000)).toBe(0);
    expect(running.quietMs(true, startMs, 31_000)).toBe(1_000);
  });

  test("is not quiet for longer, nor shorter, by a clock that is set: packets of an hour ago are new ones", () => {
    const running = runningRule(ruleOf({}));
    running.quietMs(true, startMs, 1_000);
    expect(running.quietMs(true, startMs - 3_600_000, 2_000)).toBe(0);
    expect(running.quietMs(true, startMs - 3_600_000, 8_000)).toBe(6_000);
  });
});
