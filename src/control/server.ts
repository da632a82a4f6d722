// The control socket: HTTP + JSON on a Unix socket, so that `curl --unix-socket` works too. Opened by commands/run.ts.
// The socket file appears whole (listening, mode 0660) or not at all, and only this process's own is ever removed.
// A client costs nobody anything: every connection carries one request, bodies are small, and one that is silent or
// does not read is cut off by the idle timeout.
import { linkSync, lstatSync, mkdirSync, rmSync, type Stats, unlinkSync } from "node:fs";
import { createConnection } from "node:net";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { ExitCode, fail, McrError, messageOf } from "../error.ts";
import type { Log } from "../log.ts";
import {
  AddRequestSchema,
  type ControlledRelay,
  RemoveRequestSchema,
  SaveRequestSchema,
} from "./protocol.ts";
import { systemCodeOf, systemReasonOf } from "./system-code.ts";

export interface ControlServerOptions {
  readonly path: string;
  readonly relay: ControlledRelay;
  readonly log: Log;
}

export interface ControlServer {
  /** Ends every connection and removes the socket file. */
  close(): Promise<void>;
}

/** The largest body is a rule with some hundred egresses. */
const bodyBytesMax = 64 * 1024;
/**
 * How long an answer may take, or wait to be read; longer than `mcr reload` waits. Bun gives a client 10 s for its
 * request, whatever stands here. An object without a type: the types know idleTimeout on TCP only, Bun has it here too
 * (and server.timeout(), which they do know, does nothing on a Unix socket).
 */
const timeouts: object = { idleTimeout: 90 };
/** Each round ends with the socket published, a live owner found, or a stale file removed: more is a quarrel. */
const publishRoundsMax = 3;

interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly answer: (relay: ControlledRelay, body: string) => unknown;
}

const routes: readonly Route[] = [
  { method: "GET", path: "/v1/status", answer: (relay) => relay.status() },
  {
    method: "GET",
    path: "/v1/rules",
    answer: (relay) => ({ rules: relay.rules(), unsaved: relay.unsaved() }),
  },
  {
    method: "POST",
    path: "/v1/rules",
    answer: (relay, body) => relay.add(parseBody(AddRequestSchema, body).rules),
  },
  {
    method: "DELETE",
    path: "/v1/rules",
    answer: (relay, body) => relay.remove(parseBody(RemoveRequestSchema, body).names),
  },
  { method: "GET", path: "/v1/stats", answer: (relay) => relay.stats() },
  { method: "GET", path: "/v1/config", answer: (relay) => relay.config() },
  { method: "POST", path: "/v1/reload", answer: (relay) => relay.reload() },
  {
    method: "POST",
    path: "/v1/save",
    answer: (relay, body) => relay.save(parseBody(SaveRequestSchema, body || "{}").force),
  },
];

export async function openControlServer({ path, relay, log }: ControlServerOptions): Promise<ControlServer> {
  // A name of its own first: bind() makes the file before anybody listens, and Bun removes it unseen at stop.
  // A short one, because an address of a socket holds 107 bytes.
  const unpublished = join(dirname(path), `.mcr.${process.pid}`);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    rmSync(unpublished, { force: true });
    const server = listen(unpublished, relay, log);
    try {
      await publish(unpublished, path);
    } catch (thrown) {
      await server.stop(true);
      throw thrown;
    }
    unlinkSync(unpublished);
    const published = lstatSync(path);
    return {
      async close() {
        remove(path, published, log);
        await server.stop(true);
      },
    };
  } catch (thrown) {
    throw explain(thrown, path);
  }
}

function listen(path: string, relay: ControlledRelay, log: Log): Bun.Server<undefined> {
  // Before the file exists: a chmod after bind() would leave a moment for everybody.
  const umask = process.umask(0o117);
  try {
    return Bun.serve({
      unix: path,
      development: false,
      ...timeouts,
      maxRequestBodySize: bodyBytesMax,
      fetch: (request) => answer(request, relay, log),
    });
  } finally {
    process.umask(umask);
  }
}

