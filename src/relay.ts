// The control plane: wanted rules → rings, egress sockets, one rule table for all workers, memberships.
// Start, reload and an interface that comes or goes are the same path, `#settle`, with other rules or other
// interfaces: what is new is opened, the table is published, workers pass a batch boundary, then groups are joined
// and left, and only then is closed what nobody uses any more. Steps run one after the other, never two at once.
import packageJson from "../package.json" with { type: "json" };
import { diffRules, formatDiff } from "./config/diff.ts";
import type { Config, Rule } from "./config/schema.ts";
import type { ControlledRelay, ReloadResult, RuleSnapshot, Stats, Status } from "./control/protocol.ts";
import { isoTime, ruleSnapshot, statisticsLines, statsSnapshot } from "./control/snapshot.ts";
import { assert, McrError, messageOf } from "./error.ts";
import type { Log } from "./log.ts";
import { counterArea } from "./native/layouts.ts";
import type { RelayHandle, Shim, TableHandle } from "./native/shim.ts";
import { refreshEgresses, warnOfDrops } from "./net/egresses.ts";
import { Ingresses } from "./net/ingresses.ts";
import { type InterfaceState, readInterface, type Unusable } from "./net/interfaces.ts";
import { Memberships } from "./net/memberships.ts";
import { ruleState } from "./net/rule-state.ts";
import { tableParts } from "./net/rule-table.ts";
import { RunningEgress, RunningRule } from "./net/running.ts";
import type { RuleState } from "./net/state.ts";
import { membershipsOf, wantedMemberships } from "./net/wanted.ts";
import { Counters } from "./stats/counters.ts";
import { LoadMeter } from "./stats/load.ts";
import { Retired } from "./stats/retired.ts";
import { SlotPool } from "./stats/slots.ts";
import { Workers } from "./workers.ts";

const tickMs = 500;
/** A capture or an egress that failed is tried again this often. */
const retryMs = 5_000;
/** The load of a worker is that of so long. */
const loadWindowMs = 5_000;
/** Longer than a block waits in a ring: what was captured before the stop is forwarded. */
const drainMs = 10;

export interface RelayDependencies {
  readonly shim: Shim;
  readonly log: Log;
  readonly file: string;
  /** Reads and checks the rule file again; throws McrError. */
  readonly readConfig: () => Promise<Config>;
  readonly nowMs: () => number;
  readonly pause: (ms: number) => Promise<void>;
  readonly joinedGroups: () => ReadonlyMap<string, ReadonlySet<string>> | undefined;
  /** The process cannot go on: it has to end, and the service manager starts it again. */
  readonly onFatal: (reason: string) => void;
}

export class Relay implements ControlledRelay {
  readonly #deps: RelayDependencies;
  /** What only a restart changes. */
  readonly #startedWith: Config["relay"];
  readonly #startedMs: number;
  readonly #handle: RelayHandle;
  readonly #counters: Counters;
  readonly #load: LoadMeter;
  readonly #retired: Retired;
  readonly #cpus: readonly number[];
  readonly #memberships: Memberships;
  readonly #workers: Workers;
  readonly #ingresses: Ingresses;
  readonly #ruleSlots = new SlotPool(counterArea.rulesMax);
  readonly #egressSlots = new SlotPool(counterArea.egressesMax);
  #interfaces: ReadonlyMap<string, InterfaceState | Unusable> = new Map();
  #rules: readonly RunningRule[] = [];
  /** Removed from the rules, and still in a table that a worker uses. */
  #leaving: readonly RunningRule[] = [];
  #table: TableHandle | undefined;
  #epoch = 0;
  #queue: Promise<unknown> = Promise.resolve();
  #pendingReload: Promise<ReloadResult> | undefined;
  #lastReload: ReloadResult | null = null;
  #retryAtMs = 0;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #isTicking = false;
  #isStopping = false;
  /** The final statistics tell what was joined until the stop, not that nothing is any more. */
  #groupsAtStop: number | undefined;

