// What `mcr send` and `mcr receive` call: the functions of the instruments with TypeScript's types, as ../shim.ts has
// those of the relay's shim. Sockets and memberships are the shim's; a descriptor is all that the two share.
import { type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { type Handle, opened } from "../handle.ts";
import { checked, SystemError } from "../system-error.ts";
import { encode, instrumentCounters, type Struct } from "./layouts.ts";
import { openLibrary } from "./library.ts";

export type GeneratorHandle = Handle<"generator">;
export type ReceiverHandle = Handle<"receiver">;
export type StreamSpec = Struct<"mcr_stream_spec">;
/** Without what points into memory: that is given beside it. */
export type GeneratorOptions = Omit<
  Struct<"mcr_generator_options">,
  "streams" | "stream_count" | "body" | "body_bytes"
>;
export type ReceiverOptions = Omit<Struct<"mcr_receiver_options">, "streams" | "stream_count">;

/** A stream that could not be opened: which one, and the kernel's reason. */
export class StreamError extends SystemError {
  constructor(
    errno: number,
    readonly stream: number,
  ) {
    super(errno);
  }
}

export class Instruments {
  readonly #c = openLibrary();

  // -- generator.c

  openGenerator(
    options: GeneratorOptions,
    streams: readonly StreamSpec[],
    body: Uint8Array,
  ): GeneratorHandle {
    const specs = encode("mcr_stream_spec", streams);
    const bodyBytes = body.length === 0 ? new Uint8Array(1) : body;
    const pointers = { streams: ptr(specs), body: ptr(bodyBytes) };
    const counts = { stream_count: streams.length, body_bytes: body.length };
    const spec = encode("mcr_generator_options", [{ ...options, ...pointers, ...counts }]);
    const generator = opened<GeneratorHandle>((error) => this.#c.mcr_generator_open(spec, error));
    // As in Shim.buildTable: alive until here.
    [specs, bodyBytes].forEach((part) => void part.byteLength);
    return generator;
  }

  /** Blocks for about budgetMs. True when all is sent. */
  runGenerator(generator: GeneratorHandle, budgetMs: number): boolean {
    return checked(this.#c.mcr_generator_run(generator, budgetMs)) === 1;
  }

  /** Live: the counters of layouts.ts, then the packets sent of each stream. */
  generatorCounters(generator: GeneratorHandle, streams: number): BigUint64Array {
    const bytes = instrumentCounters.bytes.generator + 8 * streams;
    return this.#words(this.#c.mcr_generator_counters(generator), bytes);
  }

  closeGenerator(generator: GeneratorHandle): void {
    this.#c.mcr_generator_close(generator);
  }

  // -- receiver.c

  /** Throws StreamError where one stream is to blame. */
  openReceiver(options: ReceiverOptions, streams: readonly StreamSpec[]): ReceiverHandle {
    const specs = encode("mcr_stream_spec", streams);
    const counts = { streams: ptr(specs), stream_count: streams.length };
    const spec = encode("mcr_receiver_options", [{ ...options, ...counts }]);
    const failed = new Uint32Array(1);
    try {
      return opened((error) => this.#c.mcr_receiver_open(spec, failed, error));
    } catch (error) {
      const stream = failed[0] ?? streams.length;
      if (!(error instanceof SystemError) || stream >= streams.length) throw error;
      throw new StreamError(error.errno, stream);
    } finally {
      void specs.byteLength;
    }
  }

  /** The socket of one stream, to join its group on. */
  receiverFd(receiver: ReceiverHandle, stream: number): number {
    return checked(this.#c.mcr_receiver_fd(receiver, stream));
  }

  /** Blocks for about budgetMs. True when what was expected came. */
  runReceiver(receiver: ReceiverHandle, budgetMs: number): boolean {
    return checked(this.#c.mcr_receiver_run(receiver, budgetMs)) === 1;
  }

  /** Live: the counters of layouts.ts for each stream in turn. */
  receiverCounters(receiver: ReceiverHandle, streams: number): BigUint64Array {
    return this.#words(this.#c.mcr_receiver_counters(receiver), instrumentCounters.bytes.stream * streams);
  }

  /** Live: the head and the buckets of layouts.ts. */
  receiverLatency(receiver: ReceiverHandle): BigUint64Array {
    const { bytes, latencyBuckets } = instrumentCounters;
    return this.#words(this.#c.mcr_receiver_latency(receiver), bytes.latency + 8 * latencyBuckets);
  }

  receiverBufferBytes(receiver: ReceiverHandle): number {
    return checked(this.#c.mcr_receiver_buffer_bytes(receiver));
  }

  closeReceiver(receiver: ReceiverHandle): void {
    this.#c.mcr_receiver_close(receiver);
  }

  #words(start: Pointer | bigint | null, bytes: number): BigUint64Array {
    return new BigUint64Array(toArrayBuffer(start as Pointer, 0, bytes));
  }
}
