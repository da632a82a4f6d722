// Asks the running mcr through its control socket; used by every command that shows or changes what runs.
// An answer is checked against its schema before anybody reads it, and every way to get none is one sentence.
import * as v from "valibot";
import packageJson from "../../package.json" with { type: "json" };
import { ExitCode, fail, messageOf } from "../error.ts";
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

export function socketPath(
  { socket }: { readonly socket?: string | undefined },
  env: Readonly<Record<string, string | undefined>>,
): string {
  return socket ?? (env["MCR_SOCKET"] || defaultSocketPath);
}

/** As `request`, with something to say. */
export function send<const S extends v.GenericSchema>(
  socket: string,
  method: Method,
  path: string,
  schema: S,
  body: object,
): Promise<Answer<v.InferOutput<S>>> {
  return request(socket, method, path, schema, timeoutMs[method], body);
}

export async function request<const S extends v.GenericSchema>(
  socket: string,
  method: Method,
  path: string,
  schema: S,
  limitMs: number = timeoutMs[method],
  body?: object,
): Promise<Answer<v.InferOutput<S>>> {
  const { status, text } = await exchange(socket, method, path, limitMs, body);
  const json = parseJson(text);
  if (status !== 200) {
    const refusal = v.safeParse(ErrorSchema, json);
    const reason = refusal.success ? refusal.output.error : `HTTP status ${status}`;
    if (refusal.success && status === 500)
      fail(`the mcr at ${socket} failed: ${reason}; its log says more`, ExitCode.failed);
    return failUnexpected(socket, reason);
  }
  const result = v.safeParse(schema, json);
  if (result.success) return { value: result.output, json };
  const [issue] = result.issues;
  return failUnexpected(socket, [v.getDotPath(issue), issue.message].filter(Boolean).join(": "));
}

async function exchange(
  socket: string,
  method: Method,
  path: string,
  limitMs: number,
  body: object | undefined,
) {
  try {
    const response = await fetch(`http://mcr${path}`, {
      unix: socket,
      method,
      ...(body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
      keepalive: false,
      redirect: "manual",
      signal: AbortSignal.timeout(limitMs),
    });
    return { status: response.status, text: await response.text() };
  } catch (thrown) {
    return failToAsk(thrown, socket, limitMs);
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
        `no mcr answers at ${socket}: start it: mcr run FILE; or name its socket: --socket PATH or MCR_SOCKET`,
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
