// The streams of `mcr send` and `mcr receive` as they are typed: `GROUP:PORT`, `GROUP:PORT+N` (N streams, group and
// port counted up), the ranges of the rule file (`239.1.1.1-239.1.1.50:5001-5050`), a host's address instead of a
// group, and for receive `SOURCE,` before it. Pure, but for the errors it throws.
import { pairedSize } from "../config/pairing.ts";
import { parsePortRange, portMax } from "../config/range.ts";
import { ExitCode, fail } from "../error.ts";
import type { StreamSpec } from "../native/measure/instruments.ts";
import {
  type Address,
  addressBytes,
  addressFamily,
  isMulticast,
  offsetAddress,
  parseAddress,
  parseAddressRange,
} from "../net/address.ts";

export interface Stream {
  readonly address: Address;
  readonly port: number;
  /** Joined source-specific. */
  readonly source: Address | undefined;
}

/** One socket or one sequence of numbers each; what one process can reasonably watch. */
export const streamsMax = 65_536;

export interface StreamRules {
  readonly command: string;
  readonly hasSource: boolean;
}

export function parseStreams(words: readonly string[], rules: StreamRules): readonly Stream[] {
  const streams = words.flatMap((word) => parseStream(word, rules));
  if (streams.length > streamsMax)
    refuse(rules, words.join(" "), `stands for more than ${streamsMax} streams`);
  const seen = new Set<string>();
  for (const stream of streams) {
    const text = formatStream(stream);
    if (seen.has(text)) refuse(rules, text, "is given twice");
    seen.add(text);
  }
  return streams;
}

/** `239.1.1.1:5001`, or with its source `10.0.0.1,239.1.1.1:5001`. */
export function formatStream({ address, port, source }: Stream): string {
  return `${source === undefined ? "" : `${source},`}${address}:${port}`;
}

export function streamSpec({ address, port }: Stream): StreamSpec {
  return { address: addressBytes(address), port };
}

function parseStream(word: string, rules: StreamRules): Stream[] {
  const [, sourceText, addressText = "", portText = "", countText] =
    /^(?:([^,]*),)?([^,]*):([^:+]*)(?:\+(.*))?$/.exec(word) ??
    refuse(rules, word, `is no stream: write GROUP:PORT, such as 239.1.1.1:5001 or 239.1.1.1:5001+50`);
  const addresses =
    parseAddressRange(addressText) ??
    refuse(rules, word, `has no IPv4 address before the port: "${addressText}"`);
  const ports =
    parsePortRange(portText) ?? refuse(rules, word, `has no port from 1 to ${portMax}: "${portText}"`);
  if (addressFamily(addresses.first) !== 4) refuse(rules, word, "is IPv6, which is not supported yet");
  if (isMulticast(addresses.first) !== isMulticast(addresses.last) || addresses.first === "0.0.0.0")
    refuse(rules, word, "is neither groups (224.0.0.0 to 239.255.255.255) nor hosts");
  const source = parseSource(sourceText, word, rules);
  if (source !== undefined && !isMulticast(addresses.first))
    refuse(rules, word, `has a source, but ${addresses.first} is not a group (224.0.0.0 to 239.255.255.255)`);

  if (countText !== undefined) {
    if (addresses.size > 1 || ports.size > 1)
      refuse(rules, word, "has both a range and +N: give one of them");
    const size = parseCount(countText, word, rules);
    if (ports.first + size - 1 > portMax) refuse(rules, word, `counts the port beyond ${portMax}`);
    const last = isCounted(addresses.first, size) ? offsetAddress(addresses.first, size - 1) : undefined;
    if (last === undefined || isMulticast(last) !== isMulticast(addresses.first))
      refuse(rules, word, "counts the address beyond its kind");
    return expand(size, size, size);
  }
  const size = pairedSize({ addresses, ports });
  if (size === undefined)
    return refuse(
      rules,
      word,
      `pairs ${addresses.size} addresses with ${ports.size} ports: give as many, or one`,
    );
  if (size > streamsMax) refuse(rules, word, `stands for more than ${streamsMax} streams`);
  return expand(size, addresses.size, ports.size);

  function expand(count: number, addressCount: number, portCount: number): Stream[] {
    const { first } = addresses;
    return Array.from({ length: count }, (_, i) => ({
      address: addressCount > 1 ? offsetAddress(first, i) : first,
      port: ports.first + (portCount > 1 ? i : 0),
      source,
    }));
  }
}

function parseSource(text: string | undefined, word: string, rules: StreamRules): Address | undefined {
  if (text === undefined) return undefined;
  if (!rules.hasSource) refuse(rules, word, "names a source; only mcr receive joins one");
  const source = parseAddress(text);
  if (source === undefined || addressFamily(source) !== 4 || isMulticast(source))
    return refuse(rules, word, `has no IPv4 host as its source: "${text}"`);
  return source;
}

function parseCount(text: string, word: string, rules: StreamRules): number {
  const count = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > streamsMax) refuse(rules, word, `has no number of streams after +: "${text}"`);
  return count;
}

/** That the address of the last of `size` streams exists. */
function isCounted(first: Address, size: number): boolean {
  const value = first.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
  return value + size - 1 < 2 ** 32;
}

function refuse({ command }: StreamRules, word: string, why: string): never {
  return fail(`mcr ${command}: ${word} ${why}`, ExitCode.usage);
}
