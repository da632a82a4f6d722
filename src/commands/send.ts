// `mcr send`: test traffic for one stream or many, and how well the rate was kept. Every payload carries stream,
// sequence and send time, which `mcr receive` checks. The work is the instruments'; this says what, and reads the counters.
import { ExitCode, fail } from "../error.ts";
import { Instruments } from "../native/measure/instruments.ts";
import { Shim } from "../native/shim.ts";
import { SystemError } from "../native/system-error.ts";
import { isMulticast } from "../net/address.ts";
import { formatNumber, plural } from "../numbers.ts";
import { type GeneratorCounters, readGenerator, readSentByStream } from "../stats/instruments.ts";
import { formatTable } from "../table.ts";
import { type Command, parseOptions } from "./command.ts";
import { clockName, Progress, usableInterface } from "./instrument.ts";
import { planSend, type SendOptions, SendOptionsSchema, type SendPlan } from "./send-plan.ts";
import { type Ending, runSlices } from "./slices.ts";
import { parseStreams, type Stream, streamSpec } from "./streams.ts";

export const sendCommand: Command = {
  name: "send",
  parameters: "<...streams>",
  summary: "send test traffic to GROUP:PORT, GROUP:PORT+N or ADDRESS:PORT",
  options: [
    { flags: "--interface <name>", description: "where it leaves (required)" },
    { flags: "--rate <pps>", description: "packets a second of each stream; 0: as fast as it goes (100)" },
    { flags: "--total-rate <pps>", description: "packets a second of all streams together" },
    { flags: "--size <bytes>", description: "UDP payload of each packet, 36 or more (1024)" },
    { flags: "--count <packets>", description: "ends after so many packets of each stream" },
    { flags: "--duration <time>", description: "ends after this time: 500ms, 10s, 2m" },
    { flags: "--burst <packets>", description: "packets of a stream in a row (1, or as --gso)" },
    { flags: "--ttl <hops>", description: "time to live (8)" },
    { flags: "--source-port <port>", description: "port it is sent from (the kernel's choice)" },
    { flags: "--payload <text>", description: "text, or @FILE, repeated behind the header (zeros)" },
    { flags: "--gso <packets>", description: "hand over so many packets as one super-frame" },
    { flags: "--fragment", description: "allow a size above the MTU: IP fragments" },
    { flags: "--json", description: "print JSON" },
  ],
  async run(positionals, given, io) {
    const streams = parseStreams(positionals, { command: "send", hasSource: false });
    const options = parseOptions("send", SendOptionsSchema, given);
    const shim = new Shim();
    const link = usableInterface(shim, "send", options.interface);
    const plan = await planSend(options, streams.length, link.mtu);
    const progress = new Progress(io, io.isTTY && !options.json);
    const fd = openSocket(shim, options, link.ifindex);
    const instruments = new Instruments();
    const generator = instruments.openGenerator(
      {
        fd,
        clock: clockName(),
        count: plan.count,
        duration_ns: plan.durationNs,
        payload_bytes: plan.payloadBytes,
        rate_pps: plan.totalRate,
        burst: plan.burst,
        segments: options.gso,
      },
      streams.map(streamSpec),
      plan.body,
    );
    const words = instruments.generatorCounters(generator, streams.length);
    try {
      const ending = await runSlices({
        run: (budgetMs) => instruments.runGenerator(generator, budgetMs),
        progress: () =>
          progress.show(() => `${formatNumber(readGenerator(words).sent_packets)} packets sent`),
      });
      progress.clear();
      const result = resultOf(plan, streams, readGenerator(words), readSentByStream(words), ending);
      io.stdout(options.json ? `${JSON.stringify(result, null, 2)}\n` : formatResult(result, io.columns));
      return ExitCode.ok;
    } catch (error) {
      progress.clear();
      if (!(error instanceof SystemError)) throw error;
      return fail(explain(error, options, readGenerator(words).sent_packets, streams), ExitCode.failed);
    } finally {
      instruments.closeGenerator(generator);
      shim.close(fd);
    }
  },
};

