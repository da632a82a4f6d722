// The rules that the differential test runs: plain data for generator and model, and the same as the rule file's text.
// Every egress has a destination address of its own, so what arrives at the far end names its egress.

import { ruleText } from "../support/relay.ts";
import { addressNumber, addressText } from "./packet.ts";

export interface Stream {
  readonly group: number;
  /** Absent: every port of the group. */
  readonly port?: number;
}

export interface EgressRule {
  /** Of stream 0; stream i counts it up where it is a group. */
  readonly destination: number;
  /** Of stream 0, counted up likewise; absent: the port it came to. */
  readonly port?: number;
  readonly ttl: number | "keep" | "decrement";
  readonly source: "interface" | "keep";
  readonly sourcePort: "stable" | "keep" | number;
  readonly dscp: number | "keep";
  readonly path: "auto" | "socket";
  readonly plain: boolean;
}

export interface RelayRule {
  readonly name: string;
  readonly streams: readonly [Stream, ...Stream[]];
  /** Empty: any. */
  readonly sources: readonly number[];
  readonly egress: readonly EgressRule[];
  /**
   * Gets datagrams beyond the MTU as well. They take their neighbours to the socket, so the path of the others depends on
   * who is near, and with it what is tested of frames.
   */
  readonly takesLarge: boolean;
}

export const egressInterface = { name: "veth2", address: addressNumber("10.0.1.1"), mtu: 1500 } as const;
export const host = addressNumber("10.0.1.2");
/** To this group no rule listens. */
export const strangeGroup = addressNumber("239.9.9.9");
export const wantedSources = [addressNumber("10.0.0.11"), addressNumber("10.0.0.12")] as const;

const group = (text: string, port?: number): Stream =>
  port === undefined ? { group: addressNumber(text) } : { group: addressNumber(text), port };

function to(text: string, port: number | undefined, more: Partial<EgressRule> = {}): EgressRule {
  const isHost = !isGroup(addressNumber(text));
  return {
    destination: addressNumber(text),
    ...(port === undefined ? {} : { port }),
    ttl: isHost ? 64 : 1,
    source: "interface",
    sourcePort: "stable",
    dscp: 0,
    path: "auto",
    plain: false,
    ...more,
  };
}

export const rules: readonly [RelayRule, ...RelayRule[]] = [
  {
    name: "single",
    takesLarge: false,
    streams: [group("239.1.0.1", 5001)],
    sources: [],
    egress: [to("239.10.0.1", 6001)],
  },
  {
    name: "range",
    takesLarge: false,
    streams: [
      group("239.1.1.1", 5001),
      group("239.1.1.2", 5002),
      group("239.1.1.3", 5003),
      group("239.1.1.4", 5004),
    ],
    sources: [],
    egress: [to("239.10.1.1", 6001, { ttl: 8 })],
  },
  {
    name: "any-port",
    takesLarge: false,
    streams: [group("239.1.2.1")],
    sources: [],
    egress: [to("239.10.2.1", undefined)],
  },
  {
    name: "any-to-one",
    takesLarge: true,
    streams: [group("239.1.2.2")],
    sources: [],
    egress: [to("239.10.2.2", 6001)],
  },
  {
    name: "one-of-any",
    takesLarge: false,
    streams: [group("239.1.2.1", 7001)],
    sources: [],
    egress: [to("239.10.2.3", 6001)],
  },
  {
    name: "sources",
    takesLarge: false,
    streams: [group("239.1.3.1", 5001)],
    sources: wantedSources,
    egress: [to("239.10.3.1", 6001, { ttl: 255, dscp: 46 })],
  },
  {
    name: "many",
    takesLarge: true,
    streams: [group("239.1.4.1", 5001)],
    sources: [],
    egress: [
      to("239.10.4.1", 6001, { ttl: "keep" }),
      to("239.10.4.2", 6002, { ttl: "decrement", source: "keep", sourcePort: "keep", dscp: "keep" }),
      to("239.10.4.3", 6003, { path: "socket", ttl: 5 }),
      to("10.0.1.2", 6004),
    ],
  },
  {
    name: "keep",
    takesLarge: true,
    streams: [group("239.1.5.1", 5001)],
    sources: [],
    egress: [to("239.10.5.1", 6001, { source: "keep", sourcePort: 7777, dscp: 8 })],
  },
  {
    name: "socket",
    takesLarge: true,
    streams: [group("239.1.6.1", 5001), group("239.1.6.2", 5001)],
    sources: [],
    egress: [to("239.10.6.1", 6001, { path: "socket" })],
  },
  {
    name: "any-socket",
    takesLarge: true,
    streams: [group("239.1.6.9")],
    sources: [],
    egress: [to("239.10.6.9", undefined, { path: "socket", ttl: 3, dscp: 34 })],
  },
  {
    name: "plain",
    takesLarge: false,
    streams: [group("239.1.7.1", 5001)],
    sources: [],
    egress: [to("239.10.7.1", 6001, { plain: true })],
  },
];

/** The `[[rule]]`s of the file. */
export function textOf(ingress: string): string {
  return rules
    .map(({ name, streams, sources, egress }) => {
      const list = sources.map((source) => `"${addressText(source)}"`).join(", ");
      return ruleText({
        name,
        ingress: [
          `interface = "${ingress}"`,
          `group = "${span(streams.map((stream) => addressText(stream.group)))}"`,
          ...(streams[0].port === undefined
            ? []
            : [`port = "${span(streams.map(({ port }) => String(port)))}"`]),
          ...(sources.length === 0 ? [] : [`source = [${list}]`]),
        ].join(", "),
        egress: egress.map((each) => egressText(each, streams.length)),
      });
    })
    .join("\n");
}

function egressText(egress: EgressRule, streams: number): string {
  const { destination, port, ttl, source, sourcePort, dscp, path, plain } = egress;
  const key = isGroup(destination) ? "group" : "address";
  const indices = Array.from({ length: streams }, (_, i) => i);
  return [
    `interface = "${egressInterface.name}"`,
    `${key} = "${span(isGroup(destination) ? indices.map((i) => addressText(destination + i)) : [addressText(destination)])}"`,
    ...(port === undefined ? [] : [`port = "${span(indices.map((i) => String(port + i)))}"`]),
    `ttl = ${JSON.stringify(ttl)}`,
    `dscp = ${JSON.stringify(dscp)}`,
    ...(source === "keep" ? ['source = "keep"'] : []),
    ...(sourcePort === "stable" ? [] : [`source_port = ${JSON.stringify(sourcePort)}`]),
    ...(path === "socket" ? ['path = "socket"'] : []),
    ...(plain ? ["plain = true"] : []),
  ].join(", ");
}

export function isGroup(address: number): boolean {
  return address >>> 28 === 0xe;
}

/** One value, or the range from the first to the last. */
function span(values: readonly string[]): string {
  const [first = "", last = first] = [values[0], values.at(-1)];
  return first === last ? first : `${first}-${last}`;
}
