// Questions on a terminal, by clack, with three ways to answer: a value, Esc for "back", Ctrl-C for "leave". The end of
// the input and an abort from outside (SIGTERM) are "leave" too, so that no prompt waits for what cannot come.
// Streams are given, so that tests type the keys.
import type { Readable, Writable } from "node:stream";
import * as clack from "@clack/prompts";
import { cut } from "../table.ts";

export type Answer<T> =
  | { readonly kind: "given"; readonly value: T }
  | { readonly kind: "back" }
  | { readonly kind: "leave" };

export interface Choice {
  readonly value: string;
  readonly label: string;
  readonly hint?: string;
  /** The label when it has been chosen, and nobody compares it any more. */
  readonly short?: string;
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

/** clack's frame around a choice, in which it counts colours too; what is longer it breaks into several lines. */
const frameColumns = 16;

export class Prompts {
  readonly #ended = new AbortController();
  readonly #end = () => this.#ended.abort();
  /** The last key was Enter: what clack shows now is the answer, or why there is none. */
  #isEntered = false;

  constructor(
    readonly input: Readable,
    readonly output: Writable & { readonly columns?: number },
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
        options: this.#options(choices),
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
        options: this.#options(choices),
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
    clack.log.info(this.#wrap(text), { output: this.output });
  }

  warn(text: string): void {
    clack.log.warn(this.#wrap(text), { output: this.output });
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

  get #columns(): number {
    return this.output.columns || 80;
  }

  /** One line each, at any width. */
  #options(choices: readonly Choice[]) {
    const isEntered = () => this.#isEntered;
    const width = this.#columns - frameColumns;
    return choices.map(({ value, label, hint = "", short = label, disabled = false }) => {
      const hintWidth = width - Bun.stringWidth(label) - 3; // " (…)"
      return {
        value,
        disabled,
        ...(hint === "" || hintWidth < 10 ? {} : { hint: cut(hint, hintWidth) }),
        get label() {
          return isEntered() ? short : cut(label, width);
        },
      };
    });
  }

  /** Between words, so that a narrow terminal does not break them. */
  #wrap(text: string): string {
    const width = Math.max(20, this.#columns - 4);
    return text
      .split("\n")
      .flatMap((line) => wrapLine(line, width))
      .join("\n");
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
    this.#isEntered = false;
    const watch = (_: unknown, key: { readonly name?: string; readonly ctrl?: boolean } | undefined) => {
      isInterrupted = key?.ctrl === true && key.name === "c";
      this.#isEntered = key?.name === "return";
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

function wrapLine(line: string, width: number): readonly string[] {
  if (Bun.stringWidth(line) <= width) return [line];
  const lines = [""];
  for (const word of line.split(" ")) {
    const longer = `${lines.at(-1)}${lines.at(-1) === "" ? "" : " "}${word}`;
    if (Bun.stringWidth(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
