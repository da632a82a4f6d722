// The shim inside the executable: extracted and mapped once, shared by all threads. The main thread extracts and hands
// the path to its workers.
import { dlopen } from "bun:ffi";
import embedded from "../../dist/libmcr.so" with { type: "file" };
import { constants, symbols } from "./abi.ts";
import { extract } from "./memfd.ts";

/** Main thread only, once. */
export function extractLibrary(): string {
  return extract(embedded, "libmcr.so");
}

export function openLibrary(path: string) {
  const library = dlopen(path, symbols).symbols;
  const found = library.mcr_abi();
  const wanted = constants.MCR_ABI;
  if (found !== wanted) throw new Error(`libmcr has ABI ${found}, this program wants ${wanted}`);
  return library;
}

export type Library = ReturnType<typeof openLibrary>;
