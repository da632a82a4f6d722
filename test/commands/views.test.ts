// The other views of `mcr show`, ping, log-level and events: their text, their JSON, their errors, their colours.

import { describe, expect, test } from "bun:test";
import { plain } from "../../src/commands/color.ts";
import { eventsCommand } from "../../src/commands/events.ts";
import { formatBits, formatRate } from "../../src/commands/figures.ts";
import { logLevelCommand } from "../../src/commands/log-level.ts";
import { pingCommand } from "../../src/commands/ping.ts";
import { showCommand } from "../../src/commands/show.ts";
import { formatInterfaces } from "../../src/commands/show-views.ts";
import { Events } from "../../src/control/events.ts";
import { config, flows, interfaces, memberships, now, stats } from "../control/fake-relay.ts";
import { runRemote } from "./remote.ts";

async function show(what: string): Promise<string> {
  const { exitCode, stdout, errors } = await runRemote(showCommand, {}, {}, [what]);
  expect([exitCode, errors]).toEqual([0, []]);
  return stdout;
}

describe("mcr show", () => {
  test("flows", async () => {
    expect(await show("flows")).toMatchInlineSnapshot(`
      "RULE      INTERFACE    SOURCE       DESTINATION        PPS   BIT/S  SIZE     PACKETS
      studio-a  eth0         10.10.1.100  239.1.1.1:5001   20000    164M  1024       20020
      -         eth0 vlan 5  10.10.1.101  239.1.1.1:5002       2   2.40k  100-200        2
      querier on eth0: 10.10.1.1
      not watched: eth9: interface eth9 does not exist
      "
    `);
  });
  test("interfaces", async () => {
    expect(await show("interfaces")).toMatchInlineSnapshot(`
      "INTERFACE  STATE    ADDRESS     MTU  RULES  EGRESSES  CAPTURED  MATCHED  SENT  DROPPED  DEVICE
      eth0       active   10.10.1.2  1500      1         0   1234667  1234567     0        5  -
      eth9       waiting  -             -      1         0         0        0     0        0  -
      interface eth9 does not exist (ip link shows the ones that do)
      "
    `);
  });
  test("interfaces, with the reason when egresses out of one that is there have failed", () => {
    const [eth0] = interfaces;
    if (!eth0) throw new Error("expected one");
    const reason = "interface eth0 has no IPv4 address to send from";
    const shown = [{ ...eth0, egresses: 3, failed_egresses: [{ reason, egresses: 2 }] }];
    expect(formatInterfaces({ interfaces: shown }, now.getTime(), 100).split("\n").slice(2)).toEqual([
      `2 of 3 egresses failed: ${reason}`,
      "",
    ]);
  });
  test("interfaces, with the reason when what egresses send goes nowhere", () => {
    const [eth0] = interfaces;
    if (!eth0) throw new Error("expected one");
    const reason = "10.0.1.9 does not answer ARP on eth0";
    const shown = [{ ...eth0, egresses: 3, failing_egresses: [{ reason, egresses: 1 }] }];
    expect(formatInterfaces({ interfaces: shown }, now.getTime(), 100).split("\n").slice(2)).toEqual([
      `1 of 3 egresses failing: ${reason}`,
      "",
    ]);
  });
  test("interfaces, with what the kernel dropped behind them, and where", () => {
    const [eth0] = interfaces;
    const [eth1, wg0] = stats.devices;
    if (!eth0 || !eth1 || !wg0) throw new Error("expected these");
    const shown = [
      { ...eth0, interface: "eth1", device: eth1 },
      { ...eth0, interface: "wg0", device: wg0 },
      { ...eth0, interface: "vx0", device: { ...wg0, interface: "vx0", errors: 12 } },
    ];
    const [head, ...lines] = formatInterfaces({ interfaces: shown }, now.getTime(), 200).split("\n");
    expect([head, ...lines.slice(0, 3)].map((line) => line?.split(/ +/).at(-1))).toEqual([
      ...["DEVICE", "7994", "0", "12"],
    ]);
    expect(lines.slice(3)).toEqual([
      "behind mcr, device eth1: 3 dropped: ip -s link show eth1",
      "behind mcr, queue of eth1: tbf dropped 7991: tc -s qdisc show dev eth1",
      "behind mcr, device vx0: 12 not sent (errors): ip -s link show vx0",
      "",
    ]);
  });
  test("interfaces, with who asked for members, and when", () => {
    const [eth0] = interfaces;
    if (!eth0) throw new Error("expected one");
    const nowMs = now.getTime();
    const listening_since = new Date(nowMs - 3_600_000).toISOString();
    const asked = (name: string, agoMs: number) => ({
      ...{ ...eth0, interface: name, listening_since },
      last_query: { time: new Date(nowMs - agoMs).toISOString(), from: "10.10.1.1", version: 2 },
    });
    const paint = (text: string) => `<${text}>`;
    const colors = { ...plain, warn: paint };
    const shown = [asked("eth0", 34_000), asked("eth1", 600_000), { ...eth0, listening_since }];
    expect(formatInterfaces({ interfaces: shown }, nowMs, 100, colors).split("\n").slice(-4)).toEqual([
      "querier on eth0: 10.10.1.1 (IGMPv2), last query 34s ago",
      "<querier on eth1: 10.10.1.1 (IGMPv2), last query 10m ago>",
      "no IGMP query on eth0 in 1h 0m",
      "",
    ]);
  });
  test("memberships", async () => {
    expect(await show("memberships")).toMatchInlineSnapshot(`
      "INTERFACE  GROUP      SOURCE       STATE   RULES
      eth0       239.1.1.1  10.10.1.100  joined  studio-a, studio-b
      eth0       239.1.1.2  any          failed  wall
      cannot join 239.1.1.2 on eth0: no buffer space available (ENOBUFS); next try at 2026-11-21T12:00:08.000Z
      "
    `);
  });
  test("workers", async () => {
    expect(await show("workers")).toMatchInlineSnapshot(`
      "WORKER  CPU  LOAD %  MATCHED     SENT  GATHER s  SEND s
           0    0       0   617283  1234533       0.4     2.6
           1    1    12.5   617284  1234534       0.4     2.6

      WORKER  WAKEUPS  BLOCKS  SENDS  RUNS  RUN PACKETS
           0     1000    1200   5000  4000        32000
           1     1000    1200   5000  4000        32000
      "
    `);
  });
  test("config", async () => {
    expect(await show("config")).toMatchInlineSnapshot(`
      "# /etc/mcr/rules.toml, as it runs
      [relay]
      workers = "auto"
      profile = "balanced"
      fanout = "flow"
      control = "/run/mcr/mcr.sock"
      [log]
      level = "info"
      format = "text"
      [log.facility]
      Ingress = "debug"

      [[rule]]
      name = "studio-a"
      ingress = { interface = "eth0", group = "239.1.1.1", port = 5001, source = ["10.10.1.100"] }
      egress = [{ interface = "eth1", group = "239.10.1.1", port = 6001, ttl = 1 }]
      "
    `);
  });

  test("fits 100 columns with the counters of a busy year and the names of many rules", async () => {
    const large = 123_456_789_012_345;
    const [eth0] = interfaces;
    const [joined] = memberships;
    const [worker] = stats.workers;
    const ingress = eth0?.ingress;
    if (!eth0 || !ingress || !joined || !worker) throw new Error("expected one of each");
    const counts = { packets: large, matched: large };
    const busy = {
      interfaces: () => [
        {
          ...{ ...eth0, interface: "enp129s0f0np0", sent_packets: large },
          ingress: { ...ingress, ...counts },
          last_query: { time: "2020-01-01T00:00:00.000Z", from: "255.255.255.255", version: 3 },
        },
      ],
      memberships: () => [{ ...joined, rules: Array.from({ length: 500 }, (_, i) => `studio-${i}`) }],
      stats: () => ({
        ...stats,
        workers: [
          {
            ...worker,
            ...{ matched: large, sent_packets: large, wakeups: large, blocks: large, sends: large },
            ...{ runs: large, run_packets: large, gather_ns: large * 100, send_ns: large * 100 },
          },
        ],
      }),
    };
    const look = async (what: string) => (await runRemote(showCommand, busy, {}, [what])).stdout;
    for (const what of ["interfaces", "memberships", "workers"])
      for (const line of (await look(what)).split("\n"))
        expect([what, Bun.stringWidth(line) <= 100]).toEqual([what, true]);
    expect(await look("interfaces")).toMatch(/^enp129s0f0np0 +active .* 123456789012345 +123456789012345 /m);
    expect(await look("memberships")).toMatch(/ joined +studio-0, studio-1, .* and 49\d more$/m);
    const piped = await runRemote(showCommand, busy, {}, ["memberships"], {
      columns: Number.POSITIVE_INFINITY,
    });
    expect(piped.stdout).toContain(", studio-499\n");
  });

  test("says what there is none of", async () => {
    const none = {
      memberships: () => [],
      interfaces: () => [],
      flows: async () => ({ ...flows, flows: [], igmp: [], failures: [] }),
    };
    const texts = ["memberships", "interfaces", "flows"].map(
      async (what) => (await runRemote(showCommand, none, {}, [what])).stdout,
    );
    expect(await Promise.all(texts)).toEqual([
      "nothing is joined\n",
      "no rule names an interface\n",
      "no multicast was seen in 1.0 s\n",
    ]);
  });

  test("takes any beginning that is one's alone, and names the choices otherwise", async () => {
    expect(await show("mem")).toBe(await show("memberships"));
    const { exitCode, errors } = await runRemote(showCommand, {}, {}, ["x"]);
    expect([exitCode, errors]).toEqual([
      64,
      [
        'mcr show: there is no "x" to show: give one of rules, flows, interfaces, memberships, workers, config',
      ],
    ]);
  });

  test("--json names the schema of every view", async () => {
    for (const what of ["rules", "flows", "interfaces", "memberships", "workers", "config"]) {
      const { stdout } = await runRemote(showCommand, {}, { json: true }, [what]);
      expect(JSON.parse(stdout).schema).toBe(`/v1/${what}`);
    }
    const { stdout } = await runRemote(showCommand, {}, { json: true }, ["config"]);
    expect(JSON.parse(stdout)).toEqual({ schema: "/v1/config", ...config });
  });

  test("has colours on a terminal, and never with NO_COLOR, in a dumb terminal or in a pipe", async () => {
    const shown = async (isTTY: boolean, env: Readonly<Record<string, string>> = {}) => {
      const { stdout } = await runRemote(showCommand, {}, {}, ["rules"], { isTTY, env });
      return stdout;
    };
    const colored = await shown(true);
    expect(colored).toContain("\x1b[32mactive\x1b[0m");
    expect(colored).toContain("\x1b[31mdropped 67: 60 full, 7 error");
    const plain = Bun.stripANSI(colored);
    expect(plain).not.toBe(colored);
    expect(await shown(false)).toBe(plain);
    expect(await shown(true, { NO_COLOR: "1" })).toBe(plain);
    expect(await shown(true, { TERM: "dumb" })).toBe(plain);
  });
});

