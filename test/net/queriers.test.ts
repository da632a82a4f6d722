// Who asks for members: what is remembered of an interface, when one listens there, and which queries are news.

import { describe, expect, test } from "bun:test";
import type { QueryRingHandle, RawPacket } from "../../src/native/shim.ts";
import { type QuerierShim, Queriers } from "../../src/net/queriers.ts";
import { igmpQuery, rawPacket } from "../support/control-packets.ts";
import { type ErrnoName, queryRingHandle, recordedLog, startMs, systemError } from "../support/fakes.ts";

class FakeQueryRings implements QuerierShim {
  refusal: ErrnoName | undefined;
  /** ring → ifindex, of the open ones. */
  readonly open = new Map<QueryRingHandle, number>();
  opened = 0;
  /** ifindex → what the next read gives. */
  readonly queries = new Map<number, readonly RawPacket[]>();

  openQueryRing(ifindex: number): QueryRingHandle {
    if (this.refusal) throw systemError(this.refusal);
    this.opened += 1;
    const ring = queryRingHandle(this.opened);
    this.open.set(ring, ifindex);
    return ring;
  }
  readQueryRing(ring: QueryRingHandle): readonly RawPacket[] {
    const ifindex = this.#ifindexOf(ring);
    const packets = this.queries.get(ifindex) ?? [];
    this.queries.delete(ifindex);
    return packets;
  }
  closeQueryRing(ring: QueryRingHandle): void {
    this.#ifindexOf(ring);
    this.open.delete(ring);
  }

  #ifindexOf(ring: QueryRingHandle): number {
    const ifindex = this.open.get(ring);
    if (ifindex === undefined) throw new Error(`ring ${ring} is not open`);
    return ifindex;
  }
}

function setUp() {
  const shim = new FakeQueryRings();
  const recorded = recordedLog();
  const news: string[] = [];
  const queriers = new Queriers({
    shim,
    log: recorded.log,
    clock: recorded.clock,
    onChange: (change, name, { from, version }) => void news.push(`${change} ${name} ${from} ${version}`),
  });
  const listen = (wanted: readonly string[], captured: Readonly<Record<string, number>>) =>
    queriers.listen(
      new Set(wanted),
      new Map(Object.entries(captured).map(([name, ifindex]) => [name, { ifindex }])),
    );
  const hear = (ifindex: number, from: string, version = 2) => {
    const time_ns = recorded.clock.nowMs() * 1e6;
    const damaged = igmpQuery("10.9.9.9", 2).with(27, 1);
    shim.queries.set(ifindex, [
      rawPacket({ bytes: damaged, time_ns }),
      rawPacket({ bytes: igmpQuery(from, version), time_ns }),
      rawPacket({ bytes: igmpQuery("10.8.8.8", 2), time_ns: time_ns - 1e9 }),
    ]);
    queriers.take();
  };
  const pass = (ms: number) => {
    recorded.clock.ms += ms;
    queriers.take();
  };
  return { shim, queriers, news, listen, hear, pass, clock: recorded.clock, lines: recorded.lines };
}

