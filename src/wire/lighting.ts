// Streams that steer lights: sACN (ANSI E1.31) and Art-Net. Both begin with a magic of their own and name a universe.
import { printableName } from "../net/sdp.ts";
import { get16, get32, holds, little16 } from "./bytes.ts";
import { type FlowFacts, type Recognised, readAny, type Sample } from "./flow.ts";

/** The preamble and the packet identifier of ACN, 128 bits. By chance: 2^-128. */
const acnMagic = "\x00\x10\x00\x00ASC-E1.17\x00\x00\x00";
const artNetMagic = "Art-Net\x00";

export function sacn({ samples }: FlowFacts): Recognised | undefined {
  return readAny(samples, readSacn);
}

/** The magic of 64 bits and a captured operation code, on any port. By chance: 2^-64. */
export function artNet({ samples }: FlowFacts): Recognised | undefined {
  return readAny(samples, readArtNet);
}

/**
 * Section 4, table 4-1, and the extended packets of sections 6.3 and 8:
 *
 *     0       4           16       18       22    38       40       44            108 109    111  112 113
 *     | 16, 0 | ASC-E1.17 | length | vector | CID | length | vector | source name | . | sync | . | . | universe |
 */
function readSacn({ payload }: Sample): Recognised | undefined {
  if (payload.length < 44 || !holds(payload, 0, acnMagic)) return undefined;
  const vector = `${get32(payload, 18)}.${get32(payload, 40)}`;
  switch (vector) {
    case "4.2": {
      const [name = ""] = new TextDecoder().decode(payload.subarray(44, 108)).split("\0");
      const source = printableName(name);
      const universe = payload.length < 115 ? [] : [`universe ${get16(payload, 113)}`];
      return { kind: "sacn", detail: [...universe, ...(source === "" ? [] : [source])].join(", ") };
    }
    case "8.1":
      return { kind: "sacn", detail: "synchronization" };
    case "8.2":
      return { kind: "sacn", detail: "universe discovery" };
    default:
      return undefined;
  }
}

const artNetOperations: ReadonlyMap<number, string> = new Map([
  [0x2000, "poll"],
  [0x2100, "poll reply"],
  [0x5200, "sync"],
  [0x9700, "time code"],
]);

/** `| Art-Net 0 | opcode, little-endian | version | sequence | physical | universe, little-endian | length |` */
function readArtNet({ payload }: Sample): Recognised | undefined {
  if (payload.length < 10 || !holds(payload, 0, artNetMagic)) return undefined;
  const operation = little16(payload, 8);
  const isDmx = operation === 0x5000 && payload.length >= 16;
  const detail = isDmx ? `universe ${little16(payload, 14) & 0x7fff}` : artNetOperations.get(operation);
  return { kind: "art-net", detail: detail ?? `operation 0x${operation.toString(16).padStart(4, "0")}` };
}
