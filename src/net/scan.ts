// What `mcr scan` heard, as data: flows with their rates and kinds, announced names, queriers and members, and the
// interfaces it listened on. The schema is the form of `mcr scan --json`, which `mcr init --from` reads again.
import * as v from "valibot";
import type { ScanRecord } from "../native/shim.ts";
import { type Address, addressOf, isMulticast, parseAddress } from "./address.ts";
import { parseAnnouncement, printableName, type Session } from "./sdp.ts";

export const scanKinds = ["unknown", "mcr", "rtp", "rtcp", "mpeg-ts", "sap", "mdns", "ptp"] as const;
export type ScanKind = (typeof scanKinds)[number];

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
/** Names come from the network, and from files that anybody may have written. */
const Text = v.pipe(v.string(), v.transform(printableName));

const FlowSchema = v.object({
  interface: Text,
  vlan: Vlan,
  /** egress: this host sends it there. */
  direction: v.picklist(["ingress", "egress"]),
  group: GroupText,
  port: Port,
  source: AddressText,
  kind: v.picklist(scanKinds),
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
});

const InterfaceSchema = v.object({ name: Text, address: v.nullable(AddressText), mtu: Count });

const QuerierSchema = v.object({
  interface: Text,
  vlan: Vlan,
  address: AddressText,
  /** IGMPv3, MLDv2 … */
  protocol: v.picklist(["IGMPv1", "IGMPv2", "IGMPv3", "MLDv1", "MLDv2"]),
  queries: Count,
});

const MemberSchema = v.object({
  interface: Text,
  vlan: Vlan,
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
export function toScan(record: ScanRecord, interfaces: readonly ScanInterface[], elapsedMs: number): Scan {
  const names = announcedNames(record);
  const nameOf = (index: number) => interfaces[index]?.name ?? "";
  const heard = record.flows.map((flow): ScanFlow => {
    const group = addressOf(flow.group);
    const kind = scanKinds[flow.kind] ?? "unknown";
    return {
      interface: nameOf(flow.interface),
      vlan: flow.vlan || null,
      direction: flow.is_egress ? "egress" : "ingress",
      group,
      port: flow.port,
      source: addressOf(flow.source),
      kind,
      payload_type: kind === "rtp" ? flow.payload_type : null,
      programs: flow.programs || null,
      name: names.get(`${group} ${flow.port}`) ?? null,
      packets: flow.packets,
      bytes: flow.bytes,
      bytes_min: flow.bytes_min,
      bytes_max: flow.bytes_max,
      ...ratesOf(flow, elapsedMs),
      elsewhere: [],
      relayed_by: null,
    };
  });
  const { state } = record;
  return {
    seconds: Math.round(elapsedMs / 100) / 10,
    interfaces: [...interfaces],
    flows: withElsewhere(heard).sort(byGroup),
    queriers: record.members
      .filter(({ kind }) => kind === query)
      .map((member) => ({
        interface: nameOf(member.interface),
        vlan: member.vlan || null,
        address: addressOf(member.address),
        protocol: protocolOf(member),
        queries: member.packets,
      })),
    members: record.members
      .filter(({ kind, group }) => kind !== query && isMulticast(addressOf(group)))
      .map((member) => ({
        interface: nameOf(member.interface),
        vlan: member.vlan || null,
        group: addressOf(member.group),
        address: addressOf(member.address),
        protocol: protocolOf(member),
        state: member.kind === leave ? ("left" as const) : ("member" as const),
        is_this_host: member.is_egress === 1,
      })),
    missed: {
      ring_full: state.ring_drops,
      table_full: state.flows_refused + state.members_refused + state.announcements_refused,
      malformed: state.malformed,
    },
  };
}

// enum mcr_scan_member_kind
const query = 0;
const leave = 2;

/** `RTP 33 (MPEG-TS), 2 programs` */
export function formatKind({
  kind,
  payload_type,
  programs,
}: Pick<ScanFlow, "kind" | "payload_type" | "programs">): string {
  const counted = programs === null ? "" : `, ${programs} program${programs === 1 ? "" : "s"}`;
  switch (kind) {
    case "rtp": {
      const name = payloadNames.get(payload_type ?? -1);
      return `RTP ${payload_type}${name === undefined ? "" : ` (${name})`}${counted}`;
    }
    case "mpeg-ts":
      return `MPEG-TS${counted}`;
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

function protocolOf({ address, version }: { readonly address: Uint8Array; readonly version: number }) {
  const isIpv6 = addressOf(address).includes(":");
  if (isIpv6) return version === 2 ? "MLDv2" : "MLDv1";
  return version === 3 ? "IGMPv3" : version === 2 ? "IGMPv2" : "IGMPv1";
}

/** By "group port". A session of several streams numbers them, so that no two have one name. */
function announcedNames({ announcements }: ScanRecord): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const sessions = announcements
    .map(({ datagram }) => parseAnnouncement(datagram))
    .filter((session): session is Session => session !== undefined);
  for (const { name, streams } of sessions) {
    if (name === "") continue;
    for (const { group, port, media } of streams)
      names.set(`${group} ${port}`, streams.length === 1 ? name : `${name} ${media}`);
  }
  return names;
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
