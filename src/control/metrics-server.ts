// The metrics address: GET /metrics for Prometheus, and nothing else. Opened, moved and closed by commands/run.ts.
// Plain TCP with as much HTTP as a scrape needs, because every limit counts here: a stranger may reach this port, and
// sockets that it holds are missing to the relay. So few clients at a time, one short request each, one deadline for
// all of it, and a text that is made a few times a second at most, however often it is asked for.
import { ExitCode, McrError } from "../error.ts";
import type { Log } from "../log.ts";
import { metricsContentType } from "./metrics.ts";
import { systemCodeOf, systemReasonOf } from "./system-code.ts";

/** Beyond these, a new connection is closed unread. A scraper needs one. */
const clientsMax = 16;
/** From connecting to having read the answer; Prometheus gives up after 10 s by itself. */
const deadlineMs = 10_000;
const requestBytesMax = 8 * 1024;
/** An answer is at most so old. */
const freshMs = 200;

export interface MetricsServerOptions {
  readonly render: () => string;
  readonly log: Log;
  readonly elapsedMs: () => number;
}

interface Client {
  request: string;
  /** Of the answer, what the client has not taken yet. */
  unsent: Uint8Array;
  hasAnswer: boolean;
  deadline: ReturnType<typeof setTimeout>;
}
type Socket = Bun.Socket<Client | undefined>;

export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #clients = new Set<Socket>();
  #listener: Bun.TCPSocketListener<Client | undefined> | undefined;
  #address: string | undefined;
  #text = "";
  #textMs = Number.NEGATIVE_INFINITY;

  constructor(options: MetricsServerOptions) {
    this.#options = options;
  }

  /**
   * Listens there from now on, or nowhere when undefined. Throws McrError where it cannot, and then goes on as before:
   * the new address is opened before the old one is closed.
   */
  listen(address: string | undefined): void {
    if (address === this.#address) return;
    const listener = address === undefined ? undefined : this.#open(address);
    this.close();
    this.#listener = listener;
    this.#address = address;
    if (address === undefined) return;
    this.#options.log.info("Supervisor", `metrics at http://${address}/metrics`);
    const warning = exposureOf(address);
    if (warning !== undefined) this.#options.log.warning("Security", `relay.metrics: ${warning}`);
  }

  close(): void {
    this.#listener?.stop(true);
    for (const socket of this.#clients) socket.terminate();
    this.#listener = undefined;
    this.#address = undefined;
  }

  #open(address: string): Bun.TCPSocketListener<Client | undefined> {
    const { hostname, port } = hostPortOf(address);
    try {
      return Bun.listen<Client | undefined>({
        hostname,
        port,
        allowHalfOpen: true,
        socket: {
          open: (socket) => this.#accept(socket),
          data: (socket, chunk) => this.#take(socket, chunk),
          drain: (socket) => this.#send(socket),
          // A client that has asked may close its half and still read.
          end: (socket) => {
            if (!socket.data?.hasAnswer) socket.terminate();
          },
          close: (socket) => this.#forget(socket),
          error: (socket) => socket.terminate(),
        },
      });
    } catch (thrown) {
      throw explain(thrown, address);
    }
  }

  #accept(socket: Socket): void {
    if (this.#clients.size >= clientsMax) {
      socket.terminate();
      return;
    }
    const deadline = setTimeout(() => socket.terminate(), deadlineMs);
    socket.data = { request: "", unsent: new Uint8Array(), hasAnswer: false, deadline };
    this.#clients.add(socket);
  }

  #forget(socket: Socket): void {
    clearTimeout(socket.data?.deadline);
    this.#clients.delete(socket);
  }

  #take(socket: Socket, chunk: Uint8Array): void {
    const client = socket.data;
    if (!client || client.hasAnswer) return; // what follows a request is read and forgotten
    client.request += Buffer.from(chunk).toString("latin1");
    const isWhole = client.request.includes("\r\n\r\n");
    if (!isWhole && client.request.length <= requestBytesMax) return;
    const answer = isWhole
      ? this.#answer(client.request)
      : respond("431 Request Header Fields Too Large", "the request is too long\n");
    client.hasAnswer = true;
    client.request = "";
    client.unsent = new TextEncoder().encode(answer);
    this.#send(socket);
  }

  #send(socket: Socket): void {
    const client = socket.data;
    if (!client?.hasAnswer) return;
    if (client.unsent.length > 0) {
      const written = socket.write(client.unsent);
      client.unsent = client.unsent.subarray(Math.max(0, written));
    }
    if (client.unsent.length === 0) socket.end();
  }

  #answer(request: string): string {
    const [, method, target] = /^([A-Z]+) (\S+) HTTP\/1\.[01]\r\n/.exec(request) ?? [];
    if (method === undefined || target === undefined)
      return respond("400 Bad Request", "not an HTTP request\n");
    if (target.split("?")[0] !== "/metrics")
      return respond("404 Not Found", "mcr answers GET /metrics\n", method === "HEAD");
    if (method !== "GET" && method !== "HEAD")
      return respond("405 Method Not Allowed", "/metrics wants GET\n", false, "Allow: GET, HEAD\r\n");
    return respond("200 OK", this.#freshText(), method === "HEAD");
  }

  #freshText(): string {
    const { elapsedMs, render } = this.#options;
    const now = elapsedMs();
    if (now - this.#textMs >= freshMs) {
      this.#text = render();
      this.#textMs = now;
    }
    return this.#text;
  }
}

function respond(status: string, body: string, isHead = false, headers = ""): string {
  const type = status.startsWith("200") ? metricsContentType : "text/plain; charset=utf-8";
  return `HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}Connection: close\r\n\r\n${isHead ? "" : body}`;
}

/** What an operator should know of an address that others may reach; undefined for loopback. */
export function exposureOf(address: string): string | undefined {
  const { hostname } = hostPortOf(address);
  if (hostname === "::1" || hostname === "localhost" || hostname.startsWith("127.")) return undefined;
  return `${address} is not a loopback address: whoever reaches it reads names, groups and rates of all rules; let a firewall admit your Prometheus only, or give "127.0.0.1:PORT"`;
}

/** The rule file's checked form: `127.0.0.1:9477`, `[::1]:9477`. */
function hostPortOf(address: string): { readonly hostname: string; readonly port: number } {
  const colon = address.lastIndexOf(":");
  return {
    hostname: address.slice(0, colon).replace(/^\[(.*)\]$/, "$1"),
    port: Number(address.slice(colon + 1)),
  };
}

function explain(thrown: unknown, address: string): McrError {
  const what = `cannot serve metrics at ${address}: `;
  const cure = "set another address: [relay] metrics";
  switch (systemCodeOf(thrown)) {
    case "EADDRINUSE":
      return new McrError(
        [`${what}the port is in use (ss -tlnp shows by whom). Stop that program, or ${cure}`],
        ExitCode.failed,
      );
    case "EADDRNOTAVAIL":
      return new McrError(
        [`${what}no interface of this host has the address (ip address); ${cure}`],
        ExitCode.config,
      );
    case "EACCES":
    case "EPERM":
      return new McrError(
        [`${what}permission denied: ports below 1024 need CAP_NET_BIND_SERVICE; ${cure}`],
        ExitCode.noPermission,
      );
    default:
      return new McrError([`${what}${systemReasonOf(thrown)}; ${cure}`], ExitCode.config);
  }
}
