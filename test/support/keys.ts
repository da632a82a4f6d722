// A terminal for prompts: keys go in, what is shown comes out, and every key waits until its question is there.

import { PassThrough, Writable } from "node:stream";
import { waitUntil } from "./wait.ts";

export const key = {
  enter: "\r",
  esc: "\x1b",
  ctrlC: "\x03",
  down: "\x1b[B",
  up: "\x1b[A",
  space: " ",
} as const;

class Keyboard extends PassThrough {
  isTTY = true;
  isRaw = false;
  setRawMode(isRaw: boolean): this {
    this.isRaw = isRaw;
    return this;
  }
}

class Screen extends Writable {
  text = "";
  columns = 200;
  rows = 50;
  isTTY = true;
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export class FakeTerminal {
  readonly input = new Keyboard();
  readonly output = new Screen();
  /** All that was ever shown, without colours. */
  transcript = "";

  /** When the text is on the screen, types the keys one by one; without keys it stays there. */
  async answer(seen: string, ...keys: readonly string[]): Promise<void> {
    await waitUntil(() => this.shown.includes(seen) && this.input.isRaw, {
      what: `"${seen}" on the screen:\n${this.shown}`,
      deadlineMs: 20_000,
      intervalMs: 2,
    });
    if (keys.length === 0) return;
    this.transcript += this.shown;
    this.output.text = "";
    for (const each of keys) {
      this.input.write(each);
      // A lone Esc is known by the pause behind it; everything else is taken at once.
      await Bun.sleep(each === key.esc ? 80 : 2);
    }
  }

  get shown(): string {
    return Bun.stripANSI(this.output.text);
  }

  get all(): string {
    return this.transcript + this.shown;
  }
}
