// Colours for terminals, and for them only: a pipe, NO_COLOR (no-color.org) and TERM=dumb get plain text.
import type { Io } from "./command.ts";

export type Paint = (text: string) => string;
export interface Colors {
  readonly good: Paint;
  readonly warn: Paint;
  readonly bad: Paint;
  readonly head: Paint;
  /** Less important than the rest. */
  readonly aside: Paint;
  /** A whole line that parts others. */
  readonly bar: Paint;
}

export const plain: Colors = { good: same, warn: same, bad: same, head: same, aside: same, bar: same };
export const ansi: Colors = {
  good: sgr(32),
  warn: sgr(33),
  bad: sgr(31),
  head: sgr(1),
  aside: sgr(2),
  bar: sgr(7),
};

export function colorsFor({ isTTY, env }: Io): Colors {
  return isTTY && !env["NO_COLOR"] && env["TERM"] !== "dumb" ? ansi : plain;
}

/** A state in the colour that says whether to worry. */
export function paintState(state: string, { good, warn, bad }: Colors): string {
  switch (state) {
    case "active":
    case "joined":
      return good(state);
    case "failing":
    case "failed":
      return bad(state);
    default:
      return warn(state);
  }
}

function same(text: string): string {
  return text;
}

/** Select Graphic Rendition of ECMA-48. */
function sgr(code: number): Paint {
  return (text) => (text === "" ? "" : `\x1b[${code}m${text}\x1b[0m`);
}
