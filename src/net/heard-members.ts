// Who asks for members and who is one, as a scan hears them: a bounded table filled message by message, for
// `mcr scan`, `mcr show flows` and `mcr explain`. What finds no room is counted.
import type { RawPacket } from "../native/shim.ts";
import { type Membership, readIgmp, readMld } from "../wire/membership.ts";
import { readIpv4, readIpv6 } from "../wire/network.ts";
import { type Address, addressOf } from "./address.ts";

const membersMax = 4096;

/** Of one (interface, VLAN, source, group), and whether it asks or answers. */
export interface HeardMember {
  /** Position in the list that is listened on. */
  readonly interface: number;
  /** As the shim has it. */
  readonly vlan: number;
  readonly address: Address;
  /** Of a query for any group 0.0.0.0 or ::. */
  readonly group: Address;
  /** The last one heard, as are version, direction and time. */
  readonly kind: Membership["kind"];
  /** Of IGMP, or of MLD where the addresses are IPv6. */
  readonly version: number;
  /** This host is it. */
  readonly isEgress: boolean;
  readonly packets: number;
  readonly last_ns: number;
}

export class HeardMembers {
  readonly #members = new Map<string, HeardMember>();
  #refused = 0;

  /** False: the packet is malformed. What is no IGMP and no MLD says nothing here. */
  hear(packet: RawPacket): boolean {
    const isIpv4 = (packet.bytes[0] ?? 0) >> 4 === 4;
    const messages = isIpv4 ? readIgmp(packet.bytes) : readMld(packet.bytes);
    const source = (isIpv4 ? readIpv4 : readIpv6)(packet.bytes)?.source;
    if (!messages || !source) return false;
    const address = isIpv4 ? source.join(".") : addressOf(source);
    for (const message of messages) this.#keep(packet, address, message);
    return true;
  }

  /** In the order in which they were first heard. */
  get all(): readonly HeardMember[] {
    return [...this.#members.values()];
  }

  /** Messages of members that found no room. */
  get refused(): number {
    return this.#refused;
  }

  #keep(packet: RawPacket, address: Address, { kind, group, version }: Membership): void {
    const role = kind === "query" ? "asks" : "answers";
    const key = `${packet.interface} ${packet.vlan} ${address} ${group} ${role}`;
    const before = this.#members.get(key);
    if (!before && this.#members.size >= membersMax) {
      this.#refused += 1;
      return;
    }
    this.#members.set(key, {
      ...{ interface: packet.interface, vlan: packet.vlan, address, group, kind, version },
      ...{ isEgress: packet.is_egress === 1, packets: (before?.packets ?? 0) + 1, last_ns: packet.time_ns },
    });
  }
}
