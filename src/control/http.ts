// HTTP/1.1 on a Unix socket, as small as curl and our own client need it, and made for strangers: one request a
// connection, and a bound on everything that one of them can hold on to. Called by server.ts, which knows what to
// answer. Not Bun.serve: it tells neither who connects nor how much an event stream has not taken yet.
//
//   reading ──request──► answering ──► writing ──all taken──► closing ──► gone
//                            └───────► streaming (events) ──► gone
//
// A client that is silent, slow, huge or one of thousands loses its own connection, never another's.
import type { Socket, UnixSocketListener } from "bun";

export const limits = {
  connectionsMax: 256,
  /** They stay, so they have a limit of their own. */
  streamsMax: 32,
  headBytesMax: 16 << 10,
  bodyBytesMax: 64 << 10,
  /** From connect to the end of the request. */
  requestMs: 5_000,
  /** An answer of which nothing is taken for so long. */
  unreadMs: 30_000,
  /** From the end of the answer until the client closes too. */
  lingerMs: 1_000,
  /** What an event stream may lag behind. */
  streamBytesMax: 256 << 10,
  /** What all answers together may wait for; then the one that waits longest goes. */
  unreadBytesMax: 64 << 20,
  /** What comes after a request is thrown away, up to so much. */
  surplusBytesMax: 1 << 20,
} as const;
const sweepMs = 250;

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: string;
}

export interface Stream {
  /** A line for the client; one that has not taken enough is disconnected instead. */
  send(line: string): void;
}

export type HttpAnswer =
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly json: unknown;
    }
  /** Lines until the client or we end it; returns what to do then. */
  | { readonly subscribe: (stream: Stream) => () => void };

export interface HttpOptions {
  readonly path: string;
  /** Undefined, or why whoever has connected is not answered. */
  readonly refusalOf: (fd: number) => string | undefined;
  readonly answer: (request: HttpRequest) => Promise<HttpAnswer>;
  readonly onSlowStream: () => void;
}

type Phase = "reading" | "answering" | "writing" | "streaming" | "closing";
type Client = Socket<Connection>;

interface Connection {
  phase: Phase;
  /** When the phase began, or the client last took something. */
  sinceMs: number;
  received: Buffer;
  surplusBytes: number;
  /** Not taken by the client yet, in pieces: what is behind the first waits for the client to take that. */
  unread: Buffer[];
  unreadBytes: number;
  readonly refusal: string | undefined;
  hasContinued: boolean;
  unsubscribe: (() => void) | undefined;
}

