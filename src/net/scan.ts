// What `mcr scan` heard, as data: flows with their rates and kinds, announced names, queriers and members, and the
// interfaces it listened on. The schema is the form of `mcr scan --json`, which `mcr init --from` reads again.
import * as v from "valibot";
import { vlanOther } from "../native/layouts.ts";
import { announcedHint } from "../wire/media.ts";
import { type ScanKind, scanKinds } from "../wire/recognise.ts";
import { type Address, isMulticast, parseAddress } from "./address.ts";
import type { HeardFlow } from "./heard-flows.ts";
import type { HeardMember } from "./heard-members.ts";
import type { Heard } from "./hearing.ts";
import { parseAnnouncement, printableName, type Session } from "./sdp.ts";

export type { ScanKind };

/** RTP payload types with a meaning of their own, RFC 3551 table 4 and 5: those that multicast carries. */
const payloadNames: ReadonlyMap<number, string> = new Map([
  [0, "PCMU"],
  [3, "GSM"],
  [8, "PCMA"],
  [9, "G722"],
  [10, "L16 stereo"],
  [11, "L16"],
  [14, "MPEG audio"],
  [26, "JPEG"],
  [31, "H.261"],
  [32, "MPEG video"],
  [33, "MPEG-TS"],
  [34, "H.263"],
]);

const Count = v.pipe(v.number(), v.minValue(0));
const AddressText = v.pipe(
  v.string(),
  v.check((text) => parseAddress(text) === text, "is not an address"),
);
const GroupText = v.pipe(AddressText, v.check(isMulticast, "is not a group"));
const Port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));
const Vlan = v.nullable(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(4095)));
/** The id of a tag that is not 802.1Q, such as 802.1ad: a network of its own that no rule takes from. */
const OtherTag = v.optional(
  v.nullable(v.pipe(v.number(), v.integer(), v.maxValue(4095), v.minValue(0))),
  null,
);
/** Names come from the network, and from files that anybody may have written. */
const Text = v.pipe(v.string(), v.transform(printableName));

const FlowSchema = v.object({
  interface: Text,
  vlan: Vlan,
  other_tag: OtherTag,
  /** egress: this host sends it there. */
  direction: v.picklist(["ingress", "egress"]),
  group: GroupText,
  port: Port,
  source: AddressText,
  kind: v.picklist(scanKinds),
  /** What more is known of it: `universe 7, Console`. */
  detail: v.optional(v.nullable(Text), null),
  /** Of RTP. */
  payload_type: v.nullable(Count),
  /** Of MPEG-TS, also inside RTP; null where no table of them was seen. */
  programs: v.nullable(Count),
  /** Where an announcement gives one. */
  name: v.nullable(Text),
  packets: Count,
  bytes: Count,
  bytes_min: Count,
  bytes_max: Count,
  packets_per_second: Count,
  bits_per_second: Count,
  /** Other interfaces where the same group and port is heard. */
  elsewhere: v.array(v.object({ interface: Text, direction: v.picklist(["ingress", "egress"]) })),
  /** The rule of an mcr that runs on this host and takes it here, or sends it. */
  relayed_by: v.optional(v.nullable(Text), null),
  /** Of so many packets that were looked at, so many have a UDP checksum that makes every receiver drop them. */
  checksums: v.optional(v.object({ checked: Count, wrong: Count, unwritten: Count }), {
    ...{ checked: 0, wrong: 0, unwritten: 0 },
  }),
});

const InterfaceSchema = v.object({ name: Text, address: v.nullable(AddressText), mtu: Count });

const QuerierSchema = v.object({
  interface: Text,
  vlan: Vlan,
  other_tag: OtherTag,
  address: AddressText,
  /** IGMPv3, MLDv2 … */
  protocol: v.picklist(["IGMPv1", "IGMPv2", "IGMPv3", "MLDv1", "MLDv2"]),
  queries: Count,
});

const MemberSchema = v.object({
  interface: Text,
  vlan: Vlan,
  other_tag: OtherTag,
  group: GroupText,
  address: AddressText,
  protocol: v.picklist(["IGMPv1", "IGMPv2", "IGMPv3", "MLDv1", "MLDv2"]),
  state: v.picklist(["member", "left"]),
  is_this_host: v.boolean(),
});

