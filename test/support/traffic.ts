// Typed hands for the traffic programs of test/traffic: build them, start them in a namespace, read their JSON; those of
// inject and record are in records.ts. Keys are spelled as the programs print them. Received counts each sequence number
// once; see receive.c.

import { mkdir, rename, stat } from "node:fs/promises";
import * as v from "valibot";
import type { Process } from "./process.ts";
import { repository, type Topology } from "./topology.ts";

/** Which streams: stream i is group+i, port+i, unless a step is 0. */
export interface StreamRange {
  readonly group: string;
  readonly port: number;
  readonly streams?: number;
  readonly groupStep?: 0 | 1;
  readonly portStep?: 0 | 1;
}

/** Exactly one of countPerStream, durationSeconds and unbounded. */
export interface SendOptions extends StreamRange {
  readonly interfaceAddress: string;
  /** Of all streams together; 0 sends as fast as the kernel takes it. */
  readonly ratePps?: number;
  readonly countPerStream?: number;
  readonly durationSeconds?: number;
  readonly unbounded?: boolean;
  /** Of each datagram; or a list that each stream goes through again and again. */
  readonly sizeBytes?: number | readonly number[];
  /** Datagrams per wake-up. */
  readonly burst?: number;
  /** Datagrams of one stream in a row; with gso they leave as one super-frame. */
  readonly run?: number;
  readonly gso?: boolean;
  readonly source?: string;
  readonly sourcePort?: number;
  readonly ttl?: number;
  readonly firstStream?: number;
  readonly firstSequence?: number;
  readonly corruptEvery?: number;
  /** Gives sha256 of each stream. */
  readonly digest?: boolean;
  /** Put in front of the command: taskset and the like. */
  readonly prefix?: readonly string[];
}

export interface ReceiveOptions {
  readonly interfaceAddress: string;
  /** A range, or the streams one by one. */
  readonly streams: StreamRange | readonly { readonly group: string; readonly port: number }[];
  /** Joins (S,G) for each of these instead of (*,G). */
  readonly sources?: readonly string[];
  /** The groups are addresses of the interface; nothing is joined. */
  readonly unicast?: boolean;
  readonly anyStream?: boolean;
  /** Gives sha256 of each stream. */
  readonly digest?: boolean;
  /** Ends when so many distinct datagrams have arrived in all. */
  readonly expect?: number;
  readonly deadlineSeconds?: number;
  /** Goes on for so long after `expect` is reached or stop() is called, to catch duplicates; 200 by default. */
  readonly lingerMs?: number;
}

const count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** Of the stream's payloads in a row, in the order they were sent or arrived in; only with `digest`. */
const sha256 = v.exactOptional(v.string());

const SendResultSchema = v.object({
  event: v.literal("result"),
  sent: count,
  seconds: v.number(),
  rate_pps: v.number(),
  /** Sends the kernel refused for lack of room and took later. */
  retries: count,
  /** CPU time of sending, which on a veth holds the receiving side's interrupt work as well. */
  cpu_ns: count,
  streams: v.array(v.object({ group: v.string(), port: count, sent: count, sha256 })),
});
export type SendResult = v.InferOutput<typeof SendResultSchema>;

const faultEntries = {
  duplicated: count,
  reordered: count,
  corrupt: count,
  /** Intact, but the payload of another stream. */
  wrong_stream: count,
  /** Dropped by the receiver's own socket: not the fault of what is tested. */
  socket_drops: count,
};
const FaultsSchema = v.object(faultEntries);
export type Faults = v.InferOutput<typeof FaultsSchema>;
export const noFaults: Faults = { duplicated: 0, reordered: 0, corrupt: 0, wrong_stream: 0, socket_drops: 0 };

const ReceivedStreamSchema = v.object({
  group: v.string(),
  port: count,
  received: count,
  ...faultEntries,
  bytes: count,
  first_sequence: v.optional(count),
  highest_sequence: v.optional(count),
  /** Address and port it last came from. */
  source: v.optional(v.string()),
  source_changes: count,
  /** The first few gaps, as [first, last], counted from sequence 0 to the highest. */
  missing: v.array(v.tuple([count, count])),
  sha256,
});
export type ReceivedStream = v.InferOutput<typeof ReceivedStreamSchema>;

