// Typed hands for inject.c and record.c: any frame onto a wire, every frame off it, offload headers included. The
// bytes of a record are drawn in test/traffic/record.h. Knows nothing of what a frame means.

import * as v from "valibot";
import type { Process } from "./process.ts";
import type { Topology } from "./topology.ts";
import { buildTraffic } from "./traffic.ts";
import { waitFor } from "./wait.ts";

const headerBytes = 16;

/** struct virtio_net_hdr; all zero is a plain frame with whole checksums. */
export interface Offload {
  /** 1: the device writes the checksum (NEEDS_CSUM). 2: it has checked it (DATA_VALID). */
  readonly flags: number;
  /** 0 none, 3 UDP of the old type, 5 UDP_L4. */
  readonly gsoType: number;
  readonly headerBytes: number;
  readonly gsoSize: number;
  readonly checksumStart: number;
  readonly checksumOffset: number;
}
export const noOffload: Offload = {
  flags: 0,
  gsoType: 0,
  headerBytes: 0,
  gsoSize: 0,
  checksumStart: 0,
  checksumOffset: 0,
};

export interface Frame {
  /** From the Ethernet header on. */
  readonly bytes: Uint8Array;
  readonly offload: Offload;
}

export interface RecordedFrame extends Frame {
  /** sll_pkttype: 0 to us, 1 broadcast, 2 multicast, 3 to another host. */
  readonly packetType: number;
}

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const RefusedSchema = v.object({
  event: v.literal("refused"),
  /** Of the record, counted from 0. */
  index: count,
  errno: count,
  reason: v.string(),
});
export type Refused = v.InferOutput<typeof RefusedSchema>;

const InjectedSchema = v.object({ event: v.literal("result"), sent: count, refused: count });
export type Injected = v.InferOutput<typeof InjectedSchema>;

const InjectorLineSchema = v.variant("event", [
  v.object({ event: v.literal("ready"), interface: v.string(), index: count }),
  v.object({ event: v.literal("sent"), records: count }),
  RefusedSchema,
  InjectedSchema,
]);

const RecordedSchema = v.object({
  event: v.literal("result"),
  recorded: count,
  /** Lost by the recorder's own socket: such a run proves nothing. */
  dropped: count,
  /** Frames of an offload type that the kernel cannot describe. */
  undescribed: count,
});
export type Recorded = v.InferOutput<typeof RecordedSchema>;

export type InjectTarget =
  | { readonly interface: string }
  | { readonly tap: string; readonly mac?: string; readonly mtu?: number };

export interface Injector {
  readonly process: Process;
  /** Resolves when every frame was handed to the kernel or refused by it. */
  inject(frames: readonly Frame[]): Promise<void>;
  /** So far; of all frames given to inject(). */
  refused(): readonly Refused[];
  /** Ends the injector, and the tap with it. */
  finish(): Promise<Injected>;
}

export interface Recorder {
  readonly process: Process;
  /** Everything recorded so far, in order of arrival. */
  readonly frames: readonly RecordedFrame[];
  /** Forgets what is recorded so far. */
  clear(): void;
  /** Ends it; `frames` is complete then. */
  stop(): Promise<Recorded>;
}

/** Resolves when frames can be injected; a tap exists and is up then, and stays until finish(). */
export async function startInjector(
  topology: Topology,
  namespace: string,
  target: InjectTarget,
): Promise<Injector> {
  const { inject } = await buildTraffic();
  const child = topology.spawn(namespace, [inject, ...targetArguments(target)]);
  await child.waitForOutput('"event":"ready"');
  const output = lineReader(child);
  const refused: Refused[] = [];
  let given = 0;
  let taken = 0;
  let result: Injected | undefined;
  const readOutput = () => {
    for (const text of output()) {
      const line = v.parse(InjectorLineSchema, JSON.parse(text));
      if (line.event === "refused") refused.push(line);
      else if (line.event === "sent") taken = line.records;
      else if (line.event === "result") result = line;
    }
    return taken;
  };
  return {
    process: child,
    async inject(frames) {
      if (frames.length === 0) return;
      given += frames.length;
      await child.writeBytes(encodeRecords(frames));
      await waitFor(
        () => {
          if (child.completed) throw new Error(`inject ended: ${Bun.inspect(child.completed)}`);
          return readOutput();
        },
        (records) => records === given,
        { what: `inject to have handed over ${given} frames`, deadlineMs: 30_000, intervalMs: 1 },
      );
    },
    refused: () => refused,
    async finish() {
      child.closeStdin();
      const completed = await child.exited;
      readOutput();
      if (result === undefined) throw new Error(`no result: ${Bun.inspect(completed)}`);
      return result;
    },
  };
}