export const ScanSchema = v.object({
  seconds: Count,
  interfaces: v.array(InterfaceSchema),
  flows: v.array(FlowSchema),
  queriers: v.array(QuerierSchema),
  members: v.array(MemberSchema),
  /** What the list lacks, and why. */
  missed: v.object({ ring_full: Count, table_full: Count, malformed: Count }),
});

export type Scan = v.InferOutput<typeof ScanSchema>;
export type ScanFlow = v.InferOutput<typeof FlowSchema>;
export type ScanInterface = v.InferOutput<typeof InterfaceSchema>;

/** @param interfaces in the order they were listened on. */
export function toScan(heard: Heard, interfaces: readonly ScanInterface[], elapsedMs: number): Scan {
  const announced = announcedStreams(heard);
  const nameOf = (index: number) => interfaces[index]?.name ?? "";
  const flows = heard.flows.map((flow): ScanFlow => {
    const { group, port, recognised } = flow;
    const { kind, payloadType, programs } = recognised;
    const { name, encoding } = announced.get(`${group} ${port}`) ?? {};
    const detail = kind === "rtp" && encoding !== undefined ? announcedHint(encoding) : recognised.detail;
    return {
      interface: nameOf(flow.interface),
      ...tagOf(flow),
      direction: flow.isEgress ? "egress" : "ingress",
      ...{ group, port, source: flow.source, kind },
      detail: detail ?? null,
      payload_type: kind === "rtp" ? (payloadType ?? null) : null,
      programs: programs ?? null,
      name: name || null,
      packets: flow.packets,
      bytes: flow.bytes,
      bytes_min: flow.bytes_min,
      bytes_max: flow.bytes_max,
      ...ratesOf(flow, elapsedMs),
      elsewhere: [],
      relayed_by: null,
      checksums: flow.checksums,
    };
  });
  const { missed } = heard;
  return {
    seconds: Math.round(elapsedMs / 100) / 10,
    interfaces: [...interfaces],
    flows: withElsewhere(flows).sort(byGroup),
    queriers: heard.members
      .filter(({ kind }) => kind === "query")
      .map((member) => ({
        interface: nameOf(member.interface),
        ...tagOf(member),
        address: member.address,
        protocol: protocolOf(member),
        queries: member.packets,
      })),
    members: heard.members
      .filter(({ kind, group }) => kind !== "query" && isMulticast(group))
      .map((member) => ({
        interface: nameOf(member.interface),
        ...tagOf(member),
        group: member.group,
        address: member.address,
        protocol: protocolOf(member),
        state: member.kind === "leave" ? ("left" as const) : ("member" as const),
        is_this_host: member.isEgress,
      })),
    missed: {
      ring_full: missed.ringFull,
      table_full: missed.flowsFull + missed.othersFull,
      malformed: missed.malformed,
    },
  };
}

function tagOf({ vlan }: Pick<HeardFlow, "vlan">) {
  const isOther = vlan >= vlanOther;
  return { vlan: isOther ? null : vlan || null, other_tag: isOther ? vlan - vlanOther : null };
}

/** `4 of 4 packets`; undefined where all checksums that were looked at are good. */
export function wrongChecksums({ checksums: { checked, wrong } }: ScanFlow): string | undefined {
  return wrong === 0 ? undefined : `${wrong} of ${checked} packets`;
}

/** Nobody receives the stream: every packet of it that was looked at has a wrong checksum. */
export function isDropped({ checksums: { checked, wrong } }: ScanFlow): boolean {
  return wrong > 0 && wrong === checked;
}

/** `RTP 33 (MPEG-TS), 2 programs`, `sACN, universe 7` */
export function formatKind(flow: Pick<ScanFlow, "kind" | "payload_type" | "programs" | "detail">): string {
  const { programs, detail } = flow;
  const counted = programs === null ? null : `${programs} program${programs === 1 ? "" : "s"}`;
  return [kindName(flow), counted, detail].filter((part) => part !== null).join(", ");
}

