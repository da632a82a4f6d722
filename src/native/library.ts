// The shim inside the executable: extracted and mapped once, shared by all threads. The main thread extracts and hands
// the path to its workers.
import { dlopen } from "bun:ffi";
import embedded from "../../dist/libmcr.so" with { type: "file" };
import { extract } from "./memfd.ts";
import { symbols } from "./symbols.ts";

const abiVersion = 3;

/** Main thread only, once. */
export function extractLibrary(): string {
  return extract(embedded, "libmcr.so");
}

export function openLibrary(path: string) {
  const library = dlopen(path, symbols).symbols;
  const found = library.mcr_abi();
  if (found !== abiVersion) throw new Error(`libmcr has ABI ${found}, this program wants ${abiVersion}`);
  return library;
}

export type Library = ReturnType<typeof openLibrary>;
