// The interfaces that rules capture from: when rings are opened, handed out for closing, and why they are not there.

import { describe, expect, test } from "bun:test";
import type { Interface, RingOptions } from "../../src/native/shim.ts";
import type { Capture } from "../../src/net/capture.ts";
import { Ingresses } from "../../src/net/ingresses.ts";
import { readInterface } from "../../src/net/interfaces.ts";
import type { RingSettings } from "../../src/net/profile.ts";
import {
  type ErrnoName,
  FakeRings,
  recordedLog,
  ringHandle,
  ruleOf,
  runningRule,
  systemError,
} from "../support/fakes.ts";

const upAndRunning = 0x1 | 0x40;
const slotsMax = 256;

/** Rings on a host whose interfaces come, go and refuse. */
class FakeHost extends FakeRings {
  readonly interfaces = new Map<string, Interface>();
  /** ifindex → what opening a ring there fails with. */
  readonly refused = new Map<number, ErrnoName>();

  plug(name: string, ifindex: number): void {
    this.interfaces.set(name, { ifindex, flags: upAndRunning, mtu: 1500, address: 0, mac: 0, type: 1 });
  }
  setFlags(name: string, flags: number): void {
    const found = this.interfaces.get(name);
    if (found) this.interfaces.set(name, { ...found, flags });
  }
  readInterface(name: string): Interface | undefined {
    return this.interfaces.get(name);
  }
  override openRing(options: RingOptions) {
    const refusal = this.refused.get(options.ifindex);
    if (refusal) return systemError(refusal);
    return super.openRing(options);
  }
}

const settings: RingSettings = {
  profile: "balanced",
  fanout: "flow",
  ring_bytes: 64 << 20,
  latency_sleep_us: 0,
};

function setUp(workerCount = 1, itsSettings = settings, undescribedOf?: (slot: number) => number) {
  const host = new FakeHost();
  host.plug("veth1", 3);
  host.plug("veth5", 8);
  const recorded = recordedLog();
  const ingresses = new Ingresses(host, recorded.log, workerCount, itsSettings, undescribedOf);
  /** As the relay does it: the interfaces as they are now, and the names that rules want. */
  const refresh = (...names: readonly string[]) =>
    ingresses.refresh(new Map(names.map((name) => [name, readInterface(host, name)])), new Set(names));
  return { host, ingresses, refresh, recorded, lines: recorded.lines };
}

function slotsOf(ingresses: Ingresses): readonly (readonly [string, number])[] {
  return ingresses.statistics.map(({ name, slot }) => [name, slot]);
}

/** Interfaces, their slots, and the rings of each of their captures. */
function ringsInTable(ingresses: Ingresses, stale: readonly Capture[] = []) {
  return [...ingresses.tableInterfaces(stale)].map(([name, { slot, captures }]) => [
    name,
    slot,
    captures.map(({ rings }) => rings),
  ]);
}

const [first, second, third] = [ringHandle(1), ringHandle(2), ringHandle(3)];

