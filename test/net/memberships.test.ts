// Memberships against a kernel that keeps the kernel's limits: pooling, failures and their retries, users, proof.

import { describe, expect, test } from "bun:test";
import type { InterfaceState, Unusable } from "../../src/net/interfaces.ts";
import { type Membership, Memberships, membershipKey } from "../../src/net/memberships.ts";
import { RunningRule } from "../../src/net/running.ts";
import { type Interfaces, wantedMemberships } from "../../src/net/wanted.ts";
import { Random } from "../config/random.ts";
import { FakeMembers, interfaceState, recordedLog, ruleOf, startMs } from "../support/fakes.ts";

const names = new Map([
  [3, "veth1"],
  [4, "veth2"],
  [9, "veth1"],
]);

interface SetUp {
  readonly shim?: FakeMembers;
  /** False: /proc/net/igmp cannot be read. */
  readonly isListed?: boolean;
}

function setUp({ shim = new FakeMembers(), isListed = true }: SetUp = {}) {
  const recorded = recordedLog();
  const { clock } = recorded;
  /** How many joins had been asked for at each pause. */
  const pauses: number[] = [];
  const changes: string[] = [];
  const memberships = new Memberships({
    shim,
    log: recorded.log,
    clock,
    pause: async () => void pauses.push(shim.calls.length),
    joinedGroups: () => (isListed ? shim.listed(names) : undefined),
    onChange: (change, { group }, reason) =>
      void changes.push(`${change} ${group}${reason === undefined ? "" : `: ${reason}`}`),
  });
  const want = async (...memberOf: readonly (readonly [Membership, ...string[]])[]) => {
    memberships.want(
      new Map(
        memberOf.map(([membership, ...users]) => [
          membershipKey(membership),
          { membership, users: new Set(users) },
        ]),
      ),
    );
    await memberships.settle();
  };
  return { shim, memberships, want, clock, pauses, changes, lines: recorded.lines };
}

function on(ifindex: number, group: string, source?: string): Membership {
  const where = { interface: names.get(ifindex) ?? "", ifindex, group };
  return source === undefined ? where : { ...where, source };
}

/** `count` memberships of one user: 239.1.0.0, 239.1.0.1 … on veth1. */
function groups(count: number, user = "wall"): readonly (readonly [Membership, string])[] {
  return Array.from({ length: count }, (_, i) => [on(3, `239.1.${i >> 8}.${i & 255}`), user]);
}

/** `count` sources of one group. */
function sources(count: number, group = "232.1.1.1"): readonly (readonly [Membership, string])[] {
  return Array.from({ length: count }, (_, i) => [on(3, group, `10.0.0.${i + 1}`), "ssm"]);
}

const joinsOf = (shim: FakeMembers) => shim.calls.filter((call) => call.startsWith("join"));
const leavesOf = (shim: FakeMembers) => shim.calls.filter((call) => call.startsWith("leave"));

function failureOf(memberships: Memberships, membership: Membership): string {
  const state = memberships.stateOf(membership);
  return typeof state === "string" ? state : state.reason;
}

describe("what is joined", () => {
  test("is listed with who counts on it, and every change is told as it happens", async () => {
    const { want, memberships, changes } = setUp();
    await want([on(3, "239.1.1.1"), "a", "b"], [on(3, "232.1.1.1", "10.0.0.1"), "ssm"]);
    expect(memberships.list()).toEqual([
      { membership: on(3, "239.1.1.1"), state: "joined", users: new Set(["a", "b"]) },
      { membership: on(3, "232.1.1.1", "10.0.0.1"), state: "joined", users: new Set(["ssm"]) },
    ]);
    await want([on(3, "239.1.1.1"), "a"]);
    expect(memberships.list()).toHaveLength(1);
    expect(changes).toEqual(["joined 239.1.1.1", "joined 232.1.1.1", "left 232.1.1.1"]);
  });
});

