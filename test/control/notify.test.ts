// What the service manager is told, and when: by a shim that writes down the datagrams, and once by a real socket.

import { expect, test } from "bun:test";
import { Notifier } from "../../src/control/notify.ts";
import { Shim } from "../../src/native/shim.ts";
import { SystemError } from "../../src/native/system-error.ts";
import { type ErrnoName, recordedLog, systemError } from "../support/fakes.ts";
import { Process } from "../support/process.ts";
import { waitUntil } from "../support/wait.ts";
import { refused, SocketDirectory, status } from "./fake-relay.ts";

function setUp(
  env: Readonly<Record<string, string>> = { NOTIFY_SOCKET: "/run/n", WATCHDOG_USEC: "2000000" },
) {
  const recorded = recordedLog();
  const world = {
    sent: [] as string[],
    nowUs: 1_000_000,
    beats: [0, 0],
    status,
    failure: undefined as ErrnoName | undefined,
    lines: recorded.lines,
  };
  const notifier = new Notifier({
    shim: {
      notify(path, message) {
        expect(path).toBe(env["NOTIFY_SOCKET"] ?? "");
        if (world.failure) throw systemError(world.failure);
        world.sent.push(message);
      },
      monotonicUs: () => world.nowUs,
    },
    log: recorded.log,
    env,
    pid: 4711,
    beats: () => world.beats,
    status: () => world.status,
  });
  /** So many ticks of half a second, in which these workers beat. */
  const pass = (ticks: number, beating = [0, 1]) => {
    for (let i = 0; i < ticks; i += 1) {
      world.nowUs += 500_000;
      world.beats = world.beats.map((count, worker) => count + Number(beating.includes(worker)));
      notifier.tick();
    }
  };
  return { notifier, world, pass };
}

const signs = (sent: readonly string[]) => sent.filter((message) => message === "WATCHDOG=1\n").length;

test("ready, a reload and the stop are told in the words of sd_notify(3)", () => {
  const { notifier, world } = setUp();
  notifier.tick(); // nothing before ready
  notifier.ready();
  notifier.reloading();
  world.status = { ...status, last_reload: refused };
  notifier.ready();
  notifier.stopping();
  notifier.ready(); // a reload that ends during the stop
  notifier.tick();
  expect(world.sent).toEqual([
    "READY=1\nSTATUS=2 rules: 1 waiting, 1 active\n",
    "RELOADING=1\nMONOTONIC_USEC=1000000\n",
    `READY=1\nSTATUS=2 rules: 1 waiting, 1 active; last reload refused: ${refused.errors[0]}\n`,
    "STOPPING=1\n",
  ]);
});

test("the status is told when it changes, and only then", () => {
  const { notifier, world, pass } = setUp({ NOTIFY_SOCKET: "@mcr" });
  notifier.ready();
  pass(10);
  world.status = { ...status, rules: { ...status.rules, waiting: 0, failed: 1 } };
  pass(10);
  expect(world.sent.slice(1)).toEqual(["STATUS=2 rules: 1 active, 1 failed\n"]);
});

test("the watchdog is told at half its time, as long as all workers make progress", () => {
  const { notifier, world, pass } = setUp();
  expect(notifier.tickMs).toBe(500);
  notifier.ready();
  pass(20); // ten seconds
  expect(signs(world.sent)).toBe(10);
  pass(12, [0]); // worker 1 hangs
  const before = signs(world.sent);
  pass(20, [0]);
  expect(signs(world.sent)).toBe(before);
  expect(world.lines.filter((line) => line.includes("worker 1 makes no progress"))).toHaveLength(1);
  pass(4);
  expect(signs(world.sent)).toBeGreaterThan(before);
});

test.each([
  ["no WATCHDOG_USEC", {}],
  ["another process's", { WATCHDOG_USEC: "2000000", WATCHDOG_PID: "1" }],
  ["not a number", { WATCHDOG_USEC: "soon" }],
])("the watchdog is off: %s", (_, env) => {
  const { notifier, world, pass } = setUp({ NOTIFY_SOCKET: "/run/n", ...env });
  notifier.ready();
  pass(20);
  expect(signs(world.sent)).toBe(0);
});

test("without NOTIFY_SOCKET nothing is sent and nothing ticks", () => {
  const { notifier, world, pass } = setUp({});
  notifier.ready();
  notifier.reloading();
  pass(5);
  notifier.stopping();
  expect([world.sent, notifier.tickMs]).toEqual([[], undefined]);
});

test("a service manager that is not there costs one warning", () => {
  const { notifier, world, pass } = setUp();
  world.failure = "ENOENT";
  notifier.ready();
  notifier.reloading();
  notifier.ready();
  pass(50);
  expect(world.lines).toHaveLength(1);
  expect(world.lines[0]).toStartWith(
    "<4>[Supervisor] cannot tell the service manager at NOTIFY_SOCKET=/run/n: ",
  );
});

test("what a slow reader had no room for is told at the next tick, in order", () => {
  const { notifier, world, pass } = setUp({ NOTIFY_SOCKET: "/run/n" });
  world.failure = "EAGAIN";
  notifier.ready();
  notifier.reloading();
  pass(3);
  world.failure = undefined;
  pass(1);
  expect(world.sent.map((message) => message.split("\n")[0])).toEqual(["READY=1", "RELOADING=1"]);
  expect(world.lines).toEqual([]);
});

test.each(["path", "abstract name"])("a datagram reaches a socket with a %s", async (kind) => {
  using directory = new SocketDirectory();
  const name = kind === "path" ? directory.socket : `@mcr-test-${process.pid}`;
  const address = kind === "path" ? `UNIX-RECV:${name}` : `ABSTRACT-RECV:${name.slice(1)}`;
  const listener = new Process(["socat", "-u", address, "STDOUT"]);
  const shim = new Shim();
  const send = () => {
    try {
      shim.notify(name, "READY=1\nSTATUS=1 rule\n");
      return true;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return false; // socat has not opened it yet
    }
  };
  await waitUntil(send, { what: "socat to listen" });
  await listener.waitForOutput("READY=1\nSTATUS=1 rule\n");
  listener.kill();
  await listener.exited;
});

test.each(["", "@", "relative", `/${"x".repeat(107)}`])("%p is no address to notify", (path) => {
  expect(() => new Shim().notify(path, "READY=1")).toThrow("EINVAL");
});

test("monotonic time never goes back", () => {
  const shim = new Shim();
  const first = shim.monotonicUs();
  expect(first).toBeGreaterThan(0);
  expect(shim.monotonicUs()).toBeGreaterThanOrEqual(first);
});
