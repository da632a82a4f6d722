// `mcr top`: rates by subtraction, the screen at 80 x 24 and others, its keys, and what becomes of the terminal.

import { describe, expect, test } from "bun:test";
import { EventEmitter } from "node:events";
import { formatPlain, fullTop, topCommand } from "../../src/commands/top.ts";
import { historyMax, TopHistory } from "../../src/commands/top-model.ts";
import {
  drawTop,
  firstView,
  pressed,
  selectRules,
  sparkline,
  type TopView,
} from "../../src/commands/top-view.ts";
import type { EgressSnapshot, Stats } from "../../src/control/protocol.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import type { KeySource } from "../../src/terminal.ts";
import { egress, stats as fakeStats, rule } from "../control/fake-relay.ts";
import { waitUntil } from "../support/wait.ts";
import { runRemote } from "./remote.ts";

/** Statistics `seconds` after noon: 1,000 packets a second into the first rule, of which the egress drops a tenth. */
function statsAt(seconds: number, names: readonly string[] = ["studio-a", "wall"]): Stats {
  const packets = 1000 * seconds;
  const dropped = 100 * seconds;
  const first = {
    ...rule,
    name: names[0] ?? "",
    packets,
    bytes: packets * 1000,
    egress: [
      {
        ...egress,
        sent_packets: packets - dropped,
        dropped: { full: dropped, error: 0, unavailable: 0, expired: 0 },
      },
    ],
  };
  const others = names.slice(1).map((name) => ({
    ...rule,
    name,
    state: "waiting" as const,
    reason: "interface eth9 does not exist",
    packets: 0,
    bytes: 0,
    egress: [{ ...egress, sent_packets: 0 }],
  }));
  return {
    ...fakeStats,
    time: new Date(Date.UTC(2026, 10, 21, 12, 0, seconds)).toISOString(),
    totals: {
      ...fakeStats.totals,
      matched: packets,
      bytes: packets * 1000,
      sent_packets: packets - dropped,
      egress_dropped: dropped,
    },
    rules: [first, ...others],
  };
}

function modelAt(seconds: number, names?: readonly string[]) {
  const history = new TopHistory();
  history.next(statsAt(seconds - 2, names));
  return history.next(statsAt(seconds, names));
}

const surface = { columns: 80, rows: 24, hasColour: false };
const shown = (model = modelAt(10)) => ({
  model,
  title: "mcr 0.1.0, up 2h 6m, rules.toml",
  trouble: undefined,
});

