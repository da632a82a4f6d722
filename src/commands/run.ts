// `mcr run FILE`: relays until it is told to stop. Wires the rule file, the log, the control socket, the signals and
// the relay together, and waits. Order matters: the socket comes before the first packet, so that a second mcr on
// the same socket is refused before it relays anything twice.
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { Answers } from "../answers.ts";
import { systemClock } from "../clock.ts";
import { readConfig } from "../config/parse.ts";
import { saveRules } from "../config/rule-file.ts";
import type { Config } from "../config/schema.ts";
import { instanceSocketPath } from "../control/client.ts";
import { Events } from "../control/events.ts";
import { MetricsServer } from "../control/metrics-server.ts";
import { Notifier } from "../control/notify.ts";
import { openControlServer } from "../control/server.ts";
import { Edits } from "../edits.ts";
import { ExitCode, fail } from "../error.ts";
import { Log } from "../log.ts";
import { Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { parseProcIgmp } from "../net/igmp.ts";
import { plural } from "../numbers.ts";
import { Relay } from "../relay.ts";
import { type Command, parseOptions } from "./command.ts";
import { Instance } from "./values.ts";

const OptionsSchema = v.object({ instance: v.optional(Instance), i: v.optional(v.unknown()) });

export const runCommand: Command = {
  name: "run",
  parameters: "<file>",
  summary: "relay by a rule file; SIGHUP reloads it, SIGUSR1 logs statistics",
  options: [
    {
      flags: "-i, --instance <name>",
      description: "its name: socket /run/mcr/<name>.sock, and in every log line",
    },
  ],
  async run([file = ""], options) {
    const { instance } = parseOptions("run", OptionsSchema, options);
    const config = await readConfig(file);
    const log = new Log(config.log, undefined, instance);
    const shim = new Shim();
    checkPermission(shim);

    const { promise: ended, resolve: end } = Promise.withResolvers<string | undefined>();
    const events = new Events(systemClock.nowMs);
    const relay = new Relay(config.relay, {
      shim,
      log,
      events,
      clock: systemClock,
      pause: (ms) => Bun.sleep(ms),
      joinedGroups: readJoinedGroups,
      onFatal: end,
    });
    const edits = new Edits({
      relay,
      log,
      events,
      file,
      readConfig: () => readConfig(file),
      saveRules: (options) => saveRules({ file, ...options }),
      onReload: (phase) => (phase === "begun" ? notifier.reloading() : notifier.ready()),
      serveMetrics: (address) => metrics.listen(address),
      nowMs: systemClock.nowMs,
      pause: () => Bun.sleep(0),
    });
    const answers = new Answers({
      relay,
      edits,
      log,
      events,
      file,
      instance,
      shim,
      clock: systemClock,
      pause: (ms) => Bun.sleep(ms),
    });
    const metrics = new MetricsServer({
      render: () => answers.metrics(),
      log,
      elapsedMs: systemClock.elapsedMs,
    });
    const notifier = new Notifier({
      shim,
      log,
      env: process.env,
      pid: process.pid,
      beats: () => relay.beats,
      status: () => answers.status(),
    });
    const server = await openControlServer({
      path: instance === undefined ? config.relay.control : instanceSocketPath(instance),
      relay: answers,
      log,
      group: config.relay.control_group,
      readPeer: (fd, gid) => shim.readPeer(fd, gid),
    });
    try {
      metrics.listen(config.relay.metrics);
    } catch (thrown) {
      await server.close();
      throw thrown;
    }
    process.on("SIGHUP", () => void edits.reload());
    process.on("SIGUSR1", () => relay.logStatistics());
    process.on("SIGINT", () => end(undefined));
    process.on("SIGTERM", () => end(undefined));
    const ticker =
      notifier.tickMs === undefined ? undefined : setInterval(() => notifier.tick(), notifier.tickMs);
    const fatal = await relayUntil(ended, relay, config, () => {
      edits.open(config.rules);
      log.notice(
        "Supervisor",
        `running ${plural(config.rules.length, "rule")} of ${file}, pid ${process.pid}`,
      );
      notifier.ready();
    }).finally(async () => {
      notifier.stopping();
      clearInterval(ticker);
      metrics.close();
      edits.close();
      await relay.stop();
      await server.close();
    });
    if (fatal !== undefined) fail(fatal, ExitCode.failed);
    return ExitCode.ok;
  },
};

/** Returns what ended it; a signal may come before everything has started. */
async function relayUntil(
  ended: Promise<string | undefined>,
  relay: Relay,
  config: Config,
  onStarted: () => void,
): Promise<string | undefined> {
  const started = relay.start(config.rules).then(onStarted);
  return Promise.race([ended, started.then(() => ended)]);
}

function checkPermission(shim: Shim): void {
  try {
    shim.checkPermission();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    fail(
      `cannot open a packet socket: ${error.message}. Run as root, or give the process CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)`,
      ExitCode.noPermission,
    );
  }
}

/** The kernel's own list; undefined where /proc cannot tell. */
function readJoinedGroups(): ReadonlyMap<string, ReadonlySet<string>> | undefined {
  try {
    return parseProcIgmp(readFileSync("/proc/net/igmp", "utf8"));
  } catch {
    return undefined;
  }
}
