// A rule file against the running mcr, for `mcr check --diff`: what a reload would do, found as the reload finds it.
import * as v from "valibot";
import { describeDropped } from "../config/changes.ts";
import { diffRules, restartNotes } from "../config/diff.ts";
import { type Config, RuleSchema, relayEntries } from "../config/schema.ts";
import { request } from "../control/client.ts";
import { ConfigAnswerSchema, type DifferenceSnapshot } from "../control/protocol.ts";
import { differenceSnapshot } from "../control/snapshot.ts";

/** A Rule that went through JSON is the same after its schema; one of a newer mcr that is not is a refusal there. */
const RunningSchema = v.object({
  ...ConfigAnswerSchema.entries,
  relay: v.object(relayEntries),
  rules: v.array(RuleSchema),
});

export async function compareWithRunning(
  socket: string,
  config: Config,
): Promise<DifferenceSnapshot & { readonly notes: readonly string[] }> {
  const { value } = await request(socket, "GET", "/v1/config", RunningSchema);
  const difference = diffRules(value.rules, config.rules);
  const notes = [
    ...describeDropped(value.unsaved, difference, "would"),
    ...restartNotes(value.relay, config.relay),
  ];
  return { ...differenceSnapshot(difference), notes };
}
