// The control plane: wanted rules → rings, egress sockets, one rule table for all workers, memberships.
// Start, reload and an interface that comes or goes are the same path, `#settle`, with other rules or other
// interfaces: what is new is opened, the table is published, workers pass a batch boundary, then groups are joined
// and left, and only then is closed what nobody uses any more: a ring that goes is read to its end first. Steps run one
// after the other, never two at once.
import packageJson from "../package.json" with { type: "json" };
import { type Change, describeChanges, describeDropped, findUnsaved } from "./config/changes.ts";
import { destinationOf } from "./config/destination.ts";
import { diffRules, formatDiff, restartNotes } from "./config/diff.ts";
import { addToRunning, removeFromRunning } from "./config/running-edit.ts";
import type { Config, Rule } from "./config/schema.ts";
import { Events } from "./control/events.ts";
import { flowsSnapshot } from "./control/flows.ts";
import { PastCounts, type RuleMetrics, renderMetrics } from "./control/metrics.ts";
import { interfaceSnapshots, membershipSnapshot } from "./control/network-snapshot.ts";
import type {
  ConfigAnswer,
  ControlledRelay,
  EditResult,
  Event,
  Flows,
  InterfaceSnapshot,
  LogLevelChange,
  LogLevels,
  MembershipSnapshot,
  ReloadResult,
  RuleSnapshot,
  Stats,
  Status,
  Unsaved,
} from "./control/protocol.ts";
import {
  type DropPlace,
  differenceSnapshot,
  dropCounters,
  isoTime,
  ruleSnapshot,
  statisticsLines,
  statsSnapshot,
} from "./control/snapshot.ts";
import { assert, ExitCode, McrError, messageOf } from "./error.ts";
import type { Log } from "./log.ts";
import { counterArea } from "./native/layouts.ts";
import type { RelayHandle, Shim, TableHandle } from "./native/shim.ts";
import type { Capture } from "./net/capture.ts";
import { refreshEgresses, warnOfDrops } from "./net/egresses.ts";
import { Exclusives } from "./net/exclusive.ts";
import { Ingresses } from "./net/ingresses.ts";
import { type InterfaceState, isUsable, readInterface, type Unusable } from "./net/interfaces.ts";
import { Links } from "./net/links.ts";
import { Memberships } from "./net/memberships.ts";
import { ruleState } from "./net/rule-state.ts";
import { tableParts } from "./net/rule-table.ts";
import { RunningEgress, RunningRule } from "./net/running.ts";
import type { RuleState } from "./net/state.ts";
import { membershipsOf, wantedMemberships } from "./net/wanted.ts";
import { watchWire } from "./net/watch.ts";
import { Counters } from "./stats/counters.ts";
import { readCpuSeconds } from "./stats/cpu.ts";
import { DropWatch } from "./stats/drops.ts";
import { cumulativeBuckets, samplesOf } from "./stats/latency.ts";
import { LoadMeter } from "./stats/load.ts";
import { Rates } from "./stats/rates.ts";
import { Retired } from "./stats/retired.ts";
import { SlotPool } from "./stats/slots.ts";
import { Workers } from "./workers.ts";

const tickMs = 500;
/** A capture or an egress that failed is tried again this often. */
const retryMs = 5_000;
/** The load of a worker is that of so long. */
const loadWindowMs = 5_000;
/** Longer than it takes to read a ring that goes to its end, unless its worker is far too slow. */
const drainMsMax = 1_000;
/** The same at the stop, which has 2 s for everything: the workers empty blocks that are handed over in any case. */
const stopDrainMsMax = 200;
/** How long `mcr show flows` watches the wire. */
const watchMs = 1_000;

