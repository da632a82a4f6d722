// The command line of one command, taken apart by cac. cac makes numbers of words, keeps silent about what it does not
// know and throws with a stack, so it only splits the words here: each is marked as text first, what is unknown, missing
// or surplus is said in one line, and the values of options go through each command's own schema.
import { cac } from "cac";
import { ExitCode, fail } from "../error.ts";
import type { Command } from "./command.ts";

export interface Arguments {
  readonly wantsHelp: boolean;
  readonly positionals: readonly string[];
  /** By name in camelCase: the text that was typed, a list where an option is repeated, true where it has no value. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** No word of a command line holds this character, and no text with it is a number, empty or a truth value. */
const mark = "\0";
const helpFlags = "-h, --help";

/** @param words what stands after the name of the command. */
export function parseArguments(command: Command, words: readonly string[]): Arguments {
  const cli = cac("mcr");
  const parser = cli.command(`${command.name} ${command.parameters}`.trim(), command.summary);
  for (const { flags, description } of command.options) parser.option(flags, description);
  parser.option(helpFlags, "show this help");
  const end = words.includes("--") ? words.indexOf("--") : words.length;
  const given = words.slice(0, end);
  // Its first two words would be the interpreter and the program.
  cli.parse(["", "", command.name, ...given.map(marked), ...words.slice(end)], { run: false });

  const { "--": rest, help, h: _h, ...options }: Readonly<Record<string, unknown>> = cli.options;
  const positionals = [...cli.args, ...(Array.isArray(rest) ? rest : [])].map(unmarked).map(String);
  const wantsHelp = help !== undefined;
  if (!wantsHelp) {
    checkOptions(command, given.filter(isOption));
    checkPositionals(command, positionals);
  }
  const texts = Object.entries(options).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.map(unmarked) : unmarked(value),
  ]);
  return { wantsHelp, positionals, options: Object.fromEntries(texts) };
}

/** A dash alone is a word like others. */
function isOption(word: string): boolean {
  return /^-+[^-]/.test(word);
}

function marked(word: string): string {
  if (!isOption(word)) return `${mark}${word}`;
  const { flag, value } = splitOption(word);
  return value === undefined ? flag : `${flag}=${mark}${value}`;
}

function unmarked(value: unknown): unknown {
  return typeof value === "string" && value.startsWith(mark) ? value.slice(mark.length) : value;
}

/** `--json=no` → `--json` and `no`. */
function splitOption(word: string): { readonly flag: string; readonly value: string | undefined } {
  const at = word.indexOf("=");
  return at === -1
    ? { flag: word, value: undefined }
    : { flag: word.slice(0, at), value: word.slice(at + 1) };
}

function checkOptions({ name, options }: Command, words: readonly string[]): void {
  const takesValue = new Map(
    [...options.map(({ flags }) => flags), helpFlags].flatMap((flags) =>
      (flags.match(/(?<!\S)-[^\s,]+/g) ?? []).map((flag) => [flag, flags.includes("<")] as const),
    ),
  );
  for (const word of words) {
    const { flag, value } = splitOption(word);
    if (!takesValue.has(flag))
      fail(`mcr ${name}: unknown option ${flag}; mcr ${name} --help lists the options`, ExitCode.usage);
    if (value !== undefined && !takesValue.get(flag))
      fail(`mcr ${name}: ${flag} takes no value`, ExitCode.usage);
  }
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