describe("mcr ping", () => {
  test("says which mcr answered, and how fast", async () => {
    const { exitCode, stdout } = await runRemote(pingCommand, {});
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^mcr 0\.1\.0, pid 123, up 2h 6m: answered in [\d.]+ ms\n$/);
    const { stdout: json } = await runRemote(pingCommand, {}, { json: true });
    expect(JSON.parse(json)).toMatchObject({ schema: "ping/1", version: "0.1.0", pid: 123, uptime_s: 7560 });
  });

  test("without a running mcr ends with 69", async () => {
    expect((await runRemote(pingCommand, null)).exitCode).toBe(69);
  });
});

describe("mcr log-level", () => {
  const run = (...words: string[]) => runRemote(logLevelCommand, {}, {}, words);

  test("shows all levels, or that of one facility", async () => {
    expect((await run()).stdout).toMatchInlineSnapshot(`
      "FACILITY       LEVEL
      Supervisor     info
      RuleDispatch   info
      ControlSocket  info
      DataPlane      info
      Ingress        debug  its own
      Egress         info
      Stats          info
      Security       info
      Network        info
      "
    `);
    expect((await run("ingress")).stdout).toBe("FACILITY  LEVEL\nIngress   debug  its own\n");
  });

  test("changes one level, or that of all", async () => {
    const changes: unknown[] = [];
    const relay = {
      setLogLevel: (change: { level: "debug" }) => {
        changes.push(change);
        return { level: "debug" as const, facility: {} };
      },
    };
    for (const words of [["debug"], ["Egress", "TRACE"], ["Egress", "default"]])
      await runRemote(logLevelCommand, relay as never, {}, words);
    expect(changes).toEqual([
      { level: "debug" },
      { level: "trace", facility: "Egress" },
      { level: "default", facility: "Egress" },
    ]);
  });

  test("names the facilities and levels when it does not know one", async () => {
    const cases: readonly (readonly [readonly string[], string])[] = [
      [["loud"], '"loud" is no facility and no level: facilities are Supervisor, '],
      [["Nothing", "debug"], '"Nothing" is no facility: facilities are Supervisor, '],
      [["Ingress", "loud"], '"loud" is no level: levels are emergency, alert, '],
      [["default"], '"default" is no facility and no level: facilities are '],
      [["debug", "info"], '"debug" is no facility: facilities are '],
    ];
    for (const [words, start] of cases) {
      const { exitCode, errors } = await run(...words);
      expect([words, exitCode]).toEqual([words, 64]);
      expect(errors[0]).toStartWith(`mcr log-level: ${start}`);
    }
  });
});

