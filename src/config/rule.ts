// What one rule must keep to across its keys: exactly one target, families that agree, ranges that pair up.
// Called by parse.ts for every rule of the file. A key that is wrong by itself is null here and is left alone.
import { addressFamily, parseAddressRange, touchesLinkLocal } from "../net/address.ts";
import { plural } from "../numbers.ts";
import { type DraftEgress, type DraftIngress, type DraftRule, egressesOf } from "./draft.ts";
import { pairedSize, readEndpoint } from "./pairing.ts";
import type { Path, Problem } from "./problem.ts";
import { type PortText, parsePortRange } from "./range.ts";

/** Every mistake of the rule, with paths below it. */
export function checkRule(rule: DraftRule): Problem[] {
  const problems: Problem[] = [];
  const report = (path: Path, text: string): void => void problems.push({ path, text });
  const { ingress } = rule;
  if (ingress) checkIngress(ingress, report);
  for (const [egress, path] of egressesOf(rule)) {
    checkEgress(egress, path, report);
    if (ingress) checkPair(ingress, egress, path, report);
  }
  checkCopies(rule, report);
  return problems;
}

type Report = (path: Path, text: string) => void;

function checkIngress(ingress: DraftIngress, report: Report): void {
  const { group, address, port, source } = ingress;
  if (group !== undefined && address !== undefined)
    report(
      ["ingress", "address"],
      "group is given too: give one of them, group for multicast, address for unicast to this host",
    );
  if (group === undefined && address === undefined)
    report(
      ["ingress"],
      'says neither group nor address: add the group to relay, such as group = "239.1.1.1"',
    );
  checkLinkLocal(ingress, group, ["ingress", "group"], report);
  if (ingress.protocol === "esp" && port !== undefined)
    report(["ingress", "port"], 'protocol "esp" has no ports: leave it out');
  const target = group ?? address;
  // The list is sorted by now, so a sender has no position of its own.
  for (const sender of source ?? [])
    if (typeof target === "string" && addressFamily(sender) !== addressFamily(target))
      report(
        ["ingress", "source"],
        `"${sender}" is ${familyName(sender)}, the ${group ? "group" : "address"} is not: one family only`,
      );
  const endpoint = readEndpoint(ingress);
  if (endpoint && pairedSize(endpoint) === undefined)
    report(
      ["ingress", "port"],
      `${endpoint.ports?.size} ports do not pair with ${plural(endpoint.addresses.size, "group")}: give as many of each, or one`,
    );
}

function checkEgress(egress: DraftEgress, path: Path, report: Report): void {
  const { group, address, source } = egress;
  if (group !== undefined && address !== undefined)
    report(
      [...path, "address"],
      "group is given too: give one of them, group for multicast, address for unicast",
    );
  checkPath(egress, path, report);
  const target = group ?? address;
  const isAddress = typeof source === "string" && source !== "interface" && source !== "keep";
  if (isAddress && typeof target === "string" && addressFamily(source) !== addressFamily(target))
    report(
      [...path, "source"],
      `"${source}" is ${familyName(source)}, the target is not: give an address of its family`,
    );
}

/** What only frames of mcr's own can carry, and those go to groups. */
function checkPath(egress: DraftEgress, path: Path, report: Report): void {
  const kept: readonly (readonly [keyof DraftEgress, string | number | null | undefined])[] = [
    ["ttl", egress.ttl],
    ["source", egress.source],
    ["source_port", egress.source_port],
    ["dscp", egress.dscp],
  ];
  if (egress.path === "frame" && egress.address !== undefined)
    report([...path, "path"], '"frame" is for groups, and this goes to one host: give "socket"');
  for (const [key, value] of kept) {
    if (value !== "keep" && value !== "decrement") continue;
    if (egress.path === "socket")
      report([...path, key], `"${value}" needs the frame path: leave path = "socket" out, or give a value`);
    else if (egress.address !== undefined)
      report([...path, key], `"${value}" is for groups, and this goes to one host: give a value`);
  }
}

/** What an egress must keep to because of the rule's ingress. */
function checkPair(ingress: DraftIngress, egress: DraftEgress, path: Path, report: Report): void {
  checkLinkLocal(ingress, egress.group, [...path, "group"], report);
  if (ingress.protocol === "esp") {
    if (egress.port !== undefined) report([...path, "port"], 'protocol "esp" has no ports: leave it out');
    if (typeof egress.source_port === "number")
      report([...path, "source_port"], 'protocol "esp" has no ports: leave it out');
  }
  checkSizes(ingress, egress, path, report);
}

function checkSizes(ingress: DraftIngress, egress: DraftEgress, path: Path, report: Report): void {
  const from = readEndpoint(ingress);
  if (!from) return;
  // When the ingress does not pair with itself, either of its sizes may be the one that was meant.
  const flows = pairedSize(from);
  const fits = (size: number): boolean =>
    size === 1 ||
    (flows === undefined ? size === from.addresses.size || size === from.ports?.size : size === flows);
  const expected = flows === undefined ? "as many as in the ingress" : String(flows);
  const cure = flows === 1 ? "give one" : `give ${expected}, or one`;
  const groups = rangeSize(egress.group);
  if (groups !== undefined && !fits(groups))
    report([...path, "group"], `${plural(groups, "group")} do not pair with ${pairedWith(flows)}: ${cure}`);
  const ports = portCount(egress.port);
  if (ports === undefined || fits(ports)) return;
  const hint =
    from.ports === undefined && flows === 1 ? " (an ingress without a port keeps every port as it is)" : "";
  report([...path, "port"], `${plural(ports, "port")} do not pair with ${pairedWith(flows)}: ${cure}${hint}`);
}

/** Two copies of one packet to one place are duplicates at every receiver. */
function checkCopies(rule: DraftRule, report: Report): void {
  const seen = new Map<string, number>();
  for (const [egress, path] of egressesOf(rule)) {
    const { interface: name, group, address, port, source = "interface", source_port = "auto" } = egress;
    if ([name, group, address, port, source, source_port].includes(null)) continue;
    const target = group ?? address ?? rule.ingress?.group;
    const id = JSON.stringify([name, target, port ?? rule.ingress?.port, source, source_port]);
    const earlier = seen.get(id);
    if (earlier !== undefined)
      report(path, `sends the same packets to the same place as egress[${earlier + 1}]: remove one of them`);
    else seen.set(id, Number(path[1]));
  }
}

function checkLinkLocal(
  ingress: DraftIngress,
  group: string | null | undefined,
  path: Path,
  report: Report,
): void {
  if (ingress.allow_link_local === true || ingress.allow_link_local === null) return;
  const range = typeof group === "string" ? parseAddressRange(group) : undefined;
  if (!range || !touchesLinkLocal(range)) return;
  const block = addressFamily(range.first) === 4 ? "224.0.0.0/24" : "ff02::/16";
  report(
    path,
    `"${group}" is link-local (${block}) and not meant to be relayed: set ingress.allow_link_local = true to relay it all the same`,
  );
}

function rangeSize(group: string | null | undefined): number | undefined {
  return typeof group === "string" ? parseAddressRange(group)?.size : undefined;
}
function portCount(port: PortText | null | undefined): number | undefined {
  return port === null || port === undefined ? undefined : parsePortRange(port)?.size;
}
function pairedWith(flows: number | undefined): string {
  return flows === undefined ? "the ingress" : `the ${plural(flows, "flow")} of the ingress`;
}
function familyName(address: string): string {
  return addressFamily(address) === 4 ? "IPv4" : "IPv6";
}
