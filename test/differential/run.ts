// One run: a relay in a chain of namespaces, rounds of seeded frames into it, and after each round the far end and every
// counter against the model. A failure says where it was, what was expected, and the command that repeats it.

import * as v from "valibot";
import { StatsSchema, StatusSchema } from "../../src/control/protocol.ts";
import { Random } from "../config/random.ts";
import { type Injector, type Recorder, startInjector, startRecorder } from "../support/records.ts";
import { type RelayUnderTest, startRelay } from "../support/relay.ts";
import { openTopology, type Topology } from "../support/topology.ts";
import { waitFor, waitUntil } from "../support/wait.ts";
import { type Arrival, Assembler, Comparer } from "./arrivals.ts";
import { Generator, type LabelledFrame } from "./generator.ts";
import { Model } from "./model.ts";
import { addressText, macBytes } from "./packet.ts";
import { egressInterface, host, rules, textOf } from "./rules.ts";

export const profiles = ["balanced", "throughput", "latency"] as const;
export const disturbances = ["none", "reload", "add", "stop"] as const;

export interface RunOptions {
  readonly seed: number;
  readonly profile: (typeof profiles)[number];
  readonly workers: number;
  readonly ingress: "veth" | "tap";
  /** What happens to mcr in the middle of each round: SIGHUP, with a rule more or less, SIGSTOP and SIGCONT. */
  readonly disturbance: (typeof disturbances)[number];
  readonly firstRound: number;
  readonly rounds: number;
  readonly framesPerRound: number;
  /** Every nth round leaves fragments held, and waits until they are late. */
  readonly heldEvery: number;
  /** Of each round only these frames, [from, to). */
  readonly only?: readonly [number, number];
}

export interface Failure {
  readonly round: number;
  /** Of the round, counted from 0. */
  readonly frame: number | undefined;
  readonly sentences: readonly string[];
  readonly command: string;
}

export interface RunResult {
  readonly frames: number;
  readonly datagrams: number;
  readonly refused: number;
  readonly seconds: number;
  readonly failure: Failure | undefined;
}

const chunkFrames = 256;
/** How many datagrams may be under way; far less than a ring or a socket's buffer holds. */
const windowDatagrams = 4_000;
/** Longer, and fragments of one datagram would be late for one another. */
const roundSecondsMax = 1.5;
const stopMs = 200;

export async function run(options: RunOptions): Promise<RunResult> {
  await using bench = await openBench(options);
  const began = performance.now();
  const total = { frames: 0, datagrams: 0, refused: 0 };
  let failure: Failure | undefined;
  for (let i = 0; i < options.rounds && failure === undefined; i += 1) {
    const round = options.firstRound + i;
    const outcome = await bench.round(round);
    total.frames += outcome.frames;
    total.datagrams += outcome.datagrams;
    total.refused += outcome.refused;
    failure = outcome.failure;
  }
  failure ??= await bench.finish();
  return { ...total, seconds: (performance.now() - began) / 1_000, failure };
}

/** The command that repeats one round, or a part of it. */
export function commandOf(options: RunOptions, round: number, only?: readonly [number, number]): string {
  const { seed, profile, workers, ingress, disturbance, framesPerRound, heldEvery } = options;
  const words = [
    `bun test/differential/main.ts --seed ${seed} --profile ${profile} --workers ${workers}`,
    `--ingress ${ingress} --disturbance ${disturbance} --frames ${framesPerRound} --held-every ${heldEvery}`,
    `--first-round ${round} --rounds 1`,
    ...(only ? [`--only ${only[0]}-${only[1]}`] : []),
  ];
  return words.join(" ");
}

/** The same seed and round give the same frames. */
export function framesOf(options: RunOptions, round: number, mac: Uint8Array): readonly LabelledFrame[] {
  const generator = new Generator(new Random(options.seed * 1_009 + round), {
    mac,
    isTap: options.ingress === "tap",
    workers: options.workers,
  });
  const leavesHeld = round % options.heldEvery === options.heldEvery - 1;
  const frames = generator.round(options.framesPerRound, { leavesHeld });
  return options.only ? frames.slice(...options.only) : frames;
}

/** A frame that the kernel took. */
interface Fed {
  /** In its round. */
  readonly place: number;
  readonly frame: LabelledFrame;
  /** The model's. */
  readonly verdict: string;
}

