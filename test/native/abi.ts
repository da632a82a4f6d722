// Writes src/native/abi.ts and src/native/measure/abi.ts: what the two C headers say, as TypeScript. `make abi` runs it;
// abi.test.ts checks that the files are what it would write now. Names come from the header's text, every number and
// type from the compiler. What it cannot translate faithfully it refuses.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const root = join(import.meta.dir, "../..");

/** Each header, and the file that is written from it. */
export const parts = [
  { header: "c/mcr.h", file: "src/native/abi.ts" },
  { header: "c/measure/measure.h", file: "src/native/measure/abi.ts" },
] as const;

interface Header {
  /** Of numbers: defined, or in an enum. */
  readonly constants: readonly string[];
  /** Name → fields in order, without the reserved ones. */
  readonly structs: ReadonlyMap<string, readonly { readonly name: string; readonly isArray: boolean }[]>;
  /** Name → what dlopen() wants to know. */
  readonly symbols: ReadonlyMap<string, { readonly args: readonly string[]; readonly returns: string }>;
}

/** An array has a count. */
type Field = readonly [offset: number, type: string, count?: number];

interface Struct {
  readonly size: number;
  readonly fields: Readonly<Record<string, Field>>;
}

interface Compiled {
  readonly constants: Readonly<Record<string, number>>;
  readonly structs: Readonly<Record<string, Struct>>;
}

if (import.meta.main) for (const { header, file } of parts) writeFileSync(join(root, file), generate(header));

