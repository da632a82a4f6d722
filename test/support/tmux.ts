// A real terminal around a shell, in a namespace of a topology: tmux, with keys sent and the screen read. Its server
// is a daemon of its own, so whoever opens one disposes of it.

import type { Topology } from "./topology.ts";
import { waitFor } from "./wait.ts";

let opened = 0;

export class Terminal {
  readonly #server = ["tmux", "-L", `mcr-test-${process.pid}-${opened++}`, "-f", "/dev/null"];

  private constructor(
    readonly topology: Topology,
    readonly namespace: string,
  ) {}

  static async open(
    topology: Topology,
    namespace: string,
    { columns = 120, rows = 50 } = {},
  ): Promise<Terminal> {
    const terminal = new Terminal(topology, namespace);
    const size = ["-x", String(columns), "-y", String(rows)];
    await terminal.#tmux("new-session", "-d", ...size, "PS1='$ ' exec sh");
    await terminal.waitFor("$");
    return terminal;
  }

  /** tmux's own names: Enter, Escape, C-c, Down, Space; anything else is typed as it is. */
  async press(...keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.#tmux("send-keys", key);
  }

  /** One line for the shell. */
  async command(line: string): Promise<void> {
    await this.#tmux("send-keys", "-l", line);
    await this.press("Enter");
  }

  /** What is on the screen, and above it. */
  screen(): Promise<string> {
    return this.#tmux("capture-pane", "-p", "-J", "-S", "-500");
  }

  /** What is on the screen now, line by line. */
  async lines(): Promise<readonly string[]> {
    return (await this.#tmux("capture-pane", "-p")).replace(/\n$/, "").split("\n");
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#tmux("resize-window", "-x", String(columns), "-y", String(rows));
  }

  async waitFor(seen: string, deadlineMs = 20_000): Promise<string> {
    return waitFor(
      () => this.screen(),
      (text) => text.includes(seen),
      { what: `"${seen}" in the terminal`, deadlineMs, intervalMs: 30 },
    );
  }

  async answer(seen: string, ...keys: readonly string[]): Promise<void> {
    await this.waitFor(seen);
    await this.press(...keys);
  }

  /** The modes of the terminal, as stty -g prints them. */
  async modes(): Promise<string> {
    return this.topology.output(this.namespace, ["stty", "-g", "-F", await this.#format("#{pane_tty}")]);
  }

  async isCursorShown(): Promise<boolean> {
    return (await this.#format("#{cursor_flag}")) === "1";
  }

  /** The process of the shell. */
  async shellPid(): Promise<number> {
    return Number(await this.#format("#{pane_pid}"));
  }

  /** The window is closed under whatever runs in it. */
  async close(): Promise<void> {
    await this.#tmux("kill-server");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.topology.run(this.namespace, [...this.#server, "kill-server"]);
  }

  async #format(format: string): Promise<string> {
    return (await this.#tmux("display-message", "-p", format)).trim();
  }

  #tmux(...words: readonly string[]): Promise<string> {
    return this.topology.output(this.namespace, [...this.#server, ...words], {
      env: { TERM: "xterm-256color", LC_ALL: "C.UTF-8", TMUX: "" },
    });
  }
}
