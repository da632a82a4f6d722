// Structs as bytes: every field where C reads it, nothing beside it.

import { describe, expect, test } from "bun:test";
import { encode } from "../../src/native/layouts.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("encode", () => {
  test("writes integers of every width in little-endian order", () => {
    const options = { ifindex: 3, source: 0x0100_000a, source_port: 5001, ttl: 32, dscp: 46 };
    expect(hex(encode("mcr_egress_options", [options]))).toBe(
      ["03000000", "0a000001", "8913", "20", "2e"].join(""),
    );
  });

  test("writes the largest values, and -1 for no descriptor", () => {
    const ranges = [{ first: 0xe000_0000, last: 0xffff_ffff }];
    expect(hex(encode("mcr_address_range", ranges))).toBe("000000e0ffffffff");
    const egress = {
      ...{ link: 0x1234_5678_9abc, fd: -1, slot: 262_143, segment_bytes_max: 1472 },
      ...{ source: 0x0100_000a, source_port: 5001, ttl: 8, dscp: 46, keep: 16, plain: 1 },
    };
    expect(hex(encode("mcr_egress_spec", [egress]))).toBe(
      [
        ...["bc9a785634120000", "ffffffff", "ffff0300", "c0050000"],
        ...["0a000001", "8913", "08", "2e", "1000", "0100"],
      ].join(""),
    );
  });

  test("writes structs one after the other, each as long as C's", () => {
    const ranges = [
      { first: 1, last: 2 },
      { first: 3, last: 4 },
    ];
    expect(hex(encode("mcr_address_range", ranges))).toBe("01000000020000000300000004000000");
  });

  test("writes addresses as they are, and zero in between", () => {
    const address = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 1, 1, 1]);
    const action = encode("mcr_action_spec", [{ address, port: 6001, egress: 7 }]);
    expect(hex(action)).toBe(["00000000000000000000ffffef010101", "7117", "0000", "07000000"].join(""));
  });

  test("writes pointers up to 2^53", () => {
    const bytes = encode("mcr_ring_spec", [{ ring: 0x7fff_1234_5678, worker: 1, interface: 2 }]);
    expect(hex(bytes)).toBe(["78563412ff7f0000", "01000000", "02000000"].join(""));
  });

  test("gives one byte for an empty list, so that there is something to point at", () => {
    expect(encode("mcr_flow_spec", [])).toEqual(new Uint8Array(1));
  });
});