describe("an ingress interface", () => {
  test("whose frames have less room to wait than asked for is told of, with the cure", () => {
    const { refresh, host, lines } = setUp(1, { ...settings, profile: "latency" });
    host.receiveBytes = 212_992;
    refresh("veth1");
    expect(lines.at(-1)).toBe(
      "<5>[Ingress] on veth1 frames that wait for a worker have room for 208 KiB only: sysctl -w net.core.rmem_max=67108864, or CAP_NET_ADMIN, gives them 64 MiB",
    );
    host.receiveBytes = 67_108_864;
    refresh("veth1", "veth5");
    expect(lines.at(-1)).toContain("capturing on veth5");
  });

  test("gets a ring for each worker, a slot, and a line that says so", () => {
    const { refresh, ingresses, host, lines } = setUp(2);
    expect(refresh("veth1", "veth5")).toEqual([]);
    expect(host.opened.map(({ ifindex }) => ifindex)).toEqual([3, 3, 8, 8]);
    expect(ringsInTable(ingresses)).toEqual([
      ["veth1", 0, [[first, second]]],
      ["veth5", 1, [[third, ringHandle(4)]]],
    ]);
    expect(lines).toEqual([
      "<6>[Ingress] capturing on veth1: fanout id 7, mode flow, rings for 2 workers, profile balanced, 64 MiB per ring: 512 blocks of 128 KiB, handed over within 1 ms",
      "<6>[Ingress] capturing on veth5: fanout id 7, mode flow, rings for 2 workers, profile balanced, 64 MiB per ring: 512 blocks of 128 KiB, handed over within 1 ms",
    ]);
  });

  test("that is wanted again keeps its rings", () => {
    const { refresh, host, lines } = setUp();
    for (let i = 0; i < 3; i += 1) expect(refresh("veth1")).toEqual([]);
    expect(host.opened).toHaveLength(1);
    expect(lines).toHaveLength(1);
  });

  test("that no rule wants any more gives a stale capture, closed by whoever knows that no worker reads it", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1", "veth5");
    const stale = refresh("veth5");
    expect(stale.flatMap(({ rings }) => rings)).toEqual([first]);
    expect([...ingresses.capturing.keys()]).toEqual(["veth5"]);
    expect(host.closed).toEqual([]);
    expect(host.filters.at(-1)).toEqual({ ring: first, ranges: [] });
    expect(ringsInTable(ingresses, stale)).toEqual([
      ["veth1", 0, [[first]]],
      ["veth5", 1, [[second]]],
    ]);
    expect(ringsInTable(ingresses)).toEqual([["veth5", 1, [[second]]]]);
    ingresses.close(stale);
    expect(host.closed).toEqual([first]);
    expect(refresh("veth5")).toEqual([]);
  });

  test("that is gone gives a stale capture, and captures again when it is back", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1");
    host.interfaces.delete("veth1");
    expect(refresh("veth1").flatMap(({ rings }) => rings)).toEqual([first]);
    expect(ingresses.capturing.size).toBe(0);
    expect(refresh("veth1")).toEqual([]);
    host.plug("veth1", 12);
    expect(refresh("veth1")).toEqual([]);
    expect(ringsInTable(ingresses)).toEqual([["veth1", 0, [[second]]]]);
    expect(host.opened.map(({ ifindex }) => ifindex)).toEqual([3, 12]);
  });

  test("that is another one of the same name is captured anew at once", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1");
    host.plug("veth1", 12);
    const stale = refresh("veth1");
    expect(stale.flatMap(({ rings }) => rings)).toEqual([first]);
    expect(ingresses.capturing.get("veth1")?.rings).toEqual([second]);
    // Until it is read to its end the ring of before is in the table as well, in the same slot.
    expect(ringsInTable(ingresses, stale)).toEqual([["veth1", 0, [[first], [second]]]]);
  });

  test("that goes down or loses its carrier keeps its rings", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1");
    for (const flags of [0, 0x1, upAndRunning]) {
      host.setFlags("veth1", flags);
      expect(refresh("veth1")).toEqual([]);
      expect(ingresses.capturing.get("veth1")?.rings).toEqual([first]);
    }
    expect(host.opened).toHaveLength(1);
  });

  test("that is not there yet waits without a failure", () => {
    const { refresh, ingresses } = setUp();
    refresh("veth9");
    expect(ingresses.failureOf("veth9")).toBeUndefined();
    expect(ingresses.hasFailure).toBe(false);
    expect(ingresses.capturing.size).toBe(0);
    expect(ingresses.statistics).toEqual([]);
  });
});

