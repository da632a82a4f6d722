// inject and record against each other on a bare link, with no relay: a frame arrives as it was given.

import { expect, setDefaultTimeout, test } from "bun:test";
import {
  decodeRecords,
  encodeRecords,
  type Frame,
  noOffload,
  type RecordedFrame,
  startInjector,
  startRecorder,
} from "./records.ts";
import { openTopology, whyNoTopology } from "./topology.ts";
import { waitUntil } from "./wait.ts";

setDefaultTimeout(60_000);

const netTest = test.skipIf(whyNoTopology() !== undefined);

/** Ethernet, IPv4, UDP 239.1.1.1:5001, and a payload that counts up; the UDP checksum is the caller's. */
function frameOf(payloadBytes: number, checksum = 0): Uint8Array {
  const bytes = new Uint8Array(42 + payloadBytes).map((_, i) => (i < 42 ? 0 : i & 0xff));
  const view = new DataView(bytes.buffer);
  bytes.set([0x01, 0x00, 0x5e, 0x01, 0x01, 0x01, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00]);
  bytes.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 8, 17, 0, 0, 10, 0, 0, 1, 239, 1, 1, 1], 14);
  view.setUint16(16, 28 + payloadBytes);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  view.setUint16(24, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
  view.setUint16(34, 5001);
  view.setUint16(36, 5001);
  view.setUint16(38, 8 + payloadBytes);
  view.setUint16(40, checksum);
  return bytes;
}

/** Five segments of 1,000 bytes and one of 10, the checksum left to the device. */
const superFrame: Frame = {
  bytes: frameOf(5_010, 0x1234),
  offload: { flags: 1, gsoType: 5, headerBytes: 42, gsoSize: 1_000, checksumStart: 34, checksumOffset: 6 },
};
const plain = (payloadBytes: number): Frame => ({ bytes: frameOf(payloadBytes), offload: noOffload });
const withoutType = ({ bytes, offload }: RecordedFrame): Frame => ({ bytes, offload });

test("a record is read as it was written, however the bytes are cut", () => {
  const frames = [plain(0), superFrame, plain(1_472)];
  const bytes = encodeRecords(frames);
  const read: RecordedFrame[] = [];
  let rest: Uint8Array = new Uint8Array(0);
  for (let at = 0; at < bytes.length; at += 7)
    rest = decodeRecords(Buffer.concat([rest, bytes.subarray(at, at + 7)]), read);
  expect(rest.length).toBe(0);
  expect(read.map(withoutType)).toEqual(frames);
});

netTest("every frame that is injected is recorded byte for byte, a super-frame included", async () => {
  await using chain = await openTopology("chain");
  const recorder = await startRecorder(chain, "relay-ns", "veth1");
  const injector = await startInjector(chain, "gen-ns", { interface: "veth0" });
  const frames = [plain(100), superFrame, ...Array.from({ length: 1_000 }, (_, i) => plain(i)), superFrame];
  await injector.inject(frames);
  await waitUntil(() => recorder.frames.length >= frames.length, { what: "every frame" });
  expect(await injector.finish()).toEqual({ event: "result", sent: frames.length, refused: 0 });
  const { recorded, dropped, undescribed } = await recorder.stop();
  expect({ recorded, dropped, undescribed }).toEqual({
    recorded: frames.length,
    dropped: 0,
    undescribed: 0,
  });
  expect(recorder.frames.map(withoutType)).toEqual(frames);
  expect(new Set(recorder.frames.map(({ packetType }) => packetType))).toEqual(new Set([2]));
});

netTest("a frame that the kernel refuses is named, and the others go on", async () => {
  await using chain = await openTopology("chain");
  const recorder = await startRecorder(chain, "relay-ns", "veth1");
  const injector = await startInjector(chain, "gen-ns", { interface: "veth0" });
  const frames = [plain(1), plain(1_473), { bytes: new Uint8Array(5), offload: noOffload }, plain(2)];
  await injector.inject(frames);
  expect(injector.refused()).toMatchObject([
    { index: 1, reason: "Message too long" },
    { index: 2, reason: "Invalid argument" },
  ]);
  expect(await injector.finish()).toMatchObject({ sent: 2, refused: 2 });
  await waitUntil(() => recorder.frames.length >= 2, { what: "the frames that are left" });
  await recorder.stop();
  expect(recorder.frames.map(({ bytes }) => bytes.length)).toEqual([43, 44]);
});

netTest("a tap stands from ready to finish, and what is injected arrives at it", async () => {
  await using chain = await openTopology("chain");
  const mac = "02:00:00:00:00:07";
  const injector = await startInjector(chain, "relay-ns", { tap: "guest", mac });
  expect(await chain.output("relay-ns", ["ip", "link", "show", "guest"])).toContain(mac);
  const recorder = await startRecorder(chain, "relay-ns", "guest");
  const frames = [plain(10), superFrame];
  await injector.inject(frames);
  await waitUntil(() => recorder.frames.length >= frames.length, { what: "both frames" });
  await injector.finish();
  expect(recorder.frames.map(withoutType)).toEqual(frames);
  await waitUntil(async () => (await chain.run("relay-ns", ["ip", "link", "show", "guest"])).exitCode !== 0, {
    what: "the tap to go",
  });
});
