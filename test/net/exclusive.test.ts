// Which streams are dropped behind the ring, by what means, and when: entries, exceptions, order, refusals.

import { expect, test } from "bun:test";
import type { ExclusiveEntry, ExclusiveHandle, ExclusiveMethod } from "../../src/native/shim.ts";
import {
  commonList,
  type DropList,
  dropList,
  type ExclusiveShim,
  Exclusives,
  probeExclusive,
} from "../../src/net/exclusive.ts";
import { type ErrnoName, recordedLog, ruleOf, runningRule, systemError } from "../support/fakes.ts";

const veth1 = new Map([["veth1", 3]]);

function running(name: string, ingress: Readonly<Record<string, unknown>>) {
  return runningRule(ruleOf({ name, ingress: { interface: "veth1", group: "239.1.1.1", ...ingress } }));
}
const exclusive = { exclusive: true };

/** `239.1.1.1 * port 5001 drop`, in order. */
function lines(list: DropList): readonly string[] {
  return [...list].map(([key, { drops }]) => `${key} ${drops === 1 ? "drop" : "pass"}`).sort();
}

class FakeExclusives implements ExclusiveShim {
  readonly refusals = new Map<ExclusiveMethod | "set", ErrnoName>();
  /** What happened, in order: `open 3 tcx`, `set 2`, `close`. */
  readonly calls: string[] = [];

  openExclusive(ifindex: number, method: ExclusiveMethod): ExclusiveHandle {
    const refusal = this.refusals.get(method);
    if (refusal) throw systemError(refusal);
    this.calls.push(`open ${ifindex} ${method}`);
    return handle(ifindex);
  }
  setExclusive(_: ExclusiveHandle, entries: readonly ExclusiveEntry[]): void {
    const refusal = this.refusals.get("set");
    if (refusal) throw systemError(refusal);
    this.calls.push(`set ${entries.length}`);
  }
  closeExclusive(): void {
    this.calls.push("close");
  }
}

function isHandle(value: number): value is ExclusiveHandle {
  return value > 0;
}
function handle(value: number): ExclusiveHandle {
  if (!isHandle(value)) throw new Error(`${value} is no handle`);
  return value;
}

function exclusives() {
  const shim = new FakeExclusives();
  const { log, lines } = recordedLog();
  return { shim, lines, exclusives: new Exclusives(shim, log) };
}

test("a rule that is exclusive drops its streams; one beside it is not listed", () => {
  const rules = [
    running("a", { ...exclusive, group: "239.1.1.1-239.1.1.2", port: "5001-5002" }),
    running("b", { group: "239.1.1.3", port: 5003 }),
    running("c", { ...exclusive, group: "232.1.1.1", port: 5001, source: ["10.0.0.1", "10.0.0.2"] }),
  ];
  expect(lines(dropList(rules))).toEqual([
    "232.1.1.1 10.0.0.1 port 5001 drop",
    "232.1.1.1 10.0.0.2 port 5001 drop",
    "239.1.1.1 * port 5001 drop",
    "239.1.1.2 * port 5002 drop",
  ]);
});

test("every port of a group drops its fragments as well", () => {
  expect(lines(dropList([running("a", exclusive)]))).toEqual([
    "239.1.1.1 * anyPort 0 drop",
    "239.1.1.1 * fragment 0 drop",
  ]);
});

test("a narrower rule that is not exclusive is an exception, and then fragments pass", () => {
  expect(lines(dropList([running("a", exclusive), running("b", { port: 5001 })]))).toEqual([
    "239.1.1.1 * anyPort 0 drop",
    "239.1.1.1 * port 5001 pass",
  ]);
});

test("between two lists only what both drop is dropped, and what either passes is passed", () => {
  const before = dropList([running("a", exclusive), running("b", { ...exclusive, group: "239.1.1.2" })]);
  const after = dropList([running("a", exclusive), running("c", { port: 5001 })]);
  expect(lines(commonList(before, after))).toEqual([
    "239.1.1.1 * anyPort 0 drop",
    "239.1.1.1 * port 5001 pass",
  ]);
});

test("opens an interface once, sets only what has changed, and closes with its last exclusive rule", () => {
  const { shim, lines, exclusives: all } = exclusives();
  const a = running("a", { ...exclusive, port: 5001 });
  const b = running("b", { ...exclusive, port: 5002 });
  all.withdraw([a], veth1);
  all.apply([a], veth1);
  expect(all.stateOf(a)).toEqual({ state: "tcx", reason: null });
  expect(lines).toEqual(["<6>[Ingress] exclusive on veth1 by tcx"]);
  all.withdraw([a, b], veth1);
  all.apply([a, b], veth1);
  all.withdraw([b], veth1);
  expect(shim.calls).toEqual(["open 3 tcx", "set 1", "set 2", "set 1"]);
  all.apply([b], veth1);
  all.withdraw([running("b", { port: 5002 })], veth1);
  all.apply([running("b", { port: 5002 })], veth1);
  expect(shim.calls.slice(4)).toEqual(["close"]);
});

