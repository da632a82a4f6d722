// Tells the service manager how mcr fares, by the protocol of sd_notify(3): ready, reloading, stopping, a line of
// status, and the watchdog's sign of life, which stops when a worker hangs. Says nothing when NOTIFY_SOCKET is not set.
// Driven by commands/run.ts; nothing here ever waits, and a service manager that is not there costs one warning.
import type { Log } from "../log.ts";
import type { Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import type { ReloadResult, Status } from "./protocol.ts";

/** A worker beats once a second. One that has not for so long hangs; a busy host makes it late, not that late. */
const beatMsMax = 5_000;
/** Behind a reader that does not read: what is older is dropped. */
const unsentMax = 16;

export interface NotifierOptions {
  readonly shim: Pick<Shim, "notify" | "monotonicUs">;
  readonly log: Log;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pid: number;
  /** One word for each worker; a worker that is not stuck raises its own. */
  readonly beats: () => ArrayLike<number>;
  readonly status: () => Status;
}

export class Notifier {
  /** How often `tick` wants to be called; undefined when there is nobody to tell. */
  readonly tickMs: number | undefined;
  readonly #options: NotifierOptions;
  readonly #path: string;
  readonly #watchdogUs: number | undefined;
  #phase: "starting" | "ready" | "stopping" = "starting";
  #hasWarned = false;
  #unsent: string[] = [];
  #status = "";
  #signOfLifeUs = 0;
  #beats: readonly { readonly count: number; readonly sinceUs: number }[] = [];

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.#path = options.env["NOTIFY_SOCKET"] ?? "";
    this.#watchdogUs = watchdogUsOf(options);
    const watchdogMs = (this.#watchdogUs ?? Number.POSITIVE_INFINITY) / 1_000;
    // Twice as often as the watchdog is told: a timer that is late must not make it late by a whole half.
    this.tickMs = this.#path === "" ? undefined : Math.max(1, Math.min(1_000, Math.floor(watchdogMs / 4)));
  }

  /** The rules are applied for the first time, or a reload is done, well or not. */
  ready(): void {
    if (this.#phase === "stopping") return;
    this.#phase = "ready";
    this.#status = this.#statusLine();
    this.#send(`READY=1\nSTATUS=${this.#status}`);
  }

  reloading(): void {
    if (this.#phase === "ready")
      this.#send(`RELOADING=1\nMONOTONIC_USEC=${this.#options.shim.monotonicUs()}`);
  }

  stopping(): void {
    this.#phase = "stopping";
    this.#send("STOPPING=1");
  }

  /** Tells a new status, and the watchdog at half its time that all workers make progress. */
  tick(): void {
    if (this.#phase !== "ready") return;
    this.#sendUnsent();
    const status = this.#statusLine();
    if (status !== this.#status) {
      this.#status = status;
      this.#send(`STATUS=${status}`);
    }
    if (this.#watchdogUs === undefined) return;
    const nowUs = this.#options.shim.monotonicUs();
    const stuck = this.#stuckWorkers(nowUs);
    if (stuck.length > 0) {
      this.#options.log.writeRepeating(
        "watchdog",
        "DataPlane",
        "critical",
        `worker ${stuck.join(", ")} makes no progress: the watchdog is not told that all is well`,
      );
    } else if (nowUs - this.#signOfLifeUs >= this.#watchdogUs / 2) {
      this.#signOfLifeUs = nowUs;
      this.#send("WATCHDOG=1");
    }
  }

  #stuckWorkers(nowUs: number): readonly number[] {
    this.#beats = Array.from(this.#options.beats(), (count, worker) => {
      const before = this.#beats[worker];
      return before?.count === count ? before : { count, sinceUs: nowUs };
    });
    return this.#beats.flatMap(({ sinceUs }, worker) =>
      nowUs - sinceUs > beatMsMax * 1_000 ? [worker] : [],
    );
  }

  #statusLine(): string {
    const { rules, last_reload } = this.#options.status();
    const states = Object.entries(rules).filter(([, count]) => count > 0);
    const total = states.reduce((sum, [, count]) => sum + count, 0);
    const counts = states.map(([state, count]) => `${count} ${state}`).join(", ");
    return [
      `${total} ${total === 1 ? "rule" : "rules"}${counts && `: ${counts}`}`,
      ...refusal(last_reload),
    ].join("; ");
  }

  #send(message: string): void {
    if (this.#path === "") return;
    this.#unsent = [...this.#unsent, `${message}\n`].slice(-unsentMax);
    this.#sendUnsent();
  }

  #sendUnsent(): void {
    const { shim, log } = this.#options;
    for (;;) {
      const [message] = this.#unsent;
      if (message === undefined) return;
      try {
        shim.notify(this.#path, message);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        if (error.code === "EAGAIN") return; // said again at the next tick
        if (!this.#hasWarned)
          log.warning(
            "Supervisor",
            `cannot tell the service manager at NOTIFY_SOCKET=${this.#path}: ${error.message}; it may take mcr for not started (systemd: Type=notify-reload, NotifyAccess=main)`,
          );
        this.#hasWarned = true;
      }
      this.#unsent.shift();
    }
  }
}

function refusal(reload: ReloadResult | null): readonly string[] {
  if (!reload || reload.ok) return [];
  return [`last reload refused: ${(reload.errors[0] ?? "").replace(/\p{Cc}+/gu, " ")}`];
}

/** sd_watchdog_enabled(3): meant for this process only when WATCHDOG_PID is its own or not set. */
function watchdogUsOf({ env, pid }: NotifierOptions): number | undefined {
  const us = Number(env["WATCHDOG_USEC"]);
  const isOurs = env["WATCHDOG_PID"] === undefined || Number(env["WATCHDOG_PID"]) === pid;
  return isOurs && Number.isInteger(us) && us > 0 ? us : undefined;
}