export class HttpServer {
  readonly #options: HttpOptions;
  /** Oldest first. */
  readonly #clients = new Set<Client>();
  readonly #listener: UnixSocketListener<Connection>;
  readonly #sweeper: ReturnType<typeof setInterval>;

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#listener = Bun.listen<Connection>({
      unix: options.path,
      // `socat` says that it has asked all; the answer is still to come.
      allowHalfOpen: true,
      socket: {
        open: (client) => this.#open(client),
        data: (client, bytes) => this.#receive(client, bytes),
        drain: (client) => this.#flush(client),
        close: (client) => this.#forget(client),
        end: (client) => {
          if (client.data.phase !== "answering" && client.data.phase !== "writing") this.#cut(client);
        },
        error: (client) => this.#cut(client),
      },
    });
    this.#sweeper = setInterval(() => this.#sweep(), sweepMs);
  }

  /** Ends every connection. */
  stop(): void {
    clearInterval(this.#sweeper);
    this.#listener.stop(true);
    for (const client of [...this.#clients]) this.#cut(client);
  }

  #open(client: Client): void {
    client.data = {
      phase: "reading",
      sinceMs: performance.now(),
      received: Buffer.alloc(0),
      surplusBytes: 0,
      unread: [],
      unreadBytes: 0,
      refusal: this.#options.refusalOf(descriptorOf(client)),
      hasContinued: false,
      unsubscribe: undefined,
    };
    if (this.#clients.size >= limits.connectionsMax && !this.#makeRoom()) {
      client.terminate();
      return;
    }
    this.#clients.add(client);
  }

  /** Who says nothing goes first, then who takes nothing; who waits for us or follows the events stays. */
  #makeRoom(): boolean {
    const victim = this.#longestIn(["reading", "closing"]) ?? this.#longestIn(["writing"]);
    if (victim) this.#cut(victim);
    return victim !== undefined;
  }

  #longestIn(phases: readonly Phase[]): Client | undefined {
    let longest: Client | undefined;
    for (const client of this.#clients)
      if (phases.includes(client.data.phase) && !(longest && longest.data.sinceMs <= client.data.sinceMs))
        longest = client;
    return longest;
  }

  #receive(client: Client, bytes: Buffer): void {
    const connection = client.data;
    if (connection.phase !== "reading") {
      connection.surplusBytes += bytes.length;
      if (connection.surplusBytes > limits.surplusBytesMax) this.#cut(client);
      return;
    }
    connection.received = Buffer.concat([connection.received, bytes]);
    const result = parseRequest(connection.received);
    if (result === "more") return;
    if (result === "continue") {
      if (!connection.hasContinued) client.write("HTTP/1.1 100 Continue\r\n\r\n");
      connection.hasContinued = true;
      return;
    }
    connection.received = Buffer.alloc(0);
    this.#enter(client, "answering");
    if ("json" in result) this.#answer(client, result);
    else if (connection.refusal !== undefined)
      this.#answer(client, { status: 403, json: { error: connection.refusal } });
    else void this.#options.answer(result).then((answer) => this.#answer(client, answer));
  }

  #answer(client: Client, answer: HttpAnswer): void {
    if (!this.#clients.has(client)) return; // gone meanwhile
    if ("subscribe" in answer) {
      const streams = [...this.#clients].filter(({ data }) => data.phase === "streaming").length;
      if (streams < limits.streamsMax) this.#stream(client, answer.subscribe);
      else
        this.#answer(client, {
          status: 503,
          json: { error: `${streams} clients follow the events already, and no more can: end one of them` },
        });
      return;
    }
    const body = Buffer.from(`${JSON.stringify(answer.json)}\n`);
    const headers = {
      "content-type": "application/json",
      "content-length": String(body.length),
      ...answer.headers,
    };
    this.#enter(client, "writing");
    this.#send(client, Buffer.concat([head(answer.status, headers), body]));
    if (this.#unreadBytes() > limits.unreadBytesMax) {
      const victim = this.#longestIn(["writing"]);
      if (victim) this.#cut(victim);
    }
  }

  #stream(client: Client, subscribe: (stream: Stream) => () => void): void {
    this.#enter(client, "streaming");
    const push = (bytes: Buffer) => {
      const { data } = client;
      if (data.phase !== "streaming" || !this.#clients.has(client)) return;
      if (data.unreadBytes + bytes.length > limits.streamBytesMax) {
        this.#cut(client);
        this.#options.onSlowStream();
        return;
      }
      this.#send(client, bytes);
    };
    push(head(200, { "content-type": "application/x-ndjson" }));
    const unsubscribe = subscribe({ send: (line) => push(Buffer.from(`${line}\n`)) });
    if (this.#clients.has(client)) client.data.unsubscribe = unsubscribe;
    else unsubscribe();
  }

  #send(client: Client, bytes: Buffer): void {
    const { data } = client;
    data.unread.push(bytes);
    data.unreadBytes += bytes.length;
    if (data.unread.length === 1) this.#flush(client);
  }

  /** Gives the client what it takes now; the rest waits for the next drain. */
  #flush(client: Client): void {
    const connection = client.data;
    if (connection.unreadBytes > 0) {
      const bytes = Buffer.concat(connection.unread);
      const taken = client.write(bytes);
      if (taken < 0) return; // closed: `close` follows
      if (taken > 0) connection.sinceMs = performance.now();
      connection.unread = taken < bytes.length ? [bytes.subarray(taken)] : [];
      connection.unreadBytes -= taken;
    }
    if (connection.phase !== "writing" || connection.unreadBytes > 0) return;
    this.#enter(client, "closing");
    client.end();
  }

  #unreadBytes(): number {
    let bytes = 0;
    for (const { data } of this.#clients) bytes += data.unreadBytes;
    return bytes;
  }

  #enter(client: Client, phase: Phase): void {
    client.data.phase = phase;
    client.data.sinceMs = performance.now();
  }

  #sweep(): void {
    const nowMs = performance.now();
    for (const client of [...this.#clients]) {
      const { phase, sinceMs } = client.data;
      if (nowMs - sinceMs > patienceMs[phase]) this.#cut(client);
    }
  }

  #cut(client: Client): void {
    this.#forget(client);
    client.terminate();
  }

  #forget(client: Client): void {
    this.#clients.delete(client);
    client.data.unread = [];
    client.data.unreadBytes = 0;
    const { unsubscribe } = client.data;
    client.data.unsubscribe = undefined;
    unsubscribe?.();
  }
}

