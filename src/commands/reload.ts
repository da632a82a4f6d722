// `mcr reload`: as SIGHUP, but it waits and tells what came of it: the difference, or why nothing was changed.
import { request } from "../control/client.ts";
import { type ReloadResult, ReloadSchema } from "../control/protocol.ts";
import { ExitCode, McrError } from "../error.ts";
import type { Command } from "./command.ts";
import { formatDifference } from "./difference.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";

export const reloadCommand: Command = {
  name: "reload",
  parameters: "",
  summary: "read the rule file again, wait, and show what changed",
  options: remoteOptions,
  async run(_positionals, options, io) {
    const { json, socket } = parseRemote("reload", options, io);
    const answer = await request(socket, "POST", "/v1/reload", ReloadSchema);
    const { ok, errors } = answer.value;
    if (json) io.stdout(formatJson(answer.json));
    else if (ok) io.stdout(formatReload(answer.value));
    else throw new McrError([...errors, "reload refused: the running rules are unchanged"], ExitCode.config);
    return ok ? ExitCode.ok : ExitCode.config;
  },
};

function formatReload(result: ReloadResult): string {
  return formatDifference("reload", result, result.notes);
}