describe("rates", () => {
  test("are what was counted between two answers, per second", () => {
    const model = modelAt(10);
    expect(model).toMatchObject({ inPps: 1000, outPps: 900, bitsPerSecond: 8_000_000, droppedPps: 100 });
    expect(model.rules[0]).toMatchObject({
      inPps: 1000,
      outPps: 900,
      bitsPerSecond: 8_000_000,
      droppedPps: 100,
      droppedTotal: 1000,
      reasons: "full 1000",
      history: [1000],
    });
  });

  test("are not known at first, nor when the relay was started again", () => {
    const history = new TopHistory();
    const unknown = { inPps: null, outPps: null, bitsPerSecond: null, droppedPps: null };
    const first = history.next(statsAt(50));
    expect([first, first.rules[0]]).toMatchObject([unknown, unknown]);
    expect(first.interfaces[0]).toMatchObject({ pps: null, bitsPerSecond: null, droppedPps: null });
    expect(history.next({ ...statsAt(10), time: statsAt(60).time })).toMatchObject({
      ...unknown,
      rules: [{ inPps: null, history: [] }, { inPps: 0 }],
    });
  });

  test("of interfaces are those of the rules' packets, as in the line of totals, and of egresses too", () => {
    const at = (seconds: number): Stats => {
      const stats = statsAt(seconds);
      const [eth0] = stats.interfaces;
      if (!eth0) throw new Error("expected an interface");
      const { matched, bytes } = stats.totals;
      return { ...stats, interfaces: [{ ...eth0, packets: matched * 5, matched, bytes }] };
    };
    const history = new TopHistory();
    history.next(at(8));
    const { inPps, outPps, bitsPerSecond, interfaces } = history.next(at(10));
    expect(interfaces).toMatchObject([
      { name: "eth0", direction: "in", pps: inPps, bitsPerSecond, droppedPps: 0 },
      { name: "eth1", direction: "out", pps: outPps, droppedPps: 100, reasons: "full 1000" },
    ]);
  });

  test("a rule is in the state of its worst egress, where that is worse than its own", () => {
    const state = (...egresses: readonly EgressSnapshot["state"][]) =>
      new TopHistory().next({
        ...fakeStats,
        rules: [{ ...rule, egress: egresses.map((each) => ({ ...egress, state: each })) }],
      }).rules[0]?.state;
    expect(state("active", "active")).toBe("active");
    expect(state("active", "failing")).toBe("failing");
    expect(state("failing", "failed")).toBe("failed");
  });

  test("a rule's history holds the last of them, and goes with the rule", () => {
    const history = new TopHistory();
    for (let seconds = 0; seconds < historyMax + 20; seconds += 1) history.next(statsAt(seconds));
    expect(history.next(statsAt(200)).rules[0]?.history).toHaveLength(historyMax);
    history.next(statsAt(201, ["other"]));
    expect(history.next(statsAt(202)).rules[0]?.history).toEqual([]);
  });
});

