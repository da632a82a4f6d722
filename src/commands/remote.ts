// What the commands that ask a running mcr have in common: the options that choose it, --json, and how that is printed.
import * as v from "valibot";
import { defaultSocketPath, socketPath } from "../control/client.ts";
import { type CommandOption, type Io, parseOptions, Switch } from "./command.ts";
import { Instance } from "./values.ts";

const instanceOption: CommandOption = {
  flags: "-i, --instance <name>",
  description: "the mcr that runs with -i <name>: its socket is /run/mcr/<name>.sock",
};

export const remoteOptions: readonly CommandOption[] = [
  { flags: "--json", description: "print JSON" },
  {
    flags: "--socket <path>",
    description: `socket of the running mcr (default: MCR_SOCKET, or ${defaultSocketPath})`,
  },
  instanceOption,
];

const onePath = "takes one path";

const RemoteSchema = v.object({
  json: Switch,
  socket: v.optional(v.pipe(v.string(onePath), v.nonEmpty(onePath))),
  // The parser gives an option under both of its names.
  instance: v.optional(Instance),
  i: v.optional(v.unknown()),
});

export function parseRemote(
  command: string,
  options: unknown,
  { env }: Io,
): { json: boolean; socket: string } {
  const parsed = parseOptions(command, RemoteSchema, options);
  return { json: parsed.json, socket: socketPath(parsed, env) };
}

export function formatJson(json: unknown): string {
  return `${JSON.stringify(json, null, 2)}\n`;
}
