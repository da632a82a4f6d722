// What a scan finds among many packets: a table of programs that comes once, announcements in a burst, the name of a kind
// by its magic; and what it says of wrong checksums and of tags that are not 802.1Q.

import { expect, test } from "bun:test";
import * as v from "valibot";
import { parseConfig } from "../../src/config/parse.ts";
import { ScanSchema } from "../../src/net/scan.ts";
import { dot1ad, frameOf, withByte } from "../support/frames.ts";
import { recordedFrames, tagged } from "../support/goldens.ts";
import { type Frame, startInjector } from "../support/records.ts";
import { executable } from "../support/relay.ts";
import { openTopology, type Topology } from "../support/topology.ts";
import { waitFor } from "../support/wait.ts";
import { injectPaced } from "../support/wire.ts";

const source = "10.0.0.77";

/** Ethernet, IPv4 and UDP. */
const headerBytes = 42;
const payloadOf = ({ bytes }: Frame) => bytes.subarray(headerBytes);

/** The first byte of the UDP checksum. */
const checksumAt = 40;

async function scanned(topology: Topology, frames: readonly Frame[], ...words: readonly string[]) {
  const injector = await startInjector(topology, "gen-ns", { interface: "veth0" });
  const scanning = topology.spawn("relay-ns", [executable, "scan", "veth1", ...words]);
  await waitFor(
    () => topology.output("relay-ns", ["cat", "/proc/net/packet"]),
    (text) => /^\S+ +\d+ +3 +0003 +[1-9]\d* +1 /m.test(text),
    { what: "the scan to listen", deadlineMs: 10_000 },
  );
  await injectPaced(injector, frames, 5_000);
  const { exitCode, stdout, stderr } = await scanning.exited;
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  return stdout;
}

test("a scan finds the one table of programs, every announcement of a burst, and sACN", async () => {
  await using topology = await openTopology("chain");
  const [withTable, without] = (await recordedFrames()).get("ts") ?? [];
  if (!withTable || !without) throw new Error("no frames of MPEG-TS");
  const media = { source, destination: "239.6.1.1", port: 5004 };
  const plain = frameOf({ ...media, payload: payloadOf(without) });
  const table = frameOf({ ...media, payload: payloadOf(withTable) });
  const announcement = (hash: number, group: string) => {
    const head = [0x20, 0, hash >> 8, hash & 255, 10, 0, 0, 77];
    const text = `v=0\no=- 1 1 IN IP4 10.0.0.77\ns=Channel ${hash}\nc=IN IP4 ${group}/8\nm=video 5004 RTP/AVP 33\n`;
    const payload = Uint8Array.from([...head, ...Buffer.from(text)]);
    return frameOf({ source, destination: "224.2.127.254", port: 9875, payload });
  };
  const burst = Array.from({ length: 400 }, (_, i) =>
    announcement(i, i === 300 ? media.destination : "239.250.0.1"),
  );
  // ANSI E1.31: the preamble, the packet identifier, and the layers' flags and lengths.
  const sacn = new Uint8Array(638);
  sacn.set([0, 16, 0, 0, ...Buffer.from("ASC-E1.17\0\0\0"), 0x72, 0x6e, 0, 0, 0, 4]);
  sacn.set([0x72, 0x58, 0, 0, 0, 2, ...Buffer.from("Console\0")], 38);
  sacn.set([100, 0, 0, 0, 0, 0, 7, 0x72, 0x0b, 2, 0xa1, 0, 0, 0, 1, 2, 1], 108);
  const frames = [
    ...Array.from({ length: 2_000 }, () => plain),
    table,
    ...burst,
    ...Array.from({ length: 3 }, () =>
      frameOf({ source, destination: "239.255.0.7", port: 5568, payload: sacn }),
    ),
    ...Array.from({ length: 500 }, () => plain),
  ];
  const text = await scanned(topology, frames, "--json", "--duration", "3s");
  const { flows, missed } = v.parse(v.pipe(v.string(), v.parseJson(), ScanSchema), text);
  const found = (group: string) => flows.find((flow) => flow.group === group);
  expect(found("239.6.1.1")).toMatchObject({
    ...{ kind: "mpeg-ts", programs: 1, packets: 2_501, name: "Channel 300" },
  });
  expect(found("224.2.127.254")).toMatchObject({ kind: "sap", packets: 400 });
  expect(found("239.255.0.7")).toMatchObject({ kind: "sacn", detail: expect.stringContaining("7") });
  expect(missed).toEqual({ ring_full: 0, table_full: 0, malformed: 0 });
}, 60_000);

test("where checksums are wrong or tags are not 802.1Q a scan says so, and writes no rule", async () => {
  await using topology = await openTopology("chain");
  const recorded = await recordedFrames();
  const frames = [
    ...(recorded.get("ts") ?? []).map((frame) => withByte(frame, checksumAt, (old) => old ^ 0x55)),
    ...(recorded.get("rtp-pcma") ?? []).map((frame) => tagged(frame, { tpid: dot1ad, id: 7 })),
    ...(recorded.get("ts-in-rtp") ?? []),
  ];
  const list = await scanned(topology, frames, "--duration", "1s");
  expect(list).toMatch(/^veth1 +239\.3\.3\.1:5004 .* 4 of 4 packets$/m);
  expect(list).toMatch(/^veth1 tag 7 \(not 802\.1Q\) +239\.2\.1\.1:5004/m);
  const rules = await scanned(topology, frames, "--toml", "--duration", "1s");
  expect(parseConfig(rules, "").rules.map(({ ingress }) => ingress.group)).toEqual(["239.3.2.1"]);
  expect(rules).toContain("UDP checksums are wrong");
  const json = await scanned(topology, frames, "--json", "--duration", "1s");
  const { flows } = v.parse(v.pipe(v.string(), v.parseJson(), ScanSchema), json);
  expect(flows.find(({ group }) => group === "239.2.1.1")).toMatchObject({ vlan: null, other_tag: 7 });
  // What this host sends with its device's help is not wrong.
  const sent = topology.spawn("relay-ns", [
    ...[executable, "send", "239.9.1.1:6001", "--interface", "veth1", "--duration", "20s"],
  ]);
  await waitFor(
    () => topology.output("relay-ns", [executable, "scan", "veth1", "--duration", "500ms", "--json"]),
    (text) => {
      const heard = v.parse(v.pipe(v.string(), v.parseJson(), ScanSchema), text);
      return heard.flows.some(({ group, checksums }) => group === "239.9.1.1" && checksums.wrong === 0);
    },
    { what: "the stream of this host", deadlineMs: 10_000 },
  );
  sent.kill("SIGINT");
}, 60_000);