const ReceiveResultSchema = v.object({
  event: v.literal("result"),
  ended_by: v.picklist(["expected", "deadline", "signal"]),
  received: count,
  ...faultEntries,
  /** The two reasons of socket_drops, for the whole namespace. */
  receive_buffer_errors: count,
  checksum_errors: count,
  receive_buffer_bytes: count,
  /** From the first datagram to the last. */
  seconds: v.number(),
  streams: v.array(ReceivedStreamSchema),
});
export type ReceiveResult = v.InferOutput<typeof ReceiveResultSchema>;

const ProgressSchema = v.object({
  event: v.literal("progress"),
  sent: v.optional(count),
  received: v.optional(count),
});

export interface Sender {
  readonly process: Process;
  /** Starts the traffic. */
  go(): void;
  /** Total of the last progress line, at most 200 ms old. */
  sentSoFar(): number;
  finished(): Promise<SendResult>;
  /** Ends the traffic and returns what was sent. */
  stop(): Promise<SendResult>;
}

export interface Receiver {
  readonly process: Process;
  /** Distinct datagrams in the last progress line, at most 200 ms old. */
  receivedSoFar(): number;
  finished(): Promise<ReceiveResult>;
  /** Receives for lingerMs more, then returns the result. */
  stop(): Promise<ReceiveResult>;
}

/** Resolves when the socket stands; nothing is sent before go(). */
export async function startSender(
  topology: Topology,
  namespace: string,
  options: SendOptions,
): Promise<Sender> {
  const { send } = await buildTraffic();
  const argv = [...(options.prefix ?? []), send, "--wait", "--progress", ...sendArguments(options)];
  const child = topology.spawn(namespace, argv);
  await child.waitForOutput('"ready"');
  const finished = async (): Promise<SendResult> => v.parse(SendResultSchema, await lastLine(child));
  return {
    process: child,
    go: () => child.write("go\n"),
    sentSoFar: () => lastProgress(child).sent ?? 0,
    finished,
    stop: () => {
      child.kill("SIGTERM");
      return finished();
    },
  };
}

/** Sends everything and returns when it is sent. */
export async function send(topology: Topology, namespace: string, options: SendOptions): Promise<SendResult> {
  const sender = await startSender(topology, namespace, options);
  sender.go();
  return sender.finished();
}

/** Resolves when every group is joined. */
export async function startReceiver(
  topology: Topology,
  namespace: string,
  options: ReceiveOptions,
): Promise<Receiver> {
  const { receive } = await buildTraffic();
  const child = topology.spawn(namespace, [receive, "--progress", ...receiveArguments(options)]);
  await child.waitForOutput('"ready"');
  const finished = async (): Promise<ReceiveResult> => v.parse(ReceiveResultSchema, await lastLine(child));
  return {
    process: child,
    receivedSoFar: () => lastProgress(child).received ?? 0,
    finished,
    stop: () => {
      child.kill("SIGTERM");
      return finished();
    },
  };
}

const TapResultSchema = v.object({
  event: v.literal("result"),
  received: count,
  duplicated: count,
  reordered: count,
  /** Datagrams that no sender of ours made. */
  foreign: count,
  ring_drops: count,
  streams: count,
});
export type TapResult = v.InferOutput<typeof TapResultSchema>;

export interface Tap {
  /** Distinct datagrams in the last progress line, at most 200 ms old. */
  receivedSoFar(): number;
  stop(): Promise<TapResult>;
}

/** Counts by a ring and joins nothing; the interface drops what it has seen: for benchmarks. */
export async function startTap(
  topology: Topology,
  namespace: string,
  interfaceAddress: string,
): Promise<Tap> {
  const { tap } = await buildTraffic();
  const child = topology.spawn(namespace, [tap, "--interface-address", interfaceAddress]);
  await child.waitForOutput('"ready"');
  return {
    receivedSoFar: () => lastProgress(child).received ?? 0,
    async stop() {
      child.kill("SIGTERM");
      return v.parse(TapResultSchema, await lastLine(child));
    },
  };
}

/** Only the fault counters, for one comparison with `noFaults`. */
export function faultsOf(result: ReceiveResult | ReceivedStream): Faults {
  return v.parse(FaultsSchema, result);
}

export interface TrafficPrograms {
  readonly send: string;
  readonly receive: string;
  readonly tap: string;
  readonly inject: string;
  readonly record: string;
}

