// `mcr show [what]`: what runs, as aligned columns that fit 100 characters, or as JSON. Each view is one answer of the
// control socket and one function that makes text of it.
import type * as v from "valibot";
import { type Answer, request } from "../control/client.ts";
import {
  ConfigAnswerSchema,
  FlowsSchema,
  InterfacesSchema,
  MembershipsSchema,
  RulesSchema,
  StatusSchema,
  WorkersSchema,
} from "../control/protocol.ts";
import { ExitCode, fail } from "../error.ts";
import { type Colors, colorsFor } from "./color.ts";
import type { Command } from "./command.ts";
import { formatJson, parseRemote, remoteOptions } from "./remote.ts";
import { formatShow } from "./show-rules.ts";
import {
  formatConfig,
  formatFlows,
  formatInterfaces,
  formatMemberships,
  formatWorkers,
} from "./show-views.ts";

/** How an answer becomes text. */
interface Look {
  readonly columns: number;
  readonly colors: Colors;
  readonly nowMs: number;
}
type View = (
  socket: string,
  look: Look,
) => Promise<{ readonly json: unknown; readonly text: () => Promise<string> }>;

const views: ReadonlyMap<string, View> = new Map<string, View>([
  [
    "rules",
    async (socket, { columns, colors, nowMs }) => {
      const rules = await request(socket, "GET", "/v1/rules", RulesSchema);
      return {
        json: rules.json,
        async text() {
          const { value: status } = await request(socket, "GET", "/v1/status", StatusSchema);
          return formatShow(status, rules.value.rules, nowMs, columns, colors, rules.value.unsaved);
        },
      };
    },
  ],
  ["flows", view("/v1/flows", FlowsSchema, (value, look) => formatFlows(value, look.columns, look.colors))],
  [
    "interfaces",
    view("/v1/interfaces", InterfacesSchema, (value, look) =>
      formatInterfaces(value, look.nowMs, look.columns, look.colors),
    ),
  ],
  [
    "memberships",
    view("/v1/memberships", MembershipsSchema, (value, look) =>
      formatMemberships(value, look.columns, look.colors),
    ),
  ],
  ["workers", view("/v1/workers", WorkersSchema, (value) => formatWorkers(value))],
  ["config", view("/v1/config", ConfigAnswerSchema, (value) => formatConfig(value))],
]);

function view<const S extends v.GenericSchema>(
  path: string,
  schema: S,
  format: (value: v.InferOutput<S>, look: Look) => string,
): View {
  return async (socket, look) => {
    const { json, value }: Answer<v.InferOutput<S>> = await request(socket, "GET", path, schema);
    return { json, text: async () => format(value, look) };
  };
}

export const showCommand: Command = {
  name: "show",
  parameters: "[what]",
  summary: "show rules, flows, interfaces, memberships, workers or config",
  options: remoteOptions,
  async run([what = "rules"], options, io) {
    const { json, socket } = parseRemote("show", options, io);
    const names = [...views.keys()];
    // Any beginning that is one's alone, as ip(8) takes them.
    const found = names.filter((name) => name.startsWith(what));
    const chosen = views.get(found.length === 1 ? (found[0] ?? "") : what);
    if (!chosen)
      return fail(`mcr show: there is no "${what}" to show: give one of ${names.join(", ")}`, ExitCode.usage);
    const look = { columns: io.columns, colors: colorsFor(io), nowMs: Date.now() };
    const shown = await chosen(socket, look);
    io.stdout(json ? formatJson(shown.json) : await shown.text());
    return ExitCode.ok;
  },
};
