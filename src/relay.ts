// The control plane: wanted rules → rings, egress sockets, one rule table for all workers, memberships.
// Start, reload and an interface that comes or goes are the same path, `#settle`, with other rules or other
// interfaces: what is new is opened, the table is published, workers pass a batch boundary, then groups are joined
// and left, and only then is closed what nobody uses any more: a ring that goes is read to its end first. Steps run one
// after the other, never two at once.
import type { Clock } from "./clock.ts";
import { destinationOf } from "./config/destination.ts";
import { diffRules } from "./config/diff.ts";
import type { Config, Rule } from "./config/schema.ts";
import type { Events } from "./control/events.ts";
import type { Stats } from "./control/protocol.ts";
import { statisticsLines } from "./control/snapshot.ts";
import { type Counting, Statistics } from "./control/statistics.ts";
import { assert, messageOf } from "./error.ts";
import type { Log } from "./log.ts";
import { counterArea } from "./native/layouts.ts";
import type { RelayHandle, Shim, TableHandle } from "./native/shim.ts";
import type { Capture } from "./net/capture.ts";
import { DeviceDropsReader } from "./net/device-drops.ts";
import { logEgressState, refreshEgresses, warnOfDrops } from "./net/egresses.ts";
import { Exclusives } from "./net/exclusive.ts";
import { Ingresses } from "./net/ingresses.ts";
import { type InterfaceState, isUsable, readInterface, type Unusable } from "./net/interfaces.ts";
import { Links } from "./net/links.ts";
import { Loops } from "./net/loops.ts";
import { Memberships } from "./net/memberships.ts";
import { Neighbours } from "./net/neighbours.ts";
import { Queriers } from "./net/queriers.ts";
import { ruleState } from "./net/rule-state.ts";
import { tableParts } from "./net/rule-table.ts";
import { RunningEgress, RunningRule } from "./net/running.ts";
import type { RuleState } from "./net/state.ts";
import { type Interfaces, membershipsOf, wantedMemberships } from "./net/wanted.ts";
import { Counters } from "./stats/counters.ts";
import { SlotPool } from "./stats/slots.ts";
import { Workers } from "./workers.ts";

const tickMs = 500;
/** Every rule is looked at, for its state and its drops, at every second tick: an idle mcr of many rules does little else. */
const ticksPerLook = 2;
/** A capture, a link or an egress that failed is tried again this often. */
const retryMs = 5_000;
/** Longer than it takes to read a ring that goes to its end, unless its worker is far too slow. */
const drainMsMax = 1_000;
/** The same at the stop, which has 2 s for everything: the workers empty blocks that are handed over in any case. */
const stopDrainMsMax = 200;

export interface RelayDependencies {
  readonly shim: Shim;
  readonly log: Log;
  readonly events: Events;
  readonly clock: Clock;
  readonly pause: (ms: number) => Promise<void>;
  readonly joinedGroups: () => ReadonlyMap<string, ReadonlySet<string>> | undefined;
  /** The process cannot go on: it has to end, and the service manager starts it again. */
  readonly onFatal: (reason: string) => void;
}

/** Brings about that these rules run, and no others. Returns when they do. */
export type Apply = (rules: readonly Rule[]) => Promise<void>;

/** The relay at one moment. */
export interface RelayView {
  readonly rules: readonly RunningRule[];
  /** Removed from the rules, and still in a table that a worker uses. */
  readonly leaving: readonly RunningRule[];
  /** Every one that a rule names. */
  readonly interfaces: Interfaces;
  /** Of the interfaces that capture. */
  readonly fanoutIds: ReadonlyMap<string, number>;
}

export class Relay {
  readonly #deps: RelayDependencies;
  /** What only a restart changes. */
  readonly settings: Config["relay"];
  readonly startedMs: number;
  readonly #startedElapsedMs: number;
  /** CPU of each worker, in order. */
  readonly cpus: readonly number[];
  readonly statistics: Statistics;
  readonly #handle: RelayHandle;
  readonly #counters: Counters;
  readonly #memberships: Memberships;
  readonly #workers: Workers;
  readonly #ingresses: Ingresses;
  readonly #queriers: Queriers;
  readonly #links: Links;
  readonly #exclusives: Exclusives;
  readonly #loops: Loops;
  readonly #neighbours: Neighbours;
  readonly #deviceDrops: DeviceDropsReader;
  readonly #ruleSlots = new SlotPool(counterArea.rulesMax);
  readonly #egressSlots = new SlotPool(counterArea.egressesMax);
  #interfaces: Interfaces = new Map();
  #rules: readonly RunningRule[] = [];
  #leaving: readonly RunningRule[] = [];
  /** Captures that go: their rings stay in the table until they are read to their end. */
  #stale: Capture[] = [];
  #table: TableHandle | undefined;
  #epoch = 0;
  #queue: Promise<unknown> = Promise.resolve();
  #retryAtMs = 0;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #ticks = 0;
  #isTicking = false;
  #isStopping = false;
  /** The final statistics tell what was joined until the stop, not that nothing is any more. */
  #groupsAtStop: number | undefined;

