// What a profile means for the rings: one slider, latency against CPU. Called when rings are opened, and by
// `mcr check` and the start log, which say it.
import type { RelaySettings } from "../config/schema.ts";
import type { RingOptions } from "../native/shim.ts";

export type RingSettings = Pick<RelaySettings, "profile" | "fanout" | "ring_bytes" | "latency_sleep_us">;
/** Everything but where. */
export type RingShape = Omit<RingOptions, "ifindex" | "fanout_id">;

const byBlock = 3; // TPACKET_V3
const byFrame = 2; // TPACKET_V2
const mebibyte = 1 << 20;

/**
 * Profile → how its rings hand packets over. A block is used up when its time is over, however little is in it: so
 * the more blocks, the longer a worker may stand still before a quiet stream finds the ring full.
 */
const handovers = {
  balanced: { version: byBlock, block_bytes: 128 << 10, retire_ms: 1 },
  throughput: { version: byBlock, block_bytes: mebibyte, retire_ms: 4 },
  latency: { version: byFrame, block_bytes: mebibyte, retire_ms: 0 },
} as const satisfies Record<RingSettings["profile"], Partial<RingShape>>;

/** enum mcr_fanout */
const fanouts = { flow: 0, hash: 1, cpu: 2, qm: 3 } as const satisfies Record<RingSettings["fanout"], number>;

/** One worker gets every frame whatever the mode; this one costs the kernel 0.1 µs a packet less than `flow`. */
export const fanoutOfOne: number = fanouts.cpu;

/** What a ring by frame asks of the kernel for frames that are longer than their slot: MCR_RING_RECEIVE_BYTES. */
export const receiveBytesWanted = 16 * mebibyte;

/** As many whole blocks as fit into ring_bytes. */
export function ringShape({ profile, fanout, ring_bytes, latency_sleep_us }: RingSettings): RingShape {
  const handover = handovers[profile];
  return {
    ...handover,
    block_count: Math.floor(ring_bytes / handover.block_bytes),
    sleep_us: latency_sleep_us,
    fanout: fanouts[fanout],
  };
}

/** `profile balanced, 64 MiB per ring: 512 blocks of 128 KiB, handed over within 1 ms` */
export function describeRing(settings: RingSettings): string {
  const { version, block_bytes, block_count, retire_ms, sleep_us } = ringShape(settings);
  const size = `profile ${settings.profile}, ${formatBytes(block_bytes * block_count)} per ring`;
  if (version === byBlock)
    return `${size}: ${block_count} blocks of ${formatBytes(block_bytes)}, handed over within ${retire_ms} ms`;
  return `${size}: frame by frame, ${sleep_us === 0 ? "woken for each" : `looked for every ${sleep_us} µs`}`;
}

/** Of a ring by frame that has got less than it wants for long frames; undefined where there is nothing to say. */
export function describeShortage(receiveBytes: number): string | undefined {
  if (receiveBytes <= 0 || receiveBytes >= receiveBytesWanted) return undefined;
  return `frames beyond 12 KiB have room for ${formatBytes(Math.floor(receiveBytes / 1024) * 1024)} only: sysctl -w net.core.rmem_max=${receiveBytesWanted}, or CAP_NET_ADMIN, gives them ${formatBytes(receiveBytesWanted)}`;
}

function formatBytes(bytes: number): string {
  const isWhole = bytes % mebibyte === 0;
  if (bytes < mebibyte) return `${bytes / 1024} KiB`;
  return `${isWhole ? bytes / mebibyte : (bytes / mebibyte).toFixed(2)} MiB`;
}
