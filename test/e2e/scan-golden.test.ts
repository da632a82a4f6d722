// What a scan says of captured frames of every kind stays what it was: test/golden/scan, frames and answer. It may say
// more.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { type Scan, ScanSchema } from "../../src/net/scan.ts";
import { builtFrames, recordedFrames } from "../support/goldens.ts";
import { startInjector } from "../support/records.ts";
import { executable } from "../support/relay.ts";
import { openTopology, repository } from "../support/topology.ts";
import { waitFor } from "../support/wait.ts";

const answer = `${repository}/test/golden/scan/heard.jsonl`;
/** Who sends the frames; the kernels of the topology speak as well. */
const senders = /^(10\.0\.0\.(1|77)|0\.0\.0\.0|fd00::1|fe80::2098:e6ff:fe0a:8610|fe80::bca3:24ff:fe87:b4ad)$/;

test("a scan says of captured frames what it always said", async () => {
  const recorded = await recordedFrames();
  await using topology = await openTopology("chain");
  const arriving = await startInjector(topology, "gen-ns", { interface: "veth0" });
  const leaving = await startInjector(topology, "relay-ns", { interface: "veth1" });
  const scanning = topology.spawn("relay-ns", [executable, "scan", "veth1", "--json", "--duration", "3s"]);
  await waitFor(
    () => topology.output("relay-ns", ["cat", "/proc/net/packet"]),
    // Of all protocols, bound to an interface, and running: the ring of a scan.
    (text) => /^\S+ +\d+ +3 +0003 +[1-9]\d* +1 /m.test(text),
    { what: "the scan to listen", deadlineMs: 10_000 },
  );
  for (const frames of recorded.values()) await arriving.inject(frames);
  await arriving.inject(builtFrames(recorded));
  await leaving.inject(recorded.get("ts") ?? []);
  const { exitCode, stdout, stderr } = await scanning.exited;
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  const heard = linesOf(v.parse(v.pipe(v.string(), v.parseJson(), ScanSchema), stdout));
  const frozen = (await Bun.file(answer).text()).trimEnd().split("\n");
  expect(heard).toMatchObject(frozen.map((line) => JSON.parse(line)));
  expect(heard).toHaveLength(frozen.length);
}, 60_000);

/** Without what depends on the time it took, and on who else speaks. */
function linesOf({ flows, queriers, members, missed }: Scan): readonly object[] {
  const timeless = flows
    .filter(({ source }) => senders.test(source))
    .map(({ packets_per_second: _, bits_per_second: __, ...flow }) => ({ flow }));
  const asking = queriers.filter(({ address }) => senders.test(address)).map((querier) => ({ querier }));
  const asked = members.filter(({ address }) => senders.test(address)).map((member) => ({ member }));
  return [...timeless, ...asking, ...asked, { missed }];
}
