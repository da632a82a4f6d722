// What an operator should know about this host before rules run here, each with its cure: addresses, carrier, MTU,
// queriers, several senders, rp_filter and firewalls. Nothing of it keeps a rule from being written.
import type { ListedInterface } from "../net/interface-list.ts";
import type { Scan } from "../net/scan.ts";
import type { Choices } from "./init-plan.ts";

/** Facts that only the kernel knows. */
export interface HostFacts {
  readonly mayCapture: boolean;
  /** net.ipv4.conf.NAME.rp_filter, or that of all interfaces, is on. */
  hasReversePathFilter(name: string): boolean;
  /** Some packet filter is loaded. */
  readonly hasFirewall: boolean;
}

/** IPv4 and UDP. */
const headerBytes = 28;

export function hintsFor(
  { ingress, egresses, streams, mapping }: Choices,
  scan: Scan | undefined,
  interfaces: readonly ListedInterface[],
  host: HostFacts,
): readonly string[] {
  const hints: string[] = [];
  const find = (name: string) => interfaces.find((each) => each.name === name);
  if (!host.mayCapture)
    hints.push(
      "mcr run needs CAP_NET_RAW, which you do not have here: run it as root, or by systemd with AmbientCapabilities=CAP_NET_RAW.",
    );
  for (const name of [ingress, ...egresses]) {
    const link = find(name);
    if (!link) hints.push(`${name} does not exist yet: its rules wait until it does.`);
    else if (!link.isUp) hints.push(`${name} is down, and its rules wait: ip link set ${name} up`);
    else if (!link.hasCarrier)
      hints.push(`${name} has no carrier, and its rules wait: check its cable or peer.`);
    else if (link.address === null)
      hints.push(
        `${name} has no IPv4 address, and mcr ${name === ingress ? "joins" : "sends"} with it: ip address add ADDRESS/LENGTH dev ${name}`,
      );
  }
  const largest = Math.max(0, ...streams.map(({ heard }) => heard?.bytes_max ?? 0));
  for (const name of egresses) {
    const mtu = find(name)?.mtu ?? Number.POSITIVE_INFINITY;
    if (largest + headerBytes > mtu)
      hints.push(
        `Packets of ${largest + headerBytes} bytes do not fit ${name} (MTU ${mtu}) and leave as fragments: raise it (ip link set ${name} mtu ${largest + headerBytes}) or let the source send smaller ones.`,
      );
  }
  if (
    scan?.interfaces.some(({ name }) => name === ingress) &&
    !scan.queriers.some((each) => each.interface === ingress)
  )
    hints.push(
      `No querier was heard on ${ingress} (they ask every 125 s). If its switch does IGMP snooping, one has to: enable the switch's querier, or the streams stop after some minutes.`,
    );
  const doubled = streams.filter(({ heard }) => (heard?.sources.length ?? 0) > 1);
  if (doubled.length > 0)
    hints.push(
      `${doubled[0]?.group} has several senders, and receivers get all of them: "only the senders heard" ties the rule to them.`,
    );
  const relayed = streams.find(({ heard }) => heard?.relayedBy !== undefined);
  if (relayed)
    hints.push(
      `${relayed.group} is relayed already, by rule "${relayed.heard?.relayedBy}" of the mcr that runs here: receivers of both get it twice.`,
    );
  if (egresses.includes(ingress) && mapping.kind === "same")
    hints.push(`${ingress} is ingress and egress: the same groups would come back.`);
  if (host.hasReversePathFilter(ingress))
    hints.push(`rp_filter is on for ${ingress}, and does not matter: mcr captures before it.`);
  if (host.hasFirewall)
    hints.push(
      `A packet filter is loaded here: it does not see what mcr captures; let UDP out on ${egresses.join(", ")}.`,
    );
  return hints;
}
