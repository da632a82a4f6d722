// What `mcr send` was asked for, checked against the interface and made into numbers for the shim.
import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { ExitCode, fail, messageOf } from "../error.ts";
import { constants } from "../native/measure/abi.ts";
import { Switch } from "./command.ts";
import { Duration, Interface, whole, word } from "./values.ts";

export const SendOptionsSchema = v.object({
  interface: Interface,
  rate: v.optional(whole(0, 100_000_000)),
  totalRate: v.optional(whole(1, 100_000_000)),
  size: v.optional(whole(36, constants.MCR_PAYLOAD_BYTES_MAX), "1024"),
  count: v.optional(whole(1, 1_000_000_000_000)),
  duration: v.optional(Duration),
  burst: v.optional(whole(1, constants.MCR_BURST_MAX)),
  ttl: v.optional(whole(1, 255)),
  sourcePort: v.optional(whole(1, 65_535)),
  payload: v.optional(word("a text, or @FILE")),
  gso: v.optional(whole(1, constants.MCR_SEGMENTS_MAX), "1"),
  fragment: Switch,
  json: Switch,
});
export type SendOptions = v.InferOutput<typeof SendOptionsSchema>;

export interface SendPlan {
  readonly payloadBytes: number;
  readonly body: Uint8Array;
  /** Of all streams together; 0 is as fast as it goes. */
  readonly totalRate: number;
  /** Of each stream; 0 is no limit. */
  readonly count: number;
  readonly durationNs: number;
  readonly burst: number;
}

const rateDefault = 100;
const rateMax = 4_000_000_000;
/** IPv4 and UDP. */
const headerBytes = 28;
const datagramBytesMax = 65_507;

export async function planSend(options: SendOptions, streams: number, mtu: number): Promise<SendPlan> {
  const { size, gso, fragment, rate, totalRate } = options;
  if (rate !== undefined && totalRate !== undefined) refuse("give --rate or --total-rate, not both");
  const total = totalRate ?? (rate ?? rateDefault) * streams;
  if (total > rateMax) refuse(`--rate ${rate} for ${streams} streams is more than any link carries`);
  checkSize(options, mtu);
  if (gso > 1 && fragment)
    refuse("--gso and --fragment exclude each other: a super-frame holds whole packets");
  if (gso * size > datagramBytesMax)
    refuse(
      `--gso ${gso} of --size ${size} is above ${datagramBytesMax} bytes: at most ${Math.floor(datagramBytesMax / size)}`,
    );
  return {
    payloadBytes: size,
    body: await readBody(options.payload),
    totalRate: total,
    count: options.count ?? 0,
    durationNs: Math.round((options.duration ?? 0) * 1e6),
    burst: options.burst ?? gso,
  };
}

function checkSize({ size, fragment, interface: name }: SendOptions, mtu: number): void {
  const fits = mtu - headerBytes;
  if (size > fits && !fragment)
    refuse(
      `--size ${size} does not fit the MTU of ${name} (${mtu}): give at most ${fits}, or --fragment to send fragments`,
    );
}

async function readBody(payload: string | undefined): Promise<Uint8Array> {
  if (payload === undefined) return new Uint8Array(0);
  if (!payload.startsWith("@")) return new TextEncoder().encode(payload);
  const file = payload.slice(1);
  try {
    return (await readFile(file)).subarray(0, datagramBytesMax);
  } catch (error) {
    return fail(`mcr send: --payload: cannot read ${file}: ${messageOf(error)}`, ExitCode.usage);
  }
}

function refuse(why: string): never {
  return fail(`mcr send: ${why}`, ExitCode.usage);
}
