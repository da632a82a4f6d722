// The control server on a real socket: its routes, its socket file, and clients that mean harm.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import * as v from "valibot";
import { systemClock } from "../../src/clock.ts";
import { Events } from "../../src/control/events.ts";
import { limits } from "../../src/control/http.ts";
import {
  ConfigAnswerSchema,
  type ControlledRelay,
  type EditResult,
  EditSchema,
  ErrorSchema,
  type Event,
  FlowsSchema,
  InterfacesSchema,
  LogLevelsSchema,
  MembershipsSchema,
  ReloadSchema,
  RulesSchema,
  StatsSchema,
  StatusSchema,
  WorkersSchema,
} from "../../src/control/protocol.ts";
import {
  type ControlServer,
  type ControlServerOptions,
  openControlServer,
} from "../../src/control/server.ts";
import { McrError } from "../../src/error.ts";
import { Log } from "../../src/log.ts";
import { Process } from "../support/process.ts";
import { waitUntil } from "../support/wait.ts";
import {
  asOrdinaryUser,
  config,
  edited,
  fakeRelay,
  flows,
  interfaces,
  logLevels,
  memberships,
  refused,
  reloaded,
  rules,
  SocketDirectory,
  saved,
  stats,
  status,
} from "./fake-relay.ts";

/** What an honest client may wait while others misbehave: half of what it would behind one that says nothing. */
const promptMs = limits.requestMs / 2;

let directory: SocketDirectory;
let logged: string[];
let servers: ControlServer[];
let sockets: Socket[];

beforeEach(() => {
  directory = new SocketDirectory();
  logged = [];
  servers = [];
  sockets = [];
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) await server.close();
  directory[Symbol.dispose]();
});

async function open(
  relay: Partial<ControlledRelay> = {},
  path = directory.socket,
  access: Pick<ControlServerOptions, "group" | "readPeer"> = {},
): Promise<ControlServer> {
  const log = new Log(
    { level: "trace", format: "text", facility: {} },
    { write: (line) => logged.push(line), clock: systemClock, isJournal: false },
  );
  const server = await openControlServer({ path, relay: fakeRelay(relay), log, ...access });
  servers.push(server);
  return server;
}

async function openError(path = directory.socket): Promise<McrError> {
  const thrown: unknown = await open({}, path).catch((error: unknown) => error);
  if (!(thrown instanceof McrError)) throw new Error(`expected a refusal, got ${Bun.inspect(thrown)}`);
  return thrown;
}

async function ask(path: string, method = "GET", body?: string) {
  const init = body === undefined ? {} : { body };
  const response = await fetch(`http://mcr${path}`, { unix: directory.socket, method, ...init });
  return { status: response.status, headers: response.headers, json: JSON.parse(await response.text()) };
}

async function promptness(): Promise<number> {
  const begin = performance.now();
  expect((await ask("/v1/status")).status).toBe(200);
  return performance.now() - begin;
}

/** A client that sends bytes and does as it likes with the answer. */
async function connect(bytes = ""): Promise<Socket> {
  const socket = createConnection(directory.socket);
  sockets.push(socket);
  socket.on("error", () => {});
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("connect", resolve);
  await promise;
  if (bytes !== "") socket.write(bytes);
  return socket;
}

/** All of the answer to a request given as bytes, to the end of the connection. */
async function exchange(bytes: string): Promise<string> {
  const socket = await connect(bytes);
  let text = "";
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on("data", (data) => {
    text += data.toString();
  });
  socket.once("close", resolve);
  await promise;
  return text;
}

/** The path of a socket whose owner was killed. */
async function leaveStaleSocket(): Promise<void> {
  const killed = new Process([
    process.execPath,
    "-e",
    `Bun.serve({ unix: ${JSON.stringify(directory.socket)}, fetch: () => new Response() }); console.log("up");`,
  ]);
  await killed.waitForOutput("up");
  killed.kill("SIGKILL");
  await killed.exited;
  expect(lstatSync(directory.socket).isSocket()).toBe(true);
}

