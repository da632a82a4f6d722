// The ABI, three times told and compared, for the relay's shim and for the instruments: the header as the compiler sees
// it, what the shared object exports, and the tables in src/native/, which abi.ts writes from the header. A field,
// function or constant that only one of them knows fails here.

import { dlopen } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as shim from "../../src/native/abi.ts";
import * as measure from "../../src/native/measure/abi.ts";
import { exclusiveMethods } from "../../src/native/shim.ts";
import { kinds } from "../../src/stats/instruments.ts";
import { generate, parts, root, run } from "./abi.ts";

const read = (path: string) => readFileSync(join(root, path), "utf8");
const [relayPart, measurePart] = parts;

describe.each([
  { ...relayPart, table: shim, object: "dist/libmcr.so" },
  { ...measurePart, table: measure, object: "dist/libmcr-measure.so" },
])("$header", ({ header, file, table, object }) => {
  test("is what its TypeScript was written from", () => {
    const isCurrent = read(file) === generate(header);
    expect(isCurrent ? "" : `${header} has changed, or ${file} was edited: run make abi`).toBe("");
  });

  test("declares exactly the functions that its object exports", () => {
    expect(symbolsOf(object, "--defined-only")).toEqual(Object.keys(table.symbols).sort());
  });

  test("has an object that needs nothing of the other one", () => {
    expect(symbolsOf(object, "--undefined-only").filter((name) => name.startsWith("mcr_"))).toEqual([]);
  });

  test("asserts the size of every struct, and TypeScript has them all", () => {
    const asserted = [...read(header).matchAll(/^_Static_assert\(sizeof\(struct (\w+)\)/gm)];
    const known = Object.keys({ ...table.layouts, ...table.counters });
    expect(asserted.map(([, name = ""]) => name).sort()).toEqual(known.sort());
  });
});

describe("the ABI version that library.ts asks for", () => {
  test("is that of the shim", () => {
    const { mcr_abi } = dlopen(join(root, "dist/libmcr.so"), shim.symbols).symbols;
    expect<number>(mcr_abi()).toBe(shim.constants.MCR_ABI);
  });

  test("is that of the instruments", () => {
    const { mcr_measure_abi } = dlopen(join(root, "dist/libmcr-measure.so"), measure.symbols).symbols;
    expect<number>(mcr_measure_abi()).toBe(measure.constants.MCR_MEASURE_ABI);
  });
});

/** These lists are typed by hand: C knows a name by its position. */
describe("in the order of their enum are", () => {
  test.each([
    { list: "exclusiveMethods", names: exclusiveMethods, prefix: "MCR_EXCLUSIVE_", table: shim },
    { list: "kinds of streams", names: kinds, prefix: "MCR_KIND_", table: measure },
  ])("$list", ({ names, prefix, table }) => {
    const numbers = new Map<string, number>(Object.entries(table.constants));
    const found = names.map((name) => numbers.get(`${prefix}${name.toUpperCase()}`));
    expect(found).toEqual([...names.keys()]);
  });
});

describe("the generator", () => {
  test("translates what C may hold", () => {
    const typescript = generateFrom(`
#define MCR_A 4
#define MCR_B (MCR_A * 2) /* a comment; with { signs } */
#define MCR_EXPORT __attribute__((visibility("default")))
enum mcr_kind { MCR_FIRST = 3, MCR_SECOND };
struct mcr_spec {
	const struct mcr_spec *next;
	uint8_t address[16];
	int32_t fd;
	uint8_t reserved[4];
};
struct mcr_a_counters {
	uint64_t packets;
	uint64_t reserved;
	uint64_t buckets[MCR_B];
};
MCR_EXPORT int64_t mcr_call(const uint8_t group[16],
			    uint32_t count);
`);
    for (const line of [
      "export const constants = { MCR_A: 4, MCR_B: 8, MCR_FIRST: 3, MCR_SECOND: 4 } as const;",
      'mcr_spec: { size: 32, fields: { next: [0, "u64"], address: [8, "bytes16"], fd: [24, "i32"] } },',
      'mcr_a_counters: { size: 80, words: ["packets"], buckets: { offset: 16, count: 8 } },',
      "export const symbols = { mcr_call: { args: [T.ptr, T.u32], returns: T.i64_fast } } as const;",
    ])
      expect(typescript).toContain(line);
  });

  test.each([
    [
      "two fields in one line",
      "struct mcr_a {\n\tuint32_t a, b;\n};",
      'cannot read the field "uint32_t a, b"',
    ],
    ["an array that is no address", "struct mcr_a {\n\tuint8_t a[8];\n};", "mcr_a.a has a type"],
    ["a floating-point field", "struct mcr_a {\n\tdouble a;\n};", "mcr_a.a has a type"],
    ["a counter of 32 bits", "struct mcr_a_counters {\n\tuint32_t a;\n};", "mcr_a_counters.a is no uint64_t"],
    [
      "counters with a gap",
      "struct mcr_a_counters {\n\tuint64_t reserved;\n\tuint64_t a;\n};",
      "mcr_a_counters.a is not the next word",
    ],
    ["a parameter of 16 bits", "MCR_EXPORT void mcr_a(uint16_t a);", 'no FFI type for "uint16_t a"'],
  ])("refuses %s", (_, header, message) => {
    expect(() => generateFrom(header)).toThrow(message);
  });
});

function generateFrom(header: string): string {
  const folder = mkdtempSync(join(tmpdir(), "mcr-abi-"));
  try {
    const path = join(folder, "header.h");
    writeFileSync(path, `#include <stdint.h>\n${header}\n`);
    return generate(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function symbolsOf(object: string, which: "--defined-only" | "--undefined-only"): readonly string[] {
  const nm = run(["nm", "-D", which, join(root, object)]);
  return [...nm.matchAll(/^[\w ]* \w ([^@\s]+).*$/gm)].map(([, name = ""]) => name).sort();
}
