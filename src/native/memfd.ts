// A shared object inside the executable becomes a file that dlopen(3) can map: a memfd, so that read-only and noexec file
// systems do not matter. Every memfd is an inode of its own and so a second copy of the object.
import { dlopen, FFIType as T } from "bun:ffi";
import { readFileSync, writeSync } from "node:fs";

const closeOnExec = 1; // MFD_CLOEXEC, memfd_create(2)

/** The path of a copy, good for every thread of this process; the descriptor stays open. */
export function extract(embedded: string, name: string): string {
  const fd = createMemfd(name);
  if (fd === undefined) return embedded;
  const bytes = readFileSync(embedded);
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
  return `/proc/self/fd/${fd}`;
}

function createMemfd(name: string): number | undefined {
  const musl = `libc.musl-${process.arch === "x64" ? "x86_64" : "aarch64"}.so.1`;
  for (const libc of ["libc.so.6", musl]) {
    try {
      const { memfd_create } = dlopen(libc, {
        memfd_create: { args: [T.cstring, T.u32], returns: T.i32 },
      }).symbols;
      const fd = memfd_create(Buffer.from(`${name}\0`), closeOnExec);
      return fd < 0 ? undefined : fd;
    } catch {
      // Not this libc; the other one, or Bun's own copy of the object.
    }
  }
  return undefined;
}
