// IGMP packets, and packets as the shim hands them over unread: what readers of control messages are given in tests.
import { rawOther } from "../../src/native/layouts.ts";
import type { RawPacket } from "../../src/native/shim.ts";
import { sumOf } from "../../src/wire/checksum.ts";

export function rawPacket(given: Partial<RawPacket> & Pick<RawPacket, "bytes">): RawPacket {
  return {
    ...{ time_ns: 1e18, flow: rawOther, interface: 0, payload_bytes: 0, payload: 0, vlan: 0 },
    ...{ captured: given.bytes.length, is_egress: 0, checksum_known: 0 },
    ...given,
  };
}

/** For any group. */
export function igmpQuery(from: string, version: number): Uint8Array {
  const code = version === 1 ? 0 : 100;
  return igmp(from, [0x11, code, 0, 0, 0, 0, 0, 0, ...(version === 3 ? [2, 125, 0, 0] : [])]);
}

export function igmpLeave(from: string, group: string): Uint8Array {
  return igmp(from, [0x17, 0, 0, 0, ...octetsOf(group)]);
}

/** To 224.0.0.1, with both checksums. */
function igmp(from: string, message: readonly number[]): Uint8Array {
  const body = Uint8Array.from(message);
  const header = [
    0x45,
    0xc0,
    0,
    20 + body.length,
    0,
    0,
    0x40,
    0,
    1,
    2,
    0,
    0,
    ...octetsOf(from),
    224,
    0,
    0,
    1,
  ];
  const packet = Uint8Array.from([...header, ...body]);
  const view = new DataView(packet.buffer);
  view.setUint16(10, 0xffff - sumOf(packet.subarray(0, 20)));
  view.setUint16(22, 0xffff - sumOf(packet.subarray(20)));
  return packet;
}

function octetsOf(address: string): readonly number[] {
  return address.split(".").map(Number);
}