interface RoundOutcome {
  readonly frames: number;
  readonly datagrams: number;
  readonly refused: number;
  readonly failure: Failure | undefined;
}

interface Bench extends AsyncDisposable {
  round(round: number): Promise<RoundOutcome>;
  /** Nothing more has come, and the recorder lost nothing. */
  finish(): Promise<Failure | undefined>;
}

async function openBench(options: RunOptions): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  const topology = stack.use(await openTopology("chain"));
  const name = options.ingress === "tap" ? "guest" : "veth1";
  const injector = await (options.ingress === "tap"
    ? startInjector(topology, "relay-ns", { tap: name, mac: "02:00:00:00:00:07" })
    : startInjector(topology, "gen-ns", { interface: "veth0" }));
  const mac = await macOf(topology, "relay-ns", name);
  const macs = {
    sender: await macOf(topology, "relay-ns", egressInterface.name),
    host: await macOf(topology, "sink-ns", "veth3"),
  };
  // Packets that wait for the neighbour to answer would be dropped by the kernel.
  await topology.output("relay-ns", [
    ...["ip", "neigh", "replace", addressText(host), "lladdr", await macText(topology, "sink-ns", "veth3")],
    ...["dev", egressInterface.name, "nud", "permanent"],
  ]);
  const text = textOf(name);
  // A ring that is gone round several times shows what lay in it before; one that is not read for a while has to hold more.
  const ringBytes = options.disturbance === "stop" ? 64 << 20 : 8 << 20;
  const settings = `profile = "${options.profile}"\nring_bytes = ${ringBytes}\n`;
  const relay = stack.use(await startRelay(topology, text, { workers: options.workers, settings }));
  const recorder = await startRecorder(topology, "sink-ns", "veth3");
  const run = new Run(options, topology, relay, injector, recorder, { name, mac, ...macs });
  return {
    round: (round) => run.round(round),
    finish: () => run.finish(),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

class Run {
  readonly #options: RunOptions;
  readonly #topology: Topology;
  readonly #relay: RelayUnderTest;
  readonly #injector: Injector;
  readonly #recorder: Recorder;
  readonly #ingress: { readonly name: string; readonly mac: Uint8Array };
  readonly #model: Model;
  readonly #assembler = new Assembler();
  readonly #comparer: Comparer;
  #arrivals: Arrival[] = [];
  /** Records to the injector, and of these the frames that the kernel took and the model saw. */
  #injected = 0;
  #given = 0;
  #lastRound = 0;
  #hasRuleMore = false;
  #isReloading = false;

  constructor(
    options: RunOptions,
    topology: Topology,
    relay: RelayUnderTest,
    injector: Injector,
    recorder: Recorder,
    ingress: {
      readonly name: string;
      readonly mac: Uint8Array;
      readonly sender: Uint8Array;
      readonly host: Uint8Array;
    },
  ) {
    this.#options = options;
    this.#topology = topology;
    this.#relay = relay;
    this.#injector = injector;
    this.#recorder = recorder;
    this.#ingress = ingress;
    this.#model = new Model(rules, { mac: ingress.mac, isTap: options.ingress === "tap" });
    this.#comparer = new Comparer(options.workers, ingress);
  }

  async round(round: number): Promise<RoundOutcome> {
    const frames = framesOf(this.#options, round, this.#ingress.mac);
    const fed: Fed[] = [];
    const refusedBefore = this.#injector.refused().length;
    const began = performance.now();
    const middle = Math.floor(frames.length / 2 / chunkFrames) * chunkFrames;
    this.#lastRound = round;
    for (let at = 0; at < frames.length; at += chunkFrames) {
      if (at === middle) await this.#disturb();
      await this.#feed(frames.slice(at, at + chunkFrames), at, fed);
      await this.#waitForArrivals(this.#model.expected.length - windowDatagrams, 1_000);
    }
    const seconds = (performance.now() - began) / 1_000;
    await this.#settle();
    const hasHeld = this.#model.heldFrames > 0;
    if (hasHeld && seconds > roundSecondsMax)
      throw new Error(`a round took ${seconds} s: fragments would be late; use fewer --frames`);
    this.#model.settle();
    const expected = this.#model.expected;
    await this.#waitForArrivals(expected.length, 4_000);
    const counters = await this.#compareCounters(hasHeld ? 6_000 : 2_000);
    this.#collect();
    const faults = this.#comparer.compare(expected, this.#arrivals);
    if (counters.length + faults.length === 0) counters.push(...(await this.#compareFrames()));
    const broken = this.#assembler.faults.splice(0);
    this.#model.expected = [];
    this.#arrivals = [];
    const outcome = {
      frames: frames.length,
      datagrams: expected.length,
      refused: this.#injector.refused().length - refusedBefore,
    };
    if (counters.length + faults.length + broken.length === 0) return { ...outcome, failure: undefined };
    const first = this.#given - fed.length;
    const fedAt = (frame: number | undefined) => (frame === undefined ? undefined : fed[frame - first]);
    const sentences = [
      ...broken.slice(0, 5),
      ...counters,
      ...faults.map(({ what, frame }) => [...tellFrame(fedAt(frame)), what].join(": ")),
      // So few of them tell the rest.
      ...(fed.length <= 3 ? fed.flatMap(tellFrame) : []),
    ];
    const frame = faults.map((fault) => fedAt(fault.frame)?.place).find((place) => place !== undefined);
    const command = commandOf(this.#options, round, this.#options.only);
    return { ...outcome, failure: { round, frame, sentences, command } };
  }

  /** What the kernel refuses, the model does not see. */
  async #feed(chunk: readonly LabelledFrame[], at: number, fed: Fed[]): Promise<void> {
    const known = this.#injector.refused().length;
    await this.#injector.inject(chunk);
    const refused = new Set(
      this.#injector
        .refused()
        .slice(known)
        .map(({ index }) => index - this.#injected),
    );
    this.#injected += chunk.length;
    chunk.forEach((frame, i) => {
      if (refused.has(i)) return;
      fed.push({ place: at + i, frame, verdict: this.#model.take(frame) });
      this.#given += 1;
    });
  }

  async finish(): Promise<Failure | undefined> {
    await this.#injector.finish();
    const { dropped, undescribed } = await this.#recorder.stop();
    this.#collect();
    const sentences = [
      ...(dropped > 0 ? [`the recorder lost ${dropped} frames: this run proves nothing`] : []),
      ...(undescribed > 0 ? [`${undescribed} frames at the far end that the kernel cannot describe`] : []),
      ...this.#comparer.compare([], this.#arrivals).map(({ what }) => what),
    ];
    if (sentences.length === 0) return undefined;
    const command = commandOf(this.#options, this.#lastRound);
    return { round: this.#lastRound, frame: undefined, sentences, command };
  }

  /** In the middle of a round. */
  async #disturb(): Promise<void> {
    switch (this.#options.disturbance) {
      case "none":
        return;
      case "reload":
        return this.#reload();
      case "add":
        await this.#changeRules();
        return this.#reload();
      case "stop":
        this.#relay.process.kill("SIGSTOP");
        // It goes on whatever becomes of the round.
        setTimeout(() => this.#relay.process.kill("SIGCONT"), stopMs);
        return;
    }
  }

  #reload(): void {
    this.#isReloading = true;
    this.#relay.process.kill("SIGHUP");
  }

  async #changeRules(): Promise<void> {
    const text = await Bun.file(this.#relay.file).text();
    const rule = `[[rule]]\nname = "more"\ningress = { interface = "${this.#ingress.name}", group = "239.1.8.1" }\negress = [{ interface = "${egressInterface.name}" }]\n`;
    await this.#relay.write(this.#hasRuleMore ? text.replace(rule, "") : `${text}${rule}`);
    this.#hasRuleMore = !this.#hasRuleMore;
  }

  /** A reload that was asked for is done. */
  async #settle(): Promise<void> {
    if (!this.#isReloading) return;
    this.#isReloading = false;
    const wanted = rules.length + (this.#hasRuleMore ? 1 : 0);
    await waitFor(
      async () => v.parse(StatusSchema, await this.#ask("status")),
      ({ last_reload, rules: states }) =>
        last_reload?.ok === true &&
        Object.values(states).reduce((total, count) => total + count, 0) === wanted,
      { what: `a reload with ${wanted} rules` },
    );
  }

  async #ask(what: "stats" | "status"): Promise<unknown> {
    const unix = `/proc/${this.#topology.holderPid}/root/run/mcr/mcr.sock`;
    return (await fetch(`http://mcr/v1/${what}`, { unix })).json();
  }

  #collect(): void {
    for (const frame of this.#recorder.frames) this.#arrivals.push(...this.#assembler.take(frame));
    this.#recorder.clear();
  }

  /** Too few of them in time is not told here: the comparison says which. */
  async #waitForArrivals(count: number, deadlineMs: number): Promise<void> {
    const has = () => {
      this.#collect();
      return this.#arrivals.length >= count;
    };
    await waitUntil(has, { what: "arrivals", deadlineMs, intervalMs: 2 }).catch(() => undefined);
  }

  /** Differences that are still there at the deadline. */
  async #compareCounters(deadlineMs: number): Promise<string[]> {
    let differences: string[] = [];
    const agree = async () => {
      differences = this.#counterDifferences(v.parse(StatsSchema, await this.#ask("stats")));
      return differences.length === 0;
    };
    await waitUntil(agree, { what: "counters", deadlineMs, intervalMs: 20 }).catch((thrown: unknown) => {
      if (differences.length === 0) throw thrown;
    });
    return differences;
  }

  /** What came as frames is what the relay says it sent as frames. */
  async #compareFrames(): Promise<readonly string[]> {
    const stats = v.parse(StatsSchema, await this.#ask("stats"));
    return rules.flatMap(({ name, egress }, rule) =>
      egress.flatMap((_, index) => {
        const says = stats.rules.find((each) => each.name === name)?.egress[index]?.frame_packets;
        const lane = `${rule} ${index}`;
        const came = this.#comparer.frames.has(lane) ? this.#comparer.frames.get(lane) : 0;
        return came === undefined || says === came
          ? []
          : [`rule ${name} egress ${index + 1} frames: relay ${says}, ${came} came`];
      }),
    );
  }

  #counterDifferences(stats: v.InferOutput<typeof StatsSchema>): string[] {
    const differences: string[] = [];
    const compare = (name: string, relay: number | undefined, model: number) => {
      if (relay !== model) differences.push(`${name}: relay ${relay}, model ${model}`);
    };
    const { name } = this.#ingress;
    const ingress = stats.interfaces.find((each) => each.interface === name);
    const model = this.#model;
    compare(`${name} packets`, ingress?.packets, model.packets);
    compare(`${name} matched`, ingress?.matched, model.matched);
    compare(`${name} bytes`, ingress?.bytes, model.bytes);
    const dropped = Object.entries(ingress?.dropped ?? {});
    for (const [reason, count] of Object.entries(model.dropped))
      compare(`${name} ${reason}`, dropped.find(([key]) => key === reason)?.[1], count);
    rules.forEach((rule, i) => {
      const seen = stats.rules.find((each) => each.name === rule.name);
      const counts = model.rules[i];
      compare(`rule ${rule.name} packets`, seen?.packets, counts?.packets ?? 0);
      compare(`rule ${rule.name} bytes`, seen?.bytes, counts?.bytes ?? 0);
      rule.egress.forEach((_, j) => {
        const egress = seen?.egress[j];
        const count = counts?.egress[j];
        const of = `rule ${rule.name} egress ${j + 1}`;
        compare(`${of} sent`, egress?.sent_packets, count?.sent ?? 0);
        compare(`${of} sent bytes`, egress?.sent_bytes, count?.sentBytes ?? 0);
        compare(`${of} error`, egress?.dropped.error, count?.error ?? 0);
        compare(`${of} expired`, egress?.dropped.expired, count?.expired ?? 0);
        compare(`${of} full`, egress?.dropped.full, 0);
        compare(`${of} unavailable`, egress?.dropped.unavailable, 0);
      });
    });
    return differences;
  }
}

function tellFrame(fed: Fed | undefined): readonly string[] {
  if (fed === undefined) return [];
  const { place, frame, verdict } = fed;
  const { gsoType, gsoSize, flags } = frame.offload;
  const bytes = Buffer.from(frame.bytes.subarray(0, 64)).toString("hex");
  const offload = `offload type ${gsoType} of ${gsoSize}, flags ${flags}`;
  return [
    `frame ${place} (${frame.kind}, ${frame.bytes.length} bytes, ${offload}, model: ${verdict})\n    ${bytes}`,
  ];
}

async function macText(topology: Topology, namespace: string, name: string): Promise<string> {
  const links = v.parse(
    v.tuple([v.object({ address: v.string() })]),
    JSON.parse(await topology.output(namespace, ["ip", "-json", "link", "show", "dev", name])),
  );
  return links[0].address;
}

async function macOf(topology: Topology, namespace: string, name: string): Promise<Uint8Array> {
  return macBytes(await macText(topology, namespace, name));
}
