// Plain aligned columns for every command that shows a list: no borders, no trailing blanks, numbers to the right.
// A cell may be a list: its elements go below each other, in step with those of the other cells of its row.
// What is wider than the terminal is wrapped inside its column; nothing is ever cut off.
import CliTable from "cli-table3";

export type Cell = string | number;

const gap = 2;
const widthMin = 12;
const pieceLines = 50;

export function formatTable(
  headings: readonly string[],
  rows: readonly (readonly (Cell | readonly Cell[])[])[],
  columns = 100,
): string {
  const lines = rows.flatMap(toLines);
  const widths = headings.map((heading, column) =>
    lines.reduce(
      (widest, line) => Math.max(widest, Bun.stringWidth(String(line[column] ?? ""))),
      Bun.stringWidth(heading),
    ),
  );
  const options = {
    chars: noBorders,
    style: { "padding-left": 0, "padding-right": gap, head: [], border: [], compact: true },
    colAligns: headings.map((_, column) => alignmentOf(lines, column)),
    colWidths: fit(widths, columns).map((width) => width + gap),
    wordWrap: true,
    wrapOnWordBoundary: false,
  };
  const text: string[] = [];
  // The library's time grows with the square of the rows (7 minutes for 75,000), so it gets them in pieces.
  for (let from = 0; from <= lines.length; from += pieceLines) {
    const table = new CliTable(options);
    if (from === 0) table.push([...headings]);
    table.push(...lines.slice(from, from + pieceLines));
    if (table.length > 0) text.push(table.toString().replace(/[ \t]+$/gm, ""));
  }
  return `${text.join("\n")}\n`;
}

function alignmentOf(lines: readonly (readonly Cell[])[], column: number): "left" | "right" {
  return lines.some((line) => typeof line[column] === "number") ? "right" : "left";
}

const noBorders = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "",
};

/** One line per element of the longest cell of the row. */
function toLines(row: readonly (Cell | readonly Cell[])[]): Cell[][] {
  const cells = row.map((cell) => (typeof cell === "string" || typeof cell === "number" ? [cell] : cell));
  const height = Math.max(...cells.map((cell) => cell.length));
  return Array.from({ length: height }, (_, line) => cells.map((cell) => cell[line] ?? ""));
}

/** The widest column gives way first. */
function fit(widths: readonly number[], columns: number): number[] {
  const fitted = [...widths];
  const total = (): number => fitted.reduce((sum, width) => sum + width + gap, -gap);
  while (total() > columns) {
    const widest = Math.max(...fitted);
    if (widest <= widthMin) break;
    fitted[fitted.indexOf(widest)] = widest - 1;
  }
  return fitted;
}
