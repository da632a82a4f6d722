// The rules changed while they run: reload, add, remove and save, each with its result, which is answered, logged and
// told as an event. Each begins with the rules that the one before has left, and what is refused changes nothing.
// Each is one turn of the relay; adds and removes that wait for theirs share one, so that a hundred of them cost the
// relay one new table and not a hundred.
import { type Change, describeChanges, describeDropped, findUnsaved } from "./config/changes.ts";
import { diffRules, formatDiff, restartNotes } from "./config/diff.ts";
import { addToRunning, removeFromRunning } from "./config/running-edit.ts";
import type { Config, Rule } from "./config/schema.ts";
import type { Events } from "./control/events.ts";
import type { EditResult, ReloadResult, Unsaved } from "./control/protocol.ts";
import { differenceSnapshot, isoTime } from "./control/snapshot.ts";
import { assert, ExitCode, McrError } from "./error.ts";
import type { Log } from "./log.ts";
import type { Apply, Relay } from "./relay.ts";

export interface EditsDependencies {
  readonly relay: Pick<Relay, "rules" | "settings" | "inTurn">;
  readonly log: Log;
  readonly events: Events;
  readonly file: string;
  /** Reads and checks the rule file again; throws McrError. */
  readonly readConfig: () => Promise<Config>;
  /** Writes what runs into the rule file, which had `loaded`; throws McrError. */
  readonly saveRules: (options: {
    readonly loaded: readonly Rule[];
    readonly running: readonly Rule[];
    readonly force: boolean;
  }) => Promise<readonly Change[]>;
  /** A reload begins, or has ended: well or refused. */
  readonly onReload: (phase: "begun" | "ended") => void;
  /** Serves metrics there from now on; throws McrError where it cannot, and goes on as before. */
  readonly serveMetrics: (address: string | undefined) => void;
  readonly nowMs: () => number;
  /** Lets others be answered between the checks of many changes. */
  readonly pause: () => Promise<void>;
}

type Verb = "add" | "remove" | "save";
type Outcome = Pick<EditResult, "ok" | "changes" | "errors" | "refusal">;

interface WaitingChange {
  readonly verb: Verb;
  /** The wanted rules, or McrError. */
  readonly change: (running: readonly Rule[]) => readonly Rule[];
}

export class Edits {
  readonly #deps: EditsDependencies;
  /** What the rule file had when it was read or saved: the running rules, but for edits at run time. */
  #loaded: readonly Rule[] | undefined;
  /** Edits wait for the rules of the file. */
  readonly #opened = Promise.withResolvers<void>();
  #isClosed = false;
  #pendingReload: Promise<ReloadResult> | undefined;
  #waiting: WaitingChange[] = [];
  /** The turn of those that wait, with a result for each. */
  #pendingChanges: Promise<readonly EditResult[]> | undefined;
  #lastReload: ReloadResult | null = null;
  /** The start counts as one. */
  #lastSuccessMs: number;

  constructor(dependencies: EditsDependencies) {
    this.#deps = dependencies;
    this.#lastSuccessMs = dependencies.nowMs();
  }

  /** The rules of the file run. A reload may have read it anew meanwhile. */
  open(loaded: readonly Rule[]): void {
    this.#loaded ??= loaded;
    this.#opened.resolve();
  }

  /** The relay is about to stop: edits are refused, those that wait, too. */
  close(): void {
    this.#isClosed = true;
    this.#opened.resolve();
  }

  get lastReload(): ReloadResult | null {
    return this.#lastReload;
  }

  get lastSuccessMs(): number {
    return this.#lastSuccessMs;
  }

