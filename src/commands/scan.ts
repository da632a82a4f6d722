// `mcr scan`: listens for a few seconds and lists the multicast that is there: streams, who asks for members, who is
// one. Passive: it joins nothing unless told to. Ctrl-C ends it early, and what was heard is still shown.
import * as v from "valibot";
import { ExitCode, fail } from "../error.ts";
import { scanInterfacesMax } from "../native/layouts.ts";
import { Shim } from "../native/shim.ts";
import { type ListedInterface, listInterfaces } from "../net/interface-list.ts";
import { plural } from "../numbers.ts";
import { type Command, parseOptions, Switch } from "./command.ts";
import { Progress } from "./instrument.ts";
import { audible, listen, parseGroups } from "./listen.ts";
import { markRelayed, runningRules } from "./relayed.ts";
import { formatScan, formatScanToml } from "./scan-report.ts";
import { Duration } from "./values.ts";

/** What one scan can reasonably join. */
const joinsMax = 1024;
const joinMessage = `takes groups: 239.1.1.1, 239.1.1.1-239.1.1.9 or 239.1.1.0/28, at most ${joinsMax.toLocaleString("en-US")}`;

const OptionsSchema = v.object({
  duration: v.optional(Duration, "5s"),
  join: v.optional(
    v.pipe(
      v.union([v.string(), v.array(v.string())], joinMessage),
      v.transform((given) => parseGroups([given].flat().join(","), joinsMax)),
      v.array(v.string(), joinMessage),
    ),
  ),
  egress: v.optional(v.string("takes the name of one interface"), "EGRESS"),
  toml: Switch,
  json: Switch,
});

export const scanCommand: Command = {
  name: "scan",
  parameters: "[...interfaces]",
  summary: "list the multicast that is there, on all interfaces or these",
  options: [
    { flags: "--duration <time>", description: "listens for so long: 500ms, 10s, 2m (5s)" },
    { flags: "--join <groups>", description: "joins these while it listens: a group, a range A-B, a prefix" },
    { flags: "--toml", description: "print rules, ready to edit" },
    { flags: "--egress <name>", description: "where the rules of --toml send to" },
    { flags: "--json", description: "print JSON, which mcr init --from reads" },
  ],
  async run(positionals, given, io) {
    const options = parseOptions("scan", OptionsSchema, given);
    const shim = new Shim();
    const interfaces = chosen(positionals, listInterfaces(shim));
    const progress = new Progress(io, io.isTTY && !options.json && !options.toml);
    const running = await runningRules(io.env);
    const heard = await listen(shim, "scan", {
      interfaces,
      durationMs: options.duration,
      join: options.join ?? [],
      onProgress: ({ flow_count, frames }, elapsedMs) =>
        progress.show(
          () =>
            `listening on ${interfaces.map(({ name }) => name).join(", ")}: ${plural(flow_count, "stream")}, ${plural(frames, "packet")}, ${Math.max(0, Math.ceil((options.duration - elapsedMs) / 1000))} s left (Ctrl-C: enough)`,
        ),
    });
    progress.clear();
    const scan = markRelayed(heard, running);
    if (options.json) io.stdout(`${JSON.stringify(scan, null, 2)}\n`);
    else if (options.toml) io.stdout(formatScanToml(scan, options.egress));
    else io.stdout(formatScan(scan, io.columns));
    return ExitCode.ok;
  },
};

function chosen(names: readonly string[], all: readonly ListedInterface[]): readonly ListedInterface[] {
  if (names.length === 0) {
    const found = audible(all);
    if (found.length === 0)
      fail("mcr scan: no interface is up and has carrier (ip link shows them)", ExitCode.failed);
    return found;
  }
  if (names.length > scanInterfacesMax)
    fail(`mcr scan: listens on ${scanInterfacesMax} interfaces at most`, ExitCode.usage);
  return [...new Set(names)].map((name) => {
    const found = all.find((each) => each.name === name);
    if (!found)
      return fail(
        `mcr scan: interface ${name} does not exist (ip link shows the ones that do)`,
        ExitCode.failed,
      );
    if (!found.isUp)
      return fail(`mcr scan: interface ${name} is down (ip link set ${name} up)`, ExitCode.failed);
    return found;
  });
}
