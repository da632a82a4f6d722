// The metrics address on a real socket: what it answers, what it refuses, clients that mean harm, and moving it.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { createConnection, type Socket } from "node:net";
import { exposureOf, MetricsServer } from "../../src/control/metrics-server.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import { type RecordedLog, recordedLog } from "../support/fakes.ts";
import { waitUntil } from "../support/wait.ts";

let recorded: RecordedLog;
let server: MetricsServer;
let sockets: Socket[];
let rendered: number;
let clockMs: number;
let address: string;

beforeEach(() => {
  recorded = recordedLog();
  sockets = [];
  rendered = 0;
  clockMs = 1_000;
  server = new MetricsServer({
    render: () => {
      rendered += 1;
      return `# text ${rendered}\n${"x 1\n".repeat(1 << 19)}`;
    },
    log: recorded.log,
    elapsedMs: () => clockMs,
  });
  address = `127.0.0.1:${freePort()}`;
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
});

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

async function ask(path: string, method = "GET", body?: string) {
  const response = await fetch(`http://${address}${path}`, {
    method,
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** A client of bytes; `text` is all it got, `closed` whether the server is done with it. */
async function client(bytes: string) {
  const port = Number(address.split(":")[1]);
  const socket = createConnection({ host: "127.0.0.1", port, allowHalfOpen: true });
  sockets.push(socket);
  const state = { socket, text: "", closed: false };
  socket.on("data", (chunk) => {
    state.text += chunk.toString("latin1");
  });
  for (const event of ["end", "close", "error"])
    socket.on(event, () => {
      state.closed = true;
    });
  await new Promise<void>((connected) => socket.once("connect", () => connected()));
  socket.write(bytes);
  return state;
}

function refusalOf(action: () => void): McrError {
  try {
    action();
  } catch (thrown) {
    if (thrown instanceof McrError) return thrown;
    throw thrown;
  }
  throw new Error("nothing was thrown");
}

test("GET /metrics is the text, whole, with its content type; HEAD is the same without it", async () => {
  server.listen(address);
  const get = await ask("/metrics");
  expect(get.status).toBe(200);
  expect(get.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(get.text.length).toBe(`# text 1\n`.length + 4 * (1 << 19));
  const head = await ask("/metrics?x=1", "HEAD");
  expect([head.status, head.text]).toEqual([200, ""]);
  expect(recorded.lines.join("\n")).toContain(`metrics at http://${address}/metrics`);
});

test("other paths are 404, other methods 405, and what is no HTTP is 400", async () => {
  server.listen(address);
  expect((await ask("/")).status).toBe(404);
  expect((await ask("/v1/status")).status).toBe(404);
  const post = await ask("/metrics", "POST", "x".repeat(100_000));
  expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  const stranger = await client("SSH-2.0-x\r\n\r\n");
  await waitUntil(() => stranger.closed, { what: "the stranger to be answered" });
  expect(stranger.text).toStartWith("HTTP/1.1 400 ");
  expect(rendered).toBe(0);
});

test("however often it is asked for, the text is made a few times a second", async () => {
  server.listen(address);
  for (let i = 0; i < 20; i += 1) await ask("/metrics");
  expect(rendered).toBe(1);
  clockMs += 200;
  expect((await ask("/metrics")).text).toStartWith("# text 2\n");
});

test("a request without an end is cut off at 8 KiB", async () => {
  server.listen(address);
  const endless = await client(`GET /metrics HTTP/1.1\r\nx: ${"x".repeat(20_000)}`);
  await waitUntil(() => endless.closed, { what: "the endless request to be refused" });
  expect(endless.text).toStartWith("HTTP/1.1 431 ");
});

test("1,000 clients that say nothing hold sixteen sockets, for ten seconds, then a scrape comes through", async () => {
  server.listen(address);
  const clients = await Promise.all(Array.from({ length: 1_000 }, () => client("")));
  const open = () => clients.filter(({ closed }) => !closed).length;
  await waitUntil(() => open() === 16, { what: "all but 16 clients to be closed" });
  await waitUntil(() => open() === 0, { what: "silent clients to be closed", deadlineMs: 30_000 });
  expect((await ask("/metrics")).status).toBe(200);
}, 60_000);

test("a client that never reads is given up, and others are answered meanwhile", async () => {
  server.listen(address);
  const lazy = await client("");
  lazy.socket.pause();
  lazy.socket.write("GET /metrics HTTP/1.1\r\n\r\n");
  await waitUntil(() => rendered === 1, { what: "the lazy client to be answered" });
  expect((await ask("/metrics")).text.length).toBeGreaterThan(1 << 21);
});

test("a port in use is one sentence with its cure; what was served before goes on", async () => {
  server.listen(address);
  const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const other = `127.0.0.1:${taken.port}`;
  const refusal = refusalOf(() => server.listen(other));
  taken.stop(true);
  expect(refusal.lines).toEqual([
    `cannot serve metrics at ${other}: the port is in use (ss -tlnp shows by whom). Stop that program, or set another address: [relay] metrics`,
  ]);
  expect(refusal.exitCode).toBe(ExitCode.failed);
  expect((await ask("/metrics")).status).toBe(200);
});

test("an address that this host has not is a mistake of the file", () => {
  const refusal = refusalOf(() => server.listen("192.0.2.1:9477"));
  expect(refusal.exitCode).toBe(ExitCode.config);
  expect(refusal.message).toStartWith("cannot serve metrics at 192.0.2.1:9477: ");
});

test("it moves to another address and is turned off", async () => {
  server.listen(address);
  const before = address;
  address = `127.0.0.1:${freePort()}`;
  server.listen(address);
  expect((await ask("/metrics")).status).toBe(200);
  expect(await fetch(`http://${before}/metrics`).catch(() => "refused")).toBe("refused");
  server.listen(undefined);
  expect(await ask("/metrics").catch(() => "refused")).toBe("refused");
});

test.each(["127.0.0.1:9477", "127.8.8.8:1", "[::1]:9477", "localhost:9477"])("%s is loopback", (loopback) => {
  expect(exposureOf(loopback)).toBeUndefined();
});
test.each(["0.0.0.0:9477", "[::]:9477", "10.0.0.1:9477", "router.example:9477"])("%s is not", (open) => {
  expect(exposureOf(open)).toStartWith(`${open} is not a loopback address: `);
});
