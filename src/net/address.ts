// IP addresses and ranges of them, as plain strings in canonical form: dotted decimal, or RFC 5952 for IPv6.
// Called by config/ for what operators type and by everything that needs an address as bytes. Two addresses are
// equal if and only if their strings are; an IPv4-mapped IPv6 address is the IPv4 address, as it is in `addressBytes`.
import { assert } from "../error.ts";

/** Canonical text; made only by `parseAddress` and `offsetAddress`. */
export type Address = string;

/** Consecutive addresses of one family. `size` is exact up to 2^53, which no rule comes near. */
export interface AddressRange {
  readonly first: Address;
  readonly last: Address;
  readonly size: number;
}

const bitsMax = { 4: 32, 6: 128 } as const;
const mappedPrefix = 0xffffn << 32n;

/** The address in canonical form, or undefined when `text` is not one. Zones ("fe80::1%eth0") are not addresses. */
export function parseAddress(text: string): Address | undefined {
  if (!text.includes(":")) return readIpv4(text) === undefined ? undefined : text;
  const value = readIpv6(text);
  return value === undefined ? undefined : formatIpv6(value);
}

/** 16 bytes in network order; IPv4 as ::ffff:a.b.c.d. */
export function addressBytes(address: Address): Uint8Array<ArrayBuffer> {
  const value = addressNumber(address);
  const mapped = typeof value === "number" ? mappedPrefix | BigInt(value) : value;
  return Uint8Array.fromHex(mapped.toString(16).padStart(32, "0"));
}

/** IPv4 in network order, as it is read on a little-endian machine. */
export function dotted(address: number): Address {
  return [0, 8, 16, 24].map((shift) => (address >>> shift) & 0xff).join(".");
}

/** Back from `addressBytes`. */
export function addressOf(bytes: Uint8Array): Address {
  return formatIpv6(BigInt(`0x${bytes.toHex()}`));
}

export function addressFamily(address: Address): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

/** As the shim wants it where every source will do. */
export const anySource = new Uint8Array(16);

/** 224.0.0.0/4 (RFC 5771) and ff00::/8 (RFC 4291). */
export function isMulticast(address: Address): boolean {
  if (addressFamily(address) === 6) return address.startsWith("ff") && address.indexOf(":") === 4;
  const first = Number(address.slice(0, address.indexOf(".")));
  return first >= 224 && first <= 239;
}

/** 224.0.0.0/24 and ff02::/16: never forwarded by routers (RFC 5771 §4, RFC 4291 §2.7). */
export function isLinkLocalMulticast(address: Address): boolean {
  return address.startsWith("224.0.0.") || address.startsWith("ff02:");
}

/** True when any address of the range is link-local multicast. */
export function touchesLinkLocal({ first, last }: AddressRange): boolean {
  if (isLinkLocalMulticast(first) || isLinkLocalMulticast(last)) return true;
  const block = addressFamily(first) === 4 ? "224.0.0.0" : "ff02::";
  return distance(first, block) > 0 && distance(block, last) > 0;
}

/** The address `n` after this one; the caller stays inside the family. */
export function offsetAddress(address: Address, n: bigint | number): Address {
  const start = addressNumber(address);
  const value = typeof start === "number" ? start + Number(n) : start + BigInt(n);
  const family = addressFamily(address);
  assert(value >= 0 && value < 2 ** bitsMax[family], `${address} offset by ${n} is an address`);
  return typeof value === "number" ? formatIpv4(value) : formatIpv6(value);
}

/** "A", "A-B" or "A/length". Undefined when malformed, mixed, backwards, or a prefix with host bits set. */
export function parseAddressRange(text: string): AddressRange | undefined {
  if (text.includes("/")) return parsePrefix(text);
  const [firstText = "", lastText, ...more] = text.split("-");
  const first = parseAddress(firstText.trim());
  const last = lastText === undefined ? first : parseAddress(lastText.trim());
  if (first === undefined || last === undefined || more.length > 0) return undefined;
  if (addressFamily(first) !== addressFamily(last)) return undefined;
  const size = distance(first, last) + 1;
  return size < 1 ? undefined : { first, last, size };
}

