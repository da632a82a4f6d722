// SAP, mDNS, SSDP and WS-Discovery.

import { describe, expect, test } from "bun:test";
import { mdns, sap, ssdp, wsDiscovery } from "../../src/wire/discovery.ts";
import { expectFlowSurvival } from "./damage.ts";
import { bytesOf, flowOf, sampleOf, sapPacket, withBytes } from "./packets.ts";

/** A query for _services._dns-sd._udp.local, RFC 6763 section 9. */
const mdnsQuery = sampleOf(`
  0000 0000 0001 0000 0000 0000                          # a query of one question
  09 5f7365727669636573 07 5f646e732d7364 04 5f756470    # _services _dns-sd _udp
  05 6c6f63616c 00 000c 0001                             # local, PTR, IN`);

const lines = (...text: readonly string[]) => sampleOf(bytesOf(`${text.join("\r\n")}\r\n\r\n`));
const notify = lines(
  "NOTIFY * HTTP/1.1",
  "HOST: 239.255.255.250:1900",
  "CACHE-CONTROL: max-age=1800",
  "LOCATION: http://10.0.0.9:80/description.xml",
  "NT: upnp:rootdevice",
  "NTS: ssdp:alive",
  "USN: uuid:2fac1234-31f8-11b4-a222-08002b34c003::upnp:rootdevice",
);
const search = lines(
  "M-SEARCH * HTTP/1.1",
  "HOST: 239.255.255.250:1900",
  'MAN: "ssdp:discover"',
  "MX: 3",
  "ST: ssdp:all",
);
const answer = lines("HTTP/1.1 200 OK", "EXT:", "ST: upnp:rootdevice");

const probe = sampleOf(
  bytesOf(
    `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope" ` +
      `xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing" ` +
      `xmlns:wsd="http://schemas.xmlsoap.org/ws/2005/04/discovery"><soap:Header>` +
      `<wsa:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</wsa:To>` +
      `<wsa:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</wsa:Action></soap:Header></soap:Envelope>`,
  ),
);

describe("SAP", () => {
  const at = { group: "224.2.127.254", port: 9875 };
  test("is version 1 on its port", () => {
    expect(sap(flowOf([sapPacket], at))).toEqual({ kind: "sap" });
    expect(sap(flowOf([withBytes(sapPacket, 0, 0x40)], at))).toBeUndefined();
    expect(sap(flowOf([sapPacket], { port: 9876 }))).toBeUndefined();
    expect(sap(flowOf([sampleOf("20000000000000")], at))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(sap, flowOf([sapPacket], at));
  });
});

describe("mDNS", () => {
  const at = { group: "224.0.0.251", port: 5353 };
  test("is a whole header on its port", () => {
    expect(mdns(flowOf([mdnsQuery], at))).toEqual({ kind: "mdns" });
    expect(mdns(flowOf([sampleOf(mdnsQuery.payload.subarray(0, 11))], at))).toBeUndefined();
    expect(mdns(flowOf([mdnsQuery]))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(mdns, flowOf([mdnsQuery], at));
  });
});

describe("SSDP", () => {
  test.each([
    ["NOTIFY", notify, "NOTIFY upnp:rootdevice"],
    ["M-SEARCH", search, "M-SEARCH ssdp:all"],
    ["an answer", answer, "answer upnp:rootdevice"],
    ["the beginning of it", sampleOf(notify.payload.subarray(0, 40), 250), "NOTIFY"],
    ["escape sequences", lines("NOTIFY * HTTP/1.1", "NT: a\x1b[2Jb"), "NOTIFY a [2Jb"],
  ])("%s", (_, sample, detail) => {
    const flow = flowOf([sample], { group: "239.255.255.250", port: 1900 });
    expect(ssdp(flow)).toEqual({ kind: "ssdp", detail });
  });

  test.each([
    ["another method", lines("GET * HTTP/1.1", "NT: x")],
    ["another path", lines("NOTIFY / HTTP/1.1", "NT: x")],
    ["another status", lines("HTTP/1.1 404 Not Found")],
    ["no end of the line", sampleOf(bytesOf("NOTIFY * HTTP/1.1"))],
  ])("%s: none", (_, sample) => {
    expect(ssdp(flowOf([sample], { port: 1900 }))).toBeUndefined();
  });

  test("a header line made of nothing but spaces takes no time", () => {
    const start = performance.now();
    const hostile = sampleOf(bytesOf(`NOTIFY * HTTP/1.1\r\n${"NT:".padEnd(65_000, " \r\nNT:")}`));
    for (let i = 0; i < 100; i += 1) ssdp(flowOf([hostile]));
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  test("damage is survived", () => {
    expectFlowSurvival(ssdp, flowOf([notify, search, answer], { port: 1900 }));
  });
});

describe("WS-Discovery", () => {
  const at = { group: "239.255.255.250", port: 3702 };
  test("names its message", () => {
    expect(wsDiscovery(flowOf([probe], at))).toEqual({ kind: "ws-discovery", detail: "Probe" });
    const cut = sampleOf(probe.payload.subarray(0, 260), probe.bytes);
    expect(wsDiscovery(flowOf([cut], at))).toEqual({ kind: "ws-discovery" });
  });

  test.each([
    ["another port", [probe], { port: 3703 }],
    ["no envelope", [sampleOf(bytesOf("<a>http://schemas.xmlsoap.org/ws/2005/04/discovery</a>"))], at],
    ["another namespace", [sampleOf(bytesOf('<Envelope xmlns="http://example.org/discovery"/>'))], at],
    ["no XML", [sampleOf(bytesOf(`x${Buffer.from(probe.payload).toString()}`))], at],
  ])("%s: none", (_, samples, facts) => {
    expect(wsDiscovery(flowOf(samples, facts))).toBeUndefined();
  });

  test("damage is survived", () => {
    expectFlowSurvival(wsDiscovery, flowOf([probe, probe], at));
  });
});