describe("counter slots", () => {
  test("stay with their interface when it goes, returns, or is not wanted for a while", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1", "veth5");
    refresh("veth5");
    host.plug("veth6", 9);
    refresh("veth5", "veth6");
    host.plug("veth1", 12);
    refresh("veth6", "veth1");
    expect(slotsOf(ingresses)).toEqual([
      ["veth1", 0],
      ["veth5", 1],
      ["veth6", 2],
    ]);
    expect(ringsInTable(ingresses).map(([name, slot]) => [name, slot])).toEqual([
      ["veth1", 0],
      ["veth6", 2],
    ]);
  });

  test("that are all taken leave the next interface failed, with the cure, and the others running", () => {
    const { refresh, ingresses, host } = setUp();
    const names = Array.from({ length: slotsMax + 1 }, (_, i) => `vlan${i}`);
    for (const [i, name] of names.entries()) host.plug(name, 100 + i);
    refresh(...names);
    expect(ingresses.capturing.size).toBe(slotsMax);
    expect(ingresses.capturing.has("vlan256")).toBe(false);
    expect(ingresses.failureOf("vlan256")).toBe(
      "more than 256 ingress interfaces: split the rules over two instances",
    );
    expect(ingresses.failureOf("vlan255")).toBeUndefined();
  });
});

describe("a capture that cannot be opened", () => {
  test.each([
    [
      "EPERM",
      "operation not permitted (EPERM); run as root, or give the process CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)",
    ],
    [
      "EACCES",
      "permission denied (EACCES); run as root, or give the process CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)",
    ],
    [
      "ENOMEM",
      "not enough memory (ENOMEM); the rings take 64 MiB for each worker and interface: set a smaller ring_bytes or fewer workers in [relay]",
    ],
    ["ENODEV", "no such device (ENODEV); check ip link show veth1"],
  ] as const)("with %s says what to do", (code, reason) => {
    const { refresh, ingresses, host } = setUp();
    host.refused.set(3, code);
    refresh("veth1");
    expect(ingresses.failureOf("veth1")).toBe(`cannot capture on veth1: ${reason}`);
    expect(ingresses.hasFailure).toBe(true);
  });

  test("harms no other interface, and has no statistics", () => {
    const { refresh, ingresses, host } = setUp();
    host.refused.set(3, "ENOMEM");
    refresh("veth1", "veth5");
    expect([...ingresses.capturing.keys()]).toEqual(["veth5"]);
    expect(ingresses.failureOf("veth5")).toBeUndefined();
    expect(slotsOf(ingresses)).toEqual([["veth5", 1]]);
  });

  test("leaves no ring open when only the second is refused", () => {
    const { refresh, ingresses, host } = setUp(2);
    host.failAt = 1;
    refresh("veth1");
    expect(host.closed).toEqual([first]);
    expect(ingresses.failureOf("veth1")).toContain("ENOMEM");
  });

  test("is tried again with the next refresh, and forgotten when it works", () => {
    const { refresh, ingresses, host } = setUp();
    host.refused.set(3, "ENOMEM");
    refresh("veth1");
    host.refused.clear();
    refresh("veth1");
    expect(ingresses.failureOf("veth1")).toBeUndefined();
    expect(ingresses.hasFailure).toBe(false);
    expect([...ingresses.capturing.keys()]).toEqual(["veth1"]);
  });

  test("is forgotten when no rule wants the interface any more", () => {
    const { refresh, ingresses, host } = setUp();
    host.refused.set(3, "ENOMEM");
    refresh("veth1");
    refresh();
    expect(ingresses.hasFailure).toBe(false);
  });

  test("for no reason of the system's is a defect and is not hidden", () => {
    const { refresh, host } = setUp();
    host.openRing = () => {
      throw new TypeError("not a system error");
    };
    expect(() => refresh("veth1")).toThrow("not a system error");
  });
});