/** The first address of the block `text` ("239.1.1.7/24" gives 239.1.1.0), or undefined when it is no prefix. */
export function prefixStart(text: string): Address | undefined {
  const [address, hostBits] = readPrefix(text) ?? [];
  if (address === undefined || hostBits === undefined) return undefined;
  return offsetAddress(address, -BigInt.asUintN(hostBits, BigInt(addressNumber(address))));
}

/** "A" or "A-B": the one canonical text of a range. */
export function formatAddressRange({ first, last }: AddressRange): string {
  return first === last ? first : `${first}-${last}`;
}

/** The value within the family: a number for IPv4, a bigint for IPv6. */
function addressNumber(address: Address): number | bigint {
  const value = addressFamily(address) === 4 ? readIpv4(address) : readIpv6(address);
  assert(value !== undefined, `"${address}" is a canonical address`);
  return value;
}

function distance(first: Address, last: Address): number {
  const from = addressNumber(first);
  const to = addressNumber(last);
  return typeof from === "number" ? Number(to) - from : Number(BigInt(to) - from);
}

function parsePrefix(text: string): AddressRange | undefined {
  const [first, hostBits] = readPrefix(text) ?? [];
  if (first === undefined || hostBits === undefined || prefixStart(text) !== first) return undefined;
  return { first, last: offsetAddress(first, (1n << BigInt(hostBits)) - 1n), size: 2 ** hostBits };
}

function readPrefix(text: string): [address: Address, hostBits: number] | undefined {
  const [addressText = "", lengthText = "", ...more] = text.split("/");
  const address = parseAddress(addressText);
  if (address === undefined || more.length > 0 || !/^(0|[1-9]\d{0,2})$/.test(lengthText)) return undefined;
  const hostBits = bitsMax[addressFamily(address)] - Number(lengthText);
  return hostBits < 0 ? undefined : [address, hostBits];
}

/** Strict dotted decimal: "010" is octal to some programs and ten to others, so it is refused. */
function readIpv4(text: string): number | undefined {
  const match = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/.exec(text);
  if (!match) return undefined;
  let value = 0;
  for (let i = 1; i <= 4; i += 1) {
    const byte = Number(match[i]);
    if (byte > 255) return undefined;
    value = value * 256 + byte;
  }
  return value;
}

function readIpv6(text: string): bigint | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, index) => readWords(half, index === halves.length - 1));
  if (!head || (halves.length === 2 && !tail)) return undefined;
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (tail ? missing < 1 : missing !== 0) return undefined;
  const words = [...head, ...new Array<number>(missing).fill(0), ...(tail ?? [])];
  return BigInt(`0x${words.map((word) => word.toString(16).padStart(4, "0")).join("")}`);
}

/** 16-bit words between colons; the very last may be dotted decimal and counts as two. */
function readWords(text: string, isLast: boolean): readonly number[] | undefined {
  if (text === "") return [];
  const words: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    const ipv4 = isLast && index === parts.length - 1 ? readIpv4(part) : undefined;
    if (ipv4 !== undefined) words.push(ipv4 >>> 16, ipv4 & 0xffff);
    else if (/^[0-9a-fA-F]{1,4}$/.test(part)) words.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return words;
}

function formatIpv4(value: number): Address {
  return `${value >>> 24}.${(value >>> 16) & 0xff}.${(value >>> 8) & 0xff}.${value & 0xff}`;
}

function formatIpv6(value: bigint): Address {
  if (value >> 32n === 0xffffn) return formatIpv4(Number(value & 0xffffffffn));
  const hex = value.toString(16).padStart(32, "0");
  const words = Array.from({ length: 8 }, (_, i) =>
    Number.parseInt(hex.slice(i * 4, i * 4 + 4), 16).toString(16),
  );
  // RFC 5952 §4.2: the longest run of two or more zero words, the first of equals, becomes "::".
  const text = words.join(":");
  let longest = { at: 0, length: 0 };
  for (const run of text.matchAll(/(?<![0-9a-f])0(?::0)+(?![0-9a-f])/g))
    if (run[0].length > longest.length) longest = { at: run.index, length: run[0].length };
  if (longest.length === 0) return text;
  const before = text.slice(0, longest.at).replace(/:$/, "");
  const after = text.slice(longest.at + longest.length).replace(/^:/, "");
  return `${before}::${after}`;
}