describe("an interface where groups are joined", () => {
  test("that cannot be listened to is tried again until it can, with one warning", () => {
    const { shim, queriers, listen, lines } = setUp();
    shim.refusal = "EMFILE";
    listen(["eth0"], { eth0: 3 });
    listen(["eth0"], { eth0: 3 });
    expect(queriers.hasFailure).toBe(true);
    expect(lines).toHaveLength(1);
    shim.refusal = undefined;
    listen(["eth0"], { eth0: 3 });
    expect(queriers.hasFailure).toBe(false);
    expect(queriers.all.get("eth0")?.sinceMs).toBe(startMs);
  });

  test("has the last query that was heard, of whatever version", () => {
    const { queriers, listen, hear, pass } = setUp();
    listen(["veth1"], { veth1: 3 });
    expect(queriers.all.get("veth1")).toEqual({ last: undefined, sinceMs: startMs });
    hear(3, "10.0.0.1");
    pass(125_000);
    hear(3, "10.0.0.1", 3);
    const last = { timeMs: startMs + 125_000, from: "10.0.0.1", version: 3 };
    expect(queriers.all.get("veth1")).toEqual({ last, sinceMs: startMs });
  });

  test("is listened on by one ring, as long as it is the same interface", () => {
    const { shim, queriers, listen, hear, pass } = setUp();
    listen(["veth1"], { veth1: 3 });
    listen(["veth1"], { veth1: 3 });
    expect(shim.opened).toBe(1);
    shim.queries.set(3, [rawPacket({ bytes: igmpQuery("10.0.0.1", 2), time_ns: startMs * 1e6 })]);
    pass(1_000);
    listen(["veth1"], { veth1: 9 });
    expect([...shim.open.values()]).toEqual([9]);
    expect(queriers.all.get("veth1")).toMatchObject({ last: { from: "10.0.0.1" }, sinceMs: startMs + 1_000 });
    hear(9, "10.0.0.2");
    expect(queriers.all.get("veth1")).toMatchObject({ last: { from: "10.0.0.2" } });
  });

  test("is remembered while it is gone, and forgotten when no rule wants it any more", () => {
    const { shim, queriers, listen, hear } = setUp();
    listen(["veth1", "veth5"], { veth1: 3, veth5: 8 });
    hear(3, "10.0.0.1");
    listen(["veth1", "veth5"], { veth5: 8 });
    expect(queriers.all.get("veth1")).toMatchObject({ last: { from: "10.0.0.1" }, sinceMs: undefined });
    listen(["veth5"], { veth5: 8 });
    expect([...queriers.all.keys()]).toEqual(["veth5"]);
    queriers.close();
    expect(shim.open.size).toBe(0);
  });

  test("that cannot be listened on costs one warning, until it could", () => {
    const { shim, queriers, listen, lines } = setUp();
    shim.refusal = "ENOMEM";
    for (let i = 0; i < 3; i += 1) listen(["veth1"], { veth1: 3 });
    expect(lines).toEqual([
      "<4>[Network] cannot listen for IGMP queries on veth1: not enough memory (ENOMEM); rules run on",
    ]);
    expect(queriers.all.get("veth1")).toEqual({ last: undefined, sinceMs: undefined });
    shim.refusal = undefined;
    listen(["veth1"], { veth1: 3 });
    expect(shim.open.size).toBe(1);
  });
});

describe("news is", () => {
  test("the first query, and one from another address, not each", () => {
    const { news, listen, hear, pass, lines } = setUp();
    listen(["veth1"], { veth1: 3 });
    for (let i = 0; i < 3; i += 1) {
      hear(3, "10.0.0.2");
      pass(125_000);
    }
    hear(3, "10.0.0.1", 3);
    expect(news).toEqual(["heard veth1 10.0.0.2 2", "heard veth1 10.0.0.1 3"]);
    expect(lines).toEqual([
      "<6>[Network] querier on veth1: 10.0.0.2 (IGMPv2)",
      "<6>[Network] querier on veth1: 10.0.0.1 (IGMPv3)",
    ]);
  });

  test("that nobody has asked for 260 s, once, and the next query", () => {
    const { news, listen, hear, pass, lines } = setUp();
    listen(["veth1"], { veth1: 3 });
    pass(600_000);
    hear(3, "10.0.0.1");
    pass(260_000);
    expect(news).toHaveLength(1);
    pass(500);
    pass(500);
    expect(news.slice(1)).toEqual(["silent veth1 10.0.0.1 2"]);
    expect(lines.slice(1)).toEqual([
      "<4>[Network] no IGMP query on veth1 for 260 s, the last one came from 10.0.0.1: a switch that snoops passes nothing on without a querier",
    ]);
    hear(3, "10.0.0.1");
    expect(news.slice(2)).toEqual(["heard veth1 10.0.0.1 2"]);
  });

  test("nothing, when somebody sets the clock", () => {
    const { news, listen, hear, pass, clock } = setUp();
    listen(["veth1"], { veth1: 3 });
    hear(3, "10.0.0.1");
    clock.setByMs += 3_600_000;
    pass(260_000);
    expect(news).toHaveLength(1);
    clock.setByMs -= 7_200_000;
    pass(500);
    expect(news.slice(1)).toEqual(["silent veth1 10.0.0.1 2"]);
  });

  test("two that ask in turn, and no line each", () => {
    const { news, listen, hear, pass, lines } = setUp();
    listen(["veth1"], { veth1: 3 });
    for (let i = 0; i < 10; i += 1) {
      hear(3, `10.0.0.${1 + (i % 2)}`);
      pass(1_000);
    }
    expect(news).toHaveLength(10);
    expect(lines).toHaveLength(1);
  });
});