describe("joining", () => {
  test("is said in one line with the group, the interface and the total", async () => {
    const { want, lines } = setUp();
    await want([on(3, "239.1.1.1"), "a"], [on(3, "239.1.1.2"), "b"]);
    expect(lines).toEqual([
      "<6>[Ingress] IGMP join successful: 239.1.1.1 on veth1 (total groups: 1)",
      "<6>[Ingress] IGMP join successful: 239.1.1.2 on veth1 (total groups: 2)",
    ]);
  });

  test("from a source names the source", async () => {
    const { want, lines, shim } = setUp();
    await want([on(3, "232.1.1.1", "10.10.1.100"), "a"]);
    expect(lines).toEqual([
      "<6>[Ingress] IGMP join successful: 232.1.1.1 from 10.10.1.100 on veth1 (total groups: 1)",
    ]);
    expect(shim.calls).toEqual(["join 3 232.1.1.1 10.10.1.100"]);
  });

  test("happens in settle, and the state tells before and after", async () => {
    const { memberships } = setUp();
    const membership = on(3, "239.1.1.1");
    memberships.want(new Map([[membershipKey(membership), { membership, users: new Set(["a"]) }]]));
    expect(memberships.stateOf(membership)).toBe("joining");
    expect(memberships.activeGroups).toBe(0);
    await memberships.settle();
    expect(memberships.stateOf(membership)).toBe("joined");
    expect(memberships.activeGroups).toBe(1);
  });

  test("happens once, however often it is wanted", async () => {
    const { want, shim, memberships } = setUp();
    for (let i = 0; i < 3; i += 1) await want([on(3, "239.1.1.1"), "a"]);
    await memberships.settle();
    expect(shim.calls).toEqual(["join 3 239.1.1.1 *"]);
  });

  test("one group on two interfaces is two memberships on sockets of their own", async () => {
    const { want, shim, memberships } = setUp();
    await want([on(3, "239.1.1.1"), "a"], [on(4, "239.1.1.1"), "b"]);
    expect(joinsOf(shim)).toEqual(["join 3 239.1.1.1 *", "join 4 239.1.1.1 *"]);
    expect(shim.groupsPerSocket).toEqual([1, 1]);
    expect(memberships.activeGroups).toBe(2);
  });

  test("pauses after each 50 joins", async () => {
    const { want, pauses } = setUp();
    await want(...groups(120));
    expect(pauses).toEqual([50, 100]);
    await want(...groups(170));
    expect(pauses).toEqual([50, 100, 170]);
  });

  test("5,000 groups settle on 250 sockets, each asked for once", async () => {
    const { want, shim, memberships } = setUp();
    await want(...groups(5000));
    expect(shim.calls).toHaveLength(5000);
    expect(memberships.activeGroups).toBe(5000);
    expect(memberships.statistics).toEqual({ attempted: 5000, succeeded: 5000, failed: 0 });
    expect(shim.sockets.size).toBe(250);
    await want();
    expect(shim.sockets.size).toBe(0);
  });
});