test("an interface that vanishes is closed before the table is; back again, it is opened anew", () => {
  const { shim, exclusives: all } = exclusives();
  const a = running("a", { ...exclusive, port: 5001 });
  all.apply([a], veth1);
  all.withdraw([a], new Map());
  expect(shim.calls).toEqual(["open 3 tcx", "set 1", "close"]);
  all.apply([a], new Map());
  expect(all.stateOf(a).state).toBe("waiting");
  all.apply([a], new Map([["veth1", 9]]));
  expect(shim.calls.slice(3)).toEqual(["open 9 tcx", "set 1"]);
  all.withdraw([a], new Map([["veth1", 11]])); // came back within one reading
  expect(shim.calls.slice(5)).toEqual(["close"]);
});

test("takes nftables where tcx cannot be had", () => {
  const { shim, lines, exclusives: all } = exclusives();
  shim.refusals.set("tcx", "EINVAL");
  const a = running("a", { ...exclusive, port: 5001 });
  all.apply([a], veth1);
  expect(all.stateOf(a)).toEqual({ state: "nft", reason: null });
  expect(lines).toEqual(["<6>[Ingress] exclusive on veth1 by nft"]);
});

const refusals: readonly (readonly [ErrnoName, string])[] = [
  [
    "EPERM",
    "run as root, or give the process CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN), or leave exclusive out",
  ],
  [
    "EOPNOTSUPP",
    "the kernel needs tcx (Linux 6.6) or nftables with netdev tables (Linux 5.12), or leave exclusive out",
  ],
];

test.each(refusals)("where neither can be had (%s) it says so once, with the cure", (errno, cure) => {
  const { shim, lines, exclusives: all } = exclusives();
  shim.refusals.set("tcx", errno).set("nft", errno);
  const a = running("a", { ...exclusive, port: 5001 });
  all.apply([a], veth1);
  all.apply([a], veth1);
  const { message } = systemError(errno);
  const reason = `ingress veth1 is relayed, but not exclusive: tcx: ${message}, nft: ${message}; ${cure}`;
  expect(all.stateOf(a)).toEqual({ state: "refused", reason });
  expect(lines).toEqual([`<4>[Ingress] ${reason}`]);
  shim.refusals.clear();
  all.apply([a], veth1);
  expect(all.stateOf(a)).toEqual({ state: "tcx", reason: null });
});

test("where the kernel has no nftables, and tcx is not permitted, it names what tcx needs", () => {
  const { shim, lines, exclusives: all } = exclusives();
  shim.refusals.set("tcx", "EPERM").set("nft", "EOPNOTSUPP");
  all.apply([running("a", { ...exclusive, port: 5001 })], veth1);
  expect(lines).toEqual([
    `<4>[Ingress] ingress veth1 is relayed, but not exclusive: tcx: ${systemError("EPERM").message}, nft: ${systemError("EOPNOTSUPP").message}; nftables with netdev tables (Linux 5.12) is not there, and tcx (Linux 6.6) needs more: run as root, or give the process CAP_BPF and CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF), or leave exclusive out`,
  ]);
});

test("entries that the kernel does not take leave nothing dropped", () => {
  const { shim, exclusives: all } = exclusives();
  const a = running("a", { ...exclusive, port: 5001 });
  const b = running("b", { ...exclusive, port: 5002 });
  all.apply([a], veth1);
  shim.refusals.set("set", "ENOMEM");
  all.apply([a, b], veth1);
  expect(shim.calls).toEqual(["open 3 tcx", "set 1", "close"]);
  expect(all.stateOf(a).reason).toContain("tcx: not enough memory (ENOMEM); free some memory and reload");
});

test("the probe tells the first method that works, or why none does", () => {
  const works = (method: ExclusiveMethod) => (tried: ExclusiveMethod) => {
    if (tried !== method) throw systemError("EPERM");
  };
  expect(probeExclusive({ probeExclusive: works("tcx") })).toEqual({ method: "tcx" });
  expect(probeExclusive({ probeExclusive: works("nft") })).toEqual({ method: "nft" });
  const none = probeExclusive({
    probeExclusive: () => {
      throw systemError("EPERM");
    },
  });
  expect(none).toMatchObject({ refusal: expect.stringContaining("CAP_NET_ADMIN") });
});
