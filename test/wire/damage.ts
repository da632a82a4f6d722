// Hostile bytes for decoders: random ones, and real packets with bytes changed, cut and lengthened. Whatever comes, a
// decoder answers, says the same whatever lies around the captured bytes in memory, and ends soon.
import { expect } from "bun:test";
import { type Decoder, type FlowFacts, type Sample, scanKinds } from "../../src/wire/flow.ts";
import { Random } from "../config/random.ts";

const cases = 4_000;
/** A case takes microseconds; this is for a machine that does much else. */
const limitMs = 20_000;
const randomBytesMax = 1_500;

/** `read` with random bytes, and with damaged copies of `packets`. */
export function expectSurvival(packets: readonly Uint8Array[], read: (bytes: Uint8Array) => unknown): void {
  const random = new Random(14);
  const start = performance.now();
  for (let i = 0; i < cases; i += 1) {
    expectSameAnywhere(randomBytes(random), read);
    const packet = packets[random.below(packets.length)];
    if (packet !== undefined) expectSameAnywhere(damaged(random, packet), read);
  }
  expect(performance.now() - start).toBeLessThan(limitMs);
}

/** A decoder with flows whose samples are random, or damaged copies of those of `flow`; lengths lie, too. */
export function expectFlowSurvival(decode: Decoder, flow: FlowFacts): void {
  const random = new Random(41);
  const start = performance.now();
  for (let i = 0; i < cases; i += 1) {
    const isRandom = random.below(2) === 0;
    const samples = flow.samples.map(({ payload, bytes }): Sample => {
      const captured = isRandom ? randomBytes(random) : damaged(random, payload);
      const length = captured.length + Math.max(0, bytes - payload.length);
      return { payload: captured, bytes: random.below(4) === 0 ? random.below(65_536) : length };
    });
    const answers = [0, 0xff].map((around) =>
      decode({
        ...flow,
        samples: samples.map((sample) => ({ ...sample, payload: inside(sample.payload, around) })),
      }),
    );
    const [answer, other] = answers;
    expect(other).toEqual(answer as typeof other);
    if (answer === undefined) continue;
    expect(scanKinds).toContain(answer.kind);
    expect(answer.detail ?? "").toMatch(/^[^\p{C}\p{Zl}\p{Zp}]{0,120}$/u);
  }
  expect(performance.now() - start).toBeLessThan(limitMs);
}

export function randomBytes(random: Random, max = randomBytesMax): Uint8Array {
  return Uint8Array.from({ length: random.below(max + 1) }, () => random.below(256));
}

/** Up to four bytes are others, often those that lengths are made of; every other one is cut or lengthened. */
function damaged(random: Random, packet: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(packet);
  for (let left = random.below(5); left > 0; left -= 1)
    copy[random.below(copy.length)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
  switch (random.below(4)) {
    case 0:
      return copy.subarray(0, random.below(copy.length + 1));
    case 1:
      return Uint8Array.from([...copy, ...randomBytes(random, 64)]);
    default:
      return copy;
  }
}

function expectSameAnywhere(bytes: Uint8Array, read: (bytes: Uint8Array) => unknown): void {
  expect(read(inside(bytes, 0xff))).toEqual(read(inside(bytes, 0)));
}

/** The bytes in the middle of a larger memory, so that whoever reads beyond them sees it. */
function inside(bytes: Uint8Array, around: number): Uint8Array {
  const memory = new Uint8Array(bytes.length + 512).fill(around);
  memory.set(bytes, 256);
  return memory.subarray(256, 256 + bytes.length);
}
