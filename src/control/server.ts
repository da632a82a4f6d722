// The control socket: HTTP + JSON on a Unix socket, so that `curl --unix-socket` works too. Opened by commands/run.ts.
// The socket file appears whole (listening, mode 0660) or not at all, and only this process's own is ever removed.
// What a client may cost is bounded in http.ts, what it may ask is in routes.ts, who may ask in access.ts.
import { chownSync, linkSync, lstatSync, mkdirSync, rmSync, type Stats, unlinkSync } from "node:fs";
import { createConnection } from "node:net";
import { dirname, join } from "node:path";
import { ExitCode, fail, McrError } from "../error.ts";
import type { Log } from "../log.ts";
import { groupId, type Peer, refusalOf } from "./access.ts";
import { HttpServer } from "./http.ts";
import type { ControlledRelay } from "./protocol.ts";
import { answerRequest } from "./routes.ts";
import { systemCodeOf, systemReasonOf } from "./system-code.ts";

export interface ControlServerOptions {
  readonly path: string;
  readonly relay: ControlledRelay;
  readonly log: Log;
  /** Whose members may ask; absent: the group that mcr runs as. */
  readonly group?: string | undefined;
  /** Who has connected, and whether that group is one of its own; absent: the file's mode alone decides. */
  readonly readPeer?: (fd: number, gid: number) => Peer;
}

export interface ControlServer {
  /** Ends every connection and removes the socket file. */
  close(): Promise<void>;
}

/** Each round ends with the socket published, a live owner found, or a stale file removed: more is a quarrel. */
const publishRoundsMax = 3;

export async function openControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const { path, log } = options;
  const gid = options.group === undefined ? (process.getegid?.() ?? 0) : groupId(options.group);
  // A name of its own first: bind() makes the file before anybody listens, and Bun removes it unseen at stop.
  // A short one, because an address of a socket holds 107 bytes.
  const unpublished = join(dirname(path), `.mcr.${process.pid}`);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    rmSync(unpublished, { force: true });
    const server = listen(unpublished, gid, options);
    try {
      if (options.group !== undefined) giveTo(unpublished, gid, options.group);
      await publish(unpublished, path);
    } catch (thrown) {
      server.stop();
      throw thrown;
    }
    unlinkSync(unpublished);
    const published = lstatSync(path);
    return {
      async close() {
        remove(path, published, log);
        server.stop();
      },
    };
  } catch (thrown) {
    throw explain(thrown, path);
  }
}

function listen(unpublished: string, gid: number, options: ControlServerOptions): HttpServer {
  const { path, relay, log, readPeer } = options;
  const ownUid = process.geteuid?.() ?? 0;
  // Before the file exists: a chmod after bind() would leave a moment for everybody.
  const umask = process.umask(0o117);
  try {
    return new HttpServer({
      path: unpublished,
      refusalOf(fd) {
        const peer = readPeer?.(fd, gid);
        const refusal = peer && refusalOf(peer, ownUid, path);
        if (peer && refusal !== undefined)
          log.writeRepeating(
            `peer ${peer.uid}`,
            "Security",
            "warning",
            `refused pid ${peer.pid}: ${refusal}`,
          );
        return refusal;
      },
      answer: (request) => answerRequest(request, relay, log),
      onSlowStream: () =>
        log.writeRepeating(
          "slow events",
          "ControlSocket",
          "warning",
          "a client that did not read its events was disconnected",
        ),
    });
  } finally {
    process.umask(umask);
  }
}

function giveTo(file: string, gid: number, group: string): void {
  try {
    chownSync(file, process.geteuid?.() ?? 0, gid);
  } catch (thrown) {
    fail(
      `cannot give the control socket to group ${group}: ${systemReasonOf(thrown)}. Run as root or as a member of it, or leave [relay] control_group out`,
      ExitCode.noPermission,
    );
  }
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