function kindName({ kind, payload_type }: Pick<ScanFlow, "kind" | "payload_type">): string {
  switch (kind) {
    case "rtp": {
      const name = payloadNames.get(payload_type ?? -1);
      return `RTP ${payload_type}${name === undefined ? "" : ` (${name})`}`;
    }
    case "mpeg-ts":
      return "MPEG-TS";
    case "mcr":
      return "mcr send";
    case "rtcp":
      return "RTCP";
    case "sap":
      return "SAP/SDP";
    case "mdns":
      return "mDNS";
    case "ptp":
      return "PTP";
    case "sacn":
      return "sACN";
    case "art-net":
      return "Art-Net";
    case "ssdp":
      return "SSDP";
    case "ws-discovery":
      return "WS-Discovery";
    case "knx":
      return "KNX/IP";
    case "dante":
      return "Dante";
    case "market-data":
      return "market data";
    case "unknown":
      return "unknown";
  }
}

interface Counted {
  readonly packets: number;
  readonly bytes: number;
  readonly first_ns: number;
  readonly last_ns: number;
}

/** From the first to the last packet, so that a stream which began during the scan has its own rate; else over all. */
function ratesOf({ packets, bytes, first_ns, last_ns }: Counted, elapsedMs: number) {
  const ownMs = (last_ns - first_ns) / 1e6;
  const isOwn = packets > 10 && ownMs > elapsedMs / 10;
  const perSecond = isOwn ? ((packets - 1) / ownMs) * 1000 : (packets / Math.max(1, elapsedMs)) * 1000;
  return {
    packets_per_second: round(perSecond),
    bits_per_second: Math.round((perSecond * bytes * 8) / Math.max(1, packets)),
  };
}

function round(value: number): number {
  return value >= 100 ? Math.round(value) : Math.round(value * 100) / 100;
}

function protocolOf({ address, version }: HeardMember) {
  const isIpv6 = address.includes(":");
  if (isIpv6) return version === 2 ? "MLDv2" : "MLDv1";
  return version === 3 ? "IGMPv3" : version === 2 ? "IGMPv2" : "IGMPv1";
}

/** By "group port". A session of several streams numbers them, so that no two have one name. */
function announcedStreams({
  announcements,
}: Heard): ReadonlyMap<string, { readonly name: string; readonly encoding?: string | undefined }> {
  const found = new Map<string, { readonly name: string; readonly encoding?: string | undefined }>();
  const sessions = announcements
    .map(parseAnnouncement)
    .filter((session): session is Session => session !== undefined);
  for (const { name, streams } of sessions)
    for (const { group, port, media, encoding } of streams) {
      const whole = name === "" || streams.length === 1 ? name : `${name} ${media}`;
      const before = found.get(`${group} ${port}`)?.name ?? "";
      found.set(`${group} ${port}`, { name: whole || before, encoding });
    }
  return found;
}

function withElsewhere(flows: readonly ScanFlow[]): ScanFlow[] {
  const places = new Map<string, ScanFlow[]>();
  for (const flow of flows) {
    const key = `${flow.group} ${flow.port}`;
    places.set(key, [...(places.get(key) ?? []), flow]);
  }
  return flows.map((flow) => {
    const others = (places.get(`${flow.group} ${flow.port}`) ?? []).filter(
      (other) => other.interface !== flow.interface,
    );
    const seen = new Map(
      others.map(({ interface: name, direction }) => [
        `${name} ${direction}`,
        { interface: name, direction },
      ]),
    );
    return { ...flow, elsewhere: [...seen.values()] };
  });
}

function byGroup(a: ScanFlow, b: ScanFlow): number {
  return (
    a.interface.localeCompare(b.interface) ||
    (a.vlan ?? 0) - (b.vlan ?? 0) ||
    (a.other_tag ?? -1) - (b.other_tag ?? -1) ||
    compareAddresses(a.group, b.group) ||
    a.port - b.port ||
    compareAddresses(a.source, b.source)
  );
}

/** Numeric, IPv4 before IPv6. */
export function compareAddresses(a: Address, b: Address): number {
  const [left, right] = [sortKey(a), sortKey(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

function sortKey(address: Address): string {
  if (address.includes(":")) return `6${address}`;
  return `4${address
    .split(".")
    .map((part) => part.padStart(3, "0"))
    .join("")}`;
}
