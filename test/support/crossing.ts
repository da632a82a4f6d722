// What nearly every acceptance scenario does: receivers join, one generator sends a known number of packets at a
// steady rate, and both ends report. Rates are those that two shared cores carry without any relay, with room to
// spare; where the published load is higher, `published` says so in the test's name.

import type { Topology } from "./topology.ts";
import {
  type ReceiveOptions,
  type ReceiveResult,
  type SendOptions,
  type SendResult,
  send,
  startReceiver,
} from "./traffic.ts";

export interface Generator extends SendOptions {
  /** gen-ns by default. */
  readonly namespace?: string;
  readonly ratePps: number;
  readonly countPerStream: number;
}

export interface Sink extends Omit<ReceiveOptions, "expect" | "deadlineSeconds"> {
  /** sink-ns by default. */
  readonly namespace?: string;
}

/** A receiver that lacks packets gives up so long after the sender should have finished. */
const graceSeconds = 10;

/** Each sink expects as many packets as the generator sends; `copies`: that many times as many. */
export async function crossAll(
  topology: Topology,
  { namespace: from = "gen-ns", ...generator }: Generator,
  sinks: readonly Sink[],
  copies = 1,
): Promise<{ sent: SendResult; received: readonly ReceiveResult[] }> {
  const count = generator.countPerStream * (generator.streams ?? 1);
  const receivers = await Promise.all(
    sinks.map(({ namespace: to = "sink-ns", ...sink }) =>
      startReceiver(topology, to, {
        ...sink,
        expect: count * copies,
        deadlineSeconds: Math.ceil(count / generator.ratePps) + graceSeconds,
      }),
    ),
  );
  const sent = await send(topology, from, generator);
  return { sent, received: await Promise.all(receivers.map((receiver) => receiver.finished())) };
}

export async function cross(
  topology: Topology,
  generator: Generator,
  sink: Sink,
  copies = 1,
): Promise<{ sent: SendResult; received: ReceiveResult }> {
  const { sent, received } = await crossAll(topology, generator, [sink], copies);
  const [only] = received;
  if (!only) throw new Error("there is one sink");
  return { sent, received: only };
}

/** ` at 20,000/s (published 100,000/s: …)`: the end of a test's name. */
export function paced(ratePps: number, publishedPps?: number): string {
  const here = ` at ${ratePps.toLocaleString("en")}/s`;
  if (publishedPps === undefined || publishedPps <= ratePps) return here;
  return `${here} (published ${publishedPps.toLocaleString("en")}/s; generator, relays and sinks share two cores here)`;
}
