// A child process as tests want it: its output so far as text, waiting for a line, and an end that never rejects.
// Knows nothing of namespaces; topology.ts starts these inside one.

import { waitFor } from "./wait.ts";

export interface Completed {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SpawnOptions {
  /** Written to stdin, which is closed after it; without it stdin stays open for write(). */
  readonly stdin?: string;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Takes stdout as bytes; `stdout` stays empty then. */
  readonly onBytes?: (bytes: Uint8Array) => void;
}

export class Process {
  stdout = "";
  stderr = "";
  /** Set as soon as the process has ended and all of its output has been read. */
  completed: Completed | undefined;
  readonly pid: number;
  readonly exited: Promise<Completed>;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;

  constructor(argv: readonly string[], { stdin, env, onBytes }: SpawnOptions = {}) {
    this.#child = Bun.spawn([...argv], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...env },
    });
    this.pid = this.#child.pid;
    const addText = asText((text) => {
      this.stdout += text;
    });
    const output = Promise.all([
      read(this.#child.stdout, onBytes ?? addText),
      read(
        this.#child.stderr,
        asText((text) => {
          this.stderr += text;
        }),
      ),
    ]);
    this.exited = this.#end(output);
    if (stdin !== undefined) {
      this.write(stdin);
      this.closeStdin();
    }
  }

  write(text: string): void {
    this.#child.stdin.write(text);
    this.#child.stdin.flush();
  }

  /** Resolves when the pipe has taken them. */
  async writeBytes(bytes: Uint8Array): Promise<void> {
    this.#child.stdin.write(bytes);
    await this.#child.stdin.flush();
  }

  closeStdin(): void {
    this.#child.stdin.end();
  }

  kill(signal: NodeJS.Signals = "SIGTERM"): void {
    this.#child.kill(signal);
  }

  /** The first match in stdout or stderr, from the beginning of the output. Throws when the process ends without it. */
  async waitForOutput(pattern: string | RegExp, deadlineMs = 5000): Promise<string> {
    const seen = await waitFor(
      () => {
        const match = find(pattern, this.stdout) ?? find(pattern, this.stderr);
        if (match === undefined && this.completed) {
          throw new Error(`ended without printing ${pattern}: ${Bun.inspect(this.completed)}`);
        }
        return { match, stdout: this.stdout.slice(-2000), stderr: this.stderr.slice(-2000) };
      },
      ({ match }) => match !== undefined,
      { what: `process ${this.pid} to print ${pattern}`, deadlineMs },
    );
    return seen.match ?? "";
  }

  async #end(output: Promise<unknown>): Promise<Completed> {
    await this.#child.exited;
    await output;
    const { exitCode, signalCode } = this.#child;
    const completed: Completed = {
      exitCode: signalCode === null ? exitCode : null,
      signal: signalCode === null ? null : String(signalCode),
      stdout: this.stdout,
      stderr: this.stderr,
    };
    this.completed = completed;
    return completed;
  }
}

function find(pattern: string | RegExp, text: string): string | undefined {
  if (typeof pattern === "string") return text.includes(pattern) ? pattern : undefined;
  return pattern.exec(text)?.[0];
}

function asText(append: (text: string) => void): (bytes: Uint8Array) => void {
  const decoder = new TextDecoder();
  return (bytes) => append(decoder.decode(bytes, { stream: true }));
}

async function read(stream: ReadableStream<Uint8Array>, append: (bytes: Uint8Array) => void): Promise<void> {
  for await (const chunk of stream) append(chunk);
}
