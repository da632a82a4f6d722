// The loads: how many streams, copies of each, how fast, in what bursts. A burst takes turns over the streams, so a
// run of one stream forms only where streams are few or a block of the ring holds several turns.

export interface Load {
  readonly name: string;
  readonly streams: number;
  /** Egresses of each stream. */
  readonly copies: number;
  /** Of all streams together; 0 is as fast as the sender can. */
  readonly ratePps: number;
  readonly burst: number;
  readonly sizeBytes: number;
  readonly seconds: number;
  /** Of mcr; what it chooses by itself when absent. */
  readonly workers?: number;
}

const usual = { copies: 1, ratePps: 25_000, burst: 8, sizeBytes: 1316, seconds: 1 };

const one: Load = { ...usual, name: "1 stream", streams: 1 };
const ten: Load = { ...usual, name: "10 streams", streams: 10 };
const fifty: Load = { ...usual, name: "50 streams", streams: 50 };

/** The headline. */
export const headlineLoads: readonly Load[] = [one, ten, fifty];

/** CPU time per forwarded packet. */
export const costLoads: readonly Load[] = [
  ...headlineLoads,
  { ...usual, name: "200 streams", streams: 200 },
  { ...usual, name: "500 streams", streams: 500 },
  { ...ten, name: "10 streams, 50 kpps, bursts of 32", ratePps: 50_000, burst: 32 },
  { ...ten, name: "10 streams, bursts of 1", burst: 1 },
  { ...ten, name: "10 streams, 64 bytes", sizeBytes: 64 },
  { ...ten, name: "10 streams, 200 bytes", sizeBytes: 200 },
  { ...ten, name: "10 streams to 10 egresses", copies: 10, ratePps: 3_000 },
  { ...ten, name: "10 streams to 50 egresses", copies: 50, ratePps: 600 },
];

/** More than a core can forward: what leaves per second of the relay's CPU. */
export const saturatingLoads: readonly Load[] = [1, 10, 200].map((streams) => ({
  ...usual,
  name: `${streams} ${streams === 1 ? "stream" : "streams"}, as fast as the sender can`,
  streams,
  ratePps: 0,
  burst: 32,
}));

/** What asking costs: a rate that is held, and all that goes. */
export const askingLoads: readonly [paced: Load, saturating: Load] = [
  ten,
  { ...ten, name: "10 streams, as fast as the sender can", ratePps: 0, burst: 32 },
];

/** Loss and CPU against the rate. */
export const risingLoads: readonly Load[] = [10, 25, 50, 75, 100, 150, 200].map((kpps) => ({
  ...ten,
  name: `${kpps} kpps`,
  ratePps: kpps * 1000,
  burst: 32,
}));

/** What a profile costs: packets one by one, in bursts, and in many. */
export const profileLoads: readonly Load[] = [
  { ...ten, name: "10 streams, 10 kpps, bursts of 1", ratePps: 10_000, burst: 1 },
  ten,
  { ...ten, name: "10 streams, 50 kpps, bursts of 32", ratePps: 50_000, burst: 32 },
];

/** Packets one by one, far below what any system can carry. */
export const latencyLoads: readonly Load[] = [
  { ...ten, name: "10 streams, 10 kpps, bursts of 1", ratePps: 10_000, burst: 1 },
];

/** Far below what a link of this kind holds, so that what is lost is the relay's fault. */
export const losslessLoads: readonly Load[] = [
  ...[1, 2, 5, 10, 20, 50, 100, 150, 500, 1000].map((streams) => ({
    ...usual,
    name: `${streams} ${streams === 1 ? "stream" : "streams"}`,
    streams,
  })),
  ...[2, 4, 8].map((workers) => ({ ...fifty, name: `50 streams, ${workers} workers`, workers })),
];

/** Many streams at a high rate. */
export const wideLoads: readonly Load[] = [
  { ...usual, name: "500 streams, 100 kpps", streams: 500, ratePps: 100_000, burst: 32 },
];
