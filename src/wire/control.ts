// Streams that steer buildings, clocks and audio devices: KNXnet/IP, PTP, Dante; and the datagrams of `mcr send`.
import { printableName } from "../net/sdp.ts";
import { get16, get32, holds, textOf } from "./bytes.ts";
import { type FlowFacts, type Recognised, readEach, type Sample } from "./flow.ts";

const mcrHeaderBytes = 36;

/** The magic of c/payload.h and a header's length. By chance: 2^-32. */
export function mcr({ samples }: FlowFacts): Recognised | undefined {
  const isMcr = ({ payload }: Sample) => payload.length >= mcrHeaderBytes && holds(payload, 0, "mcr1");
  return samples.some(isMcr) ? { kind: "mcr" } : undefined;
}

/**
 * IEEE 1588 on its own ports: version 1 or 2 and the length of a message, in every sample.
 * By chance: 1 in 8 for each there.
 */
export function ptp({ port, samples }: FlowFacts): Recognised | undefined {
  return port === 319 || port === 320 ? readEach(samples, readPtp)?.[0] : undefined;
}

function readPtp({ payload }: Sample): Recognised | undefined {
  const version = (payload[1] ?? 0) & 0x0f;
  if (payload.length < 34 || version < 1 || version > 2) return undefined;
  return { kind: "ptp", detail: version === 2 ? `version 2, domain ${payload[4] ?? 0}` : "version 1" };
}

/**
 * On its own port: header 6, version 1.0, a service, and its total length, which is the datagram's, in every sample.
 * By chance: 2^-35 there.
 */
export function knx({ port, samples }: FlowFacts): Recognised | undefined {
  return port === 3671 ? readEach(samples, readKnx)?.[0] : undefined;
}

/** Service families, ISO 22510: what goes by multicast. */
const knxServices: ReadonlyMap<number, string> = new Map([
  [0x02, "core"],
  [0x03, "device management"],
  [0x05, "routing"],
  [0x06, "remote logging"],
  [0x07, "remote configuration"],
  [0x09, "secure"],
]);

/** `| 6 | 0x10 | service family, service | total length | …` */
function readKnx({ payload, bytes }: Sample): Recognised | undefined {
  const service = knxServices.get(payload[2] ?? 0);
  const isKnx = payload.length >= 6 && holds(payload, 0, "\x06\x10") && get16(payload, 4) === bytes;
  return isKnx && service !== undefined ? { kind: "knx", detail: service } : undefined;
}

/**
 * Dante is not published, so this is a hint. Audio, by its default group and port: a second, and a sample within it
 * below 192,000, which never goes back. By chance: 2^-14 for each sample there.
 * Control, by its groups and ports: 0xff, and the datagram's length. By chance: 2^-24 for each sample there.
 */
export function dante({ group, port, samples }: FlowFacts): Recognised | undefined {
  if (port === 4321 && /^239\.(?:69|255)\./.test(group)) {
    const clocks = readEach(samples, readDanteClock);
    const isSteady = clocks?.every((clock, i) => clock >= (clocks[i - 1] ?? 0)) ?? false;
    return isSteady ? { kind: "dante", detail: "hint: audio" } : undefined;
  }
  if (port < 8700 || port > 8708 || !/^224\.0\.0\.23[0-3]$/.test(group)) return undefined;
  const vendors = readEach(samples, readDanteVendor);
  return vendors && { kind: "dante", detail: `hint: control ${vendors[0]}`.trim() };
}

const danteRateMax = 192_000;

/** `| … | seconds | sample of this second | samples, 2 to 4 bytes each …`, in samples of the highest rate. */
function readDanteClock({ payload }: Sample): number | undefined {
  const sample = get32(payload, 5);
  const isAudio = payload.length > 9 && sample < danteRateMax;
  return isAudio ? get32(payload, 1) * danteRateMax + sample : undefined;
}

/** `| 0xff, … | total length | … | vendor of 8 bytes, at 16 | …` */
function readDanteVendor({ payload, bytes }: Sample): string | undefined {
  const isControl = payload.length >= 32 && payload[0] === 0xff && get16(payload, 2) === bytes;
  return isControl ? printableName(textOf(payload.subarray(16, 24))) : undefined;
}
