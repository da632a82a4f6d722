// The head of a request as bytes: what is taken, what waits for more, what is refused.

import { describe, expect, test } from "bun:test";
import { limits, parseRequest } from "../../src/control/http.ts";

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
