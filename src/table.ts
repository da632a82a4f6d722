// Plain aligned columns for every command that shows a list: no borders, no trailing blanks, numbers to the right.
// A cell may be a list: its elements go below each other, in step with those of the other cells of its row.
// Where the terminal is too narrow the first column, which holds names, is cut, and then whole columns go, those that
// the caller can do without. Nothing else is ever cut, nor wrapped: half of a number would be another one.

export type Cell = string | number;
export type Row = readonly (Cell | readonly Cell[])[];

const gap = 2;
const nameWidthMin = 8;

/** @param dispensable headings of columns that go where there is no room, in this order. */
export function formatTable(
  headings: readonly string[],
  rows: readonly Row[],
  columns = Number.POSITIVE_INFINITY,
  dispensable: readonly string[] = [],
): string {
  const whole = rows.flatMap(toLines);
  const [needless, ...others] = dispensable;
  if (needless !== undefined && narrowestWidth(whole, headings) > columns) {
    const stays = (_: unknown, column: number) => headings[column] !== needless;
    const narrower = rows.map((row) => row.filter(stays));
    return formatTable(headings.filter(stays), narrower, columns, others);
  }
  const lines = cutNames(whole, headings, columns);
  const widths = widthsOf(lines, headings);
  const isRight = headings.map((_, column) => lines.some((line) => typeof line[column] === "number"));
  const text = [headings, ...lines].map((line) =>
    widths
      .map((width, column) => pad(line[column], width, isRight[column] === true))
      .join(" ".repeat(gap))
      .replace(/[ \t]+$/, ""),
  );
  return `${text.join("\n")}\n`;
}

function pad(cell: Cell = "", width: number, isRight: boolean): string {
  const blanks = " ".repeat(Math.max(0, width - widthOf(cell)));
  return isRight ? `${blanks}${cell}` : `${cell}${blanks}`;
}

/** One line per element of the longest cell of the row. */
function toLines(row: Row): Cell[][] {
  const cells = row.map((cell) => (typeof cell === "string" || typeof cell === "number" ? [cell] : cell));
  const height = Math.max(...cells.map((cell) => cell.length));
  return Array.from({ length: height }, (_, line) => cells.map((cell) => cell[line] ?? ""));
}

function widthsOf(lines: readonly (readonly Cell[])[], headings: readonly string[]): number[] {
  return headings.map((heading, column) =>
    lines.reduce((widest, line) => Math.max(widest, widthOf(line[column])), widthOf(heading)),
  );
}

/** With names cut as far as they may be. */
function narrowestWidth(lines: readonly (readonly Cell[])[], headings: readonly string[]): number {
  const [nameWidth = 0, ...others] = widthsOf(lines, headings);
  return others.reduce((sum, width) => sum + gap + width, Math.min(nameWidth, nameWidthMin));
}

function cutNames(
  lines: readonly (readonly Cell[])[],
  headings: readonly string[],
  columns: number,
): readonly (readonly Cell[])[] {
  const [nameWidth = 0, ...others] = widthsOf(lines, headings);
  const rest = others.reduce((sum, width) => sum + gap + width, 0);
  if (nameWidth + rest <= columns) return lines;
  const limit = Math.max(nameWidthMin, columns - rest);
  return lines.map(([name = "", ...cells]) => [typeof name === "string" ? cut(name, limit) : name, ...cells]);
}

/** No wider than this on a terminal; what is cut ends with an ellipsis. */
export function cut(text: string, widthMax: number): string {
  if (widthOf(text) <= widthMax) return text;
  const characters = Array.from(text);
  while (characters.length > 0 && widthOf(characters.join("")) >= widthMax) characters.pop();
  return widthMax > 0 ? `${characters.join("")}…` : "";
}

function widthOf(cell: Cell = ""): number {
  return Bun.stringWidth(String(cell));
}
