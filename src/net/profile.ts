// What a profile means for the rings: one slider, latency against CPU. Called when rings are opened, and by
// `mcr check` and the start log, which say it.
import type { RelaySettings } from "../config/schema.ts";
import { constants } from "../native/abi.ts";
import type { RingOptions } from "../native/shim.ts";

export type RingSettings = Pick<RelaySettings, "profile" | "fanout" | "ring_bytes" | "latency_sleep_us">;
/** Everything but where. */
export type RingShape = Omit<RingOptions, "ifindex" | "fanout_id">;

const mebibyte = 1 << 20;

/**
 * Profile → how its rings hand packets over. A block is used up when its time is over, however little is in it: so
 * the more blocks, the longer a worker may stand still before a quiet stream finds the ring full. Without blocks each
 * frame is handed over by itself.
 */
const handovers = {
  balanced: { block_bytes: 128 << 10, retire_ms: 1 },
  throughput: { block_bytes: mebibyte, retire_ms: 4 },
  latency: { block_bytes: 0, retire_ms: 0 },
} as const satisfies Record<RingSettings["profile"], Partial<RingShape>>;

const fanouts = {
  flow: constants.MCR_FANOUT_FLOW,
  hash: constants.MCR_FANOUT_HASH,
  cpu: constants.MCR_FANOUT_CPU,
  qm: constants.MCR_FANOUT_QM,
} as const satisfies Record<RingSettings["fanout"], number>;

/** One worker gets every frame whatever the mode; this one costs the kernel 0.1 µs a packet less than `flow`. */
export const fanoutOfOne = constants.MCR_FANOUT_SINGLE;

/** The most that the kernel lets a socket queue: SO_RCVBUF is an int, and doubled. */
const receiveBytesMax = (2 ** 31 - 1) >> 1;

/** As many whole blocks as fit into ring_bytes, or so much that may be queued frame by frame. */
export function ringShape({ profile, fanout, ring_bytes, latency_sleep_us }: RingSettings): RingShape {
  const handover = handovers[profile];
  const isByFrame = handover.block_bytes === 0;
  return {
    ...handover,
    block_count: isByFrame ? 0 : Math.floor(ring_bytes / handover.block_bytes),
    receive_bytes: isByFrame ? Math.min(ring_bytes, receiveBytesMax) : 0,
    sleep_us: isByFrame ? latency_sleep_us : 0,
    fanout: fanouts[fanout],
  };
}

/** `profile balanced, 64 MiB per ring: 512 blocks of 128 KiB, handed over within 1 ms` */
export function describeRing(settings: RingSettings): string {
  const { block_bytes, block_count, receive_bytes, retire_ms, sleep_us } = ringShape(settings);
  const size = `profile ${settings.profile}, ${formatBytes(block_bytes * block_count + receive_bytes)} per ring`;
  if (receive_bytes === 0)
    return `${size}: ${block_count} blocks of ${formatBytes(block_bytes)}, handed over within ${retire_ms} ms`;
  return `${size}: frame by frame, ${sleep_us === 0 ? "woken for each" : `looked for every ${sleep_us} µs`}`;
}

/** Of rings by frame that have got less room than they want; undefined where there is nothing to say. */
export function describeShortage(settings: RingSettings, receiveBytes: number): string | undefined {
  const wanted = ringShape(settings).receive_bytes;
  if (receiveBytes <= 0 || receiveBytes >= wanted) return undefined;
  return `frames that wait for a worker have room for ${formatBytes(Math.floor(receiveBytes / 1024) * 1024)} only: sysctl -w net.core.rmem_max=${wanted}, or CAP_NET_ADMIN, gives them ${formatBytes(wanted)}`;
}

function formatBytes(bytes: number): string {
  const isWhole = bytes % mebibyte === 0;
  if (bytes < mebibyte) return `${bytes / 1024} KiB`;
  return `${isWhole ? bytes / mebibyte : (bytes / mebibyte).toFixed(2)} MiB`;
}