describe("the filters", () => {
  test("admit on each interface the groups of its own rules", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1", "veth5");
    ingresses.admit([
      runningRule(ruleOf({ ingress: { interface: "veth1", group: "239.1.1.1", port: 1 } })),
      runningRule(ruleOf({ ingress: { interface: "veth5", group: "239.0.0.1-239.0.0.4", port: 1 } })),
      runningRule(ruleOf({ ingress: { interface: "veth1", group: "239.1.1.2", port: 1 } })),
    ]);
    expect(host.filters).toEqual([
      { ring: first, ranges: [{ first: 0xef01_0101, last: 0xef01_0102 }] },
      { ring: second, ranges: [{ first: 0xef00_0001, last: 0xef00_0004 }] },
    ]);
  });

  test("admit nothing where no rule is left", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1");
    ingresses.admit([runningRule(ruleOf({}))]);
    ingresses.admit([]);
    expect(host.filters.at(-1)).toEqual({ ring: first, ranges: [] });
  });

  test("that the kernel refuses leave the interface capturing, but not wholly", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1", "veth5");
    const rules = [runningRule(ruleOf({}))];
    const { filterRing } = host;
    host.filterRing = (...words) => {
      if (words[0] === first) throw systemError("ENOMEM");
      filterRing.apply(host, words);
    };
    ingresses.admit(rules);
    expect(ingresses.failureOf("veth1")).toStartWith("cannot set the filter on veth1: not enough memory");
    expect([...ingresses.capturing.keys()]).toEqual(["veth1", "veth5"]);
    expect([...ingresses.whollyCaptured]).toEqual([["veth5", 8]]);
    host.filterRing = filterRing;
    ingresses.admit(rules);
    expect([...ingresses.whollyCaptured]).toEqual([
      ["veth1", 3],
      ["veth5", 8],
    ]);
  });

  test("are set on new rings, also where the groups are those of before", () => {
    const { refresh, ingresses, host } = setUp();
    const rules = [runningRule(ruleOf({}))];
    refresh("veth1");
    ingresses.admit(rules);
    host.plug("veth1", 12);
    refresh("veth1");
    ingresses.admit(rules);
    const admitting = host.filters.filter(({ ranges }) => ranges.length > 0);
    expect(admitting.map(({ ring }) => ring)).toEqual([first, second]);
  });
});

describe("frames that found a ring full", () => {
  test("are added up for the interface and told with what to look at", () => {
    const { refresh, ingresses, host, lines } = setUp(2);
    refresh("veth1");
    host.drops.set(first, 40).set(second, 2);
    ingresses.look();
    ingresses.look();
    expect(ingresses.statistics).toEqual([{ name: "veth1", slot: 0, ringDropped: 42, reopened: 0 }]);
    expect(lines.slice(1)).toEqual([
      "<4>[Ingress] 42 frames on veth1 found the ring full: this host is too slow for the traffic (mcr stats shows the load of each worker)",
    ]);
  });

  test("are told once a minute for each interface, and counted always", () => {
    const { refresh, ingresses, host, recorded, lines } = setUp();
    refresh("veth1", "veth5");
    for (let i = 0; i < 3; i += 1) {
      host.drops.set(first, 10).set(second, 1);
      ingresses.look();
      recorded.clock.ms += 500;
    }
    expect(ingresses.statistics.map(({ ringDropped }) => ringDropped)).toEqual([30, 3]);
    expect(lines.filter((line) => line.startsWith("<4>"))).toHaveLength(2);
  });

  test("are no news when there are none", () => {
    const { refresh, ingresses, lines } = setUp();
    refresh("veth1");
    ingresses.look();
    ingresses.look();
    expect(lines).toHaveLength(1);
  });

  test("stay counted when the rings go, and grow on when they return", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1");
    host.drops.set(first, 6);
    ingresses.close(refresh());
    expect(ingresses.statistics).toEqual([{ name: "veth1", slot: 0, ringDropped: 6, reopened: 0 }]);
    refresh("veth1");
    host.drops.set(second, 7);
    ingresses.takeRingDrops();
    expect(ingresses.statistics).toEqual([{ name: "veth1", slot: 0, ringDropped: 13, reopened: 0 }]);
  });
});

describe("frames with an offload type that the kernel cannot describe", () => {
  test("are told as what they are, not as a host that is too slow", () => {
    let undescribed = 0;
    const { refresh, ingresses, host, lines } = setUp(1, settings, () => undescribed);
    refresh("veth1");
    host.drops.set(first, 3);
    ingresses.look();
    undescribed = 3; // the worker comes to see them after the kernel has counted them
    ingresses.look();
    expect(lines.slice(1)).toEqual([
      "<4>[Ingress] 3 frames on veth1 were lost: they have an offload type that the kernel cannot hand over (UDP fragmentation offload of an old guest); in the guest: ethtool -K eth0 ufo off; or host_ufo=off for its network card in QEMU",
    ]);
    undescribed = 4;
    host.drops.set(first, 3);
    ingresses.look();
    ingresses.look();
    expect(lines.at(-1)).toStartWith("<4>[Ingress] 2 frames on veth1 found the ring full");
  });
});

