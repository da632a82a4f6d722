// The control client: what it takes for an answer, and the sentence for every way to get none.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { systemClock } from "../../src/clock.ts";
import { type Method, request, socketPath, startCommand } from "../../src/control/client.ts";
import { RulesSchema, StatusSchema } from "../../src/control/protocol.ts";
import { openControlServer } from "../../src/control/server.ts";
import { McrError } from "../../src/error.ts";
import { Log } from "../../src/log.ts";
import { asOrdinaryUser, fakeRelay, SocketDirectory, status } from "./fake-relay.ts";

let directory: SocketDirectory;
const open: Disposable[] = [];

beforeEach(() => {
  directory = new SocketDirectory();
});
afterEach(closeAll);

function closeAll(): void {
  for (const disposable of open.splice(0)) disposable[Symbol.dispose]();
  directory[Symbol.dispose]();
}

/** Between two cases of one test. */
function renew(): void {
  closeAll();
  directory = new SocketDirectory();
}

/** Serves HTTP that is not mcr's. */
function serveHttp(answer: () => Response | Promise<Response>): void {
  const server = Bun.serve({ unix: directory.socket, fetch: answer });
  open.push({ [Symbol.dispose]: () => void server.stop(true) });
}

async function serveBytes(bytes: string | undefined, isEnd = true): Promise<void> {
  const server: Server = createServer((socket) => {
    socket.on("error", () => {});
    if (bytes !== undefined) socket.write(bytes);
    if (isEnd) socket.end();
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(directory.socket, resolve);
  await promise;
  open.push({ [Symbol.dispose]: () => void server.close() });
}

async function requestError(method: Method = "GET", limitMs?: number): Promise<McrError> {
  const answer = request(
    directory.socket,
    method,
    "/v1/status",
    StatusSchema,
    limitMs === undefined ? {} : { limitMs },
  );
  const thrown: unknown = await answer.catch((error: unknown) => error);
  if (!(thrown instanceof McrError)) throw new Error(`expected a refusal, got ${Bun.inspect(thrown)}`);
  expect(thrown.lines).toHaveLength(1);
  return thrown;
}

describe("an answer", () => {
  test("comes checked, and also as it was sent", async () => {
    serveHttp(() => Response.json({ ...status, new_in_a_later_version: [1] }));
    const { value, json } = await request(directory.socket, "GET", "/v1/status", StatusSchema);
    expect(value).toEqual(status);
    expect(json).toEqual({ ...status, new_in_a_later_version: [1] });
  });

  test("of the control server is what the relay said", async () => {
    const log = new Log(
      { level: "info", format: "text", facility: {} },
      { write: () => {}, clock: systemClock, isJournal: false },
    );
    const server = await openControlServer({ path: directory.socket, relay: fakeRelay(), log });
    const { value } = await request(directory.socket, "GET", "/v1/status", StatusSchema);
    await server.close();
    expect(value).toEqual(status);
  });

  test("may be a refusal: the status says so, and the body is read all the same", async () => {
    for (const code of [403, 409, 422]) {
      serveHttp(() => Response.json(status, { status: code }));
      const { value } = await request(directory.socket, "POST", "/v1/status", StatusSchema);
      expect(value).toEqual(status);
      renew();
    }
    serveHttp(() => Response.json({ error: "who are you" }, { status: 403 }));
    const error = await requestError();
    expect([error.message, error.exitCode]).toEqual(["who are you", 77]);
  });

  test("that the mcr could not give is its own failure, told in its own words", async () => {
    serveHttp(() => Response.json({ error: "counters are gone" }, { status: 500 }));
    const error = await requestError();
    expect(error.message).toBe(`the mcr at ${directory.socket} failed: counters are gone; its log says more`);
    expect(error.exitCode).toBe(1);
  });
});

describe("no answer", () => {
  const noDaemon = () =>
    `no mcr answers at ${directory.socket}: start it: mcr run FILE; or name its socket: --socket PATH or MCR_SOCKET`;

  test("when nothing is at the path", async () => {
    const error = await requestError();
    expect(error.message).toBe(noDaemon());
    expect(error.exitCode).toBe(69);
  });

  test("of an instance, which is started by its name", async () => {
    const answer = request("/run/mcr/none-such.sock", "GET", "/v1/status", StatusSchema);
    const error: unknown = await answer.catch((thrown: unknown) => thrown);
    expect(String(error)).toContain("start it: mcr run -i none-such FILE; or");
    expect(startCommand("/run/mcr/studio.sock", "a.toml")).toBe("mcr run -i studio a.toml");
    expect(startCommand("/run/mcr/mcr.sock")).toBe("mcr run FILE");
    expect(startCommand("/tmp/studio.sock")).toBe("mcr run FILE");
  });

  test("when the path is a file that nobody listens on", async () => {
    writeFileSync(directory.socket, "");
    const error = await requestError("POST");
    expect(error.message).toBe(noDaemon());
    expect(error.exitCode).toBe(69);
  });

  test("when this user may not connect", async () => {
    serveHttp(() => Response.json(status));
    using _ = asOrdinaryUser(directory.path);
    const error = await requestError();
    expect(error.message).toStartWith(`no permission to ask the mcr at ${directory.socket}: run as root`);
    expect(error.exitCode).toBe(77);
  });

  test("in time, whether the other side is silent or stops within its answer", async () => {
    for (const bytes of [undefined, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"]) {
      await serveBytes(bytes, false);
      const error = await requestError("GET", 100);
      expect(error.message).toBe(
        `the mcr at ${directory.socket} did not answer within 0.1 s; its log may say why`,
      );
      expect(error.exitCode).toBe(69);
      renew();
    }
  });

  test("as mcr gives it is said to be another program's, with what is odd about it", async () => {
    const cases: readonly (readonly [string, () => void | Promise<void>])[] = [
      ["Not Found", () => serveHttp(() => new Response("Not Found", { status: 404 }))],
      ["no such path", () => serveHttp(() => Response.json({ error: "no such path" }, { status: 404 }))],
      ["HTTP status 302", () => serveHttp(() => Response.redirect("http://127.0.0.1:9/"))],
      ["Invalid type", () => serveHttp(() => new Response("<html>"))],
      ["uptime_s: Invalid", () => serveHttp(() => Response.json({ ...status, uptime_s: "long" }))],
      ["rules", () => serveHttp(() => Response.json({ ...status, rules: {} }))],
      ["it does not speak HTTP", () => serveBytes("SSH-2.0-OpenSSH\r\n")],
      ["closed the connection", () => serveBytes("")],
    ];
    for (const [detail, serve] of cases) {
      await serve();
      const error = await requestError();
      if (detail !== "Not Found") expect(error.message).toContain(detail);
      expect(error.message).toMatch(
        /does not answer as mcr \d.*is it another program, or another version of mcr\?$/,
      );
      expect(error.exitCode).toBe(69);
      renew();
    }
  });

  test("is not looked for at a proxy", async () => {
    serveHttp(() => Response.json({ rules: [] }));
    const before = process.env["http_proxy"];
    process.env["http_proxy"] = "http://127.0.0.1:9";
    try {
      const { value } = await request(directory.socket, "GET", "/v1/rules", RulesSchema);
      expect(value).toMatchObject({ rules: [] });
    } finally {
      if (before === undefined) delete process.env["http_proxy"];
      else process.env["http_proxy"] = before;
    }
  });
});

describe("the path of the socket", () => {
  test("is --socket, else MCR_SOCKET, else the default of the rule file", () => {
    expect(socketPath({ socket: "/a" }, { MCR_SOCKET: "/b" })).toBe("/a");
    expect(socketPath({}, { MCR_SOCKET: "/b" })).toBe("/b");
    expect(socketPath({}, { MCR_SOCKET: "" })).toBe("/run/mcr/mcr.sock");
    expect(socketPath({}, {})).toBe("/run/mcr/mcr.sock");
  });
});