describe("mcr events", () => {
  test("prints each event as a line, until nobody reads any more", async () => {
    const events = new Events(() => 0);
    const closed = new AbortController();
    let printed = "";
    const { exitCode } = await runRemote(
      eventsCommand,
      {
        subscribe(listener) {
          const end = events.subscribe(listener);
          events.tell({ event: "rule", rule: "a", state: "silent", reason: null });
          return end;
        },
      },
      {},
      [],
      {
        stdoutClosed: closed.signal,
        stdout(text) {
          printed += text;
          if (printed.includes("silent")) closed.abort();
        },
      },
    );
    expect(exitCode).toBe(0);
    const [connected = "", rule = ""] = printed.split("\n");
    expect(JSON.parse(connected)).toMatchObject({ event: "connected", pid: process.pid });
    expect(rule).toBe(
      '{"time":"1970-01-01T00:00:00.000Z","event":"rule","rule":"a","state":"silent","reason":null}',
    );
  });

  test("without a running mcr ends with 69", async () => {
    expect((await runRemote(eventsCommand, null)).exitCode).toBe(69);
  });
});

test("a rate is whole as long as it fits five digits, then has a unit", () => {
  const cases = [0, 0.5, 9.99, 10.4, 999, 20_000, 99_999, 123_456, 999_600, 163_840_000, 9.4e9, 5e12];
  expect(cases.map(formatRate)).toEqual([
    "0",
    "0.5",
    "9.99",
    "10",
    "999",
    "20000",
    "99999",
    "123k",
    "1M",
    "164M",
    "9.4G",
    "5T",
  ]);
  for (let value = 0.01; value < 1e13; value *= 1.37) expect(formatRate(value).length).toBeLessThanOrEqual(6);
});

test("bits a second have three digits and a unit, whatever their size", () => {
  const cases = [0, 2.4, 999.4, 999.6, 9_990, 81_831, 409_000, 3_276_800, 163_840_000, 9.4e9];
  expect(cases.map(formatBits)).toEqual([
    "0",
    "2",
    "999",
    "1.00k",
    "9.99k",
    "81.8k",
    "409k",
    "3.28M",
    "164M",
    "9.40G",
  ]);
  for (let value = 0.01; value < 9e14; value *= 1.37) expect(formatBits(value).length).toBeLessThanOrEqual(6);
});
