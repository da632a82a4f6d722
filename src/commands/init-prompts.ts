// Questions on a terminal, by clack, with three ways to answer: a value, Esc for "back", Ctrl-C for "leave". The end of
// the input and an abort from outside (SIGTERM) are "leave" too, so that no prompt waits for what cannot come.
// Streams are given, so that tests type the keys.
import type { Readable, Writable } from "node:stream";
import * as clack from "@clack/prompts";

export type Answer<T> =
  | { readonly kind: "given"; readonly value: T }
  | { readonly kind: "back" }
  | { readonly kind: "leave" };

export interface Choice {
  readonly value: string;
  readonly label: string;
  readonly hint?: string;
  /** Shown, and why it cannot be chosen. */
  readonly disabled?: boolean;
}

export interface TextQuestion {
  readonly message: string;
  readonly placeholder?: string;
  readonly initial?: string;
  /** What is wrong with it, in a sentence. */
  readonly validate: (text: string) => string | undefined;
}

export class Prompts {
  readonly #ended = new AbortController();
  readonly #end = () => this.#ended.abort();

  constructor(
    readonly input: Readable,
    readonly output: Writable,
  ) {
    input.once("end", this.#end);
    input.once("close", this.#end);
  }

  /** Whatever is being asked, and everything that would be, is left. */
  leave(): void {
    this.#ended.abort();
  }

  get hasLeft(): boolean {
    return this.#ended.signal.aborted;
  }

  one(message: string, choices: readonly Choice[], initial?: string): Promise<Answer<string>> {
    return this.#ask((common) =>
      clack.select({
        ...common,
        message,
        options: choices.map((choice) => ({ ...choice })),
        ...(initial === undefined ? {} : { initialValue: initial }),
      }),
    );
  }

  many(
    message: string,
    choices: readonly Choice[],
    initial: readonly string[] = [],
    { isRequired = true }: { readonly isRequired?: boolean } = {},
  ): Promise<Answer<string[]>> {
    return this.#ask((common) =>
      clack.multiselect({
        ...common,
        message,
        options: choices.map((choice) => ({ ...choice })),
        initialValues: initial,
        required: isRequired,
      }),
    );
  }

  text({ message, placeholder, initial, validate }: TextQuestion): Promise<Answer<string>> {
    return this.#ask((common) =>
      clack.text({
        ...common,
        message,
        ...(placeholder === undefined ? {} : { placeholder }),
        ...(initial === undefined ? {} : { initialValue: initial }),
        validate: (text) => validate((text ?? "").trim()),
      }),
    );
  }

  intro(text: string): void {
    clack.intro(text, { output: this.output });
  }

  outro(text: string): void {
    clack.outro(text, { output: this.output });
  }

  say(text: string): void {
    clack.log.info(text, { output: this.output });
  }

  warn(text: string): void {
    clack.log.warn(text, { output: this.output });
  }

  /** As it is: no box, which would break lines that people copy. */
  show(title: string, text: string): void {
    clack.log.step(`${title}\n${text.trimEnd()}`, { output: this.output });
  }

  /** Written over by the next one, and gone with an empty one. */
  progress(text: string): void {
    this.output.write(`\r\x1b[2K${text}`);
  }

  /** The modes are clack's to restore; a cursor that it left hidden is not. */
  close(): void {
    this.input.off("end", this.#end);
    this.input.off("close", this.#end);
    this.output.write("\x1b[?25h");
  }

  async #ask<T>(
    ask: (common: {
      input: Readable;
      output: Writable;
      signal: AbortSignal;
    }) => Promise<T | typeof clack.CANCEL_SYMBOL>,
  ): Promise<Answer<T>> {
    if (this.hasLeft || this.input.destroyed || this.input.readableEnded) return { kind: "leave" };
    // One of its own for each question: clack never takes its listener off again.
    const abort = new AbortController();
    const leave = () => abort.abort();
    this.#ended.signal.addEventListener("abort", leave);
    let isInterrupted = false;
    const watch = (_: unknown, key: { readonly name?: string; readonly ctrl?: boolean } | undefined) => {
      isInterrupted = key?.ctrl === true && key.name === "c";
    };
    this.input.prependListener("keypress", watch);
    try {
      const value = await ask({ input: this.input, output: this.output, signal: abort.signal });
      if (!clack.isCancel(value)) return { kind: "given", value };
      return { kind: isInterrupted || this.hasLeft ? "leave" : "back" };
    } finally {
      this.input.off("keypress", watch);
      this.#ended.signal.removeEventListener("abort", leave);
    }
  }
}
