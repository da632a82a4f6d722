// Addresses and ranges: what is one, its one canonical form, its bytes, and what is refused.

import { describe, expect, test } from "bun:test";
import {
  addressBytes,
  addressFamily,
  formatAddressRange,
  isLinkLocalMulticast,
  isMulticast,
  offsetAddress,
  parseAddress,
  parseAddressRange,
  prefixStart,
  touchesLinkLocal,
} from "../../src/net/address.ts";

describe("parseAddress", () => {
  test("takes IPv4 in dotted decimal as it is", () => {
    for (const text of ["0.0.0.0", "10.0.0.1", "239.255.255.255", "255.255.255.255"])
      expect(parseAddress(text)).toBe(text);
  });

  test("gives IPv6 its one form (RFC 5952)", () => {
    const cases: readonly (readonly [string, string])[] = [
      ["::", "::"],
      ["0:0:0:0:0:0:0:0", "::"],
      ["::1", "::1"],
      ["1::", "1::"],
      ["2001:DB8::1", "2001:db8::1"],
      ["2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"],
      // One zero word is written out; of two runs the longer, of equals the first.
      ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
      ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
      ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
      ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
      ["10:0:0:0:100:0:0:1000", "10::100:0:0:1000"],
      ["ff02:0:0:0:0:0:0:10", "ff02::10"],
      ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
      ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
      ["::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
    ];
    for (const [text, canonical] of cases) expect([text, parseAddress(text)]).toEqual([text, canonical]);
  });

  test("takes an IPv4-mapped address for the IPv4 address", () => {
    for (const text of ["::ffff:239.1.1.1", "::FFFF:EF01:101", "0:0:0:0:0:ffff:239.1.1.1"])
      expect(parseAddress(text)).toBe("239.1.1.1");
    expect(parseAddress("::239.1.1.1")).toBe("::ef01:101");
  });

  test("refuses everything else", () => {
    const bad = [
      "",
      " ",
      "1.2.3",
      "1.2.3.4.5",
      "1.2.3.256",
      "010.0.0.1",
      "1.2.3.-4",
      "0x1.2.3.4",
      "1.2.3.4 ",
      " 1.2.3.4",
      "1.2.3.4\n",
      "1,2,3,4",
      "1e1.2.3.4",
      "localhost",
      ":",
      ":::",
      "::1::",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:8::",
      "1:2:3:4::5:6:7:8",
      ":1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:",
      "12345::",
      "g::",
      "fe80::1%eth0",
      "[::1]",
      "::1.2.3",
      "1.2.3.4::",
      "::1.2.3.4:5",
      "::ffff:1.2.3.256",
      "١.٢.٣.٤",
    ];
    for (const text of bad) expect([text, parseAddress(text)]).toEqual([text, undefined]);
  });

  test("leaves a canonical address as it is, for any address", () => {
    let state = 1;
    const next = () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return state >>> 16;
    };
    for (let round = 0; round < 2_000; round += 1) {
      const words = Array.from({ length: 8 }, () => (next() % 3 === 0 ? next() & 0xffff : 0));
      const long = words.map((word) => word.toString(16)).join(":");
      const canonical = parseAddress(long) ?? "";
      expect(parseAddress(canonical)).toBe(canonical);
      const [...bytes] = addressBytes(canonical);
      expect(bytes).toEqual(words.flatMap((word) => [word >> 8, word & 255]));
    }
  });
});

describe("addressBytes", () => {
  test("are 16 in network order, IPv4 as mapped", () => {
    expect(addressBytes("239.1.2.3").toHex()).toBe("00000000000000000000ffffef010203");
    expect(addressBytes("ff3e::8000:1").toHex()).toBe("ff3e0000000000000000000080000001");
    expect(addressBytes("0.0.0.0").toHex()).toBe("00000000000000000000ffff00000000");
    expect(addressBytes("::").toHex()).toBe("0".repeat(32));
  });

  test("of text that is no address are a broken invariant", () => {
    expect(() => addressBytes("eth0")).toThrow("broken invariant");
  });
});

describe("what an address is", () => {
  test("family", () => {
    expect([addressFamily("10.0.0.1"), addressFamily("::1")]).toEqual([4, 6]);
  });

  test("multicast, by its first bits", () => {
    const multicast = ["224.0.0.0", "239.255.255.255", "ff00::", "ff3e::1", "ffff::"];
    const unicast = ["223.255.255.255", "240.0.0.0", "0.0.0.0", "::", "::ff02", "ff::1", "fe80::1", "fff::"];
    expect(multicast.filter((address) => !isMulticast(address))).toEqual([]);
    expect(unicast.filter((address) => isMulticast(address))).toEqual([]);
  });

  test("link-local multicast: 224.0.0.0/24 and ff02::/16", () => {
    const local = ["224.0.0.0", "224.0.0.251", "ff02::1", "ff02:1::"];
    const wide = ["224.0.1.0", "239.0.0.1", "ff03::1", "ff01::1", "224.0.10.0"];
    expect(local.filter((address) => !isLinkLocalMulticast(address))).toEqual([]);
    expect(wide.filter((address) => isLinkLocalMulticast(address))).toEqual([]);
  });
});

