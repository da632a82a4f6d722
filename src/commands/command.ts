// What every command of mcr is: data for the help text, and one function. main.ts holds the table of all commands,
// gives them the command line, prints what they throw and sets the exit code; a command only returns or throws.
import * as v from "valibot";
import { ExitCode, fail } from "../error.ts";

export interface Command {
  readonly name: string;
  /** As the help shows them: "<file>". */
  readonly parameters: string;
  /** One line, without a full stop. */
  readonly summary: string;
  readonly options: readonly CommandOption[];
  run(positionals: readonly string[], options: unknown, io: Io): Promise<ExitCode>;
}

export interface CommandOption {
  readonly flags: string;
  readonly description: string;
}

/** The world of a command, so that tests read what it wrote. */
export interface Io {
  stdout(text: string): void;
  stderr(text: string): void;
  /** Of stdout. */
  readonly isTTY: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The width of the terminal. */
  readonly columns: number;
  /** Aborted when nobody reads stdout any more: whoever prints without end stops then. */
  readonly stdoutClosed?: AbortSignal;
}

/** A switch such as --json. The command line parser makes a list of one that is repeated. */
export const Switch = v.optional(
  v.pipe(
    v.union([v.boolean(), v.array(v.boolean())], "takes no value"),
    v.transform((value) => (Array.isArray(value) ? value.includes(true) : value)),
  ),
  false,
);

/** The options of a command, through its own schema: the command line parser checks nothing. */
export function parseOptions<const S extends v.GenericSchema>(
  command: string,
  schema: S,
  options: unknown,
): v.InferOutput<S> {
  const result = v.safeParse(schema, options);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const option = issue.path?.[0]?.key;
  const where =
    option === undefined ? "" : ` --${String(option).replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
  return fail(`mcr ${command}:${where} ${issue.message}`, ExitCode.usage);
}
