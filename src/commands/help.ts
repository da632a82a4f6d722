// The help texts, made from the commands' own descriptions. Not cac's: its help knows only stdout.
import { formatUsage } from "./arguments.ts";
import type { Command } from "./command.ts";

const helpFlag = ["-h, --help", "show this help"] as const;

export function formatHelp(version: string, commands: readonly Command[]): string {
  return `mcr ${version}: multicast relay for Linux

usage: mcr <command> [options]

commands:
${columns(commands.map(({ name, parameters, summary }) => [`${name} ${parameters}`, summary]))}
options:
${columns([
  ["-h, --help", "show this help; behind a command, its options"],
  ["-V, --version", "show the version"],
])}
exit codes:
${columns([
  ["0", "ok"],
  ["1", "failed while running"],
  ["64", "the command line is wrong"],
  ["69", "no mcr answers"],
  ["77", "no permission"],
  ["78", "the configuration is wrong"],
])}`;
}

export function formatCommandHelp(command: Command): string {
  return `${command.summary}

usage: ${formatUsage(command)}

options:
${columns([...command.options.map(({ flags, description }) => [flags, description] as const), helpFlag])}`;
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
