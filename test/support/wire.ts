// Injected traffic as tests of odd frames want it: a tap beside the relay, as a guest's, and a rate.

import type { Frame, Injector } from "./records.ts";
import { startInjector } from "./records.ts";
import type { Topology } from "./topology.ts";

/** A tap of relay-ns, up and with an address; what is injected arrives at the relay. */
export async function openTap(topology: Topology, name: string, ipAddress: string): Promise<Injector> {
  const injector = await startInjector(topology, "relay-ns", { tap: name });
  await topology.output("relay-ns", ["ip", "address", "add", `${ipAddress}/24`, "dev", name]);
  return injector;
}

/** About so many a second, in bursts of 20. */
export async function injectPaced(
  injector: Injector,
  frames: readonly Frame[],
  perSecond: number,
): Promise<void> {
  const burst = 20;
  const began = performance.now();
  for (let sent = 0; sent < frames.length; sent += burst) {
    await injector.inject(frames.slice(sent, sent + burst));
    // Pace, not patience: nothing is waited for.
    const aheadMs = ((sent + burst) / perSecond) * 1000 - (performance.now() - began);
    if (aheadMs > 1) await Bun.sleep(aheadMs);
  }
}
