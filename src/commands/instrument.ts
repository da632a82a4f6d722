// What send and receive share, and scan in part: the interface, the clock, one line of progress.
import { readFileSync } from "node:fs";
import { ExitCode, fail } from "../error.ts";
import type { Shim } from "../native/shim.ts";
import { type InterfaceState, isUsable, readInterface } from "../net/interfaces.ts";
import type { Io } from "./command.ts";

/** A live line is written over this often. */
const progressMs = 200;

export function usableInterface(shim: Shim, command: string, name: string): InterfaceState {
  const state = readInterface(shim, name);
  if (!isUsable(state)) return fail(`mcr ${command}: ${state.unusable}`, ExitCode.failed);
  if (state.address === 0)
    fail(
      `mcr ${command}: ${name} has no IPv4 address (ip address add ADDRESS/LENGTH dev ${name})`,
      ExitCode.failed,
    );
  return state;
}

/**
 * Names the clock that the instruments read, CLOCK_MONOTONIC of this boot of this machine: only times of one clock can
 * be subtracted. Zero, which no receiver takes for its own, where /proc does not tell.
 */
export function clockName(): bigint {
  try {
    const id = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").replaceAll("-", "");
    return BigInt(`0x${id.slice(0, 16)}`);
  } catch {
    return 0n;
  }
}

/** Writes over its own lines on a terminal, and nothing elsewhere. */
export class Progress {
  #shownMs = 0;
  #lines = 0;

  constructor(
    readonly io: Io,
    readonly isOn: boolean,
  ) {}

  show(text: () => string): void {
    const nowMs = performance.now();
    if (!this.isOn || nowMs - this.#shownMs < progressMs) return;
    this.#shownMs = nowMs;
    // A line that wraps would count as two.
    const lines = text().trimEnd().split("\n");
    this.clear();
    this.io.stderr(lines.map((line) => `${line.slice(0, this.io.columns - 1)}\n`).join(""));
    this.#lines = lines.length;
  }

  /** Cursor up to its first line, and everything below erased: ECMA-48, CUU and ED. */
  clear(): void {
    if (this.#lines > 0) this.io.stderr(`\x1b[${this.#lines}A\x1b[J`);
    this.#lines = 0;
  }
}