function openSocket(shim: Shim, options: SendOptions, ifindex: number): number {
  try {
    return shim.openEgress({
      ifindex,
      source: 0,
      source_port: options.sourcePort ?? 0,
      ttl: options.ttl ?? 8,
      dscp: 0,
    });
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const isDenied = error.code === "EACCES" || error.code === "EPERM";
    const what =
      error.code === "EADDRINUSE" || isDenied
        ? `port ${options.sourcePort}`
        : `a socket on ${options.interface}`;
    const cure = isDenied ? "; run as root, or give another --source-port" : "";
    return fail(
      `mcr send: cannot send from ${what}: ${error.message}${cure}`,
      isDenied ? ExitCode.noPermission : ExitCode.failed,
    );
  }
}

function explain(error: SystemError, options: SendOptions, sent: number, streams: readonly Stream[]): string {
  const hosts = streams.filter(({ address }) => !isMulticast(address)).map(({ address }) => address);
  const cures: Readonly<Record<string, string>> = {
    EINVAL: options.gso > 1 ? "; leave out --gso, this interface may not take super-frames" : "",
    EIO: options.gso > 1 ? "; leave out --gso, this interface may not take super-frames" : "",
    ENETUNREACH: `; ip route get ${hosts[0] ?? ""} oif ${options.interface} tells what is missing`,
    EHOSTUNREACH: `; ip route get ${hosts[0] ?? ""} oif ${options.interface} tells what is missing`,
    ENETDOWN: `; ip link set ${options.interface} up`,
    EPERM: "; a firewall rule of this host forbids it (nft list ruleset)",
  };
  return `mcr send: stopped after ${plural(sent, "packet")}: ${error.message}${cures[error.code] ?? ""}`;
}

export interface SendResult {
  readonly streams: readonly { readonly address: string; readonly port: number; readonly sent: number }[];
  readonly sent: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly rate_pps: number;
  /** Null: as fast as it went. */
  readonly wanted_pps: number | null;
  readonly accuracy_percent: number | null;
  readonly retries: number;
  readonly errors: number;
  /** Of the schedule: stalls of this machine that were too long to catch up with. */
  readonly skipped_ms: number;
  readonly ended_by: Ending;
}

export function resultOf(
  plan: SendPlan,
  streams: readonly Stream[],
  counters: GeneratorCounters,
  sentByStream: readonly number[],
  ending: Ending,
): SendResult {
  const rate = plan.totalRate === 0 || counters.last_ns === counters.first_ns ? wholeRate : pacedRate;
  const rate_pps = rate(counters);
  // One batch has no rate that could be kept.
  const isKept = plan.totalRate > 0 && counters.last_ns > counters.first_ns;
  return {
    streams: streams.map(({ address, port }, i) => ({ address, port, sent: sentByStream[i] ?? 0 })),
    sent: counters.sent_packets,
    bytes: counters.sent_packets * plan.payloadBytes,
    seconds: Math.max(0, counters.end_ns - counters.first_ns) / 1e9,
    rate_pps,
    wanted_pps: plan.totalRate === 0 ? null : plan.totalRate,
    accuracy_percent: isKept ? (100 * rate_pps) / plan.totalRate : null,
    retries: counters.retries,
    errors: counters.errors,
    skipped_ms: counters.skipped_ns / 1e6,
    ended_by: ending,
  };
}

/** From the first batch to the last, which was due at its beginning and not at its end. */
function pacedRate({ sent_packets, last_packets, first_ns, last_ns }: GeneratorCounters): number {
  return (Math.max(0, sent_packets - last_packets) * 1e9) / (last_ns - first_ns);
}

function wholeRate({ sent_packets, first_ns, end_ns }: GeneratorCounters): number {
  return end_ns > first_ns ? (sent_packets * 1e9) / (end_ns - first_ns) : 0;
}

export function formatResult(result: SendResult, columns: number): string {
  const { wanted_pps, accuracy_percent } = result;
  const headings = ["STREAMS", "SENT", "SECONDS", "RATE, PPS", "WANTED", "ACCURACY", "RETRIES"];
  const row = [
    result.streams.length,
    result.sent,
    result.seconds.toFixed(3),
    Math.round(result.rate_pps),
    wanted_pps ?? "any",
    accuracy_percent === null ? "" : `${accuracy_percent.toFixed(2)} %`,
    result.retries,
  ];
  const remark =
    result.skipped_ms > 0
      ? `this machine stood still: ${result.skipped_ms.toFixed(0)} ms of the schedule were left out\n`
      : "";
  return formatTable(headings, [row], columns) + remark;
}
