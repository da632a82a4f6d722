// Log lines: who may speak, in which form, and how often.

import { describe, expect, test } from "bun:test";
import { fstatSync } from "node:fs";
import { facilities, Log, type LogSettings, levels, standardError } from "../src/log.ts";
import { FakeClock, recordedLog, startMs } from "./support/fakes.ts";

const plain: LogSettings = { level: "info", format: "text", facility: {} };

/** A log whose stderr is a terminal or a file. */
function terminalLog(settings: Partial<LogSettings> = {}) {
  const written: string[] = [];
  const sink = {
    write: (line: string) => void written.push(line),
    clock: new FakeClock(),
    isJournal: false,
  };
  return { written, log: new Log({ ...plain, ...settings }, sink) };
}

describe("levels", () => {
  test.each(levels.map((level) => [level]))(
    "%s admits itself and what is more urgent, nothing less",
    (level) => {
      const { log } = recordedLog({ level });
      const admitted = levels.filter((each) => log.isEnabled("Ingress", each));
      expect(admitted).toEqual(levels.slice(0, levels.indexOf(level) + 1));
    },
  );

  test("a line below the level is not written", () => {
    const { log, lines } = recordedLog();
    log.debug("Ingress", "hidden");
    log.info("Ingress", "shown");
    expect(lines).toEqual(["<6>[Ingress] shown"]);
  });

  test("a facility has its own level where it is named, more or less talkative", () => {
    const { log, lines } = recordedLog({ facility: { Ingress: "debug", Stats: "error" } });
    log.debug("Ingress", "a");
    log.debug("Egress", "b");
    log.warning("Stats", "c");
    log.info("Egress", "d");
    expect(lines).toEqual(["<7>[Ingress] a", "<6>[Egress] d"]);
  });

  test("change at once", () => {
    const { log, lines } = recordedLog();
    log.configure({ ...plain, level: "warning", facility: { Network: "trace" } });
    log.info("Ingress", "a");
    log.write("Network", "trace", "b");
    log.configure(plain);
    log.info("Ingress", "c");
    expect(lines).toEqual(["<7>[Network] b", "<6>[Ingress] c"]);
  });

  test("facilities are those the documentation names", () => {
    expect(facilities).toEqual([
      "Supervisor",
      "RuleDispatch",
      "ControlSocket",
      "DataPlane",
      "Ingress",
      "Egress",
      "Stats",
      "Security",
      "Network",
    ]);
  });
});

describe("the form of a line", () => {
  test("on a terminal or in a file is time, level, facility, message", () => {
    const { log, written } = terminalLog();
    log.notice("Supervisor", "stopped");
    expect(written).toEqual(["2026-01-02T03:04:05.000Z notice [Supervisor] stopped\n"]);
  });

  test("in the journal is its priority and no time", () => {
    const { log, lines } = recordedLog({ level: "trace" });
    for (const level of levels) log.write("Network", level, level);
    expect(lines).toEqual([
      "<0>[Network] emergency",
      "<1>[Network] alert",
      "<2>[Network] critical",
      "<3>[Network] error",
      "<4>[Network] warning",
      "<5>[Network] notice",
      "<6>[Network] info",
      "<7>[Network] debug",
      "<7>[Network] trace",
    ]);
  });

  test("as JSON is one object a line, whatever the message holds", () => {
    const { log, written } = terminalLog({ format: "json" });
    log.error("Egress", 'rule "a\nb": \u001b[31mé');
    expect(written).toHaveLength(1);
    const [line = ""] = written;
    expect(line.indexOf("\n")).toBe(line.length - 1);
    expect(JSON.parse(line)).toEqual({
      time: "2026-01-02T03:04:05.000Z",
      level: "error",
      facility: "Egress",
      message: 'rule "a\nb": \u001b[31mé',
    });
  });

  test("turns to JSON when it is configured so, in the journal too", () => {
    const { log, lines } = recordedLog();
    log.configure({ ...plain, format: "json" });
    log.info("Stats", "x");
    expect(lines).toEqual([
      '{"time":"2026-01-02T03:04:05.000Z","level":"info","facility":"Stats","message":"x"}',
    ]);
  });
});

describe("a line that repeats", () => {
  function repeating() {
    const recorded = recordedLog();
    const repeat = (message: string, key = "ring veth1") =>
      recorded.log.writeRepeating(key, "Ingress", "warning", message);
    return { recorded, repeat };
  }

  test("is written once a minute, and the next one says how many were not", () => {
    const { recorded, repeat } = repeating();
    repeat("first");
    for (let i = 0; i < 5; i += 1) {
      recorded.clock.ms += 10_000;
      repeat("again");
    }
    expect(recorded.lines).toEqual(["<4>[Ingress] first"]);
    recorded.clock.ms = startMs + 60_000;
    repeat("later");
    expect(recorded.lines).toEqual([
      "<4>[Ingress] first",
      "<4>[Ingress] later (5 more like this suppressed)",
    ]);
  });

  test("is not held back for longer by a clock that is set back", () => {
    const { recorded, repeat } = repeating();
    repeat("first");
    recorded.clock.setByMs -= 3_600_000;
    recorded.clock.ms += 60_000;
    repeat("later");
    expect(recorded.lines).toHaveLength(2);
  });

  test("counts anew after each line", () => {
    const { recorded, repeat } = repeating();
    repeat("a");
    repeat("b");
    recorded.clock.ms += 60_000;
    repeat("c");
    recorded.clock.ms += 60_000;
    repeat("d");
    expect(recorded.lines).toEqual([
      "<4>[Ingress] a",
      "<4>[Ingress] c (1 more like this suppressed)",
      "<4>[Ingress] d",
    ]);
  });

  test("does not silence another key", () => {
    const { recorded, repeat } = repeating();
    repeat("one");
    repeat("two", "ring veth2");
    expect(recorded.lines).toEqual(["<4>[Ingress] one", "<4>[Ingress] two"]);
  });

  test("that the level hid does not silence the next one", () => {
    const { recorded, repeat } = repeating();
    recorded.log.configure({ ...plain, level: "error" });
    repeat("hidden");
    recorded.log.configure(plain);
    repeat("shown");
    expect(recorded.lines).toEqual(["<4>[Ingress] shown"]);
  });
});

describe("stderr", () => {
  const stderr = fstatSync(2);

  test("is the journal's when JOURNAL_STREAM names it", () => {
    expect(standardError({ JOURNAL_STREAM: `${stderr.dev}:${stderr.ino}` }).isJournal).toBe(true);
  });

  test("is not the journal's without JOURNAL_STREAM", () => {
    expect(standardError({}).isJournal).toBe(false);
  });

  test("is not the journal's when JOURNAL_STREAM was inherited and stderr was redirected", () => {
    expect(standardError({ JOURNAL_STREAM: `${stderr.dev}:${stderr.ino + 1}` }).isJournal).toBe(false);
  });
});

test("an instance has its name in every line, in every form", () => {
  const lines = (["text", "json"] as const).map((format) => {
    const written: string[] = [];
    const sink = {
      write: (line: string) => void written.push(line),
      clock: new FakeClock(),
      isJournal: false,
    };
    new Log({ ...plain, format }, sink, "studio").info("Ingress", "x");
    return written.join("");
  });
  const time = new Date(startMs).toISOString();
  expect(lines).toEqual([
    `${time} info studio [Ingress] x\n`,
    `{"time":"${time}","instance":"studio","level":"info","facility":"Ingress","message":"x"}\n`,
  ]);
});
