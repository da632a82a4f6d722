// One scan while it listens: takes the packets that the shim keeps (c/flow_table.c), has them read, and asks for more of
// flows that are not known yet. Whoever runs the scan calls `take` after each slice; what was heard is data then.
// Called by commands/listen.ts, with samples, and net/watch.ts, which counts only.
import { rawOther } from "../native/layouts.ts";
import type { RawPacket, ScanHandle, ScanState, Shim } from "../native/shim.ts";
import { protocols, readIpv6 } from "../wire/network.ts";
import { type HeardFlow, HeardFlows } from "./heard-flows.ts";
import { type HeardMember, HeardMembers } from "./heard-members.ts";

export type HearingShim = Pick<Shim, "scanState" | "scanFlows" | "takeScanPackets" | "wishForPackets">;

export interface Heard {
  readonly flows: readonly HeardFlow[];
  readonly members: readonly HeardMember[];
  /** Datagrams of RFC 2974. */
  readonly announcements: readonly Uint8Array[];
  readonly missed: {
    /** Frames not heard: the ring was full. */
    readonly ringFull: number;
    /** Packets of flows that found no room. */
    readonly flowsFull: number;
    /** Packets that found none for another reason. */
    readonly othersFull: number;
    readonly malformed: number;
  };
}

export class Hearing {
  readonly #flows = new HeardFlows();
  readonly #members = new HeardMembers();
  #malformed = 0;

  constructor(
    readonly shim: HearingShim,
    readonly scan: ScanHandle,
  ) {}

  /** What has come since the last call. */
  take(): void {
    const packets = this.shim.takeScanPackets(this.scan);
    if (packets.length === 0) return;
    this.#flows.add(this.shim.scanFlows(this.scan, this.#flows.count));
    for (const packet of packets) if (!this.#hear(packet)) this.#malformed += 1;
    this.shim.wishForPackets(this.scan, this.#flows.recognise());
  }

  all(): Heard {
    this.take();
    const state: ScanState = this.shim.scanState(this.scan);
    return {
      flows: this.#flows.all(this.shim.scanFlows(this.scan)),
      members: this.#members.all,
      announcements: this.#flows.announcements,
      missed: {
        ringFull: state.ring_drops,
        flowsFull: state.flows_refused,
        othersFull: state.packets_refused + this.#flows.refused + this.#members.refused,
        malformed: state.malformed + this.#malformed,
      },
    };
  }

  #hear(packet: RawPacket): boolean {
    if (packet.flow !== rawOther) {
      this.#flows.hear(packet);
      return true;
    }
    const ip = (packet.bytes[0] ?? 0) >> 4 === 6 ? readIpv6(packet.bytes) : undefined;
    return ip?.protocol === protocols.udp ? this.#flows.hearTail(packet, ip) : this.#members.hear(packet);
  }
}