  unsaved(): Unsaved {
    const { added, changed, removed } = findUnsaved(this.#loaded ?? [], this.#running());
    return { added: [...added], changed: [...changed], removed: [...removed] };
  }

  /** Requests that come while one is waiting share it: each gets the result of a reading that began after it asked. */
  reload(): Promise<ReloadResult> {
    const { relay, onReload } = this.#deps;
    this.#pendingReload ??= relay.inTurn((apply) => {
      this.#pendingReload = undefined;
      onReload("begun");
      return this.#reload(apply).finally(() => onReload("ended"));
    });
    return this.#pendingReload;
  }

  add(rules: readonly unknown[]): Promise<EditResult> {
    return this.#change("add", (running) => addToRunning(running, rules));
  }

  remove(names: readonly string[]): Promise<EditResult> {
    return this.#change("remove", (running) => removeFromRunning(running, names));
  }

  async save(force: boolean): Promise<EditResult> {
    await this.#opened.promise;
    const { relay, saveRules } = this.#deps;
    return relay.inTurn(async () => {
      const outcome = await this.#attempt("save", async () => {
        const running = this.#running();
        const changes = await saveRules({ loaded: this.#loaded ?? [], running, force });
        this.#loaded = running;
        return changes;
      });
      return this.#tell("save", outcome, this.unsaved());
    });
  }

  #expectOpen(): void {
    if (this.#isClosed)
      throw new McrError(["mcr is stopping: start it again, then repeat this"], ExitCode.failed);
  }

  #running(): readonly Rule[] {
    return this.#deps.relay.rules.map(({ rule }) => rule);
  }

  async #change(verb: Verb, change: WaitingChange["change"]): Promise<EditResult> {
    await this.#opened.promise;
    const place = this.#waiting.push({ verb, change }) - 1;
    this.#pendingChanges ??= this.#deps.relay.inTurn((apply) => this.#changeAll(apply));
    const result = (await this.#pendingChanges)[place];
    assert(result, "who waits for a turn gets a result of it");
    return result;
  }

  async #changeAll(apply: Apply): Promise<readonly EditResult[]> {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#pendingChanges = undefined;
    const running = this.#running();
    let wanted = running;
    const outcomes: [Verb, Outcome][] = [];
    for (const { verb, change } of waiting) {
      const outcome = await this.#attempt(verb, () => {
        const next = change(wanted);
        const changes = describeChanges(diffRules(wanted, next));
        wanted = next;
        return changes;
      });
      outcomes.push([verb, outcome]);
      await this.#deps.pause();
    }
    if (wanted !== running) await apply(wanted);
    const unsaved = this.unsaved();
    return outcomes.map(([verb, outcome]) => this.#tell(verb, outcome, unsaved));
  }

  async #attempt(verb: Verb, step: () => readonly Change[] | Promise<readonly Change[]>): Promise<Outcome> {
    try {
      this.#expectOpen();
      const changes = (await step()).map((change) => ({ ...change, details: [...change.details] }));
      return { ok: true, changes, errors: [], refusal: null };
    } catch (error) {
      if (!(error instanceof McrError)) throw error;
      for (const line of error.lines) this.#deps.log.warning("Supervisor", `${verb} refused: ${line}`);
      return { ok: false, changes: [], errors: [...error.lines], refusal: refusalOf(error) };
    }
  }

  /** Logs what was done, once it is. */
  #tell(verb: Verb, outcome: Outcome, unsaved: Unsaved): EditResult {
    const { log, events, nowMs, file } = this.#deps;
    for (const { kind, name, details } of outcome.changes)
      log.notice("Supervisor", `${verb}: rule "${name}" ${kind}: ${details.join("; ")}`);
    const told = { file, unsaved, ...outcome };
    events.tell({ event: "edit", verb, ...told });
    return { time: isoTime(nowMs()), ...told };
  }

  async #reload(apply: Apply): Promise<ReloadResult> {
    const { relay, log, events, nowMs, readConfig } = this.#deps;
    const nothing = {
      difference: null,
      added: [],
      removed: [],
      changed: [],
      unchanged: 0,
      changes: [],
      unchanged_flows: 0,
      errors: [],
      notes: [],
    };
    try {
      this.#expectOpen();
      const config = await readConfig();
      const difference = diffRules(this.#running(), config.rules);
      const dropped = describeDropped(this.unsaved(), difference, "done");
      log.configure(config.log);
      await apply(config.rules);
      this.#loaded = config.rules;
      const notes = [
        ...dropped,
        ...restartNotes(relay.settings, config.relay),
        ...this.#moveMetrics(config.relay.metrics),
      ];
      const text = formatDiff(difference);
      log.notice("Supervisor", `reload: ${text}`);
      for (const note of notes) log.warning("Supervisor", `reload: ${note}`);
      this.#lastSuccessMs = nowMs();
      this.#lastReload = {
        time: isoTime(this.#lastSuccessMs),
        ok: true,
        ...differenceSnapshot(difference),
        errors: [],
        notes,
      };
    } catch (error) {
      if (!(error instanceof McrError)) throw error;
      for (const line of error.lines) log.error("Supervisor", `reload refused: ${line}`);
      this.#lastReload = { ...nothing, time: isoTime(nowMs()), ok: false, errors: [...error.lines] };
    }
    const { time: _, ...result } = this.#lastReload;
    events.tell({ event: "reload", ...result });
    return this.#lastReload;
  }

  /** An address that cannot be served costs no rule its reload. */
  #moveMetrics(address: string | undefined): readonly string[] {
    try {
      this.#deps.serveMetrics(address);
      return [];
    } catch (error) {
      if (!(error instanceof McrError)) throw error;
      return error.lines.map((line) => `${line}; metrics stay as they were`);
    }
  }
}

function refusalOf({ exitCode }: McrError): EditResult["refusal"] {
  if (exitCode === ExitCode.config) return "config";
  return exitCode === ExitCode.noPermission ? "noPermission" : "failed";
}