/** Compiles what is older than its sources into dist/test; the Makefile has the same rule. */
export function buildTraffic(): Promise<TrafficPrograms> {
  built ??= Promise.all([
    compile("send"),
    compile("receive"),
    compile("tap"),
    compile("inject"),
    compile("record"),
  ]).then(([send, receive, tap, inject, record]) => ({ send, receive, tap, inject, record }));
  return built;
}
let built: Promise<TrafficPrograms> | undefined;

async function compile(name: keyof TrafficPrograms): Promise<string> {
  const directory = `${repository}/dist/test`;
  const program = `${directory}/${name}`;
  const files = [`${name}.c`, "common.h", "options.h", "payload.h", "record.h", "sha256.h"];
  const sources = files.map((file) => `${repository}/test/traffic/${file}`);
  const newest = Math.max(...(await Promise.all(sources.map(modifiedMs))));
  if ((await modifiedMs(program)) >= newest) return program;
  await mkdir(directory, { recursive: true });
  // Under a name of its own first: another test process may be running or building the same program.
  const fresh = `${program}.${process.pid}`;
  const compiler = process.env["CC"] ?? "gcc";
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"];
  const compiled = Bun.spawnSync([compiler, ...flags, "-o", fresh, sources[0] ?? ""]);
  if (compiled.exitCode !== 0) throw new Error(`cannot compile ${name}.c: ${compiled.stderr.toString()}`);
  await rename(fresh, program);
  return program;
}

/** 0 when there is no such file. */
async function modifiedMs(path: string): Promise<number> {
  return stat(path).then(
    (status) => status.mtimeMs,
    () => 0,
  );
}

function sendArguments(options: SendOptions): string[] {
  return [
    ...value("interface-address", options.interfaceAddress),
    ...rangeArguments(options),
    ...value("rate", options.ratePps),
    ...value("count", options.countPerStream),
    ...value("duration", options.durationSeconds),
    ...flag("unbounded", options.unbounded),
    ...value("size", options.sizeBytes?.toString()),
    ...value("burst", options.burst),
    ...value("run", options.run),
    ...flag("gso", options.gso),
    ...value("source", options.source),
    ...value("source-port", options.sourcePort),
    ...value("ttl", options.ttl),
    ...value("first-stream", options.firstStream),
    ...value("first-sequence", options.firstSequence),
    ...value("corrupt-every", options.corruptEvery),
    ...flag("digest", options.digest),
  ];
}

function receiveArguments(options: ReceiveOptions): string[] {
  const streams =
    "group" in options.streams
      ? rangeArguments(options.streams)
      : options.streams.flatMap(({ group, port }) => value("stream", `${group}:${port}`));
  return [
    ...value("interface-address", options.interfaceAddress),
    ...streams,
    ...(options.sources ?? []).flatMap((source) => value("source", source)),
    ...flag("unicast", options.unicast),
    ...flag("any-stream", options.anyStream),
    ...flag("digest", options.digest),
    ...value("expect", options.expect),
    ...value("deadline", options.deadlineSeconds),
    ...value("linger", options.lingerMs),
  ];
}

function rangeArguments(range: StreamRange): string[] {
  return [
    ...value("group", range.group),
    ...value("port", range.port),
    ...value("streams", range.streams),
    ...value("group-step", range.groupStep),
    ...value("port-step", range.portStep),
  ];
}

function value(name: string, given: string | number | undefined): string[] {
  return given === undefined ? [] : [`--${name}`, String(given)];
}

function flag(name: string, given: boolean | undefined): string[] {
  return given === true ? [`--${name}`] : [];
}

async function lastLine(child: Process): Promise<unknown> {
  const completed = await child.exited;
  const line = completed.stdout.trimEnd().split("\n").at(-1) ?? "";
  if (completed.exitCode !== 0) throw new Error(`no result: ${Bun.inspect(completed)}`);
  return JSON.parse(line);
}

function lastProgress(child: Process): v.InferOutput<typeof ProgressSchema> {
  const line = child.stdout
    .split("\n")
    .findLast((text) => text.startsWith('{"event":"progress"') && text.endsWith("}"));
  return line === undefined ? { event: "progress" } : v.parse(ProgressSchema, JSON.parse(line));
}
