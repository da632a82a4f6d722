// Asks the running mcr through its control socket; used by every command that shows or changes what runs.
// An answer is checked against its schema before anybody reads it, and every way to get none is one sentence.
import { createConnection, type Socket } from "node:net";
import * as v from "valibot";
import packageJson from "../../package.json" with { type: "json" };
import { ExitCode, fail, McrError, messageOf } from "../error.ts";
import { ErrorSchema } from "./protocol.ts";
import { systemCodeOf } from "./system-code.ts";

/** The default of [relay] control. */
export const defaultSocketPath = "/run/mcr/mcr.sock";

export type Method = "GET" | "POST" | "DELETE";

export interface Answer<T> {
  /** What this version knows of the answer. */
  readonly value: T;
  /** All of it, as it came: a newer mcr may say more. */
  readonly json: unknown;
}

/** What changes something waits for the relay to have done it. */
const timeoutMs: Readonly<Record<Method, number>> = { GET: 10_000, POST: 60_000, DELETE: 60_000 };

/** With these an edit or a reload says that it was refused; its body is as if it were not. */
const refusalStatuses: ReadonlySet<number> = new Set([403, 409, 422]);

/** How long a full queue of connections is waited for. */
const queueFullMs = 5_000;
const retryMs = 5;

/** Several relays on one host have a socket each: `mcr run -i studio` is /run/mcr/studio.sock. */
export function instanceSocketPath(instance: string): string {
  return `/run/mcr/${instance}.sock`;
}

/** What starts the mcr that would answer there. */
export function startCommand(socket: string, file = "FILE"): string {
  const [, instance] = /^\/run\/mcr\/([^/]+)\.sock$/.exec(socket) ?? [];
  const isNamed = instance !== undefined && socket !== defaultSocketPath;
  return `mcr run ${isNamed ? `-i ${instance} ` : ""}${file}`;
}

export function socketPath(
  { socket, instance }: { readonly socket?: string | undefined; readonly instance?: string | undefined },
  env: Readonly<Record<string, string | undefined>>,
): string {
  if (socket !== undefined) return socket;
  return instance === undefined ? env["MCR_SOCKET"] || defaultSocketPath : instanceSocketPath(instance);
}

/** As `request`, with something to say. */
export function send<const S extends v.GenericSchema>(
  socket: string,
  method: Method,
  path: string,
  schema: S,
  body: object,
): Promise<Answer<v.InferOutput<S>>> {
  return request(socket, method, path, schema, { body });
}

export async function request<const S extends v.GenericSchema>(
  socket: string,
  method: Method,
  path: string,
  schema: S,
  { limitMs = timeoutMs[method], body }: { readonly limitMs?: number; readonly body?: unknown } = {},
): Promise<Answer<v.InferOutput<S>>> {
  const { status, text } = await exchange(socket, method, path, limitMs, body);
  const json = parseJson(text);
  const isRefusal = refusalStatuses.has(status);
  if (status !== 200 && !isRefusal) return failRefused(socket, status, json);
  const result = v.safeParse(schema, json);
  if (result.success) return { value: result.output, json };
  if (isRefusal) return failRefused(socket, status, json);
  const [issue] = result.issues;
  return failUnexpected(socket, [v.getDotPath(issue), issue.message].filter(Boolean).join(": "));
}

/**
 * Lines as they come, until mcr ends or `signal` says so. By a plain socket: fetch gives up what says nothing for
 * minutes, and events may.
 */
export async function* follow(path: string, target: string, signal?: AbortSignal): AsyncGenerator<string> {
  const socket = await connected(path).catch((thrown: unknown) => failToAsk(thrown, path, timeoutMs.GET));
  const onAbort = () => void socket.destroy();
  signal?.addEventListener("abort", onAbort);
  try {
    socket.write(`GET ${target} HTTP/1.1\r\nhost: mcr\r\n\r\n`);
    const decoder = new TextDecoder();
    let text = "";
    let status: number | undefined;
    for await (const chunk of socket) {
      text += decoder.decode(chunk, { stream: true });
      const bodyAt = status === undefined ? text.indexOf("\r\n\r\n") : -4;
      if (status === undefined && bodyAt < 0) continue;
      status ??= Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1] ?? 0);
      text = text.slice(bodyAt + 4);
      if (status !== 200) continue;
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      yield* lines;
    }
    if (status !== 200) failRefused(path, status ?? 0, parseJson(text));
  } catch (thrown) {
    if (signal?.aborted) return;
    if (thrown instanceof McrError) throw thrown;
    failToAsk(thrown, path, timeoutMs.GET);
  } finally {
    signal?.removeEventListener("abort", onAbort);
    socket.destroy();
  }
}

