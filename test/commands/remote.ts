// Runs a command that asks a running mcr against a control server with a fake relay, and keeps what it wrote.

import { systemClock } from "../../src/clock.ts";
import type { Command, Io } from "../../src/commands/command.ts";
import type { ControlledRelay } from "../../src/control/protocol.ts";
import { openControlServer } from "../../src/control/server.ts";
import { type ExitCode, McrError } from "../../src/error.ts";
import { Log } from "../../src/log.ts";
import { fakeRelay, SocketDirectory } from "../control/fake-relay.ts";

export interface Ran {
  readonly exitCode: ExitCode;
  readonly stdout: string;
  /** The lines that main.ts would print. */
  readonly errors: readonly string[];
}

/** With null for the relay no mcr runs. */
export async function runRemote(
  command: Command,
  relay: Partial<ControlledRelay> | null,
  options: Readonly<Record<string, unknown>> = {},
  positionals: readonly string[] = [],
  world: Partial<Io> = {},
): Promise<Ran> {
  using directory = new SocketDirectory();
  const log = new Log(
    { level: "info", format: "text", facility: {} },
    { write: () => {}, clock: systemClock, isJournal: false },
  );
  const path = directory.socket;
  const server = relay && (await openControlServer({ path, relay: fakeRelay(relay), log }));
  let stdout = "";
  const io: Io = {
    stdout: (text) => {
      stdout += text;
    },
    stderr: () => {},
    isTTY: false,
    columns: 100,
    ...world,
    env: { MCR_SOCKET: path, ...world.env },
  };
  try {
    return { exitCode: await command.run(positionals, options, io), stdout, errors: [] };
  } catch (thrown) {
    if (!(thrown instanceof McrError)) throw thrown;
    return { exitCode: thrown.exitCode, stdout, errors: thrown.lines };
  } finally {
    await server?.close();
  }
}