async function answer(request: Request, relay: ControlledRelay, log: Log): Promise<Response> {
  // The client writes the host, so the URL need not be one.
  const path = URL.parse(request.url)?.pathname ?? "";
  const methods = routes.filter((route) => route.path === path).map(({ method }) => method);
  if (methods.length === 0) return json(404, { error: `no such path; mcr answers ${describeRoutes()}` });
  const route = routes.find((each) => each.path === path && each.method === request.method);
  if (!route)
    return json(405, { error: `${path} wants ${methods.join(" or ")}` }, { allow: methods.join(", ") });
  try {
    const body = route.method === "GET" ? "" : await request.text();
    return json(200, await route.answer(relay, body));
  } catch (thrown) {
    const error = messageOf(thrown);
    if (thrown instanceof McrError && thrown.exitCode === ExitCode.usage) return json(400, { error });
    log.writeRepeating(`control ${path}`, "ControlSocket", "error", `${request.method} ${path}: ${error}`);
    return json(500, { error });
  }
}

/** One request a connection: no queue of unread answers, and a body without an end goes with its connection. */
function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(`${JSON.stringify(body)}\n`, {
    status,
    headers: { "content-type": "application/json", connection: "close", ...headers },
  });
}

function describeRoutes(): string {
  return routes.map(({ method, path }) => `${method} ${path}`).join(", ");
}

function parseBody<const S extends v.GenericSchema>(schema: S, body: string): v.InferOutput<S> {
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), body);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const where = v.getDotPath(issue);
  return fail(`the body: ${where === null ? "" : `${where}: `}${issue.message}`, ExitCode.usage);
}

/** link() refuses to replace, so of two that start at once only one gets the name. */
async function publish(unpublished: string, path: string): Promise<void> {
  for (let round = 0; round < publishRoundsMax; round += 1) {
    try {
      linkSync(unpublished, path);
      return;
    } catch (thrown) {
      if (systemCodeOf(thrown) !== "EEXIST") throw thrown;
    }
    await removeStale(path);
  }
  failRunning(path);
}

/** A socket that nobody listens on is what a killed mcr left; anything else at this path is not ours to remove. */
async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket())
    fail(
      `cannot open the control socket ${path}: ${describe(found)} is there. Remove it, or set another path: [relay] control`,
      ExitCode.config,
    );
  if (await answers(path)) failRunning(path);
  rmSync(path, { force: true });
}

/** Not 69, which says that no mcr runs, and not 78: the rule file may be right and this start one too many. */
function failRunning(path: string): never {
  fail(
    `another mcr is running: ${path} answers. Stop it, or give this one its own [relay] control path`,
    ExitCode.failed,
  );
}

function answers(path: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = createConnection(path);
  socket.once("connect", () => {
    socket.destroy();
    resolve(true);
  });
  socket.once("error", (error) => {
    const code = systemCodeOf(error);
    if (code === "ECONNREFUSED" || code === "ENOENT") resolve(false);
    // Somebody listens, but its queue of connections is full.
    else if (code === "EAGAIN") resolve(true);
    else reject(error);
  });
  return promise;
}

function describe(found: Stats): string {
  if (found.isFile()) return "a regular file";
  if (found.isDirectory()) return "a directory";
  return found.isSymbolicLink() ? "a symbolic link" : "something that is not a socket";
}

function remove(path: string, published: Stats, log: Log): void {
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found?.ino === published.ino && found.dev === published.dev) unlinkSync(path);
  } catch (thrown) {
    // After privileges are dropped the directory may be closed to us; the next start recognises the file as stale.
    log.info("ControlSocket", `${path} stays: ${systemReasonOf(thrown)}`);
  }
}

function explain(thrown: unknown, path: string): unknown {
  const code = systemCodeOf(thrown);
  if (thrown instanceof McrError || code === undefined) return thrown;
  const what = `cannot open the control socket ${path}: ${systemReasonOf(thrown)}`;
  if (code === "EACCES" || code === "EPERM")
    return new McrError(
      [
        `${what}. Run as root, let systemd make the directory (RuntimeDirectory=mcr), or set a path that this user may write: [relay] control`,
      ],
      ExitCode.noPermission,
    );
  return new McrError([`${what}. Set another path: [relay] control`], ExitCode.config);
}