async function connected(path: string): Promise<Socket> {
  const begin = performance.now();
  for (;;) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const socket = createConnection(path);
    socket.once("connect", resolve).once("error", reject);
    try {
      await promise;
      return socket;
    } catch (thrown) {
      if (!isQueueFull(thrown, begin)) throw thrown;
      await Bun.sleep(retryMs);
    }
  }
}

async function exchange(socket: string, method: Method, path: string, limitMs: number, body: unknown) {
  const signal = AbortSignal.timeout(limitMs);
  const init = body === undefined ? { method, signal } : { method, signal, body: JSON.stringify(body) };
  try {
    const response = await connect(socket, path, init);
    return { status: response.status, text: await response.text() };
  } catch (thrown) {
    return failToAsk(thrown, socket, limitMs);
  }
}

async function connect(socket: string, path: string, init: RequestInit): Promise<Response> {
  const begin = performance.now();
  for (;;) {
    try {
      return await fetch(`http://mcr${path}`, {
        unix: socket,
        keepalive: false,
        redirect: "manual",
        ...init,
      });
    } catch (thrown) {
      if (!isQueueFull(thrown, begin)) throw thrown;
      await Bun.sleep(retryMs);
    }
  }
}

/** The queue of connections is full (connect(2)): thousands came at once, and mcr is about to take them. */
function isQueueFull(thrown: unknown, begin: number): boolean {
  return systemCodeOf(thrown) === "EAGAIN" && performance.now() - begin < queueFullMs;
}

function failRefused(socket: string, status: number, json: unknown): never {
  const refusal = v.safeParse(ErrorSchema, json);
  const reason = refusal.success ? refusal.output.error : `HTTP status ${status}`;
  if (!refusal.success) return failUnexpected(socket, reason);
  switch (status) {
    case 400:
      return fail(`the mcr at ${socket} refuses: ${reason}`, ExitCode.usage);
    case 403:
      return fail(reason, ExitCode.noPermission);
    case 500:
      return fail(`the mcr at ${socket} failed: ${reason}; its log says more`, ExitCode.failed);
    case 503:
      return fail(`the mcr at ${socket}: ${reason}`, ExitCode.unavailable);
    default:
      return failUnexpected(socket, reason);
  }
}

function failToAsk(thrown: unknown, socket: string, limitMs: number): never {
  if (thrown instanceof Error && thrown.name === "TimeoutError")
    fail(
      `the mcr at ${socket} did not answer within ${limitMs / 1000} s; its log may say why`,
      ExitCode.unavailable,
    );
  switch (systemCodeOf(thrown)) {
    case "ENOENT":
    case "ENOTDIR":
    case "ECONNREFUSED":
      return fail(
        `no mcr answers at ${socket}: start it: ${startCommand(socket)}; or name its socket: --socket PATH or MCR_SOCKET`,
        ExitCode.unavailable,
      );
    case "EACCES":
    case "EPERM":
      return fail(
        `no permission to ask the mcr at ${socket}: run as root, or as a member of the group that owns it (ls -l ${socket})`,
        ExitCode.noPermission,
      );
    case "ECONNRESET":
      return failUnexpected(socket, "it closed the connection");
    case "Malformed_HTTP_Response":
      return failUnexpected(socket, "it does not speak HTTP");
    default:
      return failUnexpected(socket, messageOf(thrown));
  }
}

/** Undefined is in no schema. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function failUnexpected(socket: string, detail: string): never {
  return fail(
    `${socket} does not answer as mcr ${packageJson.version} does (${detail}): is it another program, or another version of mcr?`,
    ExitCode.unavailable,
  );
}
