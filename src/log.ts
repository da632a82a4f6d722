// Log lines on stderr: facilities, levels, and the three forms (journal, terminal or file, JSON).
// One line per state change, never one per packet; `writeRepeating` limits what can repeat to one line a minute.
// The clock and the stream are given, so that tests read what was written.
import { fstatSync } from "node:fs";
import { type Clock, systemClock } from "./clock.ts";

/** syslog(3) priorities 0–7 in order, then trace. */
export const levels = [
  "emergency",
  "alert",
  "critical",
  "error",
  "warning",
  "notice",
  "info",
  "debug",
  "trace",
] as const;
export type Level = (typeof levels)[number];

export const facilities = [
  "Supervisor",
  "RuleDispatch",
  "ControlSocket",
  "DataPlane",
  "Ingress",
  "Egress",
  "Stats",
  "Security",
  "Network",
] as const;
export type Facility = (typeof facilities)[number];

export const logFormats = ["text", "json"] as const;
export type LogFormat = (typeof logFormats)[number];

export interface LogSettings {
  readonly level: Level;
  readonly format: LogFormat;
  /** A facility named here has its own level instead of `level`. */
  readonly facility: Readonly<Partial<Record<Facility, Level>>>;
}

export interface LogSink {
  readonly write: (line: string) => void;
  readonly clock: Clock;
  /** True when the journal reads stderr: it stamps the time itself and wants `<N>` priorities (sd-daemon(3)). */
  readonly isJournal: boolean;
}

const repeatIntervalMs = 60_000;

export class Log {
  #settings: LogSettings;
  readonly #sink: LogSink;
  readonly #repeats = new Map<string, { writtenAtMs: number; suppressed: number }>();

  /** @param instance tells the lines of several relays on one host apart. */
  constructor(
    settings: LogSettings,
    sink: LogSink = standardError(),
    readonly instance?: string,
  ) {
    this.#settings = settings;
    this.#sink = sink;
  }

  get settings(): LogSettings {
    return this.#settings;
  }

  /** Levels and format take effect at once (reload, log-level). */
  configure(settings: LogSettings): void {
    this.#settings = settings;
  }

  isEnabled(facility: Facility, level: Level): boolean {
    const threshold = this.#settings.facility[facility] ?? this.#settings.level;
    return levels.indexOf(level) <= levels.indexOf(threshold);
  }

  write(facility: Facility, level: Level, message: string): void {
    if (this.isEnabled(facility, level)) this.#sink.write(`${this.#format(facility, level, message)}\n`);
  }

  error(facility: Facility, message: string): void {
    this.write(facility, "error", message);
  }
  warning(facility: Facility, message: string): void {
    this.write(facility, "warning", message);
  }
  notice(facility: Facility, message: string): void {
    this.write(facility, "notice", message);
  }
  info(facility: Facility, message: string): void {
    this.write(facility, "info", message);
  }
  debug(facility: Facility, message: string): void {
    this.write(facility, "debug", message);
  }

  /** As `write`, but at most once a minute for one `key`; the next line tells how many were suppressed. */
  writeRepeating(key: string, facility: Facility, level: Level, message: string): void {
    if (!this.isEnabled(facility, level)) return; // what nobody saw suppresses nothing
    const nowMs = this.#sink.clock.elapsedMs();
    const last = this.#repeats.get(key);
    if (last && nowMs - last.writtenAtMs < repeatIntervalMs) {
      last.suppressed += 1;
      return;
    }
    const suffix = last?.suppressed ? ` (${last.suppressed} more like this suppressed)` : "";
    this.#repeats.set(key, { writtenAtMs: nowMs, suppressed: 0 });
    this.write(facility, level, message + suffix);
  }

  get #time(): string {
    return new Date(this.#sink.clock.nowMs()).toISOString();
  }

  #format(facility: Facility, level: Level, message: string): string {
    if (this.#settings.format === "json") {
      const time = this.#time;
      return JSON.stringify({ time, instance: this.instance, level, facility, message });
    }
    const text = `${this.instance === undefined ? "" : `${this.instance} `}[${facility}] ${message}`;
    // The journal knows eight priorities; trace is its debug.
    if (this.#sink.isJournal) return `<${Math.min(levels.indexOf(level), 7)}>${text}`;
    return `${this.#time} ${level} ${text}`;
  }
}

/** stderr as it is: where JOURNAL_STREAM names this very file the journal reads it (systemd.exec(5)); a child whose
 * stderr was redirected inherits the variable and not the journal. */
export function standardError(env: Readonly<Record<string, string | undefined>> = process.env): LogSink {
  const { dev, ino } = fstatSync(2);
  return {
    write: (line) => void process.stderr.write(line),
    clock: systemClock,
    isJournal: env["JOURNAL_STREAM"] === `${dev}:${ino}`,
  };
}
