// `mcr log-level`: shows the levels of a running mcr, or changes one at once: of one facility, or of all that have none
// of their own; `default` gives a facility up its own again. It holds until the next reload, which takes the file's levels again.
import { request } from "../control/client.ts";
import { type LogLevelChange, type LogLevels, LogLevelsSchema } from "../control/protocol.ts";
import { ExitCode, fail } from "../error.ts";
import { type Facility, facilities, levels } from "../log.ts";
import { formatTable } from "../table.ts";
import type { Command } from "./command.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";

const path = "/v1/log-levels";

export const logLevelCommand: Command = {
  name: "log-level",
  parameters: "[facility] [level]",
  summary: "show the log levels of a running mcr, or change one at once",
  options: remoteOptions,
  async run(positionals, options, io) {
    const { json, socket } = parseRemote("log-level", options, io);
    const { facility, level } = parseWords(positionals);
    const answer =
      level === undefined
        ? await request(socket, "GET", path, LogLevelsSchema)
        : await request(socket, "POST", path, LogLevelsSchema, {
            body: facility === undefined ? { level } : { facility, level },
          });
    io.stdout(json ? formatJson(answer.json) : formatLevels(answer.value, facility));
    return ExitCode.ok;
  },
};

/** `debug`, `Ingress`, `Ingress debug`, `Ingress default`; upper and lower case are one. */
function parseWords([first, second]: readonly string[]): {
  facility?: Facility;
  level?: LogLevelChange["level"];
} {
  if (first === undefined) return {};
  const facility = find(facilities, first);
  const level = find(second === undefined ? levels : [...levels, "default" as const], second ?? first);
  if (second === undefined && level !== undefined) return { level };
  if (facility === undefined)
    return fail(
      `mcr log-level: "${first}" is no facility${second === undefined ? " and no level" : ""}: facilities are ${facilities.join(", ")}; levels are ${levels.join(", ")}`,
      ExitCode.usage,
    );
  if (second === undefined) return { facility };
  if (level === undefined)
    return fail(
      `mcr log-level: "${second}" is no level: levels are ${levels.join(", ")}; default: as all others`,
      ExitCode.usage,
    );
  return { facility, level };
}

function find<T extends string>(words: readonly T[], text: string): T | undefined {
  return words.find((word) => word.toLowerCase() === text.toLowerCase());
}

function formatLevels({ level, facility: own }: LogLevels, only?: Facility): string {
  const shown = only === undefined ? facilities : [only];
  return formatTable(
    ["FACILITY", "LEVEL", ""],
    shown.map((name) => [name, own[name] ?? level, own[name] === undefined ? "" : "its own"]),
  );
}