/** The TypeScript of a header, formatted. */
export function generate(header: string): string {
  const text = readFileSync(resolve(root, header), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const { structs, constants, symbols } = readHeader(text);
  const compiled = compile(header, { structs, constants, symbols });
  const all = Object.entries(compiled.structs);
  const isCounters = ([name]: readonly [string, Struct]) => name.endsWith("_counters");
  const layouts = all.filter((entry) => !isCounters(entry)).map(([name, it]) => [name, layoutOf(name, it)]);
  const counters = all.filter(isCounters).map(([name, it]) => [name, countersOf(name, it)]);
  return format(`// Written by \`make abi\` from ${header}, as the compiler sees it. Change the header, not this file.
import { FFIType as T } from "bun:ffi";

${constant("constants", compiled.constants)}

/** Structs that are read and written whole: field → offset and type. */
${constant("layouts", Object.fromEntries(layouts))}

/** Structs that are read as 64-bit words while C writes them: their names in order, and what follows them. */
${constant("counters", Object.fromEntries(counters))}

/** Every function, for dlopen(). */
${constant("symbols", Object.fromEntries(symbols)).replace(/"(\w+)"(?=[,\]}])/g, "T.$1")}
`);
}

function constant(name: string, value: unknown): string {
  return `export const ${name} = ${JSON.stringify(value)} as const;`;
}

function layoutOf(struct: string, { size, fields }: Struct): unknown {
  const typed = Object.entries(fields).map(([name, [offset, type, count]]) => {
    if (type === "unknown" || (count !== undefined && (type !== "u8" || count !== 16)))
      throw new Error(`${struct}.${name} has a type that struct.ts does not know`);
    return [name, [offset, count === undefined ? type : "bytes16"]];
  });
  return { size, fields: Object.fromEntries(typed) };
}

function countersOf(struct: string, { size, fields }: Struct): unknown {
  const words: string[] = [];
  const arrays: Record<string, unknown> = {};
  for (const [name, [offset, type, count]] of Object.entries(fields)) {
    if (type !== "u64") throw new Error(`${struct}.${name} is no uint64_t`);
    if (count !== undefined) arrays[name] = { offset, count };
    else if (words.push(name) * 8 !== offset + 8) throw new Error(`${struct}.${name} is not the next word`);
  }
  return { size, words, ...arrays };
}

/** @param text without comments */
function readHeader(text: string): Header {
  const defined = [...text.matchAll(/^#define (MCR_\w+) (?!__)/gm)].map(([, name = ""]) => name);
  const enumerated = [...text.matchAll(/^enum \w+ \{([^}]*)\}/gm)].flatMap(
    ([, body = ""]) => body.match(/\bMCR_\w+/g) ?? [],
  );
  const structs = [...text.matchAll(/^struct (\w+) \{([^}]*)\};/gm)].map(([, name = "", body = ""]) => {
    const fields = body.split(";").filter((line) => line.trim() !== "");
    return [name, fields.map(readField).filter((field) => !field.name.startsWith("reserved"))] as const;
  });
  const prototypes = text.matchAll(/^MCR_EXPORT ([^(;]*?)(\w+)\s*\(([^)]*)\);/gm);
  const symbols = [...prototypes].map(([, result = "", name = "", parameters = ""]) => {
    const args = parameters === "void" ? [] : parameters.split(",").map(ffiType);
    return [name, { args, returns: ffiType(result) }] as const;
  });
  return { constants: [...defined, ...enumerated], structs: new Map(structs), symbols: new Map(symbols) };
}

function readField(declaration: string): { readonly name: string; readonly isArray: boolean } {
  const [, name, array] = /^\s*(?:\w+ )+\*?(\w+)(\[\w+\])?$/.exec(declaration) ?? [];
  if (name === undefined) throw new Error(`cannot read the field "${declaration.trim()}"`);
  return { name, isArray: array !== undefined };
}

/** A name of FFIType: `const struct mcr_relay *relay` → "ptr", `uint32_t worker` → "u32". */
function ffiType(declaration: string): string {
  if (/[*[]/.test(declaration)) return "ptr";
  const name = /\b(?:u?int\d+_t|void)\b/.exec(declaration)?.[0];
  const types: Readonly<Record<string, string>> = {
    void: "void",
    int32_t: "i32",
    uint32_t: "u32",
    int64_t: "i64_fast", // a Number, not a BigInt, below 2^53
  };
  const type = types[name ?? ""];
  if (type === undefined) throw new Error(`no FFI type for "${declaration}"`);
  return type;
}

/** Asks the compiler: a program prints every constant and struct as JSON. */
function compile(header: string, { constants, structs }: Header): Compiled {
  const folder = mkdtempSync(join(tmpdir(), "mcr-abi-"));
  try {
    const fieldsOf = (struct: string, fields: readonly { name: string; isArray: boolean }[]) =>
      fields.map(({ name, isArray }) => `${isArray ? "ARRAY" : "FIELD"}(${struct}, ${name});`);
    const prints = [...structs].map(
      ([name, fields]) => `OPEN(${name});\n${commas(fieldsOf(name, fields))}\nprintf("}}");`,
    );
    const program = join(folder, "abi");
    writeFileSync(
      `${program}.c`,
      `
#include <stddef.h>
#include <stdio.h>
#include "${header}"
#define TYPE(value) _Generic((value), uint8_t: "u8", uint16_t: "u16", uint32_t: "u32", int32_t: "i32", \\
	uint64_t: "u64", default: __builtin_classify_type(value) == 5 ? "u64" : "unknown")
#define OF(struct_, field) (((struct struct_ *)0)->field)
#define CONSTANT(name) printf("\\"" #name "\\":%lld", (long long)(name))
#define OPEN(name) printf("\\"" #name "\\":{\\"size\\":%zu,\\"fields\\":{", sizeof(struct name))
#define FIELD(struct_, field) printf("\\"" #field "\\":[%zu,\\"%s\\"]", offsetof(struct struct_, field), \\
	TYPE(OF(struct_, field)))
#define ARRAY(struct_, field) printf("\\"" #field "\\":[%zu,\\"%s\\",%zu]", offsetof(struct struct_, field), \\
	TYPE(OF(struct_, field)[0]), sizeof(OF(struct_, field)) / sizeof(OF(struct_, field)[0]))
int main(void)
{
	printf("{\\"constants\\":{");
	${commas(constants.map((name) => `CONSTANT(${name});`))}
	printf("},\\"structs\\":{");
	${commas(prints)}
	printf("}}");
}
`,
    );
    run(["cc", "-std=gnu11", "-Wall", "-Werror", "-I", root, "-o", program, `${program}.c`]);
    return JSON.parse(run([program]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function commas(statements: readonly string[]): string {
  return statements.join('\nprintf(",");\n');
}

/** As `make format` would. */
function format(typescript: string): string {
  const biome = join(root, "node_modules/@biomejs/biome/bin/biome");
  return run([process.execPath, biome, "format", "--stdin-file-path=abi.ts"], Buffer.from(typescript));
}

/** What a command prints. */
export function run(command: string[], stdin?: Buffer): string {
  const env = { ...process.env, LC_ALL: "C" };
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: root, env, stdin: stdin ?? "ignore" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: exit code ${exitCode}\n${stderr}`);
  return stdout.toString();
}
