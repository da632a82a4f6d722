// A terminal that a program has for itself: the other screen, no cursor, keys as they are pressed. Whatever ends the
// process, close() gives the terminal back as it was; only lines that changed are written, for slow links.
// Sequences: ECMA-48, and the private modes 1049 (other screen, xterm), 25 (cursor) and 7 (wrap long lines, VT100).

/** What of a tty.ReadStream is needed, so that tests bring their own. */
export interface KeySource {
  setRawMode(isRaw: boolean): unknown;
  setEncoding(encoding: "utf8"): unknown;
  on(event: "data", listener: (keys: string) => void): unknown;
  on(event: "end" | "error", listener: () => void): unknown;
  removeAllListeners(event: "data" | "end" | "error"): unknown;
  resume(): unknown;
  pause(): unknown;
  unref?(): unknown;
}

/** What of a tty.WriteStream is needed. */
export interface Screen {
  readonly columns: number;
  readonly rows: number;
  /** Bytes that the terminal has not taken yet. */
  readonly writableLength: number;
  write(text: string): unknown;
}

export class FullScreen {
  #lines: readonly string[] = [];
  #isOpen = true;

  /** @param onKey gets one key at a time; undefined when the terminal has gone. */
  constructor(
    readonly keys: KeySource,
    readonly screen: Screen,
    onKey: (key: string | undefined) => void,
  ) {
    keys.setRawMode(true);
    keys.setEncoding("utf8");
    keys.on("data", (text) => {
      for (const key of splitKeys(text)) onKey(key);
    });
    keys.on("end", () => onKey(undefined));
    keys.on("error", () => onKey(undefined));
    keys.resume();
    screen.write("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J");
  }

  get columns(): number {
    return this.screen.columns || 80;
  }

  get rows(): number {
    return this.screen.rows || 24;
  }

  /** Lines must fit; what a slow terminal has not taken yet is not added to. */
  draw(lines: readonly string[]): void {
    if (!this.#isOpen || this.screen.writableLength > 0) return;
    const shown = lines.slice(0, this.rows);
    const height = Math.max(shown.length, this.#lines.length);
    const changes: string[] = [];
    for (let row = 0; row < height; row += 1) {
      const line = shown[row] ?? "";
      // Erased first: behind a line as wide as the screen the cursor stands on its last character.
      if (line !== this.#lines[row]) changes.push(`\x1b[${row + 1};1H\x1b[K${line}\x1b[0m`);
    }
    if (changes.length > 0) this.screen.write(changes.join(""));
    this.#lines = shown;
  }

  /** After the size has changed: the terminal may hold anything. */
  redraw(): void {
    this.#lines = [];
    if (this.#isOpen) this.screen.write("\x1b[2J");
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.screen.write("\x1b[?7h\x1b[?25h\x1b[?1049l");
    for (const event of ["data", "end", "error"] as const) this.keys.removeAllListeners(event);
    this.keys.setRawMode(false);
    this.keys.pause();
    this.keys.unref?.();
  }
}

/** Pasted or typed ahead, keys come together; an escape sequence is one key. */
function splitKeys(text: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what keys send
  return text.match(/\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Z])|[\s\S]/gu) ?? [];
}