describe("a ring that only drops", () => {
  function looked(workerCount = 1) {
    const set = setUp(workerCount);
    set.refresh("veth1");
    /** As the relay does it twice a second. */
    const look = (drops: number) => {
      set.host.drops.set(first, drops);
      return set.ingresses.look();
    };
    return { ...set, look };
  }

  test("is opened anew after four looks in a row, counted and named", () => {
    const { look, refresh, ingresses, host, lines } = looked();
    expect([look(1), look(1), look(1)]).toEqual([false, false, false]);
    expect(look(1)).toBe(true);
    const stale = refresh("veth1");
    expect(stale.flatMap(({ rings }) => rings)).toEqual([first]);
    expect(ingresses.capturing.get("veth1")?.rings).toEqual([second]);
    ingresses.close(stale);
    expect(host.closed).toEqual([first]);
    expect(ingresses.statistics).toEqual([{ name: "veth1", slot: 0, ringDropped: 4, reopened: 1 }]);
    expect(ingresses.look()).toBe(false);
    expect(lines).toContain(
      "<3>[Ingress] a ring on veth1 lost every frame, and no worker could take any from it: the rings are opened anew",
    );
  });

  test("is forgotten when its interface goes", () => {
    const { look, refresh, ingresses, host } = looked();
    for (let i = 0; i < 4; i += 1) look(1);
    host.interfaces.delete("veth1");
    refresh("veth1");
    expect(ingresses.look()).toBe(false);
  });

  test("is not one that a worker takes from, however slowly", () => {
    const { look, host } = looked();
    for (let i = 1; i <= 12; i += 1) {
      if (i % 4 === 0) host.taken.set(first, i);
      expect(look(100)).toBe(false);
    }
  });

  test("is not one that has stopped dropping: nothing comes, or the host stood still", () => {
    const { look } = looked();
    expect([look(1), look(0), look(0), look(1), look(0), look(1), look(0)]).not.toContain(true);
  });

  test("is found among the rings of several workers", () => {
    const { look, host, refresh } = looked(2);
    for (let i = 1; i <= 4; i += 1) {
      host.taken.set(second, i);
      expect(look(1)).toBe(i === 4);
    }
    expect(refresh("veth1").flatMap(({ rings }) => rings)).toEqual([first, second]);
  });
});

describe("frames left unread in rings that go", () => {
  test("are counted with those that found the rings full, and told", () => {
    const { refresh, ingresses, host, lines } = setUp(2);
    refresh("veth1");
    host.drops.set(first, 5);
    host.unread.set(first, 30).set(second, 2);
    ingresses.close(refresh());
    expect(ingresses.statistics).toEqual([{ name: "veth1", slot: 0, ringDropped: 37, reopened: 0 }]);
    expect(host.closed).toEqual([first, second]);
    expect(lines.slice(1)).toEqual([
      "<4>[Ingress] 32 frames on veth1 were left unread when its rings went: this host is too slow for the traffic",
    ]);
  });

  test("are counted at the stop as well, where nothing is closed", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1");
    host.unread.set(first, 3);
    ingresses.countUnread([...ingresses.capturing.values()]);
    expect(ingresses.statistics).toEqual([{ name: "veth1", slot: 0, ringDropped: 3, reopened: 0 }]);
    expect(host.closed).toEqual([]);
  });

  test("may be of rings whose filter the kernel did not change: the others are closed all the same", () => {
    const { refresh, ingresses, host } = setUp();
    refresh("veth1", "veth5");
    host.filterRing = () => {
      throw systemError("ENOMEM");
    };
    const stale = refresh();
    expect(stale.flatMap(({ rings }) => rings)).toEqual([first, second]);
    host.unread.set(first, 1);
    ingresses.close(stale);
    expect(ingresses.statistics.map(({ ringDropped }) => ringDropped)).toEqual([1, 0]);
  });
});