describe("the sockets of an interface", () => {
  test("take 20 groups each, then the next is opened", async () => {
    const { want, shim } = setUp();
    await want(...groups(20));
    expect(shim.groupsPerSocket).toEqual([20]);
    await want(...groups(50));
    expect(shim.groupsPerSocket).toEqual([20, 20, 10]);
  });

  test("that the kernel fills at 7 are left for another, and every group is joined", async () => {
    const shim = new FakeMembers();
    shim.groupsMax = 7;
    const { want, memberships, lines } = setUp({ shim });
    await want(...groups(20));
    expect(shim.groupsPerSocket).toEqual([7, 7, 6]);
    expect(memberships.statistics).toEqual({ attempted: 20, succeeded: 20, failed: 0 });
    expect(lines.filter((line) => !line.includes("join successful"))).toEqual([]);
  });

  test("that are full are not asked again for every group", async () => {
    const shim = new FakeMembers();
    shim.groupsMax = 7;
    const { want } = setUp({ shim });
    await want(...groups(70));
    // 70 joins, and one refusal for each of the nine sockets that had filled.
    expect(joinsOf(shim)).toHaveLength(79);
  });

  test("take 10 sources of one group; the next source goes to the next socket", async () => {
    const { want, shim, memberships } = setUp();
    await want(...sources(25));
    expect(
      [...shim.sockets.values()].map((held) => [...held.values()].map((of) => new Set(of).size)),
    ).toEqual([[10], [10], [5]]);
    expect(memberships.statistics).toEqual({ attempted: 25, succeeded: 25, failed: 0 });
  });

  test("take no more than that where the kernel would", async () => {
    const shim = new FakeMembers();
    shim.groupsMax = 100;
    shim.sourcesMax = 100;
    const { want } = setUp({ shim });
    await want(...groups(21), ...sources(11, "239.1.0.0"));
    expect(shim.groupsPerSocket).toEqual([20, 2, 1]);
  });

  test("that the kernel fills at 4 sources are left for another", async () => {
    const shim = new FakeMembers();
    shim.sourcesMax = 4;
    const { want, memberships } = setUp({ shim });
    await want(...sources(10));
    expect(memberships.statistics).toEqual({ attempted: 10, succeeded: 10, failed: 0 });
    expect(shim.sockets.size).toBe(3);
  });

  test("do not hold one group from any source and from named ones together", async () => {
    const { want, shim, memberships } = setUp();
    await want(
      [on(3, "239.1.1.1"), "any"],
      [on(3, "239.1.1.1", "10.0.0.1"), "one"],
      [on(3, "239.1.1.1", "10.0.0.2"), "two"],
    );
    expect([...shim.sockets.values()].map((held) => held.get("3 239.1.1.1"))).toEqual([
      "any",
      new Set(["10.0.0.1", "10.0.0.2"]),
    ]);
    expect(memberships.statistics.failed).toBe(0);
  });

  test("hold them apart in the other order too", async () => {
    const { want, shim } = setUp();
    await want([on(3, "239.1.1.1", "10.0.0.1"), "one"], [on(3, "239.1.1.1"), "any"]);
    expect([...shim.sockets.values()].map((held) => held.get("3 239.1.1.1"))).toEqual([
      new Set(["10.0.0.1"]),
      "any",
    ]);
  });

  test("have room again after a leave", async () => {
    const { want, shim } = setUp();
    const all = groups(40);
    await want(...all);
    await want(...all.slice(1));
    await want(...all.slice(1), [on(3, "239.9.9.9"), "new"]);
    expect(shim.opened).toBe(2);
    expect(shim.groupsPerSocket).toEqual([20, 20]);
  });

  test("that the kernel had filled have room again after a leave", async () => {
    const shim = new FakeMembers();
    shim.groupsMax = 7;
    const { want } = setUp({ shim });
    const all = groups(14);
    await want(...all);
    await want(...all.slice(1));
    await want(...all.slice(1), [on(3, "239.9.9.9"), "new"]);
    expect(shim.groupsPerSocket).toEqual([7, 7]);
  });

  test("are closed when the last group is left, and only then", async () => {
    const { want, shim } = setUp();
    const all = groups(21);
    await want(...all);
    await want(...all.slice(0, 20));
    expect(shim.groupsPerSocket).toEqual([20]);
    await want(...all.slice(0, 1));
    expect(shim.groupsPerSocket).toEqual([1]);
    await want();
    expect(shim.groupsPerSocket).toEqual([]);
    expect(shim.opened).toBe(2);
  });

  test("keep a group until its last source is left", async () => {
    const { want, shim } = setUp();
    const all = sources(3);
    await want(...all);
    await want(...all.slice(2));
    expect([...shim.sockets.values()].map((held) => held.get("3 232.1.1.1"))).toEqual([
      new Set(["10.0.0.3"]),
    ]);
    await want();
    expect(shim.sockets.size).toBe(0);
  });
});

