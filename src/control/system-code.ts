// The system's name for a refusal (ENOENT, EACCES, …), out of whatever Bun or Node threw because of it.

/** Undefined when the error did not come from the system. */
export function systemCodeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "string"
    ? thrown.code
    : undefined;
}

/** The reason alone: "EACCES: permission denied, mkdir '/run/mcr'" is "permission denied". */
export function systemReasonOf(thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return /^E[A-Z0-9]+: ([^,]+)/.exec(message)?.[1] ?? message;
}
