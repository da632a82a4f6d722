// What the commands that ask a running mcr have in common: the options --json and --socket, and JSON as they print it.
import * as v from "valibot";
import { defaultSocketPath, socketPath } from "../control/client.ts";
import { type CommandOption, type Io, parseOptions, Switch } from "./command.ts";

export const remoteOptions: readonly CommandOption[] = [
  { flags: "--json", description: "print JSON" },
  {
    flags: "--socket <path>",
    description: `control socket of the running mcr (default: MCR_SOCKET, or ${defaultSocketPath})`,
  },
];

const onePath = "takes one path (a name of digits as ./42)";

/** The command line parser makes 42 of "42", so a name of digits cannot be taken as it came. */
const RemoteSchema = v.object({
  json: Switch,
  socket: v.optional(v.pipe(v.string(onePath), v.nonEmpty(onePath))),
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