  /** Opens what all workers share; nothing runs before `start`. */
  constructor(settings: Config["relay"], dependencies: RelayDependencies) {
    const { shim, clock, log, events, pause, joinedGroups, onFatal } = dependencies;
    this.#deps = dependencies;
    this.settings = settings;
    this.startedMs = clock.nowMs();
    this.#startedElapsedMs = clock.elapsedMs();
    const cpus = shim.cpus();
    const workerCount = settings.workers === "auto" ? Math.min(cpus.length, 64) : settings.workers;
    this.cpus = Array.from({ length: workerCount }, (_, worker) => cpus[worker % cpus.length] ?? 0);
    this.#handle = shim.openRelay(workerCount);
    this.#counters = new Counters(this.cpus.map((_, worker) => shim.counters(this.#handle, worker)));
    this.statistics = new Statistics(this.#counters, this.cpus, clock);
    this.#workers = new Workers(shim, this.#handle, this.cpus, log, onFatal);
    const undescribed = (slot: number) => this.#counters.interface(slot).undescribed;
    this.#ingresses = new Ingresses(shim, log, workerCount, settings, undescribed);
    this.#links = new Links(shim, this.#handle, log);
    this.#exclusives = new Exclusives(shim, log);
    this.#loops = new Loops(log);
    this.#neighbours = new Neighbours(shim, (running, egress, troubleBefore) => {
      logEgressState(running, egress, troubleBefore, log);
      this.#tellEgress(running, egress);
    });
    this.#deviceDrops = new DeviceDropsReader(shim, clock.elapsedMs);
    this.#queriers = new Queriers({
      shim,
      log,
      clock,
      onChange: (change, name, { from, version }) =>
        events.tell({ event: "querier", change, interface: name, from, version }),
    });
    this.#memberships = new Memberships({
      shim,
      log,
      clock,
      joinedGroups,
      pause: () => pause(1),
      onChange: (change, { interface: name, group, source }, reason) =>
        events.tell({
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
    await Promise.all([workers, this.inTurn((apply) => apply(rules))]);
    if (!this.#isStopping) this.#ticker = setInterval(() => this.#tick(), tickMs);
  }

  /** Leaves every group, lets the workers send what is captured, and ends them. */
  async stop(): Promise<void> {
    if (this.#isStopping) return;
    this.#isStopping = true;
    clearInterval(this.#ticker);
    const { log, events } = this.#deps;
    events.tell({ event: "stopping" });
    await this.#queue;
    this.#groupsAtStop = this.#memberships.activeGroups;
    this.#exclusives.close();
    this.#memberships.close();
    this.#queriers.close();
    this.#ingresses.admit([]);
    const captures = [...this.#ingresses.capturing.values()];
    await this.#drain(captures, stopDrainMsMax);
    await this.#workers.stop();
    this.#ingresses.countUnread(captures);
    this.logStatistics();
    log.notice("Supervisor", "stopped");
  }

  logStatistics(): void {
    for (const line of statisticsLines(this.stats())) this.#deps.log.info("Stats", line);
  }

  get uptimeMs(): number {
    return this.#deps.clock.elapsedMs() - this.#startedElapsedMs;
  }

  /** One word for each worker, which it raises about once a second. */
  get beats(): ArrayLike<number> {
    return this.#workers.beats;
  }

  /** One step at a time, in the order they were asked for; rules are changed only so. */
  inTurn<T>(step: (apply: Apply) => Promise<T>): Promise<T> {
    const result = this.#queue.then(() => step((rules) => this.#apply(rules)));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  // -- what can be seen of it

  get rules(): readonly RunningRule[] {
    return this.#rules;
  }

  get memberships(): Pick<Memberships, "list" | "joins"> {
    return this.#memberships;
  }

  /** Who has asked for members on the ingress interfaces, until this moment. */
  get queriers(): Queriers["all"] {
    this.#queriers.take();
    return this.#queriers.all;
  }

  /** With the states of this moment. */
  look(): RelayView {
    this.#updateStates();
    return {
      rules: this.#rules,
      leaving: this.#leaving,
      interfaces: this.#interfaces,
      fanoutIds: new Map([...this.#ingresses.capturing].map(([name, { fanoutId }]) => [name, fanoutId])),
    };
  }

  stats(): Stats {
    this.#updateStates();
    this.#ingresses.takeRingDrops();
    const igmp = {
      ...this.#memberships.statistics,
      active_groups: this.#groupsAtStop ?? this.#memberships.activeGroups,
    };
    const devices = this.#deviceDrops.of([...egressDevices(this.#rules, this.#interfaces)]);
    return this.statistics.stats(this.#counting, igmp, devices);
  }

  get #counting(): Counting {
    return { rules: this.#rules, leaving: this.#leaving, interfaces: this.#ingresses.statistics };
  }

  // -- rules

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
    const { shim, clock } = this.#deps;
    const nowMs = clock.nowMs();
    const slot = this.#ruleSlots.take();
    shim.resetRuleCounters(this.#handle, slot);
    const egresses = rule.egress.map((egress) => {
      const egressSlot = this.#egressSlots.take();
      shim.resetEgressCounters(this.#handle, egressSlot);
      return new RunningEgress(egress, egressSlot, nowMs);
    });
    return new RunningRule(rule, slot, egresses, nowMs);
  }

  /** Brings rings, sockets, table and memberships in line with the rules and interfaces of this moment. */
  async #settle(): Promise<void> {
    const { shim, log, clock } = this.#deps;
    const leaving = this.#leaving;
    const nowMs = clock.nowMs();
    this.#interfaces = this.#readInterfaces();
    this.#retryAtMs = clock.elapsedMs() + retryMs;

    const ingressNames = new Set(this.#rules.map(({ rule }) => rule.ingress.interface));
    this.#stale.push(...this.#ingresses.refresh(this.#interfaces, ingressNames));
    this.#queriers.listen(joiningNames(this.#rules), this.#ingresses.capturing);
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
    await this.#publish();
    if (this.#workers.hasEnded) return; // so does the process; others still use what would be closed

    this.#memberships.want(wantedMemberships(this.#rules, this.#interfaces));
    await this.#memberships.settle();
    this.#ingresses.admit(this.#rules);
    this.#exclusives.apply(this.#rules, this.#ingresses.whollyCaptured);

    await this.#closeStale();
    if (this.#workers.hasEnded) return;
    for (const fd of staleSockets) shim.close(fd);
    for (const link of staleLinks) shim.closeLink(link);
    for (const running of leaving) {
      const { slot, egresses } = running;
      this.statistics.retire(running);
      this.#ruleSlots.release(slot);
      for (const egress of egresses) this.#egressSlots.release(egress.slot);
    }
    this.#leaving = [];
    this.#updateStates();
  }

  /** What was captured on an interface before it went, or before its last rule did, is relayed or counted like the rest. */
  async #closeStale(): Promise<void> {
    const drained = this.#stale;
    if (drained.length === 0) return;
    await this.#drain(drained, drainMsMax);
    this.#stale = [];
    await this.#publish();
    if (!this.#workers.hasEnded) this.#ingresses.close(drained);
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

  /** Hands the table to the workers, with the captures that go, and waits until none of them uses the one before. */
  async #publish(): Promise<void> {
    const { shim, pause } = this.#deps;
    this.#epoch += 1;
    const captures = this.#ingresses.tableInterfaces(this.#stale);
    const origins = this.#loops.origins(this.#rules, this.#interfaces);
    const parts = tableParts(this.#epoch, this.#rules, captures, origins);
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

  #readInterfaces(): Interfaces {
    const names = this.#rules.flatMap(({ rule }) => [
      rule.ingress.interface,
      ...rule.egress.map((egress) => egress.interface),
    ]);
    return new Map([...new Set(names)].map((name) => [name, this.#readInterface(name)]));
  }

  /** One that was away for a moment is not there yet, so that nothing of it is kept: the next tick finds it. */
  #readInterface(name: string): InterfaceState | Unusable {
    const state = readInterface(this.#deps.shim, name);
    if (!isUsable(state) || !this.#ingresses.wasTaken(name)) return state;
    return { name, unusable: `interface ${name} was taken away for a moment; what ran on it is opened anew` };
  }

  #interface(name: string): InterfaceState | Unusable {
    const state = this.#interfaces.get(name);
    assert(state, `interface ${name} of a running rule was read`);
    return state;
  }

  #tellEgress({ rule }: RunningRule, { egress, status: { state, reason } }: RunningEgress): void {
    const destination = destinationOf(rule, egress);
    const where = { rule: rule.name, interface: egress.interface, destination };
    this.#deps.events.tell({ event: "egress", ...where, state, reason });
  }

  // -- states

  #updateStates(): void {
    if (this.#isStopping) return; // the states of the last moment stand
    const { nowMs, elapsedMs } = this.#deps.clock;
    const [atMs, elapsed] = [nowMs(), elapsedMs()];
    for (const running of this.#rules) {
      running.exclusive = this.#exclusives.stateOf(running);
      const [state, reason] = this.#stateOf(running, elapsed);
      if (!running.status.change(state, reason, atMs)) continue;
      const level = state === "failed" ? "error" : state === "waiting" ? "warning" : "info";
      const why = reason === null ? "" : `: ${reason}`;
      this.#deps.log.write("RuleDispatch", level, `rule "${running.rule.name}": ${state}${why}`);
      this.#deps.events.tell({ event: "rule", rule: running.rule.name, state, reason });
    }
  }

  #stateOf(running: RunningRule, elapsedMs: number): readonly [RuleState, string | null] {
    const name = running.rule.ingress.interface;
    const joins = membershipsOf(running, this.#interfaces).map((each) => this.#memberships.stateOf(each));
    const isJoined = joins.length > 0 && joins.every((join) => join === "joined");
    return ruleState({
      interface: this.#interface(name),
      captureFailure: this.#ingresses.failureOf(name),
      joins,
      quietMs: running.quietMs(isJoined, this.#counters.lastPacketMs(running.slot), elapsedMs),
    });
  }

  // -- time

  #tick(): void {
    const isStuck = this.#ingresses.look();
    this.#queriers.take();
    this.#ticks += 1;
    const mustSettle = isStuck || this.#needsSettling();
    if (this.#ticks % ticksPerLook === 0) {
      warnOfDrops(this.#rules, this.#counters, this.#deps.log);
      const slots = this.#ingresses.statistics.map(({ slot }) => slot);
      this.#loops.warn(this.#counters, slots);
      // An interface that has changed is settled first: its neighbours went with it, and did not answer.
      if (!mustSettle) this.#neighbours.look(this.#rules, this.#interfaces, this.#deps.clock.nowMs());
      this.#updateStates();
    }
    this.statistics.take(this.#counting, this.#deps.events);
    if (this.#isTicking || this.#isStopping || !mustSettle) return;
    this.#isTicking = true;
    this.inTurn(() => this.#settle())
      .catch((error) => this.#deps.onFatal(messageOf(error)))
      .finally(() => {
        this.#isTicking = false;
      });
  }

  /** An interface has come, gone or changed, or something that failed is due again. */
  #needsSettling(): boolean {
    const elapsedMs = this.#deps.clock.elapsedMs();
    if ((this.#memberships.nextRetryMs ?? Number.POSITIVE_INFINITY) <= elapsedMs) return true;
    if (this.#links.hasRefusal) return true;
    for (const [name, before] of this.#interfaces)
      if (!Bun.deepEquals(before, this.#readInterface(name))) return true;
    if (elapsedMs < this.#retryAtMs) return false;
    return (
      this.#ingresses.hasFailure ||
      this.#links.hasFailure ||
      this.#queriers.hasFailure ||
      this.#rules.some(({ egresses }) => egresses.some(({ status }) => status.state === "failed"))
    );
  }
}

/** The interfaces that egresses send out of. */
function egressDevices(rules: readonly RunningRule[], interfaces: Interfaces): ReadonlySet<InterfaceState> {
  const states = rules.flatMap(({ egresses }) =>
    egresses.flatMap(({ egress }) => interfaces.get(egress.interface) ?? []),
  );
  return new Set(states.filter(isUsable));
}

/** The interfaces where rules join groups. */
function joiningNames(rules: readonly RunningRule[]): ReadonlySet<string> {
  return new Set(
    rules.flatMap(({ rule: { ingress } }) => (ingress.group === undefined ? [] : ingress.interface)),
  );
}
