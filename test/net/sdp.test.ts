// Announcements: what a session is called and where it flows; and that nothing hostile gets further than a parser.

import { describe, expect, test } from "bun:test";
import { parseAnnouncement, parseSession } from "../../src/net/sdp.ts";

const sdp = `v=0
o=- 1 1 IN IP4 10.0.0.1
s=Studio A
c=IN IP4 239.1.1.1/32
t=0 0
m=video 5004 RTP/AVP 33
m=audio 5006 RTP/AVP 96
c=IN IP4 239.1.1.2/32
`;

function sap(flags: number, text: string, { authentication = 0, origin = 4 } = {}): Uint8Array {
  const head = new Uint8Array(4 + origin + authentication * 4);
  head.set([flags, authentication, 0x12, 0x34]);
  return Buffer.concat([head, Buffer.from(text)]);
}

const studio = {
  name: "Studio A",
  streams: [
    { group: "239.1.1.1", port: 5004, media: "video" },
    { group: "239.1.1.2", port: 5006, media: "audio" },
  ],
};

describe("an announcement", () => {
  test.each([
    ["bare", sap(0x20, sdp)],
    ["with its type", sap(0x20, `application/sdp\0${sdp}`)],
    ["with authentication", sap(0x20, sdp, { authentication: 3 })],
    ["from IPv6", sap(0x30, sdp, { origin: 16 })],
    ["with CRLF", sap(0x20, sdp.replaceAll("\n", "\r\n"))],
  ])("%s is read", (_, datagram) => {
    expect(parseAnnouncement(datagram)).toEqual(studio);
  });

  test.each([
    ["withdrawn", sap(0x24, sdp)],
    ["encrypted", sap(0x22, sdp)],
    ["compressed", sap(0x21, sdp)],
    ["of another version", sap(0x40, sdp)],
    ["empty", new Uint8Array()],
    ["of a header only", sap(0x20, "")],
    ["whose authentication is longer than it", Uint8Array.of(0x20, 255, 0, 0, 1, 2, 3, 4)],
    ["of another type", sap(0x20, `text/plain\0hello`)],
  ])("%s is none", (_, datagram) => {
    expect(parseAnnouncement(datagram)).toBeUndefined();
  });

  test("cut anywhere is read as far as it goes, and never throws", () => {
    const whole = sap(0x20, sdp);
    for (let length = 0; length <= whole.length; length += 1)
      expect(() => parseAnnouncement(whole.subarray(0, length))).not.toThrow();
  });
});

describe("a session", () => {
  test("has every group of a counted connection, up to a bound", () => {
    const session = parseSession("v=0\ns=x\nc=IN IP4 239.1.1.254/16/4\nm=audio 5004/2 RTP/AVP 0\n");
    expect(session?.streams.map(({ group }) => group)).toEqual([
      "239.1.1.254",
      "239.1.1.255",
      "239.1.2.0",
      "239.1.2.1",
    ]);
    const many = parseSession("v=0\ns=x\nc=IN IP4 239.1.1.1/16/999\nm=audio 5004 RTP/AVP 0\n");
    expect(many?.streams).toHaveLength(64);
    const last = parseSession("v=0\ns=x\nc=IN IP4 239.255.255.255/16/9\nm=audio 5004 RTP/AVP 0\n");
    expect(last?.streams).toHaveLength(1);
  });

  test("names the encoding of each stream's first payload type", () => {
    const text = [
      ...["v=0", "s=x", "c=IN IP4 239.1.1.1/16", "m=video 20000 RTP/AVP 112", "a=rtpmap:112 raw/90000"],
      ...["m=audio 5004 RTP/AVP 97 98", "a=rtpmap:98 L16/48000/2", "a=rtpmap:97 L24/48000/8"],
      ...["m=audio 5006 RTP/AVP 96", "a=rtpmap:96 \x1b[31m/1", "m=audio 5008 RTP/AVP 0"],
    ];
    expect(parseSession(text.join("\r\n"))?.streams.map(({ encoding }) => encoding)).toEqual([
      ...["raw/90000", "L24/48000/8"],
      ...[undefined, undefined],
    ]);
  });

  test("of unicast, or of ports that are none, has no streams", () => {
    expect(parseSession("s=x\nc=IN IP4 10.0.0.1\nm=audio 5004 RTP/AVP 0\n")?.streams).toEqual([]);
    expect(
      parseSession("s=x\nc=IN IP4 239.1.1.1/1\nm=audio 0 RTP/AVP 0\nm=audio 70000 x 0\n")?.streams,
    ).toEqual([]);
  });

  test("has a name that a terminal can show", () => {
    expect(parseSession(`s=\x1b[31mred\x07\u202e  ${"x".repeat(500)}\n`)?.name).toBe(
      `[31mred   ${"x".repeat(38)}`,
    );
  });
});
