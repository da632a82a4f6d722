// The rules changed while they run: reload, add, remove and save, each with its result, which is answered, logged and
// told as an event. Each begins with the rules that the one before has left, and what is refused changes nothing.
// Each is one turn of the relay; adds and removes that wait for theirs share one, so that a hundred of them cost it a
// few new tables and not a hundred.
import { type Change, describeChanges, describeDropped, findUnsaved } from "./config/changes.ts";
import { diffRules, formatDiff, restartNotes } from "./config/diff.ts";
import { areSound, type Checks } from "./config/parse.ts";
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

/** A turn with more of them would keep other requests waiting for too long. */
const changesPerTurn = 25;

type Verb = "add" | "remove" | "save";
type Outcome = Pick<EditResult, "ok" | "changes" | "errors" | "refusal">;

interface WaitingChange {
  readonly verb: Verb;
  /** The wanted rules, or McrError. */
  readonly change: (running: readonly Rule[], checks: Checks) => readonly Rule[];
}

/** Changes that wait for the relay, and later a result for each. */
interface Turn {
  readonly waiting: WaitingChange[];
  readonly results: Promise<readonly EditResult[]>;
}

/** What becomes of those that wait: what the last one of them leaves, and an outcome for each. */
interface Changed {
  readonly wanted: readonly Rule[];
  /** Every rule that any of them began with or left: where these are sound together, so was each step. */
  readonly seen: readonly Rule[];
  readonly outcomes: readonly Outcome[];
}

export class Edits {
  readonly #deps: EditsDependencies;
  /** What the rule file had when it was read or saved: the running rules, but for edits at run time. */
  #loaded: readonly Rule[] | undefined;
  /** Edits wait for the rules of the file. */
  readonly #opened = Promise.withResolvers<void>();
  #isClosed = false;
  #pendingReload: Promise<ReloadResult> | undefined;
  /** Which changes that come now share, while it waits and is not full. */
  #nextTurn: Turn | undefined;
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
    return this.#change("add", (running, checks) => addToRunning(running, rules, checks));
  }

  remove(names: readonly string[]): Promise<EditResult> {
    return this.#change("remove", (running) => removeFromRunning(running, names));
  }

  async save(force: boolean): Promise<EditResult> {
    await this.#opened.promise;
    const { relay, saveRules } = this.#deps;
    return relay.inTurn(async () => {
      const outcome = await this.#attempt(async () => {
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
    const isFull = this.#nextTurn?.waiting.length === changesPerTurn;
    const turn = (isFull ? undefined : this.#nextTurn) ?? this.#openTurn();
    const place = turn.waiting.push({ verb, change }) - 1;
    const result = (await turn.results)[place];
    assert(result, "who waits for a turn gets a result of it");
    return result;
  }

  #openTurn(): Turn {
    const waiting: WaitingChange[] = [];
    const results = this.#deps.relay.inTurn((apply) => {
      if (this.#nextTurn === turn) this.#nextTurn = undefined;
      return this.#changeAll(waiting, apply);
    });
    const turn: Turn = { waiting, results };
    this.#nextTurn = turn;
    return turn;
  }

  async #changeAll(waiting: readonly WaitingChange[], apply: Apply): Promise<readonly EditResult[]> {
    const running = this.#running();
    const { wanted, outcomes } = await this.#makeAll(waiting, running);
    if (wanted !== running) await apply(wanted);
    const unsaved = this.unsaved();
    return waiting.map(({ verb }, place) => {
      const outcome = outcomes[place];
      assert(outcome, "each change has an outcome");
      return this.#tell(verb, outcome, unsaved);
    });
  }

  /** Where one is refused, each is checked among all rules, to tell which one it is and everything that is wrong. */
  async #makeAll(waiting: readonly WaitingChange[], running: readonly Rule[]): Promise<Changed> {
    if (waiting.length > 1) {
      const changed = await this.#make(waiting, running, "alone");
      if (changed.outcomes.every(({ ok }) => ok) && areSound(changed.seen)) return changed;
    }
    return this.#make(waiting, running, "among all");
  }

  async #make(waiting: readonly WaitingChange[], running: readonly Rule[], checks: Checks): Promise<Changed> {
    let wanted = running;
    const seen = new Set(running);
    const outcomes: Outcome[] = [];
    for (const { change } of waiting) {
      const outcome = await this.#attempt(() => {
        const next = change(wanted, checks);
        const changes = describeChanges(diffRules(wanted, next));
        wanted = next;
        for (const rule of next) seen.add(rule);
        return changes;
      });
      outcomes.push(outcome);
      await this.#deps.pause();
    }
    return { wanted, seen: [...seen], outcomes };
  }

  async #attempt(step: () => readonly Change[] | Promise<readonly Change[]>): Promise<Outcome> {
    try {
      this.#expectOpen();
      const changes = (await step()).map((change) => ({ ...change, details: [...change.details] }));
      return { ok: true, changes, errors: [], refusal: null };
    } catch (error) {
      if (!(error instanceof McrError)) throw error;
      return { ok: false, changes: [], errors: [...error.lines], refusal: refusalOf(error) };
    }
  }

  /** Logs what was done, once it is, or why it was not. */
  #tell(verb: Verb, outcome: Outcome, unsaved: Unsaved): EditResult {
    const { log, events, nowMs, file } = this.#deps;
    for (const { kind, name, details } of outcome.changes)
      log.notice("Supervisor", `${verb}: rule "${name}" ${kind}: ${details.join("; ")}`);
    for (const line of outcome.errors) log.warning("Supervisor", `${verb} refused: ${line}`);
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
