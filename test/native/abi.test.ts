// The ABI, three times told and compared: c/mcr.h as the compiler sees it, what the shared object exports, and the
// tables in src/native/. A field, function or constant that only one of them knows fails here.

import { FFIType as T } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  counterArea,
  instrumentCounters,
  layouts,
  queriesMax,
  rawPacketBytes,
  scanFlowsMax,
  scanInterfacesMax,
} from "../../src/native/layouts.ts";
import { symbols } from "../../src/native/symbols.ts";

const root = join(import.meta.dir, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const header = read("c/mcr.h").replace(/\/\*[\s\S]*?\*\//g, "");

/** Declared with MCR_EXPORT: name → result and parameters, as C writes them. */
const prototypes = new Map(
  [...header.matchAll(/^MCR_EXPORT ([^(;]*?)(\w+)\s*\(([^)]*)\);/gm)].map(
    ([, result = "", name = "", parameters = ""]) => [name, { result, parameters }],
  ),
);
/** Defined structs: name → fields in order, without the reserved ones. */
const structs = new Map(
  [...header.matchAll(/^struct (\w+) \{([^}]*)\};/gm)].map(([, name = "", body = ""]) => [
    name,
    [...body.matchAll(/(\w+)(?:\[\w+\])?;/g)]
      .map(([, field = ""]) => field)
      .filter((field) => !field.startsWith("reserved")),
  ]),
);
const isCounters = (name: string) => name.endsWith("_counters") || name === "mcr_latency";

describe("the functions of c/mcr.h", () => {
  test("are exactly what dist/libmcr.so exports", () => {
    const nm = run(["nm", "-D", "--defined-only", join(root, "dist/libmcr.so")]);
    const exported = [...nm.matchAll(/^\w+ \w (\S+)$/gm)].map(([, name = ""]) => name);
    expect(exported.sort()).toEqual([...prototypes.keys()].sort());
  });

  test("are exactly what the binding table calls", () => {
    expect(Object.keys(symbols).sort()).toEqual([...prototypes.keys()].sort());
  });

  test("have the argument and result types that the binding table says", () => {
    const bindings = [...prototypes].map(([name, { result, parameters }]) => [
      name,
      {
        args: parameters === "void" ? [] : parameters.split(",").map(ffiType),
        returns: ffiType(result),
      },
    ]);
    expect<unknown>(Object.fromEntries(bindings)).toEqual(symbols);
  });
});

describe("the structs of c/mcr.h", () => {
  const compiled = compileLayouts();

  test("have the sizes, fields, offsets and types of layouts.ts", () => {
    const plain = Object.entries(compiled.structs).filter(([name]) => !isCounters(name));
    expect<unknown>(Object.fromEntries(plain)).toEqual(layouts);
  });

  test.each(["worker", "interface", "rule", "egress"] as const)(
    "mcr_%s_counters has the words of counterArea, in order",
    (kind) => {
      const words = counterArea[kind].map((name, index) => [name, [index * 8, "u64"]]);
      expect(compiled.structs[`mcr_${kind}_counters`]).toEqual({
        size: counterArea.bytes[kind],
        fields: Object.fromEntries(words),
      });
    },
  );

  test.each(["generator", "stream"] as const)(
    "mcr_%s_counters has the words of instrumentCounters, in order",
    (kind) => {
      const words = instrumentCounters[kind].map((name, index) => [name, [index * 8, "u64"]]);
      expect(compiled.structs[`mcr_${kind}_counters`]).toEqual({
        size: instrumentCounters.bytes[kind],
        fields: Object.fromEntries(words),
      });
    },
  );

  test("mcr_latency is three words, and then its buckets", () => {
    const { latency, latencyBuckets, bytes } = instrumentCounters;
    const words = latency.map((name, index) => [name, [index * 8, "u64"]]);
    expect(compiled.structs["mcr_latency"]).toEqual({
      size: bytes.latency + latencyBuckets * 8,
      fields: { ...Object.fromEntries(words), buckets: [bytes.latency, "unknown"] },
    });
  });

  test("mcr_added_latency_counters is three words, and then its buckets", () => {
    const { addedLatency, addedLatencyBuckets, bytes } = counterArea;
    const words = addedLatency.map((name, index) => [name, [index * 8, "u64"]]);
    expect(compiled.structs["mcr_added_latency_counters"]).toEqual({
      size: bytes.addedLatency,
      fields: { ...Object.fromEntries(words), buckets: [addedLatency.length * 8, "unknown"] },
    });
    expect((addedLatency.length + addedLatencyBuckets) * 8).toBe(bytes.addedLatency);
  });

  test("of counters are these eight", () => {
    expect([...structs.keys()].filter(isCounters)).toHaveLength(8);
  });

  test("are counted by the same limits", () => {
    const { interfacesMax, rulesMax, egressesMax } = counterArea;
    const scan = [scanInterfacesMax, scanFlowsMax, rawPacketBytes, queriesMax];
    expect(compiled.limits).toEqual([interfacesMax, rulesMax, egressesMax, ...scan]);
  });

  test("belong to the ABI version that library.ts asks for", () => {
    const asked = /const abiVersion = (\d+);/.exec(read("src/native/library.ts"))?.[1];
    expect(asked).toBe(String(compiled.abi));
  });
});

/** `const struct mcr_relay *relay` → T.ptr, `uint32_t worker` → T.u32. */
function ffiType(declaration: string): T {
  if (/[*[]/.test(declaration)) return T.ptr;
  const name = /\b(?:u?int\d+_t|void)\b/.exec(declaration)?.[0];
  const types: Record<string, T> = {
    void: T.void,
    int32_t: T.i32,
    uint32_t: T.u32,
    int64_t: T.i64_fast, // a Number, not a BigInt, below 2^53
  };
  const type = types[name ?? ""];
  if (type === undefined) throw new Error(`no FFI type for "${declaration}"`);
  return type;
}

interface Compiled {
  readonly abi: number;
  readonly limits: readonly number[];
  readonly structs: Readonly<Record<string, { size: number; fields: Record<string, [number, string]> }>>;
}

/** Asks the compiler: a generated program prints every struct as JSON. */
function compileLayouts(): Compiled {
  const folder = mkdtempSync(join(tmpdir(), "mcr-abi-"));
  try {
    writeFileSync(join(folder, "layouts.c"), layoutProgram());
    const program = join(folder, "layouts");
    run(["cc", "-std=gnu11", "-Wall", "-Werror", "-I", join(root, "c"), "-o", program, `${program}.c`]);
    return JSON.parse(run([program]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function layoutProgram(): string {
  const prints = [...structs].map(([name, fields]) => {
    const lines = fields.map((field) => `FIELD(${name}, ${field});`);
    return `OPEN(${name});\n${lines.join('\nprintf(",");\n')}\nprintf("}}");`;
  });
  return `
#include <stddef.h>
#include <stdio.h>
#include "mcr.h"
#define TYPE(value) _Generic((value), uint8_t: "u8", uint16_t: "u16", uint32_t: "u32", int32_t: "i32", \\
	uint64_t: "u64", uint8_t *: "bytes16", default: sizeof(value) == 8 ? "u64" : "unknown")
#define OPEN(name) printf("\\"" #name "\\":{\\"size\\":%zu,\\"fields\\":{", sizeof(struct name))
#define FIELD(name, field) printf("\\"" #field "\\":[%zu,\\"%s\\"]", offsetof(struct name, field), \\
	TYPE(((struct name *)0)->field))
int main(void)
{
	printf("{\\"abi\\":%d,\\"limits\\":[%d,%d,%d,%d,%d,%d,%d],\\"structs\\":{", MCR_ABI, MCR_INTERFACES_MAX,
	       MCR_RULES_MAX, MCR_EGRESSES_MAX, MCR_SCAN_INTERFACES_MAX, MCR_SCAN_FLOWS_MAX,
	       MCR_RAW_PACKET_BYTES, MCR_QUERIES_MAX);
${prints.join('\nprintf(",");\n')}
	printf("}}");
}
`;
}

function run(command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { env: { ...process.env, LC_ALL: "C" } });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: exit code ${exitCode}\n${stderr}`);
  return stdout.toString();
}
