// `mcr top`: what every rule does right now, on a screen of its own that follows keys; one line a rule and second where
// the output is no terminal. It asks the relay for its statistics and subtracts; the relay does nothing for it besides.
import * as v from "valibot";
import { request } from "../control/client.ts";
import { type Stats, StatsSchema, StatusSchema } from "../control/protocol.ts";
import { ExitCode, McrError } from "../error.ts";
import { FullScreen, type KeySource, type Screen } from "../terminal.ts";
import { type Command, type Io, parseOptions } from "./command.ts";
import { formatAge } from "./figures.ts";
import { parseRemote, remoteOptions } from "./remote.ts";
import { type PerSecond, TopHistory, type TopModel } from "./top-model.ts";
import { drawTop, firstView, pressed, type Shown, selectRules, type TopView } from "./top-view.ts";
import { Duration, whole } from "./values.ts";

const OptionsSchema = v.object({
  interval: v.optional(Duration, "1s"),
  count: v.optional(whole(1, 1_000_000_000)),
});

export const topCommand: Command = {
  name: "top",
  parameters: "",
  summary: "watch rates, drops and load live; plain lines in a pipe",
  options: [
    ...remoteOptions.filter(({ flags }) => flags !== "--json"),
    { flags: "--interval <time>", description: "between two looks: 500ms, 2s (1s)" },
    { flags: "--count <looks>", description: "ends after so many" },
  ],
  async run(_positionals, options, io) {
    const { socket } = parseRemote("top", options, io);
    const { interval, count } = parseOptions("top", OptionsSchema, options);
    const source: Source = {
      stats: async () => (await request(socket, "GET", "/v1/stats", StatsSchema)).value,
      title: async () => {
        const { version, uptime_s, file } = (await request(socket, "GET", "/v1/status", StatusSchema)).value;
        return `mcr ${version}, up ${formatAge(uptime_s * 1000)}, ${file}`;
      },
    };
    const pace = { intervalMs: interval, looks: count ?? Number.POSITIVE_INFINITY };
    if (!io.isTTY || !process.stdin.isTTY || io.env["TERM"] === "dumb") return plainTop(source, pace, io);
    const hasColour = !io.env["NO_COLOR"];
    return fullTop(source, pace, { keys: process.stdin, screen: process.stdout, hasColour });
  },
};

export interface Source {
  stats(): Promise<Stats>;
  title(): Promise<string>;
}

interface Pace {
  readonly intervalMs: number;
  readonly looks: number;
}

export interface Surroundings {
  readonly keys: KeySource;
  readonly screen: Screen;
  readonly hasColour: boolean;
}

/** Sleeps until its time has come or somebody wakes it. */
class Alarm {
  #wake = () => {};

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, ms));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  wake(): void {
    this.#wake();
  }
}

/** Until a key, a signal or the end of the terminal; a relay that goes away is waited for. */
export async function fullTop(
  source: Source,
  pace: Pace,
  { keys, screen, hasColour }: Surroundings,
): Promise<ExitCode> {
  const history = new TopHistory();
  const alarm = new Alarm();
  // The first answer decides whether there is a relay at all.
  let shown: Shown = {
    title: await source.title(),
    model: history.next(await source.stats()),
    trouble: undefined,
  };
  const state: { view: TopView | null } = { view: firstView };
  const terminal = new FullScreen(keys, screen, (key) => {
    if (state.view) state.view = pressed(state.view, key, selectRules(shown.model.rules, state.view).length);
    alarm.wake();
  });
  using _ = listen({
    leave() {
      state.view = null;
      alarm.wake();
    },
    resized() {
      terminal.redraw();
      alarm.wake();
    },
    exit: () => terminal.close(),
  });
  let dueMs = performance.now() + pace.intervalMs;
  let looks = 1;
  while (state.view) {
    const { columns, rows } = terminal;
    terminal.draw(drawTop(shown, state.view, { columns, rows, hasColour }));
    await alarm.sleep(dueMs - performance.now());
    if (state.view === null || performance.now() < dueMs) continue;
    dueMs = performance.now() + pace.intervalMs;
    looks += 1;
    if (looks > pace.looks) break;
    shown = await look(source, history, shown, state.view);
  }
  return ExitCode.ok;
}

async function look(source: Source, history: TopHistory, last: Shown, view: TopView): Promise<Shown> {
  try {
    // While the screen is paused the curves go on, so that they have no hole.
    const model = history.next(await source.stats());
    const title = await source.title();
    return { title, model: view.isPaused ? last.model : model, trouble: undefined };
  } catch (thrown) {
    if (!(thrown instanceof McrError)) throw thrown;
    return { ...last, trouble: thrown.lines.join("; ") };
  }
}

/** Whatever ends the process, the terminal is given back. */
function listen(to: { leave(): void; resized(): void; exit(): void }): Disposable {
  const listeners = [
    ["SIGINT", to.leave],
    ["SIGTERM", to.leave],
    ["SIGHUP", to.leave],
    ["SIGWINCH", to.resized],
    ["exit", to.exit],
  ] as const;
  for (const [event, listener] of listeners) process.on(event, listener);
  return {
    [Symbol.dispose]() {
      to.exit();
      for (const [event, listener] of listeners) process.off(event, listener);
    },
  };
}

/** `time rule=… state=… in_pps=…`, for pipes, logs and dumb terminals. */
async function plainTop(source: Source, { intervalMs, looks }: Pace, io: Io): Promise<ExitCode> {
  const history = new TopHistory();
  history.next(await source.stats());
  const alarm = new Alarm();
  let isLeaving = false;
  const isRead = () => !isLeaving && !io.stdoutClosed?.aborted;
  using _ = listen({
    leave() {
      isLeaving = true;
      alarm.wake();
    },
    resized() {},
    exit() {},
  });
  // `mcr top | head -1`: who closes the pipe has read enough.
  io.stdoutClosed?.addEventListener("abort", () => alarm.wake(), { once: true });
  for (let count = 0; count < looks && isRead(); count += 1) {
    await alarm.sleep(intervalMs);
    if (isRead()) io.stdout(formatPlain(history.next(await source.stats())));
  }
  return ExitCode.ok;
}

export function formatPlain(model: TopModel): string {
  return model.rules
    .map((rule) => {
      const parts = [
        model.time,
        `rule=${JSON.stringify(rule.name)}`,
        `state=${rule.state}`,
        `in_pps=${formatPerSecond(rule.inPps, 1)}`,
        `out_pps=${formatPerSecond(rule.outPps, 1)}`,
        `bit_s=${formatPerSecond(rule.bitsPerSecond, 0)}`,
        `dropped_pps=${formatPerSecond(rule.droppedPps, 1)}`,
        `dropped=${rule.droppedTotal}`,
      ];
      return `${parts.join(" ")}${rule.reasons === "" ? "" : ` reasons=${JSON.stringify(rule.reasons)}`}\n`;
    })
    .join("");
}

/** A new rule has no rate yet. */
function formatPerSecond(rate: PerSecond, digits: number): string {
  return rate === null ? "-" : rate.toFixed(digits);
}
