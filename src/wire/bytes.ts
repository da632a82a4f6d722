// Numbers and text out of captured bytes, for the decoders beside it. A byte that was not captured reads as zero and
// nothing is ever read beyond the array: a decoder checks lengths before it trusts what it read.

/** Big-endian, as are `get32` and `get64`. */
export function get16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

export function get32(bytes: Uint8Array, at: number): number {
  return get16(bytes, at) * 0x10000 + get16(bytes, at + 2);
}

/** Rounded above 2^53: good for asking whether it is plausible. */
export function get64(bytes: Uint8Array, at: number): number {
  return get32(bytes, at) * 2 ** 32 + get32(bytes, at + 4);
}

export function little16(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
}

export function little32(bytes: Uint8Array, at: number): number {
  return little16(bytes, at) + little16(bytes, at + 2) * 0x10000;
}

/** Rounded, as `get64`. */
export function little64(bytes: Uint8Array, at: number): number {
  return little32(bytes, at) + little32(bytes, at + 4) * 2 ** 32;
}

/** `text` holds a character for each byte, so that a magic of any bytes can be written. */
export function holds(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** A character for each byte. */
export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
