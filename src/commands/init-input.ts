// What is typed for `mcr init`, in a prompt or behind a flag, made into streams, mappings and numbers, or into the
// sentence that says what is wrong with it. Pure.
import { isInterfaceName } from "../config/field.ts";
import { McrError } from "../error.ts";
import {
  type Address,
  addressFamily,
  isMulticast,
  offsetAddress,
  parseAddress,
  parseAddressRange,
} from "../net/address.ts";
import type { Mapping, Settings, Stream } from "./init-plan.ts";
import { parseStreams } from "./streams.ts";

/** A value, or the sentence that refuses the text. */
export type Read<T> = { readonly value: T } | { readonly wrong: string };

const streamsMax = 4096;
const streamsHint =
  "239.1.1.1:5001, 239.1.1.1:5001+50, 239.1.1.1-239.1.1.50:5001-5050, or a group alone for every port";

/** Words between blanks or commas. */
export function readStreams(text: string): Read<readonly Stream[]> {
  const words = text.split(/[\s,]+/).filter((word) => word !== "");
  if (words.length === 0) return { wrong: `name at least one stream: ${streamsHint}` };
  const streams = new Map<string, Stream>();
  for (const word of words) {
    const read = readStream(word);
    if ("wrong" in read) return read;
    for (const stream of read.value) streams.set(`${stream.group} ${stream.port}`, stream);
    if (streams.size > streamsMax)
      return { wrong: `${word}: more than ${streamsMax} streams; write larger ranges into the file itself` };
  }
  return { value: [...streams.values()] };
}

function readStream(word: string): Read<readonly Stream[]> {
  if (!word.includes(":")) {
    const range = parseAddressRange(word);
    if (!range || !isIpv4Group(range.first) || !isIpv4Group(range.last))
      return { wrong: `${word} is no group: write ${streamsHint}` };
    if (range.size > streamsMax) return { wrong: `${word}: more than ${streamsMax} streams` };
    return {
      value: Array.from({ length: range.size }, (_, i) => ({
        group: offsetAddress(range.first, i),
        vlan: null,
        name: null,
      })),
    };
  }
  try {
    const parsed = parseStreams([word], { command: "init", hasSource: false });
    const host = parsed.find(({ address }) => !isMulticast(address));
    if (host) return { wrong: `${host.address} is no group (224.0.0.0 to 239.255.255.255)` };
    return { value: parsed.map(({ address, port }) => ({ group: address, port, vlan: null, name: null })) };
  } catch (error) {
    if (!(error instanceof McrError)) throw error;
    return { wrong: error.message.replace(/^mcr init: /, "") };
  }
}

/** `239.10.1.1`, `239.10.1.1:6001`, or the same with a host's address; empty is the same group and port. */
export function readMapping(text: string): Read<Mapping> {
  if (text === "") return { value: { kind: "same" } };
  const [, addressText = "", portText] = /^([^:]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = parseAddress(addressText);
  const port = portText === undefined ? undefined : Number(portText);
  if (address === undefined || addressFamily(address) !== 4)
    return { wrong: `${text} is no target: write a group or a host, such as 239.10.1.1 or 239.10.1.1:6001` };
  if (port !== undefined && (port < 1 || port > 65_535))
    return { wrong: `${portText} is no port from 1 to 65535` };
  const target = port === undefined ? {} : { port };
  return {
    value: isMulticast(address)
      ? { kind: "shift", group: address, ...target }
      : { kind: "unicast", address, ...target },
  };
}

export function readInterfaceName(text: string): Read<string> {
  if (isInterfaceName(text)) return { value: text };
  return { wrong: "give an interface name: 1-15 bytes without blanks, / or :" };
}

/** Empty is none. What goes to a host has a value of its own. */
export function readTtl(text: string, isUnicast: boolean): Read<Settings["ttl"]> {
  return readNumber(text, 1, 255, isUnicast ? [] : ["keep", "decrement"]);
}

/** Empty is none. What goes to a host has a value of its own. */
export function readDscp(text: string, isUnicast: boolean): Read<Settings["dscp"]> {
  return readNumber(text, 0, 63, isUnicast ? [] : ["keep"]);
}

function readNumber<W extends string>(
  text: string,
  min: number,
  max: number,
  words: readonly W[],
): Read<number | W | undefined> {
  if (text === "") return { value: undefined };
  const word = words.find((each) => each === text);
  if (word !== undefined) return { value: word };
  const value = Number(text);
  if (/^\d{1,5}$/.test(text) && value >= min && value <= max) return { value };
  return { wrong: `give ${[`a whole number from ${min} to ${max}`, ...words].join(", ")}, or nothing` };
}

/** For prompts: undefined when it can be read. */
export function wrongWith(read: Read<unknown>): string | undefined {
  return "wrong" in read ? read.wrong : undefined;
}

function isIpv4Group(address: Address): boolean {
  return addressFamily(address) === 4 && isMulticast(address);
}
