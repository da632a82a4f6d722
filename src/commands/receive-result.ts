// What `mcr receive` found: counters → result, what is wrong with it as sentences, and the table. Pure.
import { formatNumber, plural } from "../numbers.ts";
import { type Kind, kinds, type Latency, type StreamCounters } from "../stats/instruments.ts";
import { formatTable } from "../table.ts";
import type { Ending } from "./slices.ts";
import { formatStream, type Stream } from "./streams.ts";

export interface StreamResult {
  readonly address: string;
  readonly port: number;
  readonly source: string | null;
  readonly kind: Kind;
  /** Datagrams that came, good and once. */
  readonly received: number;
  readonly bytes: number;
  /** Kind ts: transport packets, at least so many; kind unknown: null, nobody can tell. */
  readonly lost: number | null;
  readonly duplicated: number | null;
  readonly reordered: number | null;
  readonly corrupt: number;
  /** Intact, but of another stream. */
  readonly foreign: number;
  /** Its sender began anew so often. */
  readonly restarts: number;
  readonly first: string | null;
  readonly last: string | null;
  /** Dropped by the socket of this program. */
  readonly socket_drops: number;
}

export interface ReceiveResult {
  readonly ended_by: "expected" | "deadline" | "signal";
  readonly expected: number | null;
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly reordered: number;
  readonly corrupt: number;
  readonly foreign: number;
  readonly restarts: number;
  readonly socket_drops: number;
  /** Of all programs in this network namespace; the sockets count them among their drops. */
  readonly checksum_errors: number;
  readonly socket_buffer_bytes: number;
  readonly latency: Latency | null;
  readonly streams: readonly StreamResult[];
}

export interface Received {
  readonly streams: readonly Stream[];
  readonly counters: readonly StreamCounters[];
  readonly latency: Latency | undefined;
  readonly expected: number | undefined;
  readonly endedBy: Ending;
  readonly checksumErrors: number;
  readonly bufferBytes: number;
}

export function resultOf(received: Received): ReceiveResult {
  const streams = received.streams.flatMap((stream, i) => {
    const counters = received.counters[i];
    return counters === undefined ? [] : [streamResult(stream, counters)];
  });
  const sum = (value: (stream: StreamResult) => number | null) =>
    streams.reduce((total, stream) => total + (value(stream) ?? 0), 0);
  return {
    ended_by: received.endedBy === "done" ? "expected" : received.endedBy,
    expected: received.expected ?? null,
    received: sum((stream) => stream.received),
    lost: sum((stream) => stream.lost),
    duplicated: sum((stream) => stream.duplicated),
    reordered: sum((stream) => stream.reordered),
    corrupt: sum((stream) => stream.corrupt),
    foreign: sum((stream) => stream.foreign),
    restarts: sum((stream) => stream.restarts),
    socket_drops: sum((stream) => stream.socket_drops),
    checksum_errors: received.checksumErrors,
    socket_buffer_bytes: received.bufferBytes,
    latency: received.latency ?? null,
    streams,
  };
}

function streamResult({ address, port, source }: Stream, counters: StreamCounters): StreamResult {
  const { packets, duplicated, corrupt, foreign } = counters;
  const kind = kinds[counters.kind] ?? "unknown";
  const known = (value: number) => (kind === "unknown" ? null : value);
  return {
    address,
    port,
    source: source ?? null,
    kind,
    received: packets - duplicated - corrupt - foreign,
    bytes: counters.bytes,
    lost: known(counters.lost),
    duplicated: known(duplicated),
    reordered: known(counters.reordered),
    corrupt,
    foreign,
    restarts: counters.restarts,
    first: timeOf(counters.first_ns),
    last: timeOf(counters.last_ns),
    socket_drops: counters.socket_drops,
  };
}

function timeOf(ns: number): string | null {
  return ns === 0 ? null : new Date(ns / 1e6).toISOString();
}