describe("routes", () => {
  test("every route answers what the relay says, as its schema promises", async () => {
    await open();
    const answers = {
      status: await ask("/v1/status"),
      rules: await ask("/v1/rules"),
      stats: await ask("/v1/stats"),
      reload: await ask("/v1/reload", "POST"),
      flows: await ask("/v1/flows"),
      memberships: await ask("/v1/memberships"),
      interfaces: await ask("/v1/interfaces"),
      workers: await ask("/v1/workers"),
      config: await ask("/v1/config"),
      logLevels: await ask("/v1/log-levels"),
      newLogLevels: await ask("/v1/log-levels", "POST", '{"level":"debug"}'),
    };
    expect(v.parse(StatusSchema, answers.status.json)).toEqual(status);
    expect(v.parse(RulesSchema, answers.rules.json)).toEqual({ rules: [...rules], unsaved: saved });
    expect(v.parse(StatsSchema, answers.stats.json)).toEqual(stats);
    expect(v.parse(ReloadSchema, answers.reload.json)).toEqual(reloaded);
    expect(v.parse(FlowsSchema, answers.flows.json)).toEqual(flows);
    expect(v.parse(MembershipsSchema, answers.memberships.json)).toEqual({ memberships: [...memberships] });
    expect(v.parse(InterfacesSchema, answers.interfaces.json)).toEqual({ interfaces: [...interfaces] });
    expect(v.parse(WorkersSchema, answers.workers.json)).toEqual({ workers: stats.workers });
    expect(v.parse(ConfigAnswerSchema, answers.config.json)).toEqual(config);
    expect(v.parse(LogLevelsSchema, answers.logLevels.json)).toEqual(logLevels);
    expect(v.parse(LogLevelsSchema, answers.newLogLevels.json)).toEqual({ level: "debug", facility: {} });
    expect(answers.newLogLevels.json.schema).toBe("/v1/log-levels");
    for (const { status, headers } of Object.values(answers)) {
      expect(status).toBe(200);
      expect(headers.get("content-type")).toBe("application/json");
    }
  });

  test("any other path is 404, any other method 405, both with a JSON error", async () => {
    await open();
    for (const path of ["/", "/v1", "/v1/", "/v1/rules/", "/v1/nothing", "/v2/status"]) {
      const { status, json } = await ask(path);
      expect([path, status]).toEqual([path, 404]);
      expect(v.parse(ErrorSchema, json).error).toContain("GET /v1/status");
    }
    for (const [method, path] of [
      ["POST", "/v1/status"],
      ["DELETE", "/v1/config"],
      ["PUT", "/v1/stats"],
      ["GET", "/v1/reload"],
    ] as const) {
      const { status, json, headers } = await ask(path, method);
      expect([path, status]).toEqual([path, 405]);
      expect(v.is(ErrorSchema, json)).toBe(true);
      expect(headers.get("allow")).toBe(path === "/v1/reload" ? "POST" : "GET");
    }
  });

  test("edits hand their body to the relay; another body is 400 and says what is wrong with it", async () => {
    const asked: unknown[] = [];
    const keep = (what: unknown) => {
      asked.push(what);
      return Promise.resolve(edited);
    };
    await open({ add: keep, remove: keep, save: keep });
    const rules = [{ name: "x" }, "no rule: the relay says so"];
    for (const [method, path, body] of [
      ["POST", "/v1/rules", { rules }],
      ["DELETE", "/v1/rules", { names: ["x"] }],
      ["POST", "/v1/save", { force: true }],
      ["POST", "/v1/save", undefined],
    ] as const) {
      const { status, json } = await ask(path, method, body && JSON.stringify(body));
      expect([path, status]).toEqual([path, 200]);
      expect(v.parse(EditSchema, json)).toEqual(edited);
    }
    expect(asked).toEqual([rules, ["x"], true, false]);
    for (const [method, path, body] of [
      ["POST", "/v1/rules", "{"],
      ["POST", "/v1/rules", '{"rules":[]}'],
      ["POST", "/v1/rules", undefined],
      ["DELETE", "/v1/rules", '{"names":[1]}'],
      ["POST", "/v1/save", '{"force":"yes"}'],
    ] as const) {
      const { status, json } = await ask(path, method, body);
      expect([path, status]).toEqual([path, 400]);
      expect(v.parse(ErrorSchema, json).error).toStartWith("the body: ");
    }
    expect(asked).toHaveLength(4);
  });

  test("a query string changes nothing", async () => {
    await open();
    expect((await ask("/v1/status?pretty=1")).status).toBe(200);
  });

  test("reload answers when the relay is done, and others are answered meanwhile", async () => {
    const { promise, resolve } = Promise.withResolvers<typeof reloaded>();
    await open({ reload: () => promise });
    let isAnswered = false;
    const reload = ask("/v1/reload", "POST").finally(() => {
      isAnswered = true;
    });
    expect(await promptness()).toBeLessThan(promptMs);
    expect(isAnswered).toBe(false);
    resolve(reloaded);
    expect((await reload).json).toEqual({ schema: "/v1/reload", ...reloaded });
  });

  test("a reload that was refused is an answer like any other, with a status that curl -f fails of", async () => {
    await open({ reload: async () => refused });
    const { status, json } = await ask("/v1/reload", "POST");
    expect(status).toBe(422);
    expect(json).toEqual({ schema: "/v1/reload", ...refused });
  });

  test("so is an edit, and its status says why", async () => {
    let refusal: EditResult["refusal"] = null;
    const refuse = async () => ({ ...edited, ok: false, changes: [], errors: ["no"], refusal });
    await open({ add: refuse, remove: refuse, save: refuse });
    for (const [method, path, body] of [
      ["POST", "/v1/rules", '{"rules":[{}]}'],
      ["DELETE", "/v1/rules", '{"names":["nope"]}'],
      ["POST", "/v1/save", "{}"],
    ] as const)
      for (const [why, expected] of [
        ["config", 422],
        ["noPermission", 403],
        ["failed", 409],
      ] as const) {
        refusal = why;
        const { status, json } = await ask(path, method, body);
        expect([path, why, status]).toEqual([path, why, expected]);
        expect(json).toEqual({ schema: path, ...(await refuse()) });
      }
  });

  test("a reload may take longer than Bun's own limit of 10 s", async () => {
    await open({
      reload: async () => {
        await Bun.sleep(14_000);
        return reloaded;
      },
    });
    expect((await ask("/v1/reload", "POST")).json).toEqual({ schema: "/v1/reload", ...reloaded });
  }, 60_000);

  test("a handler that throws answers 500, logs once, and the server goes on", async () => {
    await open({
      rules: () => {
        throw new Error("counters are gone");
      },
      reload: () => Promise.reject(new Error("relay is gone")),
    });
    for (let round = 0; round < 3; round += 1)
      expect(await ask("/v1/rules")).toMatchObject({ status: 500, json: { error: "counters are gone" } });
    expect(await ask("/v1/reload", "POST")).toMatchObject({ status: 500, json: { error: "relay is gone" } });
    expect(logged).toHaveLength(2);
    expect(logged[0]).toContain("error [ControlSocket] GET /v1/rules: counters are gone");
    expect((await ask("/v1/status")).status).toBe(200);
  });
});

