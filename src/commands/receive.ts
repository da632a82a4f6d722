// `mcr receive`: joins, counts what arrives, and says what is wrong with it. Exit code 0 only if everything expected
// came exactly once. What its own sockets dropped is told apart from what the network lost.
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { ExitCode, fail } from "../error.ts";
import { Instruments, type ReceiverHandle, StreamError } from "../native/measure/instruments.ts";
import { Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { addressBytes, anySource, isMulticast } from "../net/address.ts";
import type { InterfaceState } from "../net/interfaces.ts";
import { plural } from "../numbers.ts";
import { readLatency, readStream } from "../stats/instruments.ts";
import { type Command, parseOptions, Switch } from "./command.ts";
import { clockName, Progress, usableInterface } from "./instrument.ts";
import { faultsOf, formatLive, formatResult, type ReceiveResult, resultOf } from "./receive-result.ts";
import { type Ending, runSlices } from "./slices.ts";
import { formatStream, parseStreams, type Stream, streamSpec } from "./streams.ts";
import { Duration, Interface, whole } from "./values.ts";

const OptionsSchema = v.object({
  interface: Interface,
  expect: v.optional(whole(1, Number.MAX_SAFE_INTEGER)),
  deadline: v.optional(Duration),
  json: Switch,
});

/** Of each socket: 60 ms of 100,000 packets a second; the kernel takes twice as much for its bookkeeping. */
const bufferBytes = 8 << 20;
/** After the last packet that was expected: time for a duplicate to show up. */
const lingerMs = 200;

export const receiveCommand: Command = {
  name: "receive",
  parameters: "<...streams>",
  summary: "count what arrives; streams as for send, or SOURCE,GROUP:PORT",
  options: [
    { flags: "--interface <name>", description: "where to join (required)" },
    {
      flags: "--expect <packets>",
      description: "ends when so many have come in all; fewer or more is a failure",
    },
    { flags: "--deadline <time>", description: "ends after this time at the latest: 500ms, 20s, 2m" },
    { flags: "--json", description: "print JSON" },
  ],
  async run(positionals, given, io) {
    const streams = parseStreams(positionals, { command: "receive", hasSource: true });
    const options = parseOptions("receive", OptionsSchema, given);
    const shim = new Shim();
    const link = usableInterface(shim, "receive", options.interface);
    const progress = new Progress(io, io.isTTY && !options.json);
    const checksumErrorsBefore = readChecksumErrors();
    const instruments = new Instruments();
    const receiver = openReceiver(instruments, streams, link, options.expect ?? 0);
    try {
      streams.forEach((stream, i) => {
        join(shim, instruments.receiverFd(receiver, i), stream, link);
      });
      io.stderr(`mcr receive: ready, ${plural(streams.length, "stream")} on ${options.interface}\n`);
      const words = instruments.receiverCounters(receiver, streams.length);
      const read = (endedBy: Ending) =>
        resultOf({
          streams,
          counters: streams.map((_, i) => readStream(words, i)),
          latency: readLatency(instruments.receiverLatency(receiver)),
          expected: options.expect,
          endedBy,
          checksumErrors: readChecksumErrors() - checksumErrorsBefore,
          bufferBytes: instruments.receiverBufferBytes(receiver),
        });
      const endedBy = await runSlices({
        run: (budgetMs) => instruments.runReceiver(receiver, budgetMs),
        progress: () => progress.show(() => formatLive(read("signal"), io.columns)),
        deadlineMs: options.deadline,
      });
      instruments.runReceiver(receiver, endedBy === "done" ? lingerMs : 1);
      progress.clear();
      const result = read(endedBy);
      io.stdout(options.json ? formatJson(result) : formatResult(result, options.interface, io.columns));
      return faultsOf(result, options.interface).length === 0 ? ExitCode.ok : ExitCode.failed;
    } finally {
      instruments.closeReceiver(receiver);
    }
  },
};

function formatJson(result: ReceiveResult): string {
  return `${JSON.stringify(result, null, 2)}\n`;
}

function openReceiver(
  instruments: Instruments,
  streams: readonly Stream[],
  { ifindex, name }: InterfaceState,
  expect: number,
): ReceiverHandle {
  const options = { ifindex, expect, clock: clockName(), buffer_bytes: bufferBytes };
  try {
    return instruments.openReceiver(options, streams.map(streamSpec));
  } catch (error) {
    const stream = error instanceof StreamError ? streams[error.stream] : undefined;
    return refuse(error, stream === undefined ? "" : ` ${formatStream(stream)} on ${name}`);
  }
}

function join(shim: Shim, fd: number, stream: Stream, { ifindex, name }: InterfaceState): void {
  const { address, source } = stream;
  if (!isMulticast(address)) return;
  try {
    shim.join(fd, ifindex, addressBytes(address), source === undefined ? anySource : addressBytes(source));
  } catch (error) {
    refuse(error, ` ${formatStream(stream)} on ${name}`);
  }
}

function refuse(error: unknown, what: string): never {
  if (!(error instanceof SystemError)) throw error;
  const isDenied = error.code === "EACCES" || error.code === "EPERM";
  return fail(
    `mcr receive: cannot receive${what}: ${error.message}${cureOf(error.code)}`,
    isDenied ? ExitCode.noPermission : ExitCode.failed,
  );
}

function cureOf(code: string): string {
  switch (code) {
    case "EADDRINUSE":
      return "; another program has this port (ss -ulnp shows which)";
    case "EADDRNOTAVAIL":
      return "; give a group, or an address of this host (ip address shows them)";
    case "EMFILE":
      return "; raise the number of open files (ulimit -n), each stream needs one";
    case "EACCES":
    case "EPERM":
      return "; ports below 1024 need root or CAP_NET_BIND_SERVICE";
    default:
      return "";
  }
}

/** Datagrams of this network namespace whose UDP checksum was wrong; the kernel counts them as the socket's drops. */
function readChecksumErrors(): number {
  try {
    const lines = readFileSync("/proc/net/snmp", "utf8").split("\n");
    const [names, values] = lines.filter((line) => line.startsWith("Udp: ")).map((line) => line.split(" "));
    return Number(values?.[names?.indexOf("InCsumErrors") ?? -1] ?? 0);
  } catch {
    return 0;
  }
}
