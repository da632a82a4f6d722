// `mcr events`: what happens, as it happens, one JSON object on each line: states, memberships, queriers, drops,
// reloads, edits. Ends when mcr does, or when nobody reads any more.
import * as v from "valibot";
import { follow } from "../control/client.ts";
import { EventSchema } from "../control/protocol.ts";
import { ExitCode, fail } from "../error.ts";
import type { Command } from "./command.ts";
import { parseRemote, remoteOptions } from "./remote.ts";

export const eventsCommand: Command = {
  name: "events",
  parameters: "",
  summary: "follow states, memberships, drops, reloads and edits as JSON lines",
  options: remoteOptions,
  async run(_positionals, options, io) {
    const { socket } = parseRemote("events", options, io);
    let isStopping = false;
    for await (const line of follow(socket, "/v1/events", io.stdoutClosed)) {
      io.stdout(`${line}\n`);
      // A newer mcr may tell of more than this version knows; it is printed all the same.
      const event = v.safeParse(v.pipe(v.string(), v.parseJson(), EventSchema), line);
      isStopping ||= event.success && event.output.event === "stopping";
    }
    if (isStopping || io.stdoutClosed?.aborted) return ExitCode.ok;
    return fail(`the mcr at ${socket} ended the events: its log may say why`, ExitCode.unavailable);
  },
};
