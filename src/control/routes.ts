// What can be asked of a running mcr over its control socket: one line for each method and path. Every answer names its
// schema, which is the path of its version: fields are only ever added to it.
import * as v from "valibot";
import { ExitCode, McrError, messageOf } from "../error.ts";
import type { Log } from "../log.ts";
import type { HttpAnswer, HttpRequest } from "./http.ts";
import {
  AddRequestSchema,
  type ControlledRelay,
  LogLevelChangeSchema,
  RemoveRequestSchema,
  SaveRequestSchema,
} from "./protocol.ts";

interface Route {
  readonly method: string;
  readonly path: string;
  /** A plain object, or a promise of one; a McrError is a refusal. */
  readonly answer: (relay: ControlledRelay, request: HttpRequest) => object | Promise<object>;
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
    answer: (relay, { body }) => relay.add(parseBody(AddRequestSchema, body).rules),
  },
  {
    method: "DELETE",
    path: "/v1/rules",
    answer: (relay, { body }) => relay.remove(parseBody(RemoveRequestSchema, body).names),
  },
  { method: "GET", path: "/v1/flows", answer: (relay) => relay.flows() },
  { method: "GET", path: "/v1/stats", answer: (relay) => relay.stats() },
  { method: "GET", path: "/v1/memberships", answer: (relay) => ({ memberships: relay.memberships() }) },
  { method: "GET", path: "/v1/interfaces", answer: (relay) => ({ interfaces: relay.interfaces() }) },
  { method: "GET", path: "/v1/workers", answer: (relay) => ({ workers: relay.stats().workers }) },
  { method: "GET", path: "/v1/config", answer: (relay) => relay.config() },
  { method: "GET", path: "/v1/log-levels", answer: (relay) => relay.logLevels() },
  {
    method: "POST",
    path: "/v1/log-levels",
    answer: (relay, { body }) => relay.setLogLevel(parseBody(LogLevelChangeSchema, body)),
  },
  {
    method: "POST",
    path: "/v1/save",
    answer: (relay, { body }) => relay.save(parseBody(SaveRequestSchema, body || "{}").force),
  },
  { method: "POST", path: "/v1/reload", answer: (relay) => relay.reload() },
];
/** Not one answer but lines, each an event: the only path that stays open. */
const eventsPath = "/v1/events";

export async function answerRequest(
  { method, path, ...rest }: HttpRequest,
  relay: ControlledRelay,
  log: Log,
): Promise<HttpAnswer> {
  const methods = methodsOf(path);
  if (methods.length === 0) return refuse(404, `no such path; mcr answers ${describeRoutes()}`);
  if (!methods.includes(method))
    return {
      ...refuse(405, `${path} wants ${methods.join(" or ")}`),
      headers: { allow: methods.join(", ") },
    };
  if (path === eventsPath)
    return { subscribe: ({ send }) => relay.subscribe((event) => send(JSON.stringify(event))) };
  try {
    const route = routes.find((each) => each.path === path && each.method === method);
    const answer = await route?.answer(relay, { method, path, ...rest });
    return { status: statusOf(answer), json: { schema: path, ...answer } };
  } catch (thrown) {
    const error = messageOf(thrown);
    if (thrown instanceof McrError && thrown.exitCode === ExitCode.usage) return refuse(400, error);
    log.writeRepeating(`control ${path}`, "ControlSocket", "error", `${method} ${path}: ${error}`);
    return refuse(500, error);
  }
}

/** A refused edit or reload is an answer like any other, but who asks by `curl -f` must see that nothing was done. */
function statusOf(answer: object | undefined): number {
  if (!answer || !("ok" in answer) || answer.ok !== false) return 200;
  // Only edits say why: a reload is refused for its file.
  switch ("refusal" in answer ? answer.refusal : "config") {
    case "config":
      return 422;
    case "noPermission":
      return 403;
    default:
      return 409;
  }
}

function methodsOf(path: string): readonly string[] {
  if (path === eventsPath) return ["GET"];
  return routes.filter((route) => route.path === path).map(({ method }) => method);
}

function describeRoutes(): string {
  return [...routes.map(({ method, path }) => `${method} ${path}`), `GET ${eventsPath}`].join(", ");
}

function refuse(status: number, error: string) {
  return { status, json: { error } };
}

function parseBody<const S extends v.GenericSchema>(schema: S, body: string): v.InferOutput<S> {
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), body);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const where = v.getDotPath(issue);
  throw new McrError([`the body: ${where === null ? "" : `${where}: `}${issue.message}`], ExitCode.usage);
}
