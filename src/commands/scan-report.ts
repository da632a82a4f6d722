// What a scan heard, as people read it: tables of streams, queriers and members, what the list lacks, and rules ready
// to edit. Pure.
import { isLinkLocalMulticast } from "../net/address.ts";
import {
  compareAddresses,
  formatKind,
  isDropped,
  type Scan,
  type ScanFlow,
  wrongChecksums,
} from "../net/scan.ts";
import { formatNumber, plural } from "../numbers.ts";
import { formatTable } from "../table.ts";
import { formatBitRate } from "./figures.ts";
import { planRules, type Stream, streamsOn } from "./init-plan.ts";
import { fileHeader, formatPlanned } from "./init-text.ts";

export function formatScan(scan: Scan, columns: number): string {
  const sections = [flowTable(scan, columns), querierTable(scan), memberTable(scan), notes(scan).join("")];
  return sections.filter((section) => section !== "").join("\n");
}

/** One rule for each stream of each interface, or for each run of streams that count up. */
export function formatScanToml(scan: Scan, egress: string): string {
  const heard = scan.interfaces.map(({ name }) => ({ name, streams: streamsOn(scan, name) }));
  const rules = heard.flatMap(({ name, streams: all }) => {
    const streams = all.filter(({ refusal }) => refusal === undefined);
    return planRules({ ingress: name, egresses: [egress], streams, mapping: { kind: "same" } }, []);
  });
  const left = heard.map(({ name, streams }) => formatLeftOut(name, streams));
  return `${fileHeader}${rules.map(formatPlanned).join("")}${left.join("")}`;
}

/**
 * Comments, and no rules that are commented out: those would be tried one by one, and drop everything. A scan after the
 * sender was mended writes the rules.
 */
function formatLeftOut(interfaceName: string, streams: readonly Stream[]): string {
  const byReason = Map.groupBy(streams, ({ refusal }) => refusal?.replace(/^[\w.[\]]+: (?:"[^"]*" )?/, ""));
  const parts = [...byReason].map(([reason, left]) => {
    const targets = left.map(({ group, port = 0 }) => `#   ${formatTarget({ group, port })}\n`);
    return reason === undefined ? "" : `\n# Left out of ${interfaceName}: ${reason}\n${targets.join("")}`;
  });
  return parts.join("");
}

export function formatTarget({ group, port }: { readonly group: string; readonly port: number }): string {
  return `${group.includes(":") ? `[${group}]` : group}:${port}`;
}

function flowTable({ flows }: Scan, columns: number): string {
  if (flows.length === 0) return "";
  const headings = [
    "INTERFACE",
    "GROUP",
    "SOURCE",
    "PACKETS/S",
    "RATE",
    "SIZE",
    "KIND",
    "WRONG CHECKSUMS",
    "NAME",
    "RELAYED BY",
    "ALSO ON",
  ];
  const rows = flows.map((flow) => [
    placeOf(flow),
    formatTarget(flow),
    flow.direction === "egress" ? `${flow.source} (this host)` : flow.source,
    Math.round(flow.packets_per_second * 10) / 10,
    formatBitRate(flow.bits_per_second),
    sizeOf(flow),
    formatKind(flow),
    wrongChecksums(flow) ?? "",
    flow.name ?? "",
    flow.relayed_by ?? "",
    flow.elsewhere
      .map((place) => `${place.interface}${place.direction === "egress" ? " (sent)" : ""}`)
      .join(", "),
  ]);
  // Columns that say nothing are left out.
  const kept = headings.flatMap((_, i) => (rows.some((row) => row[i] !== "") ? [i] : []));
  const pick = <T>(row: readonly T[]) => kept.flatMap((i) => row[i] ?? []);
  return formatTable(pick(headings), rows.map(pick), columns);
}

function placeOf({ interface: name, vlan, other_tag }: ScanFlow): string {
  if (other_tag !== null) return `${name} tag ${other_tag} (not 802.1Q)`;
  return vlan === null ? name : `${name} vlan ${vlan}`;
}

function sizeOf({ bytes_min, bytes_max }: ScanFlow): string {
  return bytes_min === bytes_max ? String(bytes_min) : `${bytes_min}-${bytes_max}`;
}

function querierTable({ queriers }: Scan): string {
  if (queriers.length === 0) return "";
  return formatTable(
    ["QUERIER", "ADDRESS", "PROTOCOL", "QUERIES"],
    queriers.map((querier) => [querier.interface, querier.address, querier.protocol, querier.queries]),
  );
}

/** Who is in a group; what every host joins by itself is left to --json. */
function memberTable({ members }: Scan): string {
  const groups = new Map<string, { interface: string; group: string; hosts: string[] }>();
  for (const member of members) {
    if (isLinkLocalMulticast(member.group) || member.state === "left") continue;
    const key = `${member.interface} ${member.group}`;
    const entry = groups.get(key) ?? { interface: member.interface, group: member.group, hosts: [] };
    groups.set(key, entry);
    entry.hosts.push(`${member.address}${member.is_this_host ? " (this host)" : ""}`);
  }
  if (groups.size === 0) return "";
  const sorted = [...groups.values()].sort(
    (a, b) => a.interface.localeCompare(b.interface) || compareAddresses(a.group, b.group),
  );
  return formatTable(
    ["MEMBERS ON", "GROUP", "HOSTS"],
    sorted.map((entry) => [entry.interface, entry.group, entry.hosts.sort(compareAddresses)]),
  );
}

function notes({ seconds, interfaces, flows, queriers, missed }: Scan): readonly string[] {
  const where = interfaces.map(({ name }) => name).join(", ");
  const streams = flows.filter(({ direction }) => direction === "ingress").length;
  const dropped = flows.filter(isDropped).length;
  const unasked = interfaces.filter(({ name }) => !queriers.some((querier) => querier.interface === name));
  return [
    `${plural(streams, "stream")} heard in ${seconds} s on ${where}\n`,
    streams === 0
      ? "a switch with IGMP snooping passes only groups that somebody here has joined: try --join 239.1.1.0/24, or a longer --duration\n"
      : "",
    unasked.length > 0 && streams > 0
      ? `no querier heard on ${unasked.map(({ name }) => name).join(", ")} (they ask every 125 s): without one, a snooping switch may stop a stream after some minutes\n`
      : "",
    dropped > 0
      ? `UDP checksums of ${plural(dropped, "stream")} are wrong: receivers drop such packets, and so does mcr\n`
      : "",
    missed.ring_full > 0
      ? `${formatNumber(missed.ring_full)} packets came faster than they were read: rates are too low\n`
      : "",
    missed.table_full > 0
      ? `${formatNumber(missed.table_full)} packets of more streams than the list holds\n`
      : "",
  ];
}
