// How the ranges of a rule pair up: element i of one range goes with element i of every other; a single value
// stretches. Called by rule.ts (which refuses what does not pair), by flows.ts and by span.ts. Pure; works on sizes,
// so a range of millions costs nothing.
import { type AddressRange, parseAddressRange } from "../net/address.ts";
import type { DraftIngress } from "./draft.ts";
import { type PortRange, type PortText, parsePortRange } from "./range.ts";

/** Where packets come from or go to. `ports` undefined is every port, or on egress the port they came with. */
export interface Endpoint {
  readonly addresses: AddressRange;
  readonly ports: PortRange | undefined;
}

/** The part of ingress and egress that ranges are in; null is a mistake reported elsewhere. */
interface EndpointText {
  readonly group?: string | null;
  readonly address?: string | null;
  readonly port?: PortText | null;
}

/** Undefined when something of it is missing or wrong. `inherited` is where an egress without a target sends to. */
export function readEndpoint(text: EndpointText, inherited?: Endpoint): Endpoint | undefined {
  if (text.group === null || text.address === null || text.port === null) return undefined;
  const target = text.group ?? text.address;
  const addresses = target === undefined ? inherited?.addresses : parseAddressRange(target);
  const ports = text.port === undefined ? inherited?.ports : parsePortRange(text.port);
  return addresses && { addresses, ports };
}

/** How many flows the endpoint stands for; undefined when its own two ranges differ. */
export function pairedSize({ addresses, ports }: Endpoint): number | undefined {
  const portCount = ports?.size ?? 1;
  if (addresses.size > 1 && portCount > 1 && addresses.size !== portCount) return undefined;
  return Math.max(addresses.size, portCount);
}

/** The flows of one rule, or undefined when they cannot be counted. */
export function countIngress(ingress: DraftIngress): number | undefined {
  const endpoint = readEndpoint(ingress);
  return endpoint && pairedSize(endpoint);
}