  /** Opens what all workers share; nothing runs before `start`. */
  constructor(settings: Config["relay"], dependencies: RelayDependencies) {
    const { shim, nowMs, log, pause, joinedGroups } = dependencies;
    this.#deps = dependencies;
    this.#startedWith = settings;
    this.#startedMs = nowMs();
    const cpus = shim.cpus();
    const workerCount = settings.workers === "auto" ? Math.min(cpus.length, 64) : settings.workers;
    this.#cpus = Array.from({ length: workerCount }, (_, worker) => cpus[worker % cpus.length] ?? 0);
    this.#handle = shim.openRelay(workerCount);
    this.#counters = new Counters(this.#cpus.map((_, worker) => shim.counters(this.#handle, worker)));
    this.#load = new LoadMeter(this.#counters, loadWindowMs, this.#startedMs);
    this.#retired = new Retired(this.#counters);
    this.#workers = new Workers(shim, this.#handle, this.#cpus, log, dependencies.onFatal);
    this.#ingresses = new Ingresses(shim, log, workerCount);
    this.#memberships = new Memberships({ shim, log, nowMs, joinedGroups, pause: () => pause(1) });
  }

  /** Workers first, then the rules: when this returns, what can be relayed is. */
  async start(rules: readonly Rule[]): Promise<void> {
    await this.#workers.start();
    if (this.#isStopping) return;
    await this.#enqueue(() => this.#apply(rules));
    if (!this.#isStopping) this.#ticker = setInterval(() => this.#tick(), tickMs);
  }

  /** Leaves every group, lets the workers send what is captured, and ends them. */
  async stop(): Promise<void> {
    if (this.#isStopping) return;
    this.#isStopping = true;
    clearInterval(this.#ticker);
    const { pause, log } = this.#deps;
    await this.#queue;
    this.#groupsAtStop = this.#memberships.activeGroups;
    this.#memberships.close();
    this.#ingresses.admit([]);
    await pause(drainMs);
    await this.#workers.stop();
    this.logStatistics();
    log.notice("Supervisor", "stopped");
  }

  logStatistics(): void {
    for (const line of statisticsLines(this.stats())) this.#deps.log.info("Stats", line);
  }

  // -- what the control socket asks

  status(): Status {
    const rules = { waiting: 0, joining: 0, active: 0, silent: 0, failed: 0 };
    this.#updateStates();
    for (const { status } of this.#rules) rules[status.state] += 1;
    const nowMs = this.#deps.nowMs();
    return {
      version: packageJson.version,
      pid: process.pid,
      file: this.#deps.file,
      started: isoTime(this.#startedMs),
      uptime_s: Math.floor((nowMs - this.#startedMs) / 1000),
      workers: this.#cpus.map((cpu, worker) => ({ worker, cpu })),
      interfaces: [...this.#ingresses.capturing].map(([name, { fanoutId }]) => ({
        interface: name,
        fanout_id: fanoutId,
      })),
      rules,
      last_reload: this.#lastReload,
    };
  }

  rules(): readonly RuleSnapshot[] {
    this.#updateStates();
    return this.#rules.map((rule) => ruleSnapshot(rule, this.#counters));
  }

  stats(): Stats {
    this.#updateStates();
    this.#ingresses.takeRingDrops();
    const source = {
      counters: this.#counters,
      rules: this.#rules,
      leaving: this.#leaving,
      interfaces: this.#ingresses.statistics,
      retired: this.#retired.workers,
      cpus: this.#cpus,
      loadPercent: this.#load.percent(this.#deps.nowMs()),
    };
    const igmp = {
      ...this.#memberships.statistics,
      active_groups: this.#groupsAtStop ?? this.#memberships.activeGroups,
    };
    return statsSnapshot(source, igmp, this.#deps.nowMs());
  }

  /** Requests that come while one is waiting share it: each gets the result of a reading that began after it asked. */
  reload(): Promise<ReloadResult> {
    this.#pendingReload ??= this.#enqueue(() => {
      this.#pendingReload = undefined;
      return this.#reload();
    });
    return this.#pendingReload;
  }

  // -- rules

  async #reload(): Promise<ReloadResult> {
    const { log, nowMs } = this.#deps;
    const nothing = {
      difference: null,
      added: [],
      removed: [],
      changed: [],
      unchanged: 0,
      errors: [],
      notes: [],
    };
    try {
      const config = await this.#deps.readConfig();
      const notes = restartNotes(this.#startedWith, config.relay);
      const running = this.#rules.map(({ rule }) => rule);
      const difference = diffRules(running, config.rules);
      log.configure(config.log);
      await this.#apply(config.rules);
      const text = formatDiff(difference);
      log.notice("Supervisor", `reload: ${text}`);
      for (const note of notes) log.warning("Supervisor", `reload: ${note}`);
      this.#lastReload = {
        time: isoTime(nowMs()),
        ok: true,
        difference: text,
        added: difference.added.map(({ name }) => name),
        removed: difference.removed.map(({ name }) => name),
        changed: difference.changed.map(({ after }) => after.name),
        unchanged: difference.unchanged.length,
        errors: [],
        notes,
      };
    } catch (error) {
      if (!(error instanceof McrError)) throw error;
      for (const line of error.lines) log.error("Supervisor", `reload refused: ${line}`);
      this.#lastReload = { ...nothing, time: isoTime(nowMs()), ok: false, errors: [...error.lines] };
    }
    return this.#lastReload;
  }

  /** Unchanged rules keep their RunningRule, so their counters, sockets and states. */
  async #apply(rules: readonly Rule[]): Promise<void> {
    const byRule = new Map(this.#rules.map((running) => [running.rule, running]));
    const { unchanged } = diffRules([...byRule.keys()], rules);
    const kept = new Map(unchanged.map((rule) => [rule.name, byRule.get(rule)]));
    const before = this.#rules;
    this.#rules = rules.map((rule) => kept.get(rule.name) ?? this.#run(rule));
    const keptRules = new Set(this.#rules);
    this.#leaving = before.filter((running) => !keptRules.has(running));
    await this.#settle();
  }

  #run(rule: Rule): RunningRule {
    const { shim, nowMs } = this.#deps;
    const slot = this.#ruleSlots.take();
    shim.resetRuleCounters(this.#handle, slot);
    const egresses = rule.egress.map((egress) => {
      const egressSlot = this.#egressSlots.take();
      shim.resetEgressCounters(this.#handle, egressSlot);
      return new RunningEgress(egress, egressSlot, nowMs());
    });
    return new RunningRule(rule, slot, egresses, nowMs());
  }

  /** Brings rings, sockets, table and memberships in line with the rules and interfaces of this moment. */
  async #settle(): Promise<void> {
    const { shim, log } = this.#deps;
    const leaving = this.#leaving;
    const nowMs = this.#deps.nowMs();
    this.#interfaces = this.#readInterfaces();
    this.#retryAtMs = nowMs + retryMs;

    const ingressNames = new Set(this.#rules.map(({ rule }) => rule.ingress.interface));
    const staleCaptures = this.#ingresses.refresh(this.#interfaces, ingressNames);
    const staleSockets = [
      ...refreshEgresses(this.#rules, this.#interfaces, shim, log, nowMs),
      ...leaving.flatMap(({ egresses }) => egresses.map(({ fd }) => fd).filter((fd) => fd >= 0)),
    ];
    // Both rule sets pass the filter until every worker has the new table: no packet is judged by half a change.
    this.#ingresses.admit([...this.#rules, ...leaving]);
    await this.#publish();

    this.#memberships.want(wantedMemberships(this.#rules, this.#interfaces));
    await this.#memberships.settle();
    this.#ingresses.admit(this.#rules);

    for (const capture of staleCaptures) capture.close();
    for (const fd of staleSockets) shim.close(fd);
    for (const { slot, egresses } of leaving) {
      this.#ruleSlots.release(slot);
      for (const egress of egresses) {
        this.#retired.add(egress.slot);
        this.#egressSlots.release(egress.slot);
      }
    }
    this.#leaving = [];
    this.#updateStates();
  }

  /** Hands the table to the workers and waits until none of them uses the one before. */
  async #publish(): Promise<void> {
    const { shim, pause } = this.#deps;
    this.#epoch += 1;
    const parts = tableParts(this.#epoch, this.#rules, this.#ingresses.capturing);
    const table = shim.buildTable(this.#handle, parts);
    shim.publish(this.#handle, table);
    while (shim.epochSeen(this.#handle) < this.#epoch) {
      if (this.#workers.hasEnded) return; // the process is about to end, too
      await pause(1);
    }
    if (this.#table !== undefined) shim.freeTable(this.#table);
    this.#table = table;
  }

  // -- interfaces and sockets

  #readInterfaces(): ReadonlyMap<string, InterfaceState | Unusable> {
    const names = this.#rules.flatMap(({ rule }) => [
      rule.ingress.interface,
      ...rule.egress.map((egress) => egress.interface),
    ]);
    return new Map([...new Set(names)].map((name) => [name, readInterface(this.#deps.shim, name)]));
  }

  #interface(name: string): InterfaceState | Unusable {
    const state = this.#interfaces.get(name);
    assert(state, `interface ${name} of a running rule was read`);
    return state;
  }

  // -- states

  #updateStates(): void {
    if (this.#isStopping) return; // the states of the last moment stand
    const nowMs = this.#deps.nowMs();
    for (const running of this.#rules) {
      const [state, reason] = this.#stateOf(running, nowMs);
      if (!running.status.change(state, reason, nowMs)) continue;
      const level = state === "failed" ? "error" : state === "waiting" ? "warning" : "info";
      const why = reason === null ? "" : `: ${reason}`;
      this.#deps.log.write("RuleDispatch", level, `rule "${running.rule.name}": ${state}${why}`);
    }
  }

  #stateOf(running: RunningRule, nowMs: number): readonly [RuleState, string | null] {
    const name = running.rule.ingress.interface;
    const joins = membershipsOf(running, this.#interfaces).map((each) => this.#memberships.stateOf(each));
    const isJoined = joins.length > 0 && joins.every((join) => join === "joined");
    running.joinedAtMs = isJoined ? (running.joinedAtMs ?? nowMs) : undefined;
    return ruleState({
      interface: this.#interface(name),
      captureFailure: this.#ingresses.failureOf(name),
      joins,
      joinedAtMs: running.joinedAtMs ?? nowMs,
      lastPacketMs: this.#counters.lastPacketMs(running.slot),
      nowMs,
    });
  }

  // -- time

  #tick(): void {
    this.#ingresses.takeRingDrops();
    this.#load.take(this.#deps.nowMs());
    warnOfDrops(this.#rules, this.#counters, this.#deps.log);
    this.#updateStates();
    if (this.#isTicking || this.#isStopping || !this.#needsSettling()) return;
    this.#isTicking = true;
    this.#enqueue(() => this.#settle())
      .catch((error) => this.#deps.onFatal(messageOf(error)))
      .finally(() => {
        this.#isTicking = false;
      });
  }

  /** An interface has come, gone or changed, or something that failed is due again. */
  #needsSettling(): boolean {
    const nowMs = this.#deps.nowMs();
    if ((this.#memberships.nextRetryMs ?? Number.POSITIVE_INFINITY) <= nowMs) return true;
    for (const [name, before] of this.#interfaces)
      if (!Bun.deepEquals(before, readInterface(this.#deps.shim, name))) return true;
    if (nowMs < this.#retryAtMs) return false;
    return (
      this.#ingresses.hasFailure ||
      this.#rules.some(({ egresses }) => egresses.some(({ status }) => status.state === "failed"))
    );
  }

  /** One step at a time, in the order they were asked for. */
  #enqueue<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(step);
    this.#queue = result.catch(() => undefined);
    return result;
  }
}

/** [relay] keys that the file changes and only a restart can. */
function restartNotes(running: Config["relay"], wanted: Config["relay"]): string[] {
  const keys = ["workers", "profile", "fanout", "control", "metrics"] as const;
  return keys
    .filter((key) => running[key] !== wanted[key])
    .map((key) => `relay.${key} is ${wanted[key] ?? "off"} in the file and takes effect at the next start`);
}