describe("the rules that use a membership", () => {
  test("share one join", async () => {
    const { want, shim, memberships } = setUp();
    await want([on(3, "239.1.1.1"), "a", "b"]);
    expect(shim.calls).toEqual(["join 3 239.1.1.1 *"]);
    expect(memberships.statistics).toEqual({ attempted: 1, succeeded: 1, failed: 0 });
  });

  test("may change without the group being left or joined", async () => {
    const { want, shim, memberships } = setUp();
    await want([on(3, "239.1.1.1"), "a", "b"]);
    await want([on(3, "239.1.1.1"), "b"]);
    await want([on(3, "239.1.1.1"), "c"]);
    expect(shim.calls).toEqual(["join 3 239.1.1.1 *"]);
    expect(memberships.stateOf(on(3, "239.1.1.1"))).toBe("joined");
  });

  test("leave the group when the last of them goes", async () => {
    const { want, shim, memberships, lines } = setUp();
    await want([on(3, "239.1.1.1"), "a", "b"], [on(3, "239.1.1.2"), "a"]);
    await want([on(3, "239.1.1.1"), "b"]);
    expect(leavesOf(shim)).toEqual(["leave 3 239.1.1.2 *"]);
    await want();
    expect(leavesOf(shim)).toEqual(["leave 3 239.1.1.2 *", "leave 3 239.1.1.1 *"]);
    expect(memberships.activeGroups).toBe(0);
    expect(lines.slice(2)).toEqual([
      "<6>[Ingress] IGMP leave: 239.1.1.2 on veth1",
      "<6>[Ingress] IGMP leave: 239.1.1.1 on veth1",
    ]);
  });

  test("a leave from a source names the source, as its join did", async () => {
    const { want, lines } = setUp();
    await want([on(3, "232.1.1.1", "10.10.1.100"), "a"]);
    await want();
    expect(lines.at(-1)).toBe("<6>[Ingress] IGMP leave: 232.1.1.1 from 10.10.1.100 on veth1");
  });

  test("join before they leave, so that nothing waits for a leave", async () => {
    const { want, shim } = setUp();
    await want([on(3, "239.1.1.1"), "a"]);
    await want([on(3, "239.1.1.2"), "a"]);
    expect(shim.calls).toEqual(["join 3 239.1.1.1 *", "join 3 239.1.1.2 *", "leave 3 239.1.1.1 *"]);
  });

  test("that come and go before anything settles cost no join", async () => {
    const { memberships, shim } = setUp();
    const membership = on(3, "239.1.1.1");
    memberships.want(new Map([[membershipKey(membership), { membership, users: new Set(["a"]) }]]));
    memberships.want(new Map());
    await memberships.settle();
    expect(shim.calls).toEqual([]);
  });

  test("that go and return before anything settles keep the group", async () => {
    const { memberships, want, shim } = setUp();
    await want([on(3, "239.1.1.1"), "a"]);
    memberships.want(new Map());
    await want([on(3, "239.1.1.1"), "a"]);
    expect(shim.calls).toEqual(["join 3 239.1.1.1 *"]);
  });

  test("are counted from the running rules themselves, a range as its groups", () => {
    const interfaces: Interfaces = new Map<string, InterfaceState | Unusable>([
      ["veth1", interfaceState({ name: "veth1", ifindex: 3 })],
      ["veth7", { name: "veth7", unusable: "interface veth7 does not exist" }],
    ]);
    const rules = [
      ruleOf({ name: "a", ingress: { interface: "veth1", group: "239.1.1.1-239.1.1.2", port: 5001 } }),
      ruleOf({ name: "b", ingress: { interface: "veth1", group: "239.1.1.1", port: 5002 } }),
      ruleOf({ name: "c", ingress: { interface: "veth1", group: "239.1.1.1", source: ["10.0.0.1"] } }),
      ruleOf({ name: "d", ingress: { interface: "veth7", group: "239.1.1.1", port: 5001 } }),
    ];
    const wanted = wantedMemberships(
      rules.map((rule) => new RunningRule(rule, 0, [], startMs)),
      interfaces,
    );
    expect([...wanted.values()]).toEqual([
      { membership: on(3, "239.1.1.1"), users: new Set(["a", "b"]) },
      { membership: on(3, "239.1.1.2"), users: new Set(["a"]) },
      { membership: on(3, "239.1.1.1", "10.0.0.1"), users: new Set(["c"]) },
    ]);
  });
});