describe("ranges", () => {
  test("are one address, two with a dash, or a prefix", () => {
    const cases: readonly (readonly [string, string, string, number])[] = [
      ["239.1.1.1", "239.1.1.1", "239.1.1.1", 1],
      ["239.1.1.1-239.1.1.50", "239.1.1.1", "239.1.1.50", 50],
      [" 239.1.1.1 - 239.1.1.50 ", "239.1.1.1", "239.1.1.50", 50],
      ["239.1.1.250-239.1.2.5", "239.1.1.250", "239.1.2.5", 12],
      ["239.1.1.1-239.1.1.1", "239.1.1.1", "239.1.1.1", 1],
      ["239.1.1.0/24", "239.1.1.0", "239.1.1.255", 256],
      ["239.1.1.1/32", "239.1.1.1", "239.1.1.1", 1],
      ["239.0.0.0/8", "239.0.0.0", "239.255.255.255", 2 ** 24],
      ["0.0.0.0/0", "0.0.0.0", "255.255.255.255", 2 ** 32],
      ["ff3e::/124", "ff3e::", "ff3e::f", 16],
      ["ff3e::1-ff3e::1:0", "ff3e::1", "ff3e::1:0", 65_536],
      ["ff00::/8", "ff00::", `ffff${":ffff".repeat(7)}`, 2 ** 120],
    ];
    for (const [text, first, last, size] of cases)
      expect([text, parseAddressRange(text)]).toEqual([text, { first, last, size }]);
  });

  test("have one text: the address alone, or both ends", () => {
    const canonical = (text: string) => {
      const range = parseAddressRange(text);
      return range && formatAddressRange(range);
    };
    expect(canonical("239.1.1.0/24")).toBe("239.1.1.0-239.1.1.255");
    expect(canonical("239.1.1.1/32")).toBe("239.1.1.1");
    expect(canonical("239.1.1.1-239.1.1.1")).toBe("239.1.1.1");
    expect(canonical("FF3E:0::1-FF3E::2")).toBe("ff3e::1-ff3e::2");
  });

  test("are refused when malformed, mixed, backwards, or with bits behind the prefix", () => {
    const bad = [
      "",
      "-",
      "239.1.1.1-",
      "-239.1.1.1",
      "239.1.1.1-50",
      "239.1.1.1-239.1.1.2-239.1.1.3",
      "239.1.1.2-239.1.1.1",
      "239.1.1.1-ff3e::1",
      "239.1.1.1/24",
      "239.1.1.0/33",
      "239.1.1.0/",
      "239.1.1.0/024",
      "239.1.1.0/+8",
      "239.1.1.0/24/24",
      "239.1.1.0/255.255.255.0",
      "/24",
      "ff3e::/129",
      "ff3e::1/64",
      "239.1.1.0/24-239.1.2.0/24",
    ];
    for (const text of bad) expect([text, parseAddressRange(text)]).toEqual([text, undefined]);
  });

  test("prefixStart tells which prefix was meant", () => {
    expect(prefixStart("239.1.1.7/24")).toBe("239.1.1.0");
    expect(prefixStart("239.1.1.0/24")).toBe("239.1.1.0");
    expect(prefixStart("255.255.255.255/0")).toBe("0.0.0.0");
    expect(prefixStart("2001:db8::ffff/64")).toBe("2001:db8::");
    for (const text of ["239.1.1.1", "239.1.1.1/33", "x/24", "239.1.1.1/"])
      expect(prefixStart(text)).toBeUndefined();
  });

  test("touch the link-local block when any part of them lies in it", () => {
    const touches = (text: string) => {
      const range = parseAddressRange(text);
      return range && touchesLinkLocal(range);
    };
    const local = [
      "224.0.0.5",
      "224.0.0.255-224.0.1.5",
      "224.0.0.0/8",
      "ff00::/8",
      "ff01::-ff02::",
      "ff02::/16",
    ];
    const wide = [
      "224.0.1.0/24",
      "225.0.0.0/8",
      "223.0.0.0-223.1.1.1",
      "ff03::/16",
      "ff01::1",
      "239.0.0.0/8",
    ];
    expect(local.filter((text) => !touches(text))).toEqual([]);
    expect(wide.filter((text) => touches(text) !== false)).toEqual([]);
    // Ends on both sides of the block.
    expect(touches("223.255.255.255-224.0.1.0")).toBe(true);
  });
});

describe("offsetAddress", () => {
  test("counts across bytes and words, both ways", () => {
    expect(offsetAddress("239.1.1.250", 10)).toBe("239.1.2.4");
    expect(offsetAddress("239.2.0.0", -1)).toBe("239.1.255.255");
    expect(offsetAddress("ff3e::ffff", 1)).toBe("ff3e::1:0");
    expect(offsetAddress("ff3e::", 1n << 64n)).toBe("ff3e:0:0:1::");
    expect(offsetAddress("10.0.0.1", 0)).toBe("10.0.0.1");
  });

  test("beyond the family is a broken invariant", () => {
    expect(() => offsetAddress("255.255.255.255", 1)).toThrow("broken invariant");
    expect(() => offsetAddress("0.0.0.0", -1)).toThrow("broken invariant");
    expect(() => offsetAddress("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1)).toThrow("broken invariant");
  });
});
