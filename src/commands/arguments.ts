// The command line of one command, taken apart by cac. cac guesses types, keeps silent about what it does not know and
// throws with a stack, so it only splits the words here: what is unknown, missing or surplus is said in one line, and
// the values of options go through each command's own schema.
import { cac } from "cac";
import { ExitCode, fail } from "../error.ts";
import type { Command } from "./command.ts";

export interface Arguments {
  readonly wantsHelp: boolean;
  readonly positionals: readonly string[];
  /** By name in camelCase, with values as cac guessed them; what does not read back as it was typed is text. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** @param words what stands after the name of the command. */
export function parseArguments(command: Command, words: readonly string[]): Arguments {
  const cli = cac("mcr");
  const parser = cli.command(`${command.name} ${command.parameters}`.trim(), command.summary);
  for (const { flags, description } of command.options) parser.option(flags, description);
  parser.option("-h, --help", "show this help");
  // Its first two words would be the interpreter and the program.
  cli.parse(["", "", command.name, ...words], { run: false });

  const { "--": rest, help, h: _h, ...options }: Readonly<Record<string, unknown>> = cli.options;
  // A number among them is what cac made of a word behind a switch.
  const positionals = [...cli.args, ...(Array.isArray(rest) ? rest : [])].map(String);
  const wantsHelp = help !== undefined;
  if (!wantsHelp) {
    const unknown = Object.keys(options).find((name) => !parser.hasOption(name));
    if (unknown !== undefined)
      fail(
        `mcr ${command.name}: unknown option ${formatOption(unknown)}; mcr ${command.name} --help lists the options`,
        ExitCode.usage,
      );
    checkPositionals(command, positionals);
  }
  return { wantsHelp, positionals, options: asTyped(options, words) };
}

/** `--payload 0010` is not 10, and `--name 1e3` not 1000: a number is only what a number looks like when printed. */
function asTyped(
  options: Readonly<Record<string, unknown>>,
  words: readonly string[],
): Readonly<Record<string, unknown>> {
  const changed = Object.entries(options).map(([name, value]) => {
    const flag = formatOption(name);
    const at = words.findIndex((word) => word === flag || word.startsWith(`${flag}=`));
    const word = words[at] === flag ? words[at + 1] : words[at]?.slice(flag.length + 1);
    const isGuessed = typeof value === "number" && word !== undefined && word !== String(value);
    return [name, isGuessed ? word : value] as const;
  });
  return Object.fromEntries(changed);
}

/** `mcr check <file> [options]` */
export function formatUsage({ name, parameters }: Command): string {
  return ["mcr", name, parameters, "[options]"].filter((word) => word !== "").join(" ");
}

function checkPositionals(command: Command, positionals: readonly string[]): void {
  const { name, parameters } = command;
  const expected = parameters.split(" ").filter((parameter) => parameter !== "");
  const missing = expected[positionals.length];
  if (missing?.startsWith("<"))
    fail(`mcr ${name}: ${missing} is missing; usage: ${formatUsage(command)}`, ExitCode.usage);
  // What a script passes when its variable is unset.
  const empty = positionals.indexOf("");
  if (empty !== -1 && empty < expected.length)
    fail(`mcr ${name}: ${expected[empty]} is empty; usage: ${formatUsage(command)}`, ExitCode.usage);
  const surplus = positionals[expected.length];
  if (surplus !== undefined && !parameters.includes("..."))
    fail(`mcr ${name}: surplus argument '${surplus}'; usage: ${formatUsage(command)}`, ExitCode.usage);
}

function formatOption(name: string): string {
  return name.length === 1
    ? `-${name}`
    : `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