describe("a join that fails", () => {
  function limited() {
    const shim = new FakeMembers();
    shim.refused.set("239.1.1.13", "ENOBUFS");
    return setUp({ shim });
  }
  const bad = on(3, "239.1.1.13");

  test("on a fresh socket says which group, where, why, the cure, for whom, and when it is tried again", async () => {
    const { want, lines, memberships, clock } = limited();
    await want([bad, "studio-a", "wall"]);
    const reason =
      "cannot join 239.1.1.13 on veth1: no buffer space available (ENOBUFS); a fresh socket takes no group: raise net.ipv4.igmp_max_memberships (sysctl -w net.ipv4.igmp_max_memberships=20) or net.core.optmem_max";
    expect(lines).toEqual([`<3>[Ingress] ${reason} (rule "studio-a", "wall"; next try in 1 s)`]);
    expect(memberships.stateOf(bad)).toEqual({ reason, retryAtMs: clock.ms + 1000 });
  });

  test("closes the socket it was tried on and leaves the others' groups alone", async () => {
    const { want, shim, memberships } = limited();
    await want([on(3, "239.1.1.1"), "a"], [bad, "b"], [on(3, "239.1.1.2"), "c"]);
    expect(memberships.stateOf(on(3, "239.1.1.1"))).toBe("joined");
    expect(memberships.stateOf(on(3, "239.1.1.2"))).toBe("joined");
    expect(failureOf(memberships, bad)).toContain("ENOBUFS");
    expect(memberships.statistics).toEqual({ attempted: 3, succeeded: 2, failed: 1 });
    expect(memberships.activeGroups).toBe(2);
    expect(shim.groupsPerSocket.reduce((sum, count) => sum + count, 0)).toBe(2);
    expect(shim.groupsPerSocket).not.toContain(0);
  });

  test("is tried again after 1, 2, 4 … seconds, 60 at most", async () => {
    const { want, memberships, clock, lines } = limited();
    await want([bad, "b"]);
    const waited: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      const nextMs = memberships.nextRetryMs;
      if (nextMs === undefined) throw new Error("a failed join has a next try");
      waited.push((nextMs - clock.ms) / 1000);
      clock.ms = nextMs - 1;
      await memberships.settle();
      expect(memberships.statistics.attempted).toBe(i + 1);
      clock.ms = nextMs;
      await memberships.settle();
      expect(memberships.statistics.attempted).toBe(i + 2);
    }
    expect(waited).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    expect(lines.map((line) => /next try in (\d+) s/.exec(line)?.[1])).toEqual([
      "1",
      "2",
      "4",
      "8",
      "16",
      "32",
      "60",
      "60",
      "60",
      "60",
    ]);
  });

  test("that works at last is joined, and forgets its failures", async () => {
    const { want, shim, memberships, clock } = limited();
    await want([bad, "b"]);
    clock.ms += 1000;
    await memberships.settle();
    shim.refused.clear();
    clock.ms += 2000;
    await memberships.settle();
    expect(memberships.stateOf(bad)).toBe("joined");
    expect(memberships.nextRetryMs).toBeUndefined();
    expect(memberships.statistics).toEqual({ attempted: 3, succeeded: 1, failed: 2 });
    await want();
    shim.refused.set("239.1.1.13", "ENOBUFS");
    await want([bad, "b"]);
    expect(memberships.nextRetryMs).toBe(clock.ms + 1000);
  });

  test("is tried again in time, whatever the time of day is set to meanwhile", async () => {
    const { want, memberships, clock } = limited();
    await want([bad, "b"]);
    clock.setByMs -= 3_600_000;
    const { attempted } = memberships.statistics;
    clock.ms += 999;
    await memberships.settle();
    expect(memberships.statistics.attempted).toBe(attempted);
    clock.ms += 1;
    await memberships.settle();
    expect(memberships.statistics.attempted).toBe(attempted + 1);
    expect(memberships.stateOf(bad)).toMatchObject({ retryAtMs: clock.nowMs() + 2_000 });
  });

  test("that nobody wants any more is not tried again", async () => {
    const { want, memberships, clock, shim } = limited();
    await want([bad, "b"]);
    await want();
    expect(memberships.nextRetryMs).toBeUndefined();
    clock.ms += 3_600_000;
    await memberships.settle();
    expect(shim.calls).toEqual(["join 3 239.1.1.13 *"]);
  });

  test("from a source names the source", async () => {
    const { want, shim, memberships } = limited();
    shim.refused.set("232.1.1.1", "EACCES");
    await want([on(3, "232.1.1.1", "10.10.1.100"), "b"]);
    expect(failureOf(memberships, on(3, "232.1.1.1", "10.10.1.100"))).toBe(
      "cannot join 232.1.1.1 from 10.10.1.100 on veth1: permission denied (EACCES); check ip maddress show dev veth1",
    );
  });

  test.each([
    ["ENODEV", "veth1 takes no IPv4 groups: check ip link show veth1 and give it an address"],
    ["EMFILE", "raise the limit of open files (ulimit -n, LimitNOFILE=)"],
    ["EINVAL", "check ip maddress show dev veth1"],
  ] as const)("with %s says what cures that", async (code, cure) => {
    const { want, shim, memberships } = limited();
    shim.refused.set("239.1.1.7", code);
    await want([on(3, "239.1.1.7"), "b"]);
    expect(failureOf(memberships, on(3, "239.1.1.7"))).toContain(`(${code}); ${cure}`);
  });

  test("for another reason than a limit is not tried on every socket", async () => {
    const { want, shim } = limited();
    shim.refused.set("239.7.7.7", "EINVAL");
    await want(...groups(30), [on(3, "239.7.7.7"), "b"]);
    expect(shim.calls.filter((call) => call.includes("239.7.7.7"))).toHaveLength(1);
  });

  test("for no reason of the system's is a defect and is not hidden", async () => {
    const { memberships, shim } = setUp();
    shim.join = () => {
      throw new TypeError("not a system error");
    };
    const membership = on(3, "239.1.1.1");
    memberships.want(new Map([[membershipKey(membership), { membership, users: new Set(["a"]) }]]));
    await expect(memberships.settle()).rejects.toThrow("not a system error");
  });
});

