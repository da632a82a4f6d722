// What `mcr add`, `mcr remove` and `mcr save` have in common: ask, print what was changed, and the exit code.
import { send } from "../control/client.ts";
import { type EditResult, EditSchema } from "../control/protocol.ts";
import { ExitCode, McrError } from "../error.ts";
import type { Io } from "./command.ts";
import { formatChanges, formatUnsaved, toText } from "./difference.ts";
import { formatJson } from "./remote.ts";

export interface EditRequest {
  readonly socket: string;
  readonly json: boolean;
  readonly method: "POST" | "DELETE";
  readonly path: string;
  readonly body: object;
  /** The last line when nothing was changed because it was refused. */
  readonly refused: string;
}

export async function edit(
  { socket, json, method, path, body, refused }: EditRequest,
  format: (result: EditResult) => readonly string[],
  io: Io,
): Promise<ExitCode> {
  const answer = await send(socket, method, path, EditSchema, body);
  const { ok, errors, refusal } = answer.value;
  const exitCode = ok ? ExitCode.ok : ExitCode[refusal ?? "failed"];
  if (json) io.stdout(formatJson(answer.json));
  else if (ok) io.stdout(toText(format(answer.value)));
  else throw new McrError([...errors, refused], exitCode);
  return exitCode;
}

/** For what changes the running rules. */
export function formatEdit({ changes, unsaved }: EditResult): readonly string[] {
  return [...formatChanges(changes), ...formatUnsaved(unsaved)];
}
