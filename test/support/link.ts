// Packet and byte counters of an interface, as the kernel keeps them: for what no socket can show, such as a port
// that must stay silent or a frame the virtual link itself dropped.

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