describe("the socket file", () => {
  test("is for its owner and group only", async () => {
    await open();
    expect(lstatSync(directory.socket).mode & 0o7777).toBe(0o660);
  });

  test("is the only file that is left in its directory", async () => {
    await open();
    expect(readdirSync(directory.path)).toEqual(["mcr.sock"]);
  });

  test("leaves the umask of the process as it was", async () => {
    const before = process.umask();
    await open();
    expect(process.umask()).toBe(before);
  });

  test("gets its directory made", async () => {
    const path = join(directory.path, "a/b/mcr.sock");
    await open({}, path);
    expect(lstatSync(path).isSocket()).toBe(true);
    expect(lstatSync(join(directory.path, "a/b")).mode & 0o777).toBe(0o755 & ~process.umask());
  });

  test("may have the longest path that the rule file allows", async () => {
    const path = `${directory.path}/${"s".repeat(107 - directory.path.length - 1)}`;
    await open({}, path);
    const response = await fetch("http://mcr/v1/status", { unix: path });
    expect(response.status).toBe(200);
  });

  test("is replaced when a killed mcr left it", async () => {
    await leaveStaleSocket();
    await open();
    expect((await ask("/v1/status")).status).toBe(200);
  });

  test("is left alone when another mcr answers on it, which is said", async () => {
    await open();
    const error = await openError();
    expect(error.lines).toEqual([
      `another mcr is running: ${directory.socket} answers. Stop it, or give this one its own [relay] control path`,
    ]);
    expect(error.exitCode).toBe(1);
    expect((await ask("/v1/status")).status).toBe(200);
    expect(readdirSync(directory.path)).toEqual(["mcr.sock"]);
  });

  test("of two that start at once goes to one", async () => {
    const results = await Promise.allSettled([open(), open()]);
    expect(results.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect((await ask("/v1/status")).status).toBe(200);
  });

  test("does not replace what is not a socket", async () => {
    const things: readonly (readonly [string, () => void])[] = [
      ["a regular file", () => writeFileSync(directory.socket, "precious")],
      ["a directory", () => mkdirSync(directory.socket)],
      ["a symbolic link", () => symlinkSync("/nonexistent", directory.socket)],
    ];
    for (const [what, make] of things) {
      make();
      const error = await openError();
      expect(error.message).toBe(
        `cannot open the control socket ${directory.socket}: ${what} is there. Remove it, or set another path: [relay] control`,
      );
      expect(error.exitCode).toBe(78);
      rmSync(directory.socket, { recursive: true });
    }
  });

  test("in a directory that cannot be made names the reason and the cure", async () => {
    const file = join(directory.path, "file");
    writeFileSync(file, "");
    const error = await openError(join(file, "mcr.sock"));
    expect(error.message).toMatch(
      /^cannot open the control socket .*: (not a directory|file already exists)\. Set another path/,
    );
    expect(error.exitCode).toBe(78);
  });

  test("in a directory that may not be written is a matter of permission", async () => {
    using _ = asOrdinaryUser(directory.path);
    const error = await openError();
    expect(error.message).toContain("permission denied. Run as root");
    expect(error.exitCode).toBe(77);
  });

  test("is removed at close", async () => {
    const server = await open();
    await server.close();
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test("is not removed at close when another has taken its place", async () => {
    const server = await open();
    rmSync(directory.socket);
    writeFileSync(directory.socket, "not ours");
    await server.close();
    expect(existsSync(directory.socket)).toBe(true);
  });

  test("is closed at once even while clients are connected and a reload is under way", async () => {
    const server = await open({ reload: () => new Promise(() => {}) });
    for (let count = 0; count < 20; count += 1) await connect();
    const waiting = await connect("POST /v1/reload HTTP/1.1\r\nhost: mcr\r\n\r\n");
    const closed = new Promise((resolve) => waiting.once("close", resolve));
    expect(await promptness()).toBeLessThan(promptMs);
    const begin = performance.now();
    await server.close();
    expect(performance.now() - begin).toBeLessThan(promptMs);
    await closed;
  });
});

describe("what a request may be", () => {
  test("a body that is no log level names what is wrong", async () => {
    await open();
    for (const [body, error] of [
      ["", "the body: "],
      ["{", "the body: "],
      ['{"level":"loud"}', "the body: level: "],
      ['{"level":"info","facility":"Nothing"}', "the body: facility: "],
      ['{"level":"default"}', 'the body: the level "default" is of one facility'],
    ] as const) {
      const { status, json } = await ask("/v1/log-levels", "POST", body);
      expect([body, status]).toEqual([body, 400]);
      expect(v.parse(ErrorSchema, json).error).toStartWith(error);
    }
    expect(logged).toEqual([]);
  });

  test("a client that has asked and says no more, as socat does, is answered", async () => {
    await open();
    const socket = await connect();
    socket.end("GET /v1/status HTTP/1.1\r\nhost: mcr\r\n\r\n");
    let text = "";
    for await (const data of socket) text += String(data);
    expect(text).toStartWith("HTTP/1.1 200 OK\r\n");
  });

  test("a request may come byte by byte", async () => {
    await open();
    const socket = await connect();
    const { promise, resolve } = Promise.withResolvers<string>();
    socket.once("data", (data) => resolve(data.toString()));
    for (const byte of "GET /v1/status HTTP/1.1\r\nhost: mcr\r\n\r\n") {
      socket.write(byte);
      await Bun.sleep(0);
    }
    expect(await promise).toStartWith("HTTP/1.1 200 OK\r\n");
  });
});

describe("who may ask", () => {
  const nobody = { pid: 42, uid: 65_534, isInGroup: false };

  test("another user is refused in a clear sentence, even where the file's mode lets it in", async () => {
    await open({}, directory.socket, { readPeer: () => nobody });
    const { status, json } = await ask("/v1/status");
    expect(status).toBe(403);
    expect(v.parse(ErrorSchema, json).error).toBe(
      `user 65534 may not ask the mcr at ${directory.socket}: run as root, or as a member of the group that owns it (ls -l ${directory.socket})`,
    );
    await ask("/v1/events");
    expect(logged).toHaveLength(1);
    expect(logged[0]).toContain("warning [Security] refused pid 42: user 65534");
  });

  test("root, the user of mcr and members of the group are answered", async () => {
    const own = process.geteuid?.() ?? 0;
    for (const peer of [
      { ...nobody, uid: 0 },
      { ...nobody, uid: own },
      { ...nobody, isInGroup: true },
    ]) {
      const server = await open({}, directory.socket, { readPeer: () => peer });
      expect((await ask("/v1/status")).status).toBe(200);
      await server.close();
    }
  });

  test.skipIf(process.geteuid?.() !== 0)("control_group owns the socket", async () => {
    const asked: number[] = [];
    const readPeer = (_fd: number, gid: number) => {
      asked.push(gid);
      return { ...nobody, isInGroup: true };
    };
    await open({}, directory.socket, { group: "65533", readPeer });
    expect((await ask("/v1/status")).status).toBe(200);
    expect(asked).toEqual([65_533]);
    const { mode, gid } = lstatSync(directory.socket);
    expect([mode & 0o777, gid]).toEqual([0o660, 65_533]);
  });

  test("a group that this host does not have is a configuration error with its cure", async () => {
    const thrown: unknown = await open({}, directory.socket, { group: "no-such-group" }).catch(
      (e: unknown) => e,
    );
    expect(thrown).toBeInstanceOf(McrError);
    expect(String(thrown)).toContain('there is no group "no-such-group" in /etc/group: make it (groupadd');
    expect(readdirSync(directory.path)).toEqual([]);
  });
});

describe("events", () => {
  async function follow(): Promise<{ socket: Socket; lines: () => readonly Event[] }> {
    const socket = await connect("GET /v1/events HTTP/1.1\r\nhost: mcr\r\n\r\n");
    let text = "";
    socket.on("data", (data) => {
      text += data.toString();
    });
    await waitUntil(() => text.includes('"connected"'), { what: "the first event" });
    const lines = () =>
      (text.split("\r\n\r\n")[1] ?? "")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line));
    return { socket, lines };
  }

  test("come to everybody who follows, as they happen, until one goes", async () => {
    const events = new Events(() => 0);
    await open({ subscribe: (listener) => events.subscribe(listener) });
    const first = await follow();
    const second = await follow();
    events.tell({ event: "rule", rule: "a", state: "active", reason: null });
    for (const { lines } of [first, second])
      await waitUntil(() => lines().length === 2, { what: "the event" });
    expect(first.lines()[1]).toEqual({
      time: "1970-01-01T00:00:00.000Z",
      event: "rule",
      rule: "a",
      state: "active",
      reason: null,
    });
    first.socket.destroy();
    second.socket.destroy();
    await waitUntil(() => !events.hasListeners, { what: "both to be forgotten" });
  });

  test("a client that does not read is disconnected, which is logged once, and others lose none", async () => {
    const events = new Events(() => 0);
    await open({ subscribe: (listener) => events.subscribe(listener) });
    const deaf = [await connect(), await connect()];
    for (const socket of deaf) {
      socket.pause();
      socket.write("GET /v1/events HTTP/1.1\r\nhost: mcr\r\n\r\n");
    }
    const { lines } = await follow();
    const reason = "x".repeat(1000);
    const count = 2000;
    for (let told = 0; told < count; told += 1) {
      events.tell({ event: "rule", rule: `rule-${told}`, state: "failed", reason });
      if (told % 50 === 0) await Bun.sleep(1);
    }
    await waitUntil(() => lines().length === count + 1, { what: "all events" });
    expect(logged.filter((line) => line.includes("did not read its events"))).toHaveLength(1);
    expect(await promptness()).toBeLessThan(promptMs);
  });

  test("one that falls behind and reads on gets all of them, in order", async () => {
    const events = new Events(() => 0);
    await open({ subscribe: (listener) => events.subscribe(listener) });
    const { socket, lines } = await follow();
    socket.pause();
    // More than the kernel holds for it, and less than it may lag behind.
    const count = 300;
    const tell = (rule: number) =>
      events.tell({ event: "rule", rule: String(rule), state: "failed", reason: "x".repeat(1000) });
    for (let told = 0; told < count; told += 1) tell(told);
    socket.resume();
    await waitUntil(() => lines().length === count + 1, { what: "what it had missed" });
    tell(count);
    await waitUntil(() => lines().length === count + 2, { what: "the next event" });
    expect(lines().flatMap((line) => (line.event === "rule" ? Number(line.rule) : []))).toEqual(
      Array.from({ length: count + 1 }, (_, rule) => rule),
    );
  });

  test("are for so many followers, and the next is told", async () => {
    const events = new Events(() => 0);
    await open({ subscribe: (listener) => events.subscribe(listener) });
    for (let count = 0; count < limits.streamsMax; count += 1) await follow();
    const { status, json } = await ask("/v1/events");
    expect(status).toBe(503);
    expect(v.parse(ErrorSchema, json).error).toContain("end one of them");
    expect(await promptness()).toBeLessThan(promptMs);
  });
});

describe("hostile clients do not disturb others", () => {
  test("thousands that connect and say nothing: the oldest make room", async () => {
    await open();
    const silent: Socket[] = [];
    for (let count = 0; count < 1000; count += 1) silent.push(await connect());
    expect(await promptness()).toBeLessThan(promptMs);
    await waitUntil(() => silent.filter((socket) => !socket.destroyed).length <= limits.connectionsMax, {
      what: "the surplus to be cut off",
    });
  });

  test("100 MB behind a request go with their connection", async () => {
    await open();
    const socket = await connect("GET /v1/status HTTP/1.1\r\nhost: mcr\r\n\r\n");
    const chunk = Buffer.alloc(1 << 20);
    let isClosed = false;
    socket.once("close", () => {
      isClosed = true;
    });
    socket.resume();
    let written = 0;
    while (!isClosed && written < 100) {
      written += 1;
      if (!socket.write(chunk))
        await Promise.race([new Promise((r) => socket.once("drain", r)), Bun.sleep(20)]);
    }
    await waitUntil(() => isClosed, { what: "the connection to be cut" });
    expect(await promptness()).toBeLessThan(promptMs);
  });

  test("100 that connect and say nothing", async () => {
    await open();
    for (let count = 0; count < 100; count += 1) await connect(count % 2 === 0 ? "" : "GET /v1/st");
    expect(await promptness()).toBeLessThan(promptMs);
  });

  test("a silent one is cut off", async () => {
    await open();
    const socket = await connect("GET /v1/st");
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.resume();
    await closed;
  }, 60_000);

  test("a request of 10 MB is refused", async () => {
    await open();
    const head = `POST /v1/reload HTTP/1.1\r\nhost: mcr\r\ncontent-length: 10000000\r\n\r\n`;
    expect(await exchange(head)).toStartWith("HTTP/1.1 413");
    expect(await promptness()).toBeLessThan(promptMs);
  });

  test("a body without an end goes with its connection", async () => {
    let reloads = 0;
    await open({
      reload: async () => {
        reloads += 1;
        return reloaded;
      },
    });
    const socket = await connect(
      "POST /v1/reload HTTP/1.1\r\nhost: mcr\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    const chunk = `10000\r\n${"z".repeat(0x10000)}\r\n`;
    let isClosed = false;
    socket.once("close", () => {
      isClosed = true;
    });
    socket.resume();
    await waitUntil(
      () => {
        if (!isClosed) socket.write(chunk);
        return isClosed;
      },
      { what: "the server to end the connection", intervalMs: 1 },
    );
    expect(reloads).toBeLessThanOrEqual(1);
    expect(await promptness()).toBeLessThan(promptMs);
  });

  test("headers without an end are refused", async () => {
    await open();
    expect(await exchange(`GET /v1/status HTTP/1.1\r\nx: ${"y".repeat(100_000)}`)).toStartWith(
      "HTTP/1.1 431",
    );
    expect(await promptness()).toBeLessThan(promptMs);
  });

  test("clients that ask for much and never read", async () => {
    const wide = Array.from({ length: 2000 }, () => rules).flat();
    await open({ rules: () => wide });
    const memory = process.memoryUsage.rss();
    for (let count = 0; count < 20; count += 1) {
      const socket = await connect("GET /v1/rules HTTP/1.1\r\nhost: mcr\r\n\r\n".repeat(1000));
      socket.pause();
    }
    expect(await promptness()).toBeLessThan(promptMs);
    // 20 answers, not 20,000: one is 2.3 MB.
    expect(process.memoryUsage.rss() - memory).toBeLessThan(500e6);
  });

  test("a slow reader gets all of a large answer", async () => {
    const wide = Array.from({ length: 2000 }, () => rules).flat();
    await open({ rules: () => wide });
    const socket = await connect("GET /v1/rules HTTP/1.1\r\nhost: mcr\r\n\r\n");
    socket.pause();
    await promptness();
    let text = "";
    for await (const data of socket) text += String(data);
    const [, body = ""] = text.split("\r\n\r\n");
    expect(v.parse(RulesSchema, JSON.parse(body)).rules).toHaveLength(wide.length);
  });

  test("what is not HTTP is refused or cut off, and no nonsense logs a line", async () => {
    await open();
    for (const bytes of [
      "\x16\x03\x01\x02\x00\x01\xff\xff\r\n\r\n",
      "BREW /v1/status HTTP/1.1\r\nhost: mcr\r\n\r\n",
      "GET /v1/status HTTP/1.1\r\n\r\n",
      "GET /v1/nothing HTTP/1.1\r\nhost: ]]] x\r\n\r\n",
      "GET http://[/ HTTP/1.1\r\nhost: mcr\r\n\r\n",
    ])
      expect([bytes, await exchange(bytes)]).toEqual([bytes, expect.stringMatching(/^(HTTP\/1.1 4\d\d|$)/)]);
    expect(logged).toEqual([]);
    expect(await promptness()).toBeLessThan(promptMs);
  });
});