export interface RelayDependencies {
  readonly shim: Shim;
  readonly log: Log;
  readonly file: string;
  /** Tells several relays on one host apart. */
  readonly instance?: string | undefined;
  /** Reads and checks the rule file again; throws McrError. */
  readonly readConfig: () => Promise<Config>;
  /** Writes what runs into the rule file, which had `loaded`; throws McrError. */
  readonly saveRules: (options: {
    readonly loaded: readonly Rule[];
    readonly running: readonly Rule[];
    readonly force: boolean;
  }) => Promise<readonly Change[]>;
  readonly nowMs: () => number;
  readonly pause: (ms: number) => Promise<void>;
  /** A reload begins, or has ended: well or refused. */
  readonly onReload: (phase: "begun" | "ended") => void;
  /** Serves metrics there from now on; throws McrError where it cannot, and goes on as before. */
  readonly serveMetrics: (address: string | undefined) => void;
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
  readonly #past = new PastCounts();
  readonly #cpus: readonly number[];
  readonly #memberships: Memberships;
  readonly #workers: Workers;
  readonly #ingresses: Ingresses;
  readonly #links: Links;
  readonly #exclusives: Exclusives;
  readonly #ruleSlots = new SlotPool(counterArea.rulesMax);
  readonly #egressSlots = new SlotPool(counterArea.egressesMax);
  #interfaces: ReadonlyMap<string, InterfaceState | Unusable> = new Map();
  #rules: readonly RunningRule[] = [];
  /** What the rule file had when it was read or saved: the running rules, but for edits at run time. */
  #loaded: readonly Rule[] = [];
  /** Edits wait for the rules of the file. */
  readonly #started = Promise.withResolvers<void>();
  /** Removed from the rules, and still in a table that a worker uses. */
  #leaving: readonly RunningRule[] = [];
  #table: TableHandle | undefined;
  #epoch = 0;
  readonly #events: Events;
  readonly #rates = new Rates(() => performance.now());
  readonly #dropWatch = new DropWatch<DropPlace>();
  #watching: Promise<Flows> | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #pendingReload: Promise<ReloadResult> | undefined;
  #lastReload: ReloadResult | null = null;
  /** The start counts as one. */
  #lastSuccessMs: number;
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
    this.#lastSuccessMs = this.#startedMs;
    const cpus = shim.cpus();
    const workerCount = settings.workers === "auto" ? Math.min(cpus.length, 64) : settings.workers;
    this.#cpus = Array.from({ length: workerCount }, (_, worker) => cpus[worker % cpus.length] ?? 0);
    this.#handle = shim.openRelay(workerCount);
    this.#counters = new Counters(this.#cpus.map((_, worker) => shim.counters(this.#handle, worker)));
    this.#load = new LoadMeter(this.#counters, loadWindowMs, this.#startedMs);
    this.#retired = new Retired(this.#counters);
    this.#workers = new Workers(shim, this.#handle, this.#cpus, log, dependencies.onFatal);
    this.#ingresses = new Ingresses(shim, log, workerCount, settings);
    this.#links = new Links(shim, this.#handle, log);
    this.#exclusives = new Exclusives(shim, log);
    this.#events = new Events(nowMs);
    this.#memberships = new Memberships({
      shim,
      log,
      nowMs,
      joinedGroups,
      pause: () => pause(1),
      onChange: (change, { interface: name, group, source }, reason) =>
        this.#events.tell({
          event: "membership",
          change,
          interface: name,
          group,
          source: source ?? null,
          reason: reason ?? null,
        }),
    });
  }

  /** When this returns, what can be relayed is. The workers start while rings and sockets are opened. */
  async start(rules: readonly Rule[]): Promise<void> {
    const workers = this.#workers.start();
    await Promise.all([workers, this.#enqueue(() => this.#apply(rules))]);
    this.#loaded = rules;
    this.#started.resolve();
    if (!this.#isStopping) this.#ticker = setInterval(() => this.#tick(), tickMs);
  }

  /** Leaves every group, lets the workers send what is captured, and ends them. */
  async stop(): Promise<void> {
    if (this.#isStopping) return;
    this.#isStopping = true;
    this.#started.resolve();
    clearInterval(this.#ticker);
    this.#events.tell({ event: "stopping" });
    await this.#queue;
    this.#groupsAtStop = this.#memberships.activeGroups;
    this.#exclusives.close();
    this.#memberships.close();
    this.#ingresses.admit([]);
    const captures = [...this.#ingresses.capturing.values()];
    await this.#drain(captures, stopDrainMsMax);
    await this.#workers.stop();
    this.#ingresses.countUnread(captures);
    this.logStatistics();
    this.#deps.log.notice("Supervisor", "stopped");
  }

  logStatistics(): void {
    for (const line of statisticsLines(this.stats())) this.#deps.log.info("Stats", line);
  }

  /** One word for each worker, which it raises about once a second. */
  get beats(): ArrayLike<number> {
    return this.#workers.beats;
  }

  // -- what the control socket asks

  status(): Status {
    const rules = { waiting: 0, joining: 0, active: 0, silent: 0, failed: 0 };
    this.#updateStates();
    for (const { status } of this.#rules) rules[status.state] += 1;
    const nowMs = this.#deps.nowMs();
    return {
      version: packageJson.version,
      instance: this.#deps.instance ?? null,
      pid: process.pid,
      file: this.#deps.file,
      started: isoTime(this.#startedMs),
      uptime_s: Math.floor((nowMs - this.#startedMs) / 1000),
      profile: this.#startedWith.profile,
      fanout: this.#startedWith.fanout,
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
    return this.#rules.map((rule) => ruleSnapshot(rule, this.#counters, this.#rates));
  }

  /** Who asks while the wire is watched gets what comes of that. */
  flows(): Promise<Flows> {
    this.#watching ??= this.#watch().finally(() => {
      this.#watching = undefined;
    });
    return this.#watching;
  }

  async #watch(): Promise<Flows> {
    const { shim, pause, nowMs } = this.#deps;
    const names = new Set(this.#rules.map(({ rule }) => rule.ingress.interface));
    const states = [...names].map((name) => this.#interface(name));
    const watched = await watchWire({
      shim,
      interfaces: states.filter(isUsable),
      durationMs: watchMs,
      nowMs: () => performance.now(),
      pause,
    });
    const unusable = states.flatMap((state) =>
      isUsable(state) ? [] : [{ interface: state.name, reason: state.unusable }],
    );
    const failures = [...unusable, ...watched.failures];
    return flowsSnapshot({ ...watched, failures }, this.#rules, nowMs());
  }

  memberships(): readonly MembershipSnapshot[] {
    return this.#memberships.list().map(membershipSnapshot);
  }

  interfaces(): readonly InterfaceSnapshot[] {
    const fanoutIds = new Map([...this.#ingresses.capturing].map(([name, { fanoutId }]) => [name, fanoutId]));
    return interfaceSnapshots([...this.#interfaces.values()], fanoutIds, this.stats());
  }

  config(): ConfigAnswer {
    const { file, instance = null, log } = this.#deps;
    const { level, format, facility } = log.settings;
    return {
      file,
      instance,
      relay: { ...this.#startedWith },
      log: { level, format, facility },
      rules: this.#running().map((rule) => ({ ...rule })),
      unsaved: this.unsaved(),
    };
  }

  logLevels(): LogLevels {
    const { level, facility } = this.#deps.log.settings;
    return { level, facility };
  }

  setLogLevel({ level, facility }: LogLevelChange): LogLevels {
    const { log } = this.#deps;
    const before = log.settings;
    if (facility === undefined) log.configure({ ...before, level });
    else log.configure({ ...before, facility: { ...before.facility, [facility]: level } });
    log.notice("Supervisor", `log level${facility === undefined ? "" : ` of ${facility}`}: ${level}`);
    this.#events.tell({ event: "log-level", level, facility: facility ?? null });
    return this.logLevels();
  }

  subscribe(listener: (event: Event) => void): () => void {
    return this.#events.subscribe(listener);
  }

  stats(): Stats {
    this.#updateStates();
    this.#ingresses.takeRingDrops();
    const source = {
      counters: this.#counters,
      rates: this.#rates,
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

  /** As Prometheus reads it. */
  metrics(): string {
    const stats = this.stats();
    const snapshots = new Map(stats.rules.map((rule) => [rule.name, rule]));
    return renderMetrics({
      version: packageJson.version,
      startedMs: this.#startedMs,
      stats,
      rules: this.#rules.map((running) => this.#metricsOf(running, snapshots.get(running.rule.name))),
      leaving: this.#leaving.map((running) => this.#metricsOf(running)),
      past: this.#past,
      joins: this.#memberships.joins,
      reload: { successful: this.#lastReload?.ok ?? true, lastSuccessMs: this.#lastSuccessMs },
      cpuSeconds: readCpuSeconds(this.#cpus.length),
      residentBytes: process.memoryUsage.rss(),
    });
  }

  #metricsOf(running: RunningRule, rule = ruleSnapshot(running, this.#counters)): RuleMetrics {
    const latency = this.#counters.latency(running.slot);
    const cumulative = cumulativeBuckets(latency);
    return { rule, latency: { sum_ns: latency.sum_ns, samples: samplesOf(latency), cumulative } };
  }

  /** Requests that come while one is waiting share it: each gets the result of a reading that began after it asked. */
  reload(): Promise<ReloadResult> {
    const { onReload } = this.#deps;
    this.#pendingReload ??= this.#enqueue(() => {
      this.#pendingReload = undefined;
      onReload("begun");
      return this.#reload().finally(() => onReload("ended"));
    });
    return this.#pendingReload;
  }

  unsaved(): Unsaved {
    const { added, changed, removed } = findUnsaved(this.#loaded, this.#running());
    return { added: [...added], changed: [...changed], removed: [...removed] };
  }

  add(rules: readonly unknown[]): Promise<EditResult> {
    return this.#edit("add", () => this.#change(addToRunning(this.#running(), rules)));
  }

  remove(names: readonly string[]): Promise<EditResult> {
    return this.#edit("remove", () => this.#change(removeFromRunning(this.#running(), names)));
  }

  save(force: boolean): Promise<EditResult> {
    return this.#edit("save", async () => {
      const running = this.#running();
      const changes = await this.#deps.saveRules({ loaded: this.#loaded, running, force });
      this.#loaded = running;
      return changes;
    });
  }

  // -- edits at run time, in one queue with reloads: each begins with the rules that the one before has left

  #running(): readonly Rule[] {
    return this.#rules.map(({ rule }) => rule);
  }

  async #change(wanted: readonly Rule[]): Promise<readonly Change[]> {
    const changes = describeChanges(diffRules(this.#running(), wanted));
    await this.#apply(wanted);
    return changes;
  }

  async #edit(verb: "add" | "remove" | "save", step: () => Promise<readonly Change[]>): Promise<EditResult> {
    await this.#started.promise;
    return this.#enqueue(async () => {
      const { log, nowMs, file } = this.#deps;
      const result = (outcome: Pick<EditResult, "ok" | "changes" | "errors" | "refusal">): EditResult => {
        const told = { file, unsaved: this.unsaved(), ...outcome };
        this.#events.tell({ event: "edit", verb, ...told });
        return { time: isoTime(nowMs()), ...told };
      };
      try {
        if (this.#isStopping)
          throw new McrError(["mcr is stopping: start it again, then repeat this"], ExitCode.failed);
        const changes = await step();
        for (const { kind, name, details } of changes)
          log.notice("Supervisor", `${verb}: rule "${name}" ${kind}: ${details.join("; ")}`);
        const copy = changes.map((change) => ({ ...change, details: [...change.details] }));
        return result({ ok: true, changes: copy, errors: [], refusal: null });
      } catch (error) {
        if (!(error instanceof McrError)) throw error;
        for (const line of error.lines) log.warning("Supervisor", `${verb} refused: ${line}`);
        return result({ ok: false, changes: [], errors: [...error.lines], refusal: refusalOf(error) });
      }
    });
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
      changes: [],
      unchanged_flows: 0,
      errors: [],
      notes: [],
    };
    try {
      const config = await this.#deps.readConfig();
      const difference = diffRules(this.#running(), config.rules);
      const dropped = describeDropped(this.unsaved(), difference, "done");
      log.configure(config.log);
      await this.#apply(config.rules);
      this.#loaded = config.rules;
      const notes = [
        ...dropped,
        ...restartNotes(this.#startedWith, config.relay),
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
    this.#events.tell({ event: "reload", ...result });
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
    const staleLinks = this.#links.refresh(this.#rules, this.#interfaces);
    const linkOf = (name: string) => this.#links.of(name);
    const staleSockets = [
      ...refreshEgresses(this.#rules, this.#interfaces, linkOf, shim, log, nowMs, (running, egress) =>
        this.#tellEgress(running, egress),
      ),
      ...leaving.flatMap(({ egresses }) => egresses.map(({ fd }) => fd).filter((fd) => fd >= 0)),
    ];
    // Both rule sets pass the filter until every worker has the new table: no packet is judged by half a change.
    this.#ingresses.admit([...this.#rules, ...leaving]);
    this.#exclusives.withdraw(this.#rules, this.#ingresses.whollyCaptured);
    await this.#publish(staleCaptures);

    this.#memberships.want(wantedMemberships(this.#rules, this.#interfaces));
    await this.#memberships.settle();
    this.#ingresses.admit(this.#rules);
    this.#exclusives.apply(this.#rules, this.#ingresses.whollyCaptured);

    await this.#closeCaptures(staleCaptures);
    for (const fd of staleSockets) shim.close(fd);
    for (const link of staleLinks) shim.closeLink(link);
    for (const running of leaving) {
      const { slot, egresses } = running;
      this.#past.add(this.#metricsOf(running));
      this.#ruleSlots.release(slot);
      for (const egress of egresses) {
        this.#retired.add(egress.slot);
        this.#egressSlots.release(egress.slot);
      }
    }
    this.#leaving = [];
    this.#updateStates();
  }

  /** What was captured on an interface before it went, or before its last rule did, is relayed or counted like the rest. */
  async #closeCaptures(stale: readonly Capture[]): Promise<void> {
    if (stale.length === 0) return;
    await this.#drain(stale, drainMsMax);
    await this.#publish([]);
    this.#ingresses.close(stale);
  }

  /** Waits until the workers have sent all that lies in the rings of these captures, which admit nothing any more. */
  async #drain(captures: readonly Capture[], msMax: number): Promise<void> {
    const { pause } = this.#deps;
    const deadlineMs = performance.now() + msMax;
    while (captures.some(({ unread }) => unread > 0) && performance.now() < deadlineMs) {
      if (this.#workers.hasEnded) return; // the process is about to end, too
      await pause(1);
    }
  }

  /** Hands the table to the workers, with captures that go, and waits until none of them uses the one before. */
  async #publish(stale: readonly Capture[]): Promise<void> {
    const { shim, pause } = this.#deps;
    this.#epoch += 1;
    const parts = tableParts(this.#epoch, this.#rules, this.#ingresses.tableInterfaces(stale));
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

  #tellEgress({ rule }: RunningRule, { egress, status: { state, reason } }: RunningEgress): void {
    const destination = destinationOf(rule, egress);
    const where = { rule: rule.name, interface: egress.interface, destination };
    this.#events.tell({ event: "egress", ...where, state, reason });
  }

  // -- states

  #updateStates(): void {
    if (this.#isStopping) return; // the states of the last moment stand
    const nowMs = this.#deps.nowMs();
    for (const running of this.#rules) {
      running.exclusive = this.#exclusives.stateOf(running);
      const [state, reason] = this.#stateOf(running, nowMs);
      if (!running.status.change(state, reason, nowMs)) continue;
      const level = state === "failed" ? "error" : state === "waiting" ? "warning" : "info";
      const why = reason === null ? "" : `: ${reason}`;
      this.#deps.log.write("RuleDispatch", level, `rule "${running.rule.name}": ${state}${why}`);
      this.#events.tell({ event: "rule", rule: running.rule.name, state, reason });
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
    this.#measure();
    if (this.#isTicking || this.#isStopping || !this.#needsSettling()) return;
    this.#isTicking = true;
    this.#enqueue(() => this.#settle())
      .catch((error) => this.#deps.onFatal(messageOf(error)))
      .finally(() => {
        this.#isTicking = false;
      });
  }

  #measure(): void {
    if (this.#rates.isDue) this.#rates.sample(countingOf(this.#rules, this.#counters));
    if (!this.#events.hasListeners) {
      this.#dropWatch.forget();
      return;
    }
    const counters = dropCounters(this.#rules, this.#ingresses.statistics, this.#counters);
    for (const { change, place, packets } of this.#dropWatch.look(counters, performance.now()))
      this.#events.tell({ event: "drops", change, ...place, packets });
  }

  /** An interface has come, gone or changed, or something that failed is due again. */
  #needsSettling(): boolean {
    const nowMs = this.#deps.nowMs();
    if ((this.#memberships.nextRetryMs ?? Number.POSITIVE_INFINITY) <= nowMs) return true;
    if (this.#links.hasRefusal) return true;
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

function* countingOf(
  rules: readonly RunningRule[],
  counters: Counters,
): Generator<[what: object, packets: number, bytes: number]> {
  for (const running of rules) {
    const { packets, bytes } = counters.ruleTraffic(running.slot);
    yield [running, packets, bytes];
    for (const egress of running.egresses) {
      const sent = counters.egressTraffic(egress.slot);
      yield [egress, sent.packets, sent.bytes];
    }
  }
}

function refusalOf({ exitCode }: McrError): EditResult["refusal"] {
  if (exitCode === ExitCode.config) return "config";
  return exitCode === ExitCode.noPermission ? "noPermission" : "failed";
}
