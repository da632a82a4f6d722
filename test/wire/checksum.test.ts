// Checksums of captured packets: right, wrong, absent, and left to the device.

import { describe, expect, test } from "bun:test";
import { type Checksum, readChecksum } from "../../src/wire/checksum.ts";
import { fragmentsOf, frameOf, superFrameOf } from "../support/frames.ts";
import { expectSurvival } from "./damage.ts";
import { hex, partialPacket } from "./packets.ts";

const ethernetBytes = 14;
const datagram = {
  ...{ source: "10.0.0.1", destination: "239.1.1.1", port: 5001 },
  payload: Uint8Array.from({ length: 101 }, (_, i) => i * 7),
};
const whole = frameOf(datagram).bytes.subarray(ethernetBytes);

/** From ::1 to ff1e::1, port 4000 to 5001, "mcr1". */
const ipv6 = hex(`60000000 000c 11 01
  00000000000000000000000000000001 ff1e0000000000000000000000000001
  0fa0 1389 000c fdf7 6d637231`);

function changed(packet: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array {
  const copy = Uint8Array.from(packet);
  copy.set(bytes, at);
  return copy;
}

function judge(packet: Uint8Array): Checksum {
  return readChecksum(packet, packet.length);
}

describe("a checksum", () => {
  test.each([
    ["of a whole datagram", whole, "right"],
    ["with padding behind it", Uint8Array.from([...whole, 9, 9, 9]), "right"],
    ["of a changed payload", changed(whole, 40, 1), "wrong"],
    ["of a changed header", changed(whole, 8, 7), "wrong"],
    ["that nobody computed", changed(whole, 26, 0, 0), "absent"],
    ["as ffmpeg's kernel left it to the device", partialPacket, "partial"],
    ["of a super-frame", superFrameOf(datagram, 50).bytes.subarray(ethernetBytes), "partial"],
    ["of a header that is left to the device, too", changed(whole, 10, 0, 0), "partial"],
    ["of a fragment", fragmentsOf(datagram, {}, 64)[0]?.bytes.subarray(ethernetBytes), "unknown"],
    ["of a datagram longer than its packet", changed(whole, 24, 0xff), "unknown"],
    ["of one shorter than its header", changed(whole, 24, 0, 7), "unknown"],
    ["of another protocol", changed(whole, 9, 2), "unknown"],
    ["of nothing", new Uint8Array(), "unknown"],
    ["of IPv6", ipv6, "right"],
    ["of IPv6, changed", changed(ipv6, 48, 1), "wrong"],
    [
      "of a fragment of IPv6",
      hex(`60000000 0014 2c 01
      00000000000000000000000000000001 ff1e0000000000000000000000000001
      11 00 0001 00000001 0fa0 1389 000c fdf7 6d637231`),
      "unknown",
    ],
    ["of IPv6, none", changed(ipv6, 46, 0, 0), "absent"],
    ["of IPv6, left to the device", changed(ipv6, 46, 0xff, 0x3d), "partial"],
  ] as const)("%s", (_, packet, checksum) => {
    expect(judge(packet ?? new Uint8Array())).toBe(checksum);
  });

  test("of what was not captured whole is unknown", () => {
    for (let captured = 0; captured < whole.length; captured += 1)
      expect(readChecksum(whole.subarray(0, captured), whole.length)).toBe("unknown");
    expect(readChecksum(whole, whole.length + 1)).toBe("unknown");
  });

  test("damage is survived", () => {
    expectSurvival([whole, partialPacket, ipv6], judge);
  });
});
