// `mcr save`: the running mcr writes its rules into its file, whose comments, order and other lines stay.
import * as v from "valibot";
import type { EditResult } from "../control/protocol.ts";
import { type Command, parseOptions, Switch } from "./command.ts";
import { formatChanges } from "./difference.ts";
import { edit } from "./edit.ts";
import { parseRemote, remoteOptions } from "./remote.ts";

const OptionsSchema = v.object({ force: Switch });

export const saveCommand: Command = {
  name: "save",
  parameters: "",
  summary: "write the running rules into the rule file, keeping its comments",
  options: [
    { flags: "--force", description: "also over rules that were changed in the file since it was read" },
    ...remoteOptions,
  ],
  async run(_positionals, options, io) {
    const { force } = parseOptions("save", OptionsSchema, options);
    const request = {
      ...parseRemote("save", options, io),
      method: "POST",
      path: "/v1/save",
      body: { force },
      refused: "save refused: the file is unchanged",
    } as const;
    return edit(request, formatSave, io);
  },
};

function formatSave({ file, changes }: EditResult): readonly string[] {
  if (changes.length === 0) return [`${file} has the running rules already`];
  const rules = changes.length === 1 ? "1 rule" : `${changes.length} rules`;
  return [`saved ${file}: ${rules} changed in it`, ...formatChanges(changes)];
}