/** Bun has it and does not say so in its types. */
function descriptorOf(client: Client): number {
  return "fd" in client && typeof client.fd === "number" ? client.fd : -1;
}

const patienceMs: Readonly<Record<Phase, number>> = {
  reading: limits.requestMs,
  answering: Number.POSITIVE_INFINITY,
  writing: limits.unreadMs,
  streaming: Number.POSITIVE_INFINITY,
  closing: limits.lingerMs,
};

const reasons: ReadonlyMap<number, string> = new Map([
  [200, "OK"],
  [400, "Bad Request"],
  [403, "Forbidden"],
  [404, "Not Found"],
  [405, "Method Not Allowed"],
  [409, "Conflict"],
  [411, "Length Required"],
  [413, "Content Too Large"],
  [422, "Unprocessable Content"],
  [431, "Request Header Fields Too Large"],
  [500, "Internal Server Error"],
  [503, "Service Unavailable"],
]);

function head(status: number, headers: Readonly<Record<string, string>>): Buffer {
  const lines = Object.entries({ ...headers, connection: "close" }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  return Buffer.from(`HTTP/1.1 ${status} ${reasons.get(status) ?? "Error"}\r\n${lines.join("\r\n")}\r\n\r\n`);
}

interface Refusal {
  readonly status: number;
  readonly json: { readonly error: string };
}

function refuse(status: number, error: string): Refusal {
  return { status, json: { error } };
}

/** The request once it is whole; "continue" when the client wants to hear that its body is welcome (RFC 9110 10.1.1). */
export function parseRequest(received: Buffer): HttpRequest | Refusal | "more" | "continue" {
  const headBytes = received.indexOf("\r\n\r\n");
  if (headBytes > limits.headBytesMax || (headBytes < 0 && received.length > limits.headBytesMax))
    return refuse(431, `the request's head is longer than ${limits.headBytesMax} bytes`);
  if (headBytes < 0) return "more";
  const [first = "", ...lines] = received.toString("latin1", 0, headBytes).split("\r\n");
  const [, method, target] = /^([A-Z]{1,16}) (\S+) HTTP\/1\.[01]$/.exec(first) ?? [];
  const url = URL.parse(target ?? "", "http://mcr");
  const headers = parseHeaders(lines);
  if (method === undefined || target === undefined || !url || !headers?.has("host"))
    return refuse(400, "this is no HTTP/1.1 request");
  if (headers.has("transfer-encoding")) return refuse(411, "give the body's length: content-length");
  const length = headers.get("content-length") ?? "0";
  if (!/^\d{1,15}$/.test(length)) return refuse(400, "content-length is no number");
  if (Number(length) > limits.bodyBytesMax)
    return refuse(413, `the body is longer than ${limits.bodyBytesMax} bytes`);
  const end = headBytes + 4 + Number(length);
  if (received.length < end)
    return headers.get("expect")?.toLowerCase() === "100-continue" ? "continue" : "more";
  const body = received.toString("utf8", headBytes + 4, end);
  return { method, path: url.pathname, query: url.searchParams, body };
}

/** By lower-case name; undefined where a line is none. A name that comes twice is a trick. */
function parseHeaders(lines: readonly string[]): ReadonlyMap<string, string> | undefined {
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined || headers.has(name.toLowerCase())) return undefined;
    headers.set(name.toLowerCase(), value);
  }
  return headers;
}
