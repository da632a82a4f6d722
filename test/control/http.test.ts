// The head of a request as bytes: what is taken, what waits for more, what is refused; and what a connection may hold.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createConnection, type Socket } from "node:net";
import { type HttpAnswer, HttpServer, limits, parseRequest } from "../../src/control/http.ts";
import { waitUntil } from "../support/wait.ts";
import { SocketDirectory } from "./fake-relay.ts";

const parse = (text: string) => parseRequest(Buffer.from(text));

describe("a request", () => {
  test("is whole with its head, or with as much body as it says", () => {
    const request = parse("GET /v1/rules?a=1 HTTP/1.1\r\nHost: mcr\r\n\r\n");
    if (typeof request === "string" || "json" in request) throw new Error("expected a request");
    expect(request).toMatchObject({ method: "GET", path: "/v1/rules", body: "" });
    expect(request.query.get("a")).toBe("1");
    const post = "POST /v1/x HTTP/1.1\r\nHost: mcr\r\nContent-Length: 4\r\n\r\n";
    expect(parse(`${post}abc`)).toBe("more");
    expect(parse(`${post}abcdef`)).toMatchObject({ method: "POST", body: "abcd" });
  });

  test("waits for more, byte after byte", () => {
    const text = "GET /v1/rules HTTP/1.1\r\nhost: mcr\r\n\r\n";
    for (let bytes = 0; bytes < text.length; bytes += 1) expect(parse(text.slice(0, bytes))).toBe("more");
  });

  test("hears that its body is welcome when it asks", () => {
    const text = "POST /v1/x HTTP/1.1\r\nhost: mcr\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    expect(parse(text)).toBe("continue");
    expect(parse(`${text}abcd`)).toMatchObject({ body: "abcd" });
  });

  const post = "POST /v1/x HTTP/1.1\r\nhost: mcr\r\n";
  test.each([
    ["nonsense\r\n\r\n", 400],
    ["\r\n\r\n", 400],
    ["GET /v1/rules HTTP/2.0\r\nhost: mcr\r\n\r\n", 400],
    ["get /v1/rules HTTP/1.1\r\nhost: mcr\r\n\r\n", 400],
    ["GET /v1/rules HTTP/1.1\r\n\r\n", 400],
    ["GET  /v1/rules HTTP/1.1\r\nhost: mcr\r\n\r\n", 400],
    ["GET http://[/ HTTP/1.1\r\nhost: mcr\r\n\r\n", 400],
    [`${post}no colon\r\n\r\n`, 400],
    [`${post}host: twice\r\n\r\n`, 400],
    [`${post}content-length: 1\r\ncontent-length: 2\r\n\r\n`, 400],
    [`${post}content-length: -1\r\n\r\n`, 400],
    [`${post}content-length: 1e3\r\n\r\n`, 400],
    [`${post}transfer-encoding: chunked\r\n\r\n`, 411],
    [`${post}content-length: ${limits.bodyBytesMax + 1}\r\n\r\n`, 413],
    [`${post}content-length: 999999999999999\r\n\r\n`, 413],
    [`${post}x: ${"y".repeat(limits.headBytesMax)}\r\n\r\n`, 431],
    ["y".repeat(limits.headBytesMax + 1), 431],
  ])("%# is refused", (text, status) => {
    expect(parse(text)).toMatchObject({ status });
  });
});

describe("a server", () => {
  const request = "GET /v1/rules HTTP/1.1\r\nhost: mcr\r\n\r\n";
  let directory: SocketDirectory;
  let server: HttpServer;
  let asked: ((answer: HttpAnswer) => void)[];
  let sockets: Socket[];
  beforeEach(() => {
    directory = new SocketDirectory();
    asked = [];
    sockets = [];
    server = new HttpServer({
      path: directory.socket,
      refusalOf: () => undefined,
      answer: () => new Promise((resolve) => void asked.push(resolve)),
      onSlowStream: () => {},
    });
  });
  afterEach(() => {
    for (const socket of sockets) socket.destroy();
    server.stop();
    directory[Symbol.dispose]();
  });

  /** A client whose request has arrived, and which reads nothing. */
  async function ask(): Promise<Socket> {
    const count = asked.length;
    const socket = createConnection(directory.socket);
    sockets.push(socket);
    socket.on("error", () => {});
    socket.pause();
    socket.write(request);
    await waitUntil(() => asked.length > count, { what: "the request to arrive" });
    return socket;
  }

  function read(socket: Socket): { bytes: number; isClosed: boolean } {
    const seen = { bytes: 0, isClosed: false };
    socket.on("data", (data) => {
      seen.bytes += data.length;
    });
    socket.once("close", () => {
      seen.isClosed = true;
    });
    socket.resume();
    return seen;
  }

  test("throws away what comes behind a request, and beyond the limit the connection too", async () => {
    const socket = await ask();
    const seen = read(socket);
    const isSent = new Promise<void>((resolve) => {
      socket.write(Buffer.alloc(limits.surplusBytesMax), () => resolve());
    });
    await isSent;
    // Another client's request comes behind it.
    await ask();
    expect(seen).toEqual({ bytes: 0, isClosed: false });
    socket.write("x");
    await waitUntil(() => seen.isClosed, { what: "the connection to be cut" });
    expect(seen.bytes).toBe(0);
  }, 60_000);

  test("of answers that nobody reads keeps so much in all: the one that waits longest goes", async () => {
    const text = "x".repeat(limits.unreadBytesMax * 0.3);
    for (let count = 0; count < 4; count += 1) {
      await ask();
      asked[count]?.({ status: 200, json: text });
    }
    const seen = sockets.map(read);
    await waitUntil(() => seen.every(({ isClosed }) => isClosed), { what: "all answers to end" });
    expect(seen.map(({ bytes }) => bytes > text.length)).toEqual([false, true, true, true]);
  }, 60_000);
});
