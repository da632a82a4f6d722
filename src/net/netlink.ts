// NETLINK_ROUTE as bytes: requests are put together, answers taken apart into messages and attributes; netlink(7),
// rtnetlink(7). Used by device-drops.ts and next-hop.ts, which know what the messages mean. Little-endian
// machines only, as all of mcr. No byte of an answer is believed: what is cut short or lies about its length ends the list.
import type { Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";

export type NetlinkShim = Pick<Shim, "netlink">;

/** linux/rtnetlink.h */
export const messageTypes = {
  newLink: 16,
  getLink: 18,
  newRoute: 24,
  getRoute: 26,
  newNeighbour: 28,
  getNeighbour: 30,
  newQdisc: 36,
  getQdisc: 38,
} as const;

/** linux/netlink.h */
const flags = { request: 0x1, acknowledge: 0x4, echo: 0x8, dump: 0x300 } as const;

const headerBytes = 16;
const attributeHeaderBytes = 4;
/** NLA_F_NESTED and NLA_F_NET_BYTEORDER, which some kernels set and others do not. */
const attributeFlags = 0xc000;
/** A list that changes while it is read is read again; what goes on changing is left for the next look. */
const triesMax = 3;

export interface Request {
  /** One of messageTypes. */
  readonly type: number;
  /** The struct behind the header. */
  readonly body: Uint8Array;
  readonly attributes?: readonly (readonly [type: number, value: Uint8Array])[];
  /** All that there are, not one. */
  readonly isDump?: boolean;
}

export interface Message {
  readonly type: number;
  readonly payload: Uint8Array;
}

export type Attributes = ReadonlyMap<number, Uint8Array>;

/** Throws SystemError where the kernel refuses. */
export function ask(shim: NetlinkShim, request: Request): readonly Message[] {
  const bytes = encodeRequest(request);
  for (let tries = 1; ; tries += 1) {
    try {
      return decodeMessages(shim.netlink(bytes));
    } catch (error) {
      if (!(error instanceof SystemError) || error.code !== "EINTR" || tries === triesMax) throw error;
    }
  }
}

/** One question is acknowledged, a dump ends by itself. Older kernels answer some questions only with echo. */
export function encodeRequest({ type, body, attributes = [], isDump = false }: Request): Uint8Array {
  const parts = attributes.map(([name, value]) => encodeAttribute(name, value));
  const size = headerBytes + aligned(body.length) + parts.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, size, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags.request | (isDump ? flags.dump : flags.acknowledge | flags.echo), true);
  bytes.set(body, headerBytes);
  let at = headerBytes + aligned(body.length);
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** struct ifinfomsg: the question for one interface. */
export function linkBody(ifindex: number): Uint8Array {
  const body = new Uint8Array(16);
  new DataView(body.buffer).setUint32(4, ifindex, true);
  return body;
}

function encodeAttribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(attributeHeaderBytes + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, attributeHeaderBytes + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, attributeHeaderBytes);
  return bytes;
}

export function decodeMessages(bytes: Uint8Array): readonly Message[] {
  const messages: Message[] = [];
  for (let at = 0; at + headerBytes <= bytes.length; ) {
    const size = wordAt(bytes, at, 4) ?? 0;
    if (size < headerBytes || size > bytes.length - at) break;
    messages.push({
      type: wordAt(bytes, at + 4, 2) ?? 0,
      payload: bytes.subarray(at + headerBytes, at + size),
    });
    at += aligned(size);
  }
  return messages;
}

/** From `offset` on, behind the struct of the message, or of an attribute that holds others. The last of a kind counts. */
export function decodeAttributes(bytes: Uint8Array, offset = 0): Attributes {
  const attributes = new Map<number, Uint8Array>();
  for (let at = offset; at + attributeHeaderBytes <= bytes.length; ) {
    const size = wordAt(bytes, at, 2) ?? 0;
    if (size < attributeHeaderBytes || size > bytes.length - at) break;
    const type = (wordAt(bytes, at + 2, 2) ?? 0) & ~attributeFlags;
    attributes.set(type, bytes.subarray(at + attributeHeaderBytes, at + size));
    at += aligned(size);
  }
  return attributes;
}

/** The number of so many bytes at this place; undefined where there are fewer. Beyond 2^53 it is rounded. */
export function wordAt(
  bytes: Uint8Array | undefined,
  offset: number,
  size: 1 | 2 | 4 | 8,
): number | undefined {
  if (bytes === undefined || offset + size > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  switch (size) {
    case 1:
      return view.getUint8(offset);
    case 2:
      return view.getUint16(offset, true);
    case 4:
      return view.getUint32(offset, true);
    case 8:
      return Number(view.getBigUint64(offset, true));
  }
}

/** Up to its NUL; not more than an interface or a kind of queue may be called. */
export function textOf(bytes: Uint8Array | undefined): string {
  const text = new TextDecoder().decode(bytes?.subarray(0, 64) ?? new Uint8Array());
  return text.split("\0", 1)[0]?.replace(/[^\x21-\x7e]/g, "?") ?? "";
}

/** Four bytes, in this machine's order. */
export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function aligned(size: number): number {
  return (size + 3) & ~3;
}