describe("a join the kernel does not list", () => {
  const ghost = on(3, "239.1.1.66");
  function haunted(isListed = true) {
    const shim = new FakeMembers();
    shim.unlisted.add("239.1.1.66");
    return setUp({ shim, isListed });
  }

  test("is no join: it failed, and is tried again", async () => {
    const { want, memberships, lines, clock, shim } = haunted();
    await want([on(3, "239.1.1.1"), "a"], [ghost, "b"]);
    const reason =
      "cannot join 239.1.1.66 on veth1: /proc/net/igmp does not list it; check ip maddress show dev veth1";
    expect(memberships.stateOf(ghost)).toEqual({ reason, retryAtMs: clock.ms + 1000 });
    expect(lines.at(-1)).toBe(`<3>[Ingress] ${reason} (rule "b"; next try in 1 s)`);
    expect(memberships.stateOf(on(3, "239.1.1.1"))).toBe("joined");
    expect(memberships.statistics).toEqual({ attempted: 2, succeeded: 1, failed: 1 });
    expect(memberships.activeGroups).toBe(1);
    shim.unlisted.clear();
    clock.ms += 1000;
    await memberships.settle();
    expect(memberships.stateOf(ghost)).toBe("joined");
    expect(memberships.statistics).toEqual({ attempted: 3, succeeded: 2, failed: 1 });
    expect(memberships.activeGroups).toBe(2);
  });

  test("is tried again ever more rarely", async () => {
    const { want, memberships, clock } = haunted();
    await want([ghost, "b"]);
    const waited: number[] = [];
    for (let i = 0; i < 8; i += 1) {
      const nextMs = memberships.nextRetryMs ?? Number.NaN;
      waited.push((nextMs - clock.ms) / 1000);
      clock.ms = nextMs;
      await memberships.settle();
    }
    expect(waited).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
  });

  test("leaves no socket behind, and is not left a second time", async () => {
    const { want, shim } = haunted();
    await want([ghost, "b"]);
    expect(shim.sockets.size).toBe(0);
    await want();
    expect(shim.calls).toEqual(["join 3 239.1.1.66 *", "leave 3 239.1.1.66 *"]);
  });

  test("is taken on trust where the list cannot be read", async () => {
    const { want, memberships } = haunted(false);
    await want([ghost, "b"]);
    expect(memberships.stateOf(ghost)).toBe("joined");
  });

  test("on another interface does not count as listed", async () => {
    const { want, memberships, shim } = setUp();
    shim.unlisted.add("239.1.1.1");
    const listed = shim.listed.bind(shim);
    shim.listed = (of) => new Map([...listed(of), ["veth2", new Set(["239.1.1.1"])]]);
    await want([on(3, "239.1.1.1"), "a"]);
    expect(failureOf(memberships, on(3, "239.1.1.1"))).toContain("does not list it");
  });
});

