// The words of a command line as each command gets them: what was typed, as text.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { parseArguments } from "../../src/commands/arguments.ts";
import type { Command } from "../../src/commands/command.ts";
import { explainCommand } from "../../src/commands/explain.ts";
import { removeCommand } from "../../src/commands/remove.ts";
import { runCommand } from "../../src/commands/run.ts";
import { sendCommand } from "../../src/commands/send.ts";

/** What a guess would make a number, a truth value or nothing of. */
const odd = ["007", "1e3", "0x10", "10", "1.50", " 5", "", "true", "false", "null", "Infinity", "=x", "a=b"];
const commands = await allCommands();

test("every command is asked", () => {
  expect(commands.map(({ name }) => name)).toContain("log-level");
  expect(commands).toHaveLength(17);
});

describe.each(commands.map((command) => [command.name, command] as const))("mcr %s", (_, command) => {
  const flags = [...command.options, { flags: "-h, --help", description: "" }];
  const positionals = command.parameters.split(" ").filter((parameter) => parameter.startsWith("<"));
  const needed = positionals.map(() => "needed");
  const valued = flags.filter(({ flags }) => flags.includes("<")).flatMap(({ flags }) => spellings(flags));
  const switches = flags.filter(({ flags }) => !flags.includes("<")).flatMap(({ flags }) => spellings(flags));

  test("a value is the text that was typed", () => {
    for (const flag of valued)
      for (const text of odd) {
        const read = parseArguments(command, [...needed, flag, text]);
        expect([flag, text, read.options[nameOf(flag)]]).toEqual([flag, text, text]);
        expect(read.positionals).toEqual(needed);
        const joined = parseArguments(command, [`${flag}=${text}`, ...needed]);
        expect([flag, text, joined.options[nameOf(flag)]]).toEqual([flag, text, text]);
        expect(joined.positionals).toEqual(needed);
      }
  });

  test("a repeated option has every text", () => {
    for (const flag of valued) {
      const { options } = parseArguments(command, [...needed, flag, "007", `${flag}=1e3`, flag, ""]);
      expect(options[nameOf(flag)]).toEqual(["007", "1e3", ""]);
    }
  });

  test("a switch takes no value, neither the next word nor one behind =", () => {
    for (const flag of switches.filter((flag) => flag !== "-h" && flag !== "--help")) {
      if (needed.length > 0)
        for (const text of odd.filter((text) => text !== "")) {
          const { positionals, options } = parseArguments(command, [flag, text, ...needed.slice(1)]);
          expect(positionals).toEqual([text, ...needed.slice(1)]);
          expect(options[nameOf(flag)]).toBe(true);
        }
      for (const text of odd)
        expect(() => parseArguments(command, [...needed, `${flag}=${text}`])).toThrow(
          `mcr ${command.name}: ${flag} takes no value`,
        );
    }
  });

  test("what is no option of it is said as it was typed", () => {
    const unknown = [
      "--no-json",
      "--constructor",
      "--__proto__",
      "--socket.x",
      "--5",
      "-5",
      "--é",
      "-json",
      "-ii",
    ];
    for (const word of unknown)
      expect(() => parseArguments(command, [...needed, word])).toThrow(
        `mcr ${command.name}: unknown option ${word};`,
      );
    expect(() => parseArguments(command, [...needed, "--constructor=7"])).toThrow("option --constructor;");
  });
});

test("positionals are the words that were typed, before and behind --", () => {
  const read = (...words: readonly string[]) => parseArguments(removeCommand, words).positionals;
  expect(read("--json", "007")).toEqual(["007"]);
  expect(read("1e3", "--json", "0x10", "true")).toEqual(["1e3", "0x10", "true"]);
  expect(read("--json", "false", "--", "--json", "-5", "08")).toEqual(["false", "--json", "-5", "08"]);
  expect(read("-", "a", "---", "b")).toEqual(["-", "a", "---", "b"]);
});

test("an empty instance is none, not 0", async () => {
  const io = { stdout: () => {}, stderr: () => {}, isTTY: false, columns: 100, env: {} };
  const { options, positionals } = parseArguments(runCommand, ["a.toml", "-i", ""]);
  expect(runCommand.run(positionals, options, io)).rejects.toThrow("mcr run: --instance takes a name");
});

test("help is asked for by either of its names, with whatever else", () => {
  for (const words of [["-h"], ["--help"], ["--bogus", "--help"], ["--help=no"]])
    expect(parseArguments(sendCommand, words).wantsHelp).toBe(true);
  expect(parseArguments(explainCommand, ["rule"]).wantsHelp).toBe(false);
});

async function allCommands(): Promise<readonly Command[]> {
  const folder = join(import.meta.dir, "../../src/commands");
  const modules: readonly Readonly<Record<string, unknown>>[] = await Promise.all(
    [...new Bun.Glob("*.ts").scanSync(folder)].sort().map((file) => import(join(folder, file))),
  );
  return modules.flatMap((module) => Object.values(module)).filter(isCommand);
}

function isCommand(value: unknown): value is Command {
  return typeof value === "object" && value !== null && "parameters" in value && "run" in value;
}

/** "-i, --instance <name>" → -i, --instance */
function spellings(flags: string): readonly string[] {
  return flags
    .replace(/ <.*/, "")
    .split(",")
    .map((flag) => flag.trim());
}

function nameOf(flag: string): string {
  return flag.replace(/^-+/, "").replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
