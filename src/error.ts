// The one error type for trouble we expect: its message is the sentence an operator reads, with the cure in it.
// Only main.ts prints it and turns it into an exit code; anything else that is thrown is a defect of mcr.

/** Exit codes, after sysexits.h. */
export const ExitCode = {
  ok: 0,
  /** Failed while running. */
  failed: 1,
  /** EX_USAGE: the command line is wrong. */
  usage: 64,
  /** EX_UNAVAILABLE: no daemon answers. */
  unavailable: 69,
  /** EX_NOPERM: a capability or a file permission is missing. */
  noPermission: 77,
  /** EX_CONFIG: the rule file is wrong or cannot be read. */
  config: 78,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Expected trouble: one or more lines, each a whole sentence naming what is wrong and what to do. */
export class McrError extends Error {
  override readonly name = "McrError";
  constructor(
    readonly lines: readonly string[],
    readonly exitCode: ExitCode,
  ) {
    super(lines.join("\n"));
  }
}

/** `fail("no daemon at …", ExitCode.unavailable)`: one line, for use in expressions. */
export function fail(line: string, exitCode: ExitCode): never {
  throw new McrError([line], exitCode);
}

/** The text of anything thrown, for a log line. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** A broken invariant is a defect, not an operating error: it ends the program. */
export function assert(condition: unknown, invariant: string): asserts condition {
  if (!condition) throw new Error(`broken invariant: ${invariant}`);
}
