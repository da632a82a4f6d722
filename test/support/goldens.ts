// Frames that were captured once from senders of every kind, test/golden/scan/NAME.hex, one on a line; and those that
// no sender at hand makes, built here. What a scan says of them all is frozen beside them, in heard.jsonl.

import { readdirSync } from "node:fs";
import { dot1q, fragmentsOf, frameOf, superFrameOf, type Tag } from "./frames.ts";
import { type Frame, noOffload } from "./records.ts";
import { repository } from "./topology.ts";

const folder = `${repository}/test/golden/scan`;

/** By name, in the order of the names. */
export async function recordedFrames(): Promise<ReadonlyMap<string, readonly Frame[]>> {
  const names = readdirSync(folder).filter((name) => name.endsWith(".hex"));
  const files = names.sort().map(async (name): Promise<readonly [string, readonly Frame[]]> => {
    const lines = (await Bun.file(`${folder}/${name}`).text()).split("\n");
    const frames = lines.filter((line) => /^[0-9a-f]/.test(line)).map((line) => frameOfHex(line));
    return [name.replace(/\.hex$/, ""), frames];
  });
  return new Map(await Promise.all(files));
}

/** What RFCs and IEEE 1588 describe, and links carry, but no sender at hand. */
export function builtFrames(recorded: ReadonlyMap<string, readonly Frame[]>): readonly Frame[] {
  const of = (name: string) => recorded.get(name) ?? [];
  const from = { source: "10.0.0.77" };
  const mdns = bytesOf("000000000001000000000000055f69707074045f746370056c6f63616c00000c0001");
  // A Sync message: its head, and no time yet.
  const ptp = new Uint8Array(44);
  ptp.set(bytesOf("0002002c00000200000000000000000000000000001dc1fffe123456000100090000"));
  const ts = of("ts")
    .slice(0, 2)
    .map(({ bytes }) => bytes.subarray(42));
  const [first = new Uint8Array(0), second = new Uint8Array(0)] = ts;
  const junk = Uint8Array.from({ length: 700 }, (_, i) => (i * 37) % 251);
  return [
    frameOf({ ...from, destination: "224.0.0.251", sourcePort: 5353, port: 5353, payload: mdns }),
    frameOf({ ...from, destination: "224.0.1.129", sourcePort: 319, port: 319, payload: ptp }),
    frameOf({ ...from, destination: "239.4.1.1", port: 7000, payload: junk }),
    frameOf({ ...from, destination: "239.4.1.1", port: 7000, payload: junk.subarray(0, 33) }),
    frameOf({ ...from, destination: "239.4.1.2", port: 7000, payload: new Uint8Array(0) }),
    ...of("rtp-pcma").map((frame) => tagged(frame, { tpid: dot1q, id: 5 })),
    superFrameOf(
      { ...from, destination: "239.4.2.1", port: 5004, payload: Buffer.concat([first, second]) },
      first.length,
    ),
    ...fragmentsOf({
      ...from,
      destination: "239.4.3.1",
      port: 7001,
      payload: new Uint8Array(4000).fill(0x11),
    }),
    ...of("rtp-ipv6").flatMap(({ bytes }) => [behindHopByHop(bytes), behindFragment(bytes)]),
  ];
}

function frameOfHex(hex: string): Frame {
  return { bytes: bytesOf(hex), offload: noOffload };
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

const macsBytes = 12;

export function tagged({ bytes, offload }: Frame, { tpid, id }: Tag): Frame {
  const tag = [tpid >> 8, tpid & 255, id >> 8, id & 255];
  const whole = [...bytes.subarray(0, macsBytes), ...tag, ...bytes.subarray(macsBytes)];
  return { bytes: Uint8Array.from(whole), offload };
}

/** An IPv6 packet with one more header, whose first byte is written here. */
function extended(bytes: Uint8Array, type: number, header: readonly number[]): Frame {
  const ip = 14;
  const body = ip + 40;
  const next = bytes[ip + 6] ?? 0;
  const longer = Uint8Array.from([...bytes.subarray(0, body), next, ...header, ...bytes.subarray(body)]);
  const view = new DataView(longer.buffer);
  view.setUint16(ip + 4, view.getUint16(ip + 4) + 1 + header.length);
  view.setUint8(ip + 6, type);
  return { bytes: longer, offload: noOffload };
}

/** PadN in the Hop-by-Hop Options header, RFC 8200 section 4.2. */
function behindHopByHop(bytes: Uint8Array): Frame {
  return extended(bytes, 0, [0, 1, 4, 0, 0, 0, 0]);
}

/** An atomic fragment, RFC 6946. */
function behindFragment(bytes: Uint8Array): Frame {
  return extended(bytes, 44, [0, 0, 0, 0, 0, 0, 7]);
}
