// The shim inside the executable: found, mapped once, shared by all threads.
// A memfd, so that read-only and noexec file systems do not matter. Every memfd is an inode of its own and so a
// second copy of the library: the main thread extracts once and hands the path to its workers.
import { dlopen, FFIType as T } from "bun:ffi";
import { readFileSync, writeSync } from "node:fs";
import embedded from "../../dist/libmcr.so" with { type: "file" };
import { symbols } from "./symbols.ts";

const abiVersion = 3;
const closeOnExec = 1; // MFD_CLOEXEC, memfd_create(2)

function createMemfd(): number | undefined {
  const musl = `libc.musl-${process.arch === "x64" ? "x86_64" : "aarch64"}.so.1`;
  for (const libc of ["libc.so.6", musl]) {
    try {
      const { memfd_create } = dlopen(libc, {
        memfd_create: { args: [T.cstring, T.u32], returns: T.i32 },
      }).symbols;
      const fd = memfd_create(Buffer.from("libmcr.so\0"), closeOnExec);
      return fd < 0 ? undefined : fd;
    } catch {
      // Not this libc; the other one, or Bun's own copy below.
    }
  }
  return undefined;
}

/** Main thread only, once. The path is good for every thread of this process; the descriptor stays open. */
export function extractLibrary(): string {
  const fd = createMemfd();
  if (fd === undefined) return embedded;
  const bytes = readFileSync(embedded);
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
  return `/proc/self/fd/${fd}`;
}

export function openLibrary(path: string) {
  const library = dlopen(path, symbols).symbols;
  const found = library.mcr_abi();
  if (found !== abiVersion) throw new Error(`libmcr has ABI ${found}, this program wants ${abiVersion}`);
  return library;
}

export type Library = ReturnType<typeof openLibrary>;
