// `mcr add`: one more rule for the running mcr, written as options. They become the keys of a [[rule]], unchecked:
// the running mcr checks them as it checks its file, and answers with the same sentences.
import * as v from "valibot";
import { type Command, parseOptions } from "./command.ts";
import { edit, formatEdit } from "./edit.ts";
import { parseEgress, parseIngress } from "./endpoint.ts";
import { parseRemote, remoteOptions } from "./remote.ts";

function texts(message: string) {
  return v.union(
    [
      v.pipe(
        v.string(),
        v.transform((one) => [one]),
      ),
      v.array(v.string()),
    ],
    message,
  );
}

const OptionsSchema = v.object({
  name: v.optional(
    v.pipe(
      v.string("takes one name, such as studio-a"),
      v.nonEmpty("is missing: give the rule its own name, such as --name studio-a"),
    ),
    "",
  ),
  ingress: v.optional(
    v.pipe(
      v.string("takes one ingress, such as eth0:239.1.1.1:5001"),
      v.nonEmpty("is missing: give INTERFACE:GROUP:PORT, such as --ingress eth0:239.1.1.1:5001"),
    ),
    "",
  ),
  egress: v.optional(
    v.pipe(
      texts("takes INTERFACE:GROUP:PORT, such as eth1:239.2.2.2:6001"),
      v.minLength(
        1,
        "is missing: give INTERFACE[:GROUP[:PORT]] at least once, such as --egress eth1:239.2.2.2:6001",
      ),
    ),
    [],
  ),
  source: v.optional(texts("takes the address of a sender, such as 10.0.0.1"), []),
});

export const addCommand: Command = {
  name: "add",
  parameters: "",
  summary: "add a rule to those that run; mcr save writes it into the file",
  options: [
    { flags: "--name <name>", description: "its own name, such as studio-a" },
    { flags: "--ingress <ingress>", description: "INTERFACE:GROUP[:PORT], such as eth0:239.1.1.1:5001" },
    {
      flags: "--egress <egress>",
      description: "INTERFACE[:TARGET[:PORT]][,KEY=VALUE], as eth1:239.2.2.2,ttl=8; repeatable",
    },
    { flags: "--source <address>", description: "take packets of this sender only; repeatable" },
    ...remoteOptions,
  ],
  async run(_positionals, options, io) {
    const { name, ingress, egress, source } = parseOptions("add", OptionsSchema, options);
    const rule = {
      name,
      ingress: { ...parseIngress(ingress), ...(source.length > 0 ? { source } : {}) },
      egress: egress.map(parseEgress),
    };
    const request = {
      ...parseRemote("add", options, io),
      method: "POST",
      path: "/v1/rules",
      body: { rules: [rule] },
      refused: "add refused: the running rules are unchanged",
    } as const;
    return edit(request, formatEdit, io);
  },
};
