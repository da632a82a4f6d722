// What a flow is, from what was captured of a few of its datagrams: the first decoder that knows it says so.
// Called by net/scan.ts. A wrong name is worse than none: each decoder states what it tests and how often chance passes.
import { dante, knx, mcr, ptp } from "./control.ts";
import { mdns, sap, ssdp, wsDiscovery } from "./discovery.ts";
import type { Decoder, FlowFacts, Recognised } from "./flow.ts";
import { artNet, sacn } from "./lighting.ts";
import { marketData } from "./market-data.ts";
import { mpegTs } from "./mpeg-ts.ts";
import { rtcp, rtp } from "./rtp.ts";

export { type FlowFacts, type Recognised, type Sample, type ScanKind, scanKinds } from "./flow.ts";

/** In order of trust: a magic, a port of one's own, a form; last what is told by group and port. */
const decoders: readonly Decoder[] = [
  ...[sacn, artNet, ssdp, wsDiscovery, mcr],
  ...[knx, sap, mdns, ptp],
  ...[mpegTs, rtp, rtcp, marketData],
  dante,
];

export function recognise(flow: FlowFacts): Recognised {
  for (const decode of decoders) {
    const recognised = decode(flow);
    if (recognised !== undefined) return recognised;
  }
  return { kind: "unknown" };
}
