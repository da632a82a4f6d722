// `mcr remove NAME…`: takes rules from the running mcr, all of them or none; the other rules go on.
import type { Command } from "./command.ts";
import { edit, formatEdit } from "./edit.ts";
import { parseRemote, remoteOptions } from "./remote.ts";

export const removeCommand: Command = {
  name: "remove",
  parameters: "<...names>",
  summary: "remove running rules; mcr save takes them out of the file",
  options: remoteOptions,
  async run(names, options, io) {
    const request = {
      ...parseRemote("remove", options, io),
      method: "DELETE",
      path: "/v1/rules",
      body: { names },
      refused: "remove refused: the running rules are unchanged",
    } as const;
    return edit(request, formatEdit, io);
  },
};
