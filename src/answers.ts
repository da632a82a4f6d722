// What a running mcr answers: to the control socket, to who scrapes its metrics, to the service manager. Puts together
// what the relay, its statistics and the edits know; changes nothing but log levels.
import packageJson from "../package.json" with { type: "json" };
import type { Clock } from "./clock.ts";
import type { Events } from "./control/events.ts";
import { flowsSnapshot } from "./control/flows.ts";
import { renderMetrics } from "./control/metrics.ts";
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
import { isoTime } from "./control/snapshot.ts";
import type { Edits } from "./edits.ts";
import { assert } from "./error.ts";
import type { Log, LogSettings } from "./log.ts";
import type { Shim } from "./native/shim.ts";
import { isUsable } from "./net/interfaces.ts";
import { watchWire } from "./net/watch.ts";
import type { Relay } from "./relay.ts";
import { readCpuSeconds } from "./stats/cpu.ts";

/** How long `mcr show flows` watches the wire. */
const watchMs = 1_000;

export interface AnswersDependencies {
  readonly relay: Relay;
  readonly edits: Edits;
  readonly events: Events;
  readonly log: Log;
  readonly file: string;
  /** Tells several relays on one host apart. */
  readonly instance?: string | undefined;
  readonly shim: Shim;
  readonly clock: Clock;
  readonly pause: (ms: number) => Promise<void>;
}

export class Answers implements ControlledRelay {
  readonly #deps: AnswersDependencies;
  #watching: Promise<Flows> | undefined;

  constructor(dependencies: AnswersDependencies) {
    this.#deps = dependencies;
  }

  status(): Status {
    const { relay, edits, file, instance = null } = this.#deps;
    const { settings, startedMs, uptimeMs, cpus } = relay;
    const { rules, fanoutIds } = relay.look();
    const counts = { waiting: 0, joining: 0, active: 0, silent: 0, failed: 0 };
    for (const { status } of rules) counts[status.state] += 1;
    return {
      version: packageJson.version,
      instance,
      pid: process.pid,
      file,
      started: isoTime(startedMs),
      uptime_s: Math.floor(uptimeMs / 1000),
      profile: settings.profile,
      fanout: settings.fanout,
      workers: cpus.map((cpu, worker) => ({ worker, cpu })),
      interfaces: [...fanoutIds].map(([name, fanout_id]) => ({ interface: name, fanout_id })),
      rules: counts,
      last_reload: edits.lastReload,
    };
  }

  rules(): readonly RuleSnapshot[] {
    const { relay } = this.#deps;
    return relay.statistics.ruleSnapshots(relay.look().rules);
  }

  stats(): Stats {
    return this.#deps.relay.stats();
  }

  /** As Prometheus reads it. */
  metrics(): string {
    const { relay, edits } = this.#deps;
    const stats = relay.stats();
    return renderMetrics({
      version: packageJson.version,
      startedMs: relay.startedMs,
      stats,
      ...relay.statistics.ruleMetrics(relay.look(), stats),
      joins: relay.memberships.joins,
      queries: [...relay.queriers].flatMap(([name, { last }]) =>
        last ? [{ interface: name, timeMs: last.timeMs }] : [],
      ),
      reload: { successful: edits.lastReload?.ok ?? true, lastSuccessMs: edits.lastSuccessMs },
      cpuSeconds: readCpuSeconds(relay.cpus.length),
      residentBytes: process.memoryUsage.rss(),
    });
  }

  /** Who asks while the wire is watched gets what comes of that. */
  flows(): Promise<Flows> {
    this.#watching ??= this.#watch().finally(() => {
      this.#watching = undefined;
    });
    return this.#watching;
  }

  async #watch(): Promise<Flows> {
    const { relay, shim, pause, clock } = this.#deps;
    const { rules, interfaces } = relay.look();
    const names = new Set(rules.map(({ rule }) => rule.ingress.interface));
    const states = [...names].map((name) => {
      const state = interfaces.get(name);
      assert(state, `interface ${name} of a running rule was read`);
      return state;
    });
    const watched = await watchWire({
      shim,
      interfaces: states.filter(isUsable),
      durationMs: watchMs,
      nowMs: clock.elapsedMs,
      pause,
    });
    const unusable = states.flatMap((state) =>
      isUsable(state) ? [] : [{ interface: state.name, reason: state.unusable }],
    );
    const failures = [...unusable, ...watched.failures];
    return flowsSnapshot({ ...watched, failures }, relay.rules, clock.nowMs());
  }

  memberships(): readonly MembershipSnapshot[] {
    return this.#deps.relay.memberships.list().map(membershipSnapshot);
  }

  interfaces(): readonly InterfaceSnapshot[] {
    const { relay } = this.#deps;
    const { interfaces, fanoutIds } = relay.look();
    return interfaceSnapshots([...interfaces.values()], fanoutIds, relay.queriers, relay.stats());
  }

  config(): ConfigAnswer {
    const { relay, edits, file, instance = null, log } = this.#deps;
    const { level, format, facility } = log.settings;
    return {
      file,
      instance,
      relay: { ...relay.settings },
      log: { level, format, facility },
      rules: relay.rules.map(({ rule }) => ({ ...rule })),
      unsaved: edits.unsaved(),
    };
  }

  logLevels(): LogLevels {
    const { level, facility } = this.#deps.log.settings;
    return { level, facility };
  }

  setLogLevel({ level, facility }: LogLevelChange): LogLevels {
    const { log, events } = this.#deps;
    log.configure(withLevel(log.settings, { level, facility }));
    log.notice("Supervisor", `log level${facility === undefined ? "" : ` of ${facility}`}: ${level}`);
    events.tell({ event: "log-level", level, facility: facility ?? null });
    return this.logLevels();
  }

  subscribe(listener: (event: Event) => void): () => void {
    return this.#deps.events.subscribe(listener);
  }

  // -- what edits.ts does

  unsaved(): Unsaved {
    return this.#deps.edits.unsaved();
  }

  reload(): Promise<ReloadResult> {
    return this.#deps.edits.reload();
  }

  add(rules: readonly unknown[]): Promise<EditResult> {
    return this.#deps.edits.add(rules);
  }

  remove(names: readonly string[]): Promise<EditResult> {
    return this.#deps.edits.remove(names);
  }

  save(force: boolean): Promise<EditResult> {
    return this.#deps.edits.save(force);
  }
}

function withLevel(settings: LogSettings, { level, facility }: LogLevelChange): LogSettings {
  if (facility === undefined) return level === "default" ? settings : { ...settings, level };
  const { [facility]: _, ...others } = settings.facility;
  return { ...settings, facility: level === "default" ? others : { ...others, [facility]: level } };
}