describe("the screen", () => {
  test("at 80 x 24", () => {
    expect(
      drawTop(shown(), firstView, surface)
        .map((line) => line.trimEnd())
        .join("\n"),
    ).toMatchInlineSnapshot(`
      "mcr 0.1.0, up 2h 6m, rules.toml                                     12:00:10 UTC
      in 1000 pps 8.00 Mbit/s   out 900 pps  dropped 100/s
      eth0 in       0 pps     0 bit/s
        dropped 0/s (ring 1, malformed 2, bad_checksum 2)
      eth1 out    900 pps     0 bit/s  dropped 100/s (full 1000)
      workers  cpu0   0 %  cpu1  13 %
      RULE       STATE       IN PPS   OUT PPS       BIT/S DROPPED/S  LATELY
      studio-a   active        1000       900       8.00M       100  █
        dropped in all: full 1000
      wall       waiting          0         0           0         0
        interface eth9 does not exist












      q quit   s sort: rate   / filter   p pause   arrows scroll"
    `);
  });

  test.each([
    [80, 24],
    [40, 10],
    [200, 60],
    [20, 6],
    [9, 5],
    [9, 24],
    [1, 1],
  ])("at %d x %d no line is too wide and there are not too many", (columns, rows) => {
    const names = Array.from({ length: 100 }, (_, i) => `rule-with-a-rather-long-name-${i}-日本`);
    const lines = drawTop(shown(modelAt(10, names)), firstView, { columns, rows, hasColour: false });
    expect(lines.length).toBeLessThanOrEqual(Math.max(rows, 5));
    for (const line of lines) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
  });

  test.each([
    [
      80,
      "RULE       STATE       IN PPS   OUT PPS       BIT/S DROPPED/S  LATELY",
      "a          active        1000       900       8.00M       100",
    ],
    [
      60,
      "RULE       STATE       IN PPS   OUT PPS DROPPED/S  LATELY",
      "a          active        1000       900       100",
    ],
    [40, "RULE       STATE       IN PPS DROPPED/S", "a          active        1000       100"],
    [30, "RULE       STATE    DROPPED/S", "a          active         100"],
    [20, "RULE       STATE", "a          active"],
    [9, "RULE", "a"],
  ])("at %d columns has whole columns only", (columns, headings, row) => {
    const lines = drawTop(shown(modelAt(10, ["a"])), firstView, { columns, rows: 20, hasColour: false });
    const at = lines.findIndex((line) => line.startsWith("RULE"));
    expect(lines[at]?.trimEnd()).toBe(headings);
    expect(lines[at + 1]?.replace("█", "").trimEnd()).toBe(row);
  });

  test("is without colours where they are not wanted, and red where packets are dropped", () => {
    expect(drawTop(shown(), firstView, surface).join("")).not.toContain("\x1b");
    const lines = drawTop(shown(), firstView, { ...surface, hasColour: true });
    expect(lines.join("\n")).toContain("\x1b[31m  dropped in all: full 1000\x1b[0m");
  });

  test("has no zeros before anything was measured", () => {
    const model = new TopHistory().next(statsAt(10));
    const lines = drawTop(shown(model), firstView, surface);
    expect(lines[1]).toBe("in - pps - bit/s   out - pps  dropped -/s");
    expect(lines.find((line) => line.startsWith("studio-a"))?.trimEnd()).toBe(
      "studio-a   active           -         -           -         -",
    );
    expect(formatPlain(model)).toContain("in_pps=- out_pps=- bit_s=- dropped_pps=- dropped=1000");
  });

  test("tells drops and their reasons before why a rule does not run, and cuts neither at 80 x 24", () => {
    const model = modelAt(10);
    const [first] = model.rules;
    if (!first) throw new Error("expected a rule");
    const reason = "interface eth8 does not exist (ip link shows the ones that do)";
    const reasons = "full 123456, error 123456, unavailable 123456, expired 123456";
    const lines = drawTop(
      shown({ ...model, rules: [{ ...first, state: "failed", reason, reasons }] }),
      firstView,
      {
        ...surface,
        hasColour: true,
      },
    );
    expect(lines.slice(8, 10)).toEqual([
      `\x1b[31m  dropped in all: ${reasons}\x1b[0m`,
      `\x1b[31m  ${reason}\x1b[0m`,
    ]);
  });

  test("drops of an interface go below it where its line has no room for all reasons", () => {
    const model = modelAt(10);
    const [eth0] = model.interfaces;
    if (!eth0) throw new Error("expected an interface");
    const reasons = "ring 123456, malformed 123456, bad_checksum 123456";
    const lines = drawTop(shown({ ...model, interfaces: [{ ...eth0, reasons }] }), firstView, surface);
    expect(lines.slice(2, 4)).toEqual(["eth0 in       0 pps     0 bit/s", `  dropped 0/s (${reasons})`]);
  });

  test("of many workers has as many lines as it needs", () => {
    const model = {
      ...modelAt(10),
      workers: Array.from({ length: 16 }, (_, worker) => ({
        worker,
        cpu: worker,
        pps: 0,
        loadPercent: worker,
      })),
    };
    const lines = drawTop(shown(model), firstView, surface).slice(5, 8);
    expect(lines).toEqual([
      "workers  cpu0   0 %  cpu1   1 %  cpu2   2 %  cpu3   3 %  cpu4   4 %  cpu5   5 %",
      "         cpu6   6 %  cpu7   7 %  cpu8   8 %  cpu9   9 %  cpu10  10 %",
      "         cpu11  11 %  cpu12  12 %  cpu13  13 %  cpu14  14 %  cpu15  15 %",
    ]);
  });

  test("says so when no rule matches the filter, and when there is none", () => {
    const empty = drawTop(shown(), { ...firstView, filter: "zzz" }, surface);
    expect(empty).toContain('no rule matches "zzz"');
    expect(empty).toHaveLength(surface.rows);
    expect(drawTop(shown({ ...modelAt(10), rules: [] }), firstView, surface)).toContain("no rules");
  });

  test("leaves half of the rows to the rules, however many interfaces there are, and says how many lines are missing", () => {
    const model = modelAt(10);
    const [eth0] = model.interfaces;
    if (!eth0) throw new Error("expected an interface");
    const interfaces = Array.from({ length: 40 }, (_, i) => ({ ...eth0, name: `eth${i}`, reasons: "" }));
    const lines = drawTop(shown({ ...model, interfaces }), firstView, surface);
    expect(lines.slice(11, 13)).toEqual(["and 32 more lines", expect.stringMatching(/^RULE /)]);
    expect(lines).toHaveLength(surface.rows);
  });

  test("names do not reach the terminal as control sequences", () => {
    const lines = drawTop(shown(modelAt(10, ["\x1b[2Jevil"])), firstView, surface);
    expect(lines.join("")).not.toContain("\x1b");
  });

  test("curves", () => {
    expect(sparkline([0, 1, 500, 1000], 4)).toBe(" ▁▄█");
    expect(sparkline([1, 2, 3], 2)).toBe("▅█");
  });
});