/** Everything that keeps the exit code from 0, most telling first; empty when all came exactly once. */
export function faultsOf(result: ReceiveResult, interfaceName: string): string[] {
  const { received, expected, streams } = result;
  const silent = streams.filter((stream) => stream.first === null);
  const faults: string[] = [];
  const first = silent[0];
  if (first !== undefined && silent.length === streams.length)
    faults.push(
      `nothing arrived: tcpdump -ni ${interfaceName} tells whether it reaches this interface; if it does, the reverse-path check may drop it (nstat -az TcpExtIPReversePathFilter)`,
    );
  else if (first !== undefined)
    faults.push(
      `nothing arrived for ${plural(silent.length, "stream")} of ${streams.length}, the first is ${labelOf(first)}`,
    );
  if (expected !== null && received < expected)
    faults.push(`${plural(expected - received, "packet")} fewer than expected`);
  if (expected !== null && received > expected)
    faults.push(`${plural(received - expected, "packet")} more than expected`);
  for (const what of ["lost", "duplicated", "corrupt"] as const)
    if (result[what] > 0) faults.push(`${formatNumber(result[what])} ${what}`);
  const foreign = streams.filter(({ kind }) => kind === "mcr").reduce((sum, each) => sum + each.foreign, 0);
  if (foreign > 0) faults.push(`${formatNumber(foreign)} of another stream`);
  if (result.socket_drops > 0) faults.push(dropSentence(result));
  return faults;
}

function dropSentence({ socket_drops, checksum_errors, socket_buffer_bytes }: ReceiveResult): string {
  const drops = `${formatNumber(socket_drops)} dropped by this receiver's own sockets`;
  if (checksum_errors > 0)
    return `${drops}, ${formatNumber(Math.min(checksum_errors, socket_drops))} of them for a wrong UDP checksum`;
  return `${drops}, not by the network: their buffers of ${formatNumber(socket_buffer_bytes)} bytes were full (run it with CAP_NET_ADMIN, or raise net.core.rmem_max)`;
}

/** What fits a screen while it runs. */
const liveStreamsMax = 20;

export function formatLive(result: ReceiveResult, columns: number): string {
  const total = `${plural(result.received, "packet")} received, ${formatNumber(result.lost)} lost`;
  return result.streams.length > liveStreamsMax ? total : `${formatStreams(result, columns)}${total}`;
}

export function formatResult(result: ReceiveResult, interfaceName: string, columns: number): string {
  return [
    formatStreams(result, columns),
    formatLatency(result.latency),
    formatVerdict(result, interfaceName),
  ].join("");
}

function formatStreams({ streams }: ReceiveResult, columns: number): string {
  const hasForeign = streams.some(({ foreign }) => foreign > 0);
  const headings = ["STREAM", "KIND", "RECEIVED", "LOST", "DUPLICATED", "REORDERED", "CORRUPT"];
  const rows = streams.map((stream) => [
    labelOf(stream),
    stream.kind,
    stream.received,
    stream.lost ?? "?",
    stream.duplicated ?? "?",
    stream.reordered ?? "?",
    stream.corrupt,
    ...(hasForeign ? [stream.foreign] : []),
    clockTime(stream.first),
    clockTime(stream.last),
  ]);
  return formatTable(
    [...headings, ...(hasForeign ? ["FOREIGN"] : []), "FIRST", "LAST"],
    rows,
    Math.max(columns, 100),
  );
}

function formatVerdict(result: ReceiveResult, interfaceName: string): string {
  const faults = faultsOf(result, interfaceName);
  const restarts = result.restarts > 0 ? `, its sender began anew ${plural(result.restarts, "time")}` : "";
  const head = `${plural(result.received, "packet")} received${result.expected === null ? "" : ` of ${formatNumber(result.expected)}`}${restarts}`;
  if (faults.length === 0) return `${head}: ok\n`;
  return `${head}\n${faults.map((fault) => `failed: ${fault}\n`).join("")}`;
}

function formatLatency(latency: Latency | null): string {
  if (latency === null) return "";
  const { p50_ns, p90_ns, p99_ns, p999_ns, max_ns } = latency;
  const parts = { p50: p50_ns, p90: p90_ns, p99: p99_ns, "p99.9": p999_ns, max: max_ns };
  const text = Object.entries(parts).map(([name, ns]) => `${name} ${formatTime(ns)}`);
  return `latency: ${text.join(", ")}\n`;
}

/** Three digits of a unit that fits. */
export function formatTime(ns: number): string {
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toPrecision(3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toPrecision(3)} ms`;
  return `${(ns / 1e9).toPrecision(3)} s`;
}

function labelOf({ address, port, source }: StreamResult): string {
  return formatStream({ address, port, source: source ?? undefined });
}

/** `13:59:07.123`, of this machine's time zone. */
function clockTime(iso: string | null): string {
  if (iso === null) return "never";
  const time = new Date(iso);
  const pad = (value: number, digits = 2) => String(value).padStart(digits, "0");
  return `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(time.getMilliseconds(), 3)}`;
}
