// `mcr ping`: does it answer, which one is it, and how long does an answer take? For scripts, by the exit code alone.
import { request } from "../control/client.ts";
import { StatusSchema } from "../control/protocol.ts";
import { ExitCode } from "../error.ts";
import type { Command } from "./command.ts";
import { formatAge } from "./figures.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";

export const pingCommand: Command = {
  name: "ping",
  parameters: "",
  summary: "ask whether a running mcr answers, and how fast",
  options: remoteOptions,
  async run(_positionals, options, io) {
    const { json, socket } = parseRemote("ping", options, io);
    const begin = performance.now();
    const { value } = await request(socket, "GET", "/v1/status", StatusSchema);
    const ms = Math.round((performance.now() - begin) * 10) / 10;
    const { version, instance, pid, uptime_s } = value;
    if (json) {
      io.stdout(formatJson({ schema: "ping/1", version, instance, pid, uptime_s, socket, ms }));
      return ExitCode.ok;
    }
    const name = instance === null ? "" : ` ${instance}`;
    io.stdout(`mcr ${version}${name}, pid ${pid}, up ${formatAge(uptime_s * 1000)}: answered in ${ms} ms\n`);
    return ExitCode.ok;
  },
};
