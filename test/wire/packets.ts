// Real packets as a Linux kernel (IGMP, MLD) and ffmpeg 7 (RTP, MPEG-TS, SAP) sent them, and how hex becomes samples.
// A sample may hold the beginning of its datagram only, as a scan keeps it.
import type { FlowFacts, Sample } from "../../src/wire/flow.ts";

/** Hex digits; what stands behind a # is a comment. */
export function hex(text: string): Uint8Array {
  return Uint8Array.fromHex(text.replace(/#.*$/gm, "").replace(/\s+/g, ""));
}

/** @param bytes of the whole datagram; by default all of it was captured. */
export function sampleOf(payload: string | Uint8Array, bytes?: number): Sample {
  const captured = typeof payload === "string" ? hex(payload) : payload;
  return { payload: captured, bytes: bytes ?? captured.length };
}

export function flowOf(samples: readonly Sample[], facts: Partial<FlowFacts> = {}): FlowFacts {
  return { group: "239.1.1.1", port: 5004, source: "10.0.0.1", samples, ...facts };
}

/** A character for each byte. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "latin1"));
}

/** A copy in which these bytes stand at `at`. */
export function withBytes(sample: Sample, at: number, ...bytes: readonly number[]): Sample {
  const payload = Uint8Array.from(sample.payload);
  payload.set(bytes, at);
  return { ...sample, payload };
}

/** RTP, payload type 33, with 7 packets of MPEG-TS: the service description, then the table of one program. */
export const rtpTs1: Sample = sampleOf(
  `
  802106d84e46ce8380d9d857474011100042f0250001c10000ff01ff0001fc80144812010646466d7065670953657276
  6963653031777c43caffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffff474000100000b00d0001c100000001f0002ab104b2ffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffff
`,
  1328,
);

/** The next one. */
export const rtpTs2: Sample = sampleOf(
  `
  802106d94e46ce8380d9d8574701001485d7ae78f09ffd7ffd9ffd8708b360bd767efb70437cf7bb7b932ac99134cdcd
  310202804d084ee2c2d1daac5c92fd223a7674195fff8ccd1b363feff87ecb2cb26540037f5ff919389a15fe3f2fd672
  ce33dffbbfd7fbc797fffb26437ff4fff77ffa85094289e3c47ff2fff7fff7fff61c24b157fff9fbec2aac68df8f2d0a
  14d3333cd734c8bdae7b7ed7169c4a673c4d518d299a49a67ffd6a5ca9b0dfc7ddff23cc2a604fe3fdbfdc693b9867ee
  fbdf8cacd1ccd7f9
`,
  1328,
);

/** The same stream without RTP. */
export const ts1: Sample = sampleOf(
  `
  474011100042f0250001c10000ff01ff0001fc80144812010646466d70656709536572766963653031777c43caffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff47400010
  0000b00d0001c100000001f0002ab104b2ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
  ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
`,
  1316,
);

/** The next one. */
export const ts2: Sample = sampleOf(
  `
  4701001485d7ae78f09ffd7ffd9ffd8708b360bd767efb70437cf7bb7b932ac99134cdcd310202804d084ee2c2d1daac
  5c92fd223a7674195fff8ccd1b363feff87ecb2cb26540037f5ff919389a15fe3f2fd672ce33dffbbfd7fbc797fffb26
  437ff4fff77ffa85094289e3c47ff2fff7fff7fff61c24b157fff9fbec2aac68df8f2d0a14d3333cd734c8bdae7b7ed7
  169c4a673c4d518d299a49a67ffd6a5ca9b0dfc7ddff23cc2a604fe3fdbfdc693b9867eefbdf8cacd1ccd7f9
`,
  1316,
);

/** RTP, payload type 97: L24, 48 kHz, 2 channels, 48 samples in a packet. */
export const audio1: Sample = sampleOf(
  `
  80610b2c54a9b3bb401535cc00000000000000a62b00a62b014c57014c5701f1cd01f1cd0295250295250335a80335a8
`,
  300,
);

/** The next one, 48 samples later. */
export const audio2: Sample = sampleOf(
  `
  80610b2d54a9b3eb401535cc042a51042a51038d56038d5602ed8802ed88024ae6024ae601a78e01a78e010218010218
`,
  300,
);

/** A sender report of the same sender. */
export const rtcpReport: Sample = sampleOf(
  `
  80c80006401535cceeb87071ac49ba5e54a9b3bb0000000000000000
`,
  28,
);

/** An announcement. */
export const sapPacket: Sample = sampleOf(
  `
  2000bcd9000000006170706c69636174696f6e2f73647000763d300d0a6f3d2d2030203020494e20495034203132372e
  302e302e310d0a733d4e6f204e616d650d0a633d494e20495034203233392e312e312e342f3235350d0a743d3020300d
  0a613d746f6f6c3a6c69626176666f726d6174204c49424156464f524d41545f56455253494f4e0d0a6d3d617564696f
  2035303034205254502f4156502031340d0a623d41533a3338340d0a
`,
  172,
);

/** IPv4 and UDP as captured at the sender, in front of the device that completes the checksum. */
export const partialPacket = hex(`
  45000038772940001011038a00000000ef010101d2d1138d0024f03780c8000680d9d857eeb87071a1cac0834e46d575
  0000000000000000
`);