describe("an interface that goes", () => {
  test("takes its memberships along: leaving them is no error", async () => {
    const { want, shim, memberships, lines } = setUp();
    await want([on(3, "239.1.1.1"), "a"], [on(3, "232.1.1.1", "10.0.0.1"), "a"], [on(4, "239.1.1.1"), "b"]);
    shim.gone.add(3);
    await want([on(4, "239.1.1.1"), "b"]);
    expect(memberships.activeGroups).toBe(1);
    expect(memberships.stateOf(on(4, "239.1.1.1"))).toBe("joined");
    expect(shim.groupsPerSocket).toEqual([1]);
    expect(lines.filter((line) => !line.startsWith("<6>"))).toEqual([]);
    expect(memberships.statistics.failed).toBe(0);
  });

  test("and returns with another index is joined again on that one", async () => {
    const { want, shim, memberships } = setUp();
    await want([on(3, "239.1.1.1"), "a"]);
    shim.gone.add(3);
    await want([on(9, "239.1.1.1"), "a"]);
    expect(joinsOf(shim)).toEqual(["join 3 239.1.1.1 *", "join 9 239.1.1.1 *"]);
    expect(memberships.stateOf(on(9, "239.1.1.1"))).toBe("joined");
    expect(memberships.activeGroups).toBe(1);
    expect([...shim.sockets.values()].flatMap((held) => [...held.keys()])).toEqual(["9 239.1.1.1"]);
  });
});

