// Interfaces of a topology: their packet and byte counters, for what no socket can show, such as a port that must
// stay silent or a frame the virtual link itself dropped; and their offloads.

import * as v from "valibot";
import type { Topology } from "./topology.ts";

const CountersSchema = v.object({
  bytes: v.number(),
  packets: v.number(),
  errors: v.number(),
  dropped: v.number(),
});
const LinkSchema = v.tuple([v.object({ stats64: v.object({ rx: CountersSchema, tx: CountersSchema }) })]);

export type LinkCounters = v.InferOutput<typeof LinkSchema>[0]["stats64"];

export async function linkCounters(
  topology: Topology,
  namespace: string,
  interfaceName: string,
): Promise<LinkCounters> {
  const argv = ["ip", "-json", "-statistics", "link", "show", "dev", interfaceName];
  return v.parse(LinkSchema, JSON.parse(await topology.output(namespace, argv)))[0].stats64;
}

const NamesSchema = v.array(v.object({ ifname: v.optional(v.string()) }));

/** From now on every veth sends whole checksums and frames no larger than its MTU. */
export async function turnOffloadsOff(topology: Topology): Promise<void> {
  for (const namespace of topology.namespaces()) {
    const links = await topology.output(namespace, ["ip", "-json", "link", "show", "type", "veth"]);
    for (const { ifname } of v.parse(NamesSchema, JSON.parse(links))) {
      if (ifname === undefined) continue;
      const off = ["tx", "rx", "sg", "tso", "gso", "gro", "tx-udp-segmentation"].flatMap((key) => [
        key,
        "off",
      ]);
      await topology.output(namespace, ["ethtool", "-K", ifname, ...off]);
    }
  }
}