describe("keys", () => {
  const press = (...keys: readonly string[]) =>
    keys.reduce<TopView | null>((view, key) => view && pressed(view, key, 100), firstView);

  test("sort, filter, pause, scroll and quit", () => {
    expect(press("s", "s", "s")?.sorting).toBe("name");
    expect(press("s", "s", "s", "s")).toEqual(firstView);
    expect(press("/", "w", "x", "\x7f", "a", "\r")).toMatchObject({ filter: "wa", isTyping: false });
    expect(press("/", "q", "\x1b")).toEqual(firstView);
    expect(press("p")?.isPaused).toBe(true);
    expect(press("p", " ")?.isPaused).toBe(false);
    expect(press("\x1b[B", "j", "k", "\x1b[6~")?.first).toBe(11);
    for (const key of ["q", "\x03", "\x1b"]) expect(press(key)).toBeNull();
    expect(press("/", "\x03")).toBeNull();
  });

  test("what is selected, and in which order", () => {
    const { rules } = modelAt(10, ["b", "a", "c"]);
    const names = (view: Partial<TopView>) =>
      selectRules(rules, { ...firstView, ...view }).map(({ name }) => name);
    expect(names({})).toEqual(["b", "a", "c"]);
    expect(names({ sorting: "name" })).toEqual(["a", "b", "c"]);
    const cams = modelAt(10, ["cam-10", "cam-9", "cam-1"]).rules;
    const sorted = selectRules(cams, { ...firstView, sorting: "name" }).map(({ name }) => name);
    expect(sorted).toEqual(["cam-1", "cam-9", "cam-10"]);
    expect(names({ sorting: "state" })).toEqual(["a", "c", "b"]);
    expect(names({ filter: "B" })).toEqual(["b"]);
    expect(names({ filter: "239.1.1.1:5001" })).toEqual(["b", "a", "c"]);
    expect(names({ filter: "waiting" })).toEqual([]);
    expect(names({ filter: "nobody" })).toEqual([]);
  });
});

/** A terminal that keeps what was written to it. */
class FakeTerminal extends EventEmitter {
  isRaw = false;
  text = "";
  readonly columns = 80;
  readonly rows = 24;
  readonly writableLength = 0;
  readonly keys: KeySource = {
    setRawMode: (isRaw) => {
      this.isRaw = isRaw;
    },
    setEncoding: () => {},
    on: (event: string, listener: (...values: string[]) => void) => this.on(event, listener),
    removeAllListeners: (event) => this.removeAllListeners(event),
    resume: () => {},
    pause: () => {},
  };
  write(text: string): void {
    this.text += text;
  }
}

