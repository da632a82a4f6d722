// How hosts find one another: session announcements (RFC 2974), multicast DNS (RFC 6762), SSDP (UPnP Device
// Architecture) and WS-Discovery (OASIS).
import { printableName } from "../net/sdp.ts";
import { textOf } from "./bytes.ts";
import { type FlowFacts, type Recognised, readAny, type Sample } from "./flow.ts";

/** Version 1 on its own port, in every sample. By chance: 1 in 8 for each there. */
export function sap({ port, samples }: FlowFacts): Recognised | undefined {
  const isSap = ({ payload }: Sample) => payload.length >= 8 && (payload[0] ?? 0) >> 5 === 1;
  return port === 9875 && samples.length > 0 && samples.every(isSap) ? { kind: "sap" } : undefined;
}

/** A header's length on its own port, in every sample. By chance: always there. */
export function mdns({ port, samples }: FlowFacts): Recognised | undefined {
  const isMdns = ({ payload }: Sample) => payload.length >= 12;
  return port === 5353 && samples.length > 0 && samples.every(isMdns) ? { kind: "mdns" } : undefined;
}

/** One of the three request and status lines of SSDP, on any port. By chance: 2^-120. */
export function ssdp({ samples }: FlowFacts): Recognised | undefined {
  return readAny(samples, readSsdp);
}

/** XML on its own port that names a SOAP envelope and the namespace of WS-Discovery. By chance: less than 2^-200. */
export function wsDiscovery({ port, samples }: FlowFacts): Recognised | undefined {
  return port === 3702 ? readAny(samples, readWsDiscovery) : undefined;
}

/** Of a message; what is further behind says no more about its kind. */
const textMax = 2048;

function readSsdp({ payload }: Sample): Recognised | undefined {
  const text = textOf(payload.subarray(0, textMax));
  const [line] = /^(?:(?:NOTIFY|M-SEARCH) \* HTTP\/1\.[01]|HTTP\/1\.[01] 200 OK)\r\n/.exec(text) ?? [];
  if (line === undefined) return undefined;
  const method = line.startsWith("HTTP") ? "answer" : line.slice(0, line.indexOf(" "));
  const [, target = ""] = /\r\n(?:NT|ST):[ \t]{0,8}([^\r\n]{1,200})\r\n/i.exec(text) ?? [];
  return { kind: "ssdp", detail: `${method} ${printableName(target)}`.trim() };
}

/** The namespaces of the versions 1.0 and 1.1; the second part of an action is its message. */
const discoveryNamespace =
  /(?:schemas\.xmlsoap\.org\/ws\/2005\/04\/discovery|docs\.oasis-open\.org\/ws-dd\/ns\/discovery\/2009\/01)/;

function readWsDiscovery({ payload }: Sample): Recognised | undefined {
  const text = textOf(payload.subarray(0, textMax));
  if (!/^(?:\xef\xbb\xbf)?\s{0,16}</.test(text) || !text.includes("Envelope")) return undefined;
  if (!discoveryNamespace.test(text)) return undefined;
  const action = /discovery(?:\/2009\/01)?\/(Hello|Bye|ProbeMatches|Probe|ResolveMatches|Resolve)\b/.exec(
    text,
  );
  return { kind: "ws-discovery", detail: action?.[1] };
}