/** Resolves when everything that arrives from now on is recorded; without offload, as a plain reader gets it. */
export async function startRecorder(
  topology: Topology,
  namespace: string,
  interfaceName: string,
  options: { readonly withoutOffload?: boolean } = {},
): Promise<Recorder> {
  const { record } = await buildTraffic();
  const frames: RecordedFrame[] = [];
  let rest: Uint8Array = new Uint8Array(0);
  const onBytes = (bytes: Uint8Array) => {
    rest = decodeRecords(rest.length === 0 ? bytes : Buffer.concat([rest, bytes]), frames);
  };
  const plain = options.withoutOffload ? ["--without-offload"] : [];
  const child = topology.spawn(namespace, [record, "--interface", interfaceName, ...plain], { onBytes });
  await child.waitForOutput('"event":"ready"');
  return {
    process: child,
    frames,
    clear() {
      frames.length = 0;
    },
    async stop() {
      child.kill("SIGTERM");
      const completed = await child.exited;
      const line = completed.stderr.trimEnd().split("\n").at(-1) ?? "";
      if (completed.exitCode !== 0) throw new Error(`no result: ${Bun.inspect(completed)}`);
      return v.parse(RecordedSchema, JSON.parse(line));
    },
  };
}

export function encodeRecords(frames: readonly Frame[]): Uint8Array {
  const total = frames.reduce((sum, { bytes }) => sum + headerBytes + bytes.length, 0);
  const records = new Uint8Array(total);
  const view = new DataView(records.buffer);
  let at = 0;
  for (const { bytes, offload } of frames) {
    view.setUint32(at, bytes.length, true);
    view.setUint8(at + 4, offload.flags);
    view.setUint8(at + 5, offload.gsoType);
    view.setUint16(at + 6, offload.headerBytes, true);
    view.setUint16(at + 8, offload.gsoSize, true);
    view.setUint16(at + 10, offload.checksumStart, true);
    view.setUint16(at + 12, offload.checksumOffset, true);
    records.set(bytes, at + headerBytes);
    at += headerBytes + bytes.length;
  }
  return records;
}

/** Adds the whole records to `frames` and returns the bytes of the one that is not whole yet. */
export function decodeRecords(records: Uint8Array, frames: RecordedFrame[]): Uint8Array {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  let at = 0;
  while (records.length - at >= headerBytes) {
    const end = at + headerBytes + view.getUint32(at, true);
    if (end > records.length) break;
    frames.push({
      // A copy: the chunk it lies in would stay alive with it, and may be written again.
      bytes: records.slice(at + headerBytes, end),
      offload: {
        flags: view.getUint8(at + 4),
        gsoType: view.getUint8(at + 5),
        headerBytes: view.getUint16(at + 6, true),
        gsoSize: view.getUint16(at + 8, true),
        checksumStart: view.getUint16(at + 10, true),
        checksumOffset: view.getUint16(at + 12, true),
      },
      packetType: view.getUint16(at + 14, true),
    });
    at = end;
  }
  return records.slice(at);
}

function targetArguments(target: InjectTarget): string[] {
  if ("interface" in target) return ["--interface", target.interface];
  return [
    ...["--tap", target.tap],
    ...(target.mac === undefined ? [] : ["--mac", target.mac]),
    ...(target.mtu === undefined ? [] : ["--mtu", String(target.mtu)]),
  ];
}

/** Each call returns the complete lines of stdout since the last one. */
function lineReader(child: Process): () => readonly string[] {
  let read = 0;
  return () => {
    const end = child.stdout.lastIndexOf("\n") + 1;
    if (end <= read) return [];
    const lines = child.stdout.slice(read, end).trimEnd().split("\n");
    read = end;
    return lines;
  };
}