describe("the terminal", () => {
  const watch = (terminal: FakeTerminal, stats: () => Promise<Stats>) =>
    fullTop(
      { stats, title: async () => "mcr" },
      { intervalMs: 5, looks: Number.POSITIVE_INFINITY },
      { keys: terminal.keys, screen: terminal, hasColour: false },
    );

  test.each([
    ["q", (terminal: FakeTerminal) => terminal.emit("data", "q")],
    ["Ctrl-C", (terminal: FakeTerminal) => terminal.emit("data", "\x03")],
    ["its end", (terminal: FakeTerminal) => terminal.emit("end")],
    ["SIGTERM", () => process.emit("SIGTERM")],
    ["SIGHUP", () => process.emit("SIGHUP")],
  ])("is as before after %s", async (_, leave) => {
    const terminal = new FakeTerminal();
    let seconds = 0;
    const running = watch(terminal, async () => {
      seconds += 1;
      return statsAt(seconds);
    });
    await waitUntil(async () => terminal.text.includes("studio-a"), { what: "the first screen" });
    expect(terminal.isRaw).toBe(true);
    leave(terminal);
    expect(await running).toBe(ExitCode.ok);
    expect(terminal.isRaw).toBe(false);
    expect(terminal.text).toEndWith("\x1b[?7h\x1b[?25h\x1b[?1049l");
    expect(terminal.eventNames()).toEqual([]);
  });

  test("a relay that goes away is said and waited for", async () => {
    const terminal = new FakeTerminal();
    let answers = 0;
    const running = watch(terminal, async () => {
      answers += 1;
      if (answers > 1 && answers < 5)
        throw new McrError(["no mcr answers at /run/mcr/mcr.sock"], ExitCode.unavailable);
      return statsAt(answers);
    });
    await waitUntil(async () => answers > 6, { what: "the relay to be back" });
    expect(terminal.text).toContain("no mcr answers at /run/mcr/mcr.sock");
    terminal.emit("data", "q");
    await running;
  });

  test("stays as it is when no relay answers at first", async () => {
    const terminal = new FakeTerminal();
    const nobody = async () => {
      throw new McrError(["no mcr answers"], ExitCode.unavailable);
    };
    await expect(watch(terminal, nobody)).rejects.toThrow(McrError);
    expect(terminal.text).toBe("");
  });
});

describe("into a pipe", () => {
  test("one line for each rule", () => {
    expect(formatPlain(modelAt(10))).toBe(
      '2026-11-21T12:00:10.000Z rule="studio-a" state=active in_pps=1000.0 out_pps=900.0 bit_s=8000000 dropped_pps=100.0 dropped=1000 reasons="full 1000"\n' +
        '2026-11-21T12:00:10.000Z rule="wall" state=waiting in_pps=0.0 out_pps=0.0 bit_s=0 dropped_pps=0.0 dropped=0\n',
    );
  });

  test("ends after --count looks", async () => {
    const { exitCode, stdout } = await runRemote(topCommand, {}, { interval: "10ms", count: "2" });
    expect(exitCode).toBe(ExitCode.ok);
    expect(stdout.match(/rule="studio-a"/g)).toHaveLength(2);
  });

  test("ends as soon as nobody reads it any more, and does not wait for the next look", async () => {
    const closed = new AbortController();
    let text = "";
    const { exitCode } = await runRemote(topCommand, {}, { interval: "100ms" }, [], {
      stdout: (more) => {
        text += more;
        queueMicrotask(() => closed.abort());
      },
      stdoutClosed: closed.signal,
    });
    expect(exitCode).toBe(ExitCode.ok);
    expect(text.match(/rule="studio-a"/g)).toHaveLength(1);

    const closing = new AbortController();
    setTimeout(() => closing.abort(), 50);
    const world = { stdoutClosed: closing.signal };
    const waiting = await runRemote(topCommand, {}, { interval: "1h" }, [], world);
    expect([waiting.exitCode, waiting.stdout]).toEqual([ExitCode.ok, ""]);
  });

  test("without a relay, one sentence", async () => {
    const { exitCode, errors } = await runRemote(topCommand, null, {});
    expect(exitCode).toBe(ExitCode.unavailable);
    expect(errors.join("")).toContain("no mcr answers");
  });
});
