// What of its own code each command maps, by /proc/PID/maps: a relay has nothing of the instruments in its memory.

import { expect, test } from "bun:test";
import type { Process } from "../support/process.ts";
import { executable, startRelay, streamRules } from "../support/relay.ts";
import { openTopology, type Topology } from "../support/topology.ts";
import { waitFor } from "../support/wait.ts";

const stream = { group: "239.1.1.1", port: 5001 };
const relayed = { group: "239.10.1.1", port: 6001 };

/** The files in memory that it has made executable, by name. */
async function mappedBy(topology: Topology, { pid }: Process): Promise<readonly string[]> {
  const maps = await topology.output("relay-ns", ["cat", `/proc/${pid}/maps`]);
  const names = [...maps.matchAll(/ r-xp .* \/memfd:(\S+) \(deleted\)$/gm)].map(([, name = ""]) => name);
  return names.sort();
}

test("a relay maps the shim once, whatever its workers, and not the instruments", async () => {
  await using topology = await openTopology("chain");
  await using relay = await startRelay(topology, streamRules(stream, relayed), { workers: 2 });
  expect(await mappedBy(topology, relay.process)).toEqual(["libmcr.so"]);
}, 30_000);

test.each([
  ["receive", []],
  ["send", ["--rate", "10", "--duration", "20s"]],
] as const)(
  "mcr %s maps the instruments beside the shim",
  async (command, options) => {
    await using topology = await openTopology("chain");
    const where = ["--interface", "veth1"];
    const started = topology.spawn("relay-ns", [executable, command, "239.1.1.1:5001", ...where, ...options]);
    const names = await waitFor(
      () => mappedBy(topology, started),
      (mapped) => mapped.includes("libmcr-measure.so"),
      { what: "the instruments to be mapped" },
    );
    expect(names).toEqual(["libmcr-measure.so", "libmcr.so"]);
  },
  30_000,
);