describe("statistics", () => {
  test("attempted is always succeeded plus failed", async () => {
    const shim = new FakeMembers();
    shim.refused.set("239.1.0.3", "ENOBUFS");
    shim.unlisted.add("239.1.0.5");
    const { want, memberships, clock } = setUp({ shim });
    for (const count of [4, 30, 10, 0, 8]) {
      await want(...groups(count));
      clock.ms += 5000;
      await memberships.settle();
      const { attempted, succeeded, failed } = memberships.statistics;
      expect(attempted).toBe(succeeded + failed);
      const held = shim.groupsPerSocket.reduce((sum, each) => sum + each, 0);
      expect(memberships.activeGroups).toBe(held);
    }
  });

  test("count a group once, however many sources it is joined from", async () => {
    const { want, memberships } = setUp();
    await want(...sources(25), [on(3, "232.1.1.1"), "any"], [on(4, "232.1.1.1", "10.0.0.1"), "b"]);
    expect(memberships.activeGroups).toBe(2);
    await want(...sources(1));
    expect(memberships.activeGroups).toBe(1);
    await want();
    expect(memberships.activeGroups).toBe(0);
  });

  test("only grow; leaving takes from the active ones alone", async () => {
    const { want, memberships } = setUp();
    await want(...groups(5));
    await want();
    expect(memberships.statistics).toEqual({ attempted: 5, succeeded: 5, failed: 0 });
    expect(memberships.activeGroups).toBe(0);
  });
});

describe("whatever rules come and go", () => {
  test("the kernel holds what is wanted and did not fail, no more, on no empty socket", async () => {
    const random = new Random(20_260_102);
    for (let round = 0; round < 40; round += 1) {
      const shim = new FakeMembers();
      shim.groupsMax = 1 + random.below(24);
      shim.sourcesMax = 1 + random.below(12);
      const { want, memberships, clock } = setUp({ shim });
      for (let step = 0; step < 12; step += 1) {
        shim.refused.clear();
        shim.unlisted.clear();
        if (random.below(2) === 0) shim.refused.set(`239.1.1.${random.below(40)}`, "ENOBUFS");
        if (random.below(2) === 0) shim.unlisted.add(`239.1.1.${random.below(40)}`);
        const wanted = Array.from({ length: random.below(120) }, () => {
          const source = random.below(3) === 0 ? undefined : `10.0.0.${random.below(15)}`;
          return on(random.pick([3, 4]), `239.1.1.${random.below(40)}`, source);
        });
        await want(...wanted.map((membership) => [membership, "a"] as const));
        expectSettled(shim, memberships, wanted);
        clock.ms += random.below(8000);
      }
      await want();
      expect([shim.sockets.size, memberships.activeGroups]).toEqual([0, 0]);
    }
  });

  function expectSettled(shim: FakeMembers, memberships: Memberships, wanted: readonly Membership[]): void {
    const joined = wanted.filter((membership) => memberships.stateOf(membership) === "joined");
    expect(wanted.filter((membership) => memberships.stateOf(membership) === "joining")).toEqual([]);
    expect(heldBy(shim)).toEqual([...new Set(joined.map(membershipKey))].sort());
    expect(memberships.activeGroups).toBe(
      new Set(joined.map(({ ifindex, group }) => `${ifindex} ${group}`)).size,
    );
    expect(shim.groupsPerSocket).not.toContain(0);
    const { attempted, succeeded, failed } = memberships.statistics;
    expect(attempted).toBe(succeeded + failed);
  }

  /** The keys of what the sockets hold; one that is held twice is there twice. */
  function heldBy(shim: FakeMembers): readonly string[] {
    const held = [...shim.sockets.values()].flatMap((groups) =>
      [...groups].flatMap(([group, from]) =>
        (from === "any" ? ["*"] : [...from]).map((of) => `${group} ${of}`),
      ),
    );
    return held.sort();
  }
});

describe("closing", () => {
  test("leaves everything at once, by closing every socket", async () => {
    const { want, memberships, shim } = setUp();
    await want(...groups(45), ...sources(12), [on(4, "239.1.1.1"), "b"]);
    memberships.close();
    expect(shim.sockets.size).toBe(0);
    expect(memberships.activeGroups).toBe(0);
    expect(memberships.nextRetryMs).toBeUndefined();
    expect(leavesOf(shim)).toEqual([]);
  });

  test("twice is the same as once", async () => {
    const { want, memberships, shim } = setUp();
    await want(...groups(3));
    memberships.close();
    memberships.close();
    expect(shim.sockets.size).toBe(0);
  });
});
