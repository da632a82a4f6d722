// The screen of `mcr top` as lines of text, and what the keys do to it. Pure; nothing is wider than the terminal.
import { cut } from "../table.ts";
import { ansi, type Colors, type Paint, plain } from "./color.ts";
import { formatBitRate, formatBits, formatRate } from "./figures.ts";
import { historyMax, type PerSecond, type RuleLine, type TopModel } from "./top-model.ts";

const sortings = ["rate", "dropped", "state", "name"] as const;
export type Sorting = (typeof sortings)[number];

export interface TopView {
  readonly sorting: Sorting;
  /** Only rules whose name or ingress (interface, group, port) contains this. */
  readonly filter: string;
  /** While it is typed. */
  readonly isTyping: boolean;
  readonly isPaused: boolean;
  /** The first rule that is shown. */
  readonly first: number;
}

export const firstView: TopView = { sorting: "rate", filter: "", isTyping: false, isPaused: false, first: 0 };

/** Null: leave. */
export function pressed(view: TopView, key: string | undefined, rules: number): TopView | null {
  if (key === undefined || key === "\x03") return null;
  if (view.isTyping) return typed(view, key);
  switch (key) {
    case "q":
    case "\x1b":
      return null;
    case "s":
      return { ...view, sorting: after(view.sorting), first: 0 };
    case "/":
      return { ...view, isTyping: true, filter: "", first: 0 };
    case "p":
    case " ":
      return { ...view, isPaused: !view.isPaused };
    case "j":
    case "\x1b[B":
      return { ...view, first: Math.min(view.first + 1, Math.max(0, rules - 1)) };
    case "k":
    case "\x1b[A":
      return { ...view, first: Math.max(0, view.first - 1) };
    case "\x1b[6~":
      return { ...view, first: Math.min(view.first + 10, Math.max(0, rules - 1)) };
    case "\x1b[5~":
      return { ...view, first: Math.max(0, view.first - 10) };
    default:
      return view;
  }
}

function typed(view: TopView, key: string): TopView {
  switch (key) {
    case "\r":
    case "\n":
      return { ...view, isTyping: false };
    case "\x1b":
      return { ...view, isTyping: false, filter: "" };
    case "\x7f":
    case "\b":
      return { ...view, filter: view.filter.slice(0, -1) };
    default:
      return /^\P{Cc}$/u.test(key) ? { ...view, filter: view.filter + key } : view;
  }
}

function after(sorting: Sorting): Sorting {
  return sortings[(sortings.indexOf(sorting) + 1) % sortings.length] ?? "rate";
}

/** cam-2 before cam-10. */
const byName = new Intl.Collator("en", { numeric: true });

/** Worst first; within a state the busiest. */
const stateOrder = ["failed", "failing", "waiting", "silent", "joining", "active"];

export function selectRules(rules: readonly RuleLine[], { filter, sorting }: TopView): readonly RuleLine[] {
  const words = filter.toLowerCase();
  const selected = rules.filter(({ name, ingress }) => `${name} ${ingress}`.toLowerCase().includes(words));
  return selected.toSorted((a, b) => order(a, b, sorting) || byName.compare(a.name, b.name));
}

function order(a: RuleLine, b: RuleLine, sorting: Sorting): number {
  switch (sorting) {
    case "rate":
      return orNone(b.inPps) - orNone(a.inPps);
    case "dropped":
      return orNone(b.droppedPps) - orNone(a.droppedPps) || b.droppedTotal - a.droppedTotal;
    case "state":
      return stateOrder.indexOf(a.state) - stateOrder.indexOf(b.state) || orNone(b.inPps) - orNone(a.inPps);
    case "name":
      return 0;
  }
}

function orNone(rate: PerSecond): number {
  return rate ?? 0;
}

export interface Surface {
  readonly columns: number;
  readonly rows: number;
  readonly hasColour: boolean;
}

export interface Shown {
  readonly model: TopModel;
  /** Of the newest status: `mcr 0.1.0, up 2h 5m`. */
  readonly title: string;
  /** The daemon does not answer: what to do about it. */
  readonly trouble: string | undefined;
}

export function drawTop(shown: Shown, view: TopView, surface: Surface): string[] {
  const { model } = shown;
  const colors = surface.hasColour ? ansi : plain;
  const lines = [
    colors.head(fit(ends(shown.title, `${model.time.slice(11, 19)} UTC`, surface.columns), surface.columns)),
    ...withDrops(
      `in ${formatPerSecond(model.inPps)} pps ${formatBitsPerSecond(model.bitsPerSecond)}   out ${formatPerSecond(model.outPps)} pps`,
      `dropped ${formatPerSecond(model.droppedPps)}/s`,
      surface.columns,
      orNone(model.droppedPps) > 0 ? colors.bad : undefined,
    ),
    ...model.interfaces.flatMap((each) => {
      const name = each.name.padEnd(Math.max(...model.interfaces.map((other) => other.name.length)));
      const text = `${name} ${each.direction.padEnd(3)} ${formatPerSecond(each.pps).padStart(6)} pps ${formatBitsPerSecond(each.bitsPerSecond).padStart(11)}`;
      const drops =
        each.reasons === "" ? "" : `dropped ${formatPerSecond(each.droppedPps)}/s (${each.reasons})`;
      return withDrops(text, drops, surface.columns, orNone(each.droppedPps) > 0 ? colors.bad : colors.aside);
    }),
    ...wrapped(
      "workers",
      model.workers.map(({ cpu, loadPercent }) => `cpu${cpu} ${loadPercent.toFixed(0).padStart(3)} %`),
      surface.columns,
    ),
  ];
  const headMax = Math.max(1, Math.min(Math.floor(surface.rows / 2), surface.rows - 4));
  const head = within(lines, headMax, surface.columns);
  const foot = colors.aside(fit(footer(view), surface.columns));
  const room = Math.max(1, surface.rows - head.length - 3);
  const rules = selectRules(model.rules, view);
  const layout = layoutFor(model.rules, surface.columns);
  const first = Math.min(view.first, Math.max(0, rules.length - 1));
  const blocks = rules
    .slice(first, first + room)
    .map((rule) => ruleLines(rule, layout, surface.columns, colors));
  const shownCount = fitting(blocks, room);
  const body =
    rules.length === 0 ? [fit(nothing(view), surface.columns)] : blocks.slice(0, shownCount).flat();
  const rest = Array<string>(Math.max(0, room - body.length)).fill("");
  const trouble =
    shown.trouble === undefined
      ? fit(more(rules.length, first, shownCount), surface.columns)
      : colors.bad(fit(shown.trouble, surface.columns));
  return [
    ...head,
    colors.bar(fit(headings(layout), surface.columns).padEnd(surface.columns)),
    ...body.slice(0, room),
    ...rest,
    trouble,
    foot,
  ];
}

/** So that the rules have room; where there is any, the last line tells how many are missing. */
function within(lines: readonly string[], max: number, columns: number): readonly string[] {
  if (lines.length <= max || max < 3) return lines.slice(0, max);
  return [...lines.slice(0, max - 1), fit(`and ${lines.length - max + 1} more lines`, columns)];
}

/** Behind the text, or below it where they would be cut: nobody sees a loss whose reason is off the screen. */
function withDrops(text: string, drops: string, columns: number, paint = unpainted): string[] {
  const between = drops === "" ? "" : "  ";
  if (Bun.stringWidth(text + between + drops) <= columns)
    return [fit(text + between, columns) + paint(fit(drops, columns))];
  return [fit(text, columns), paint(fit(`  ${drops}`, columns))];
}

/** As many items on a line as have room. */
function wrapped(label: string, items: readonly string[], columns: number): readonly string[] {
  const lines: string[] = [];
  let line = label;
  for (const item of items) {
    if (line.length + 2 + item.length > columns) {
      lines.push(fit(line, columns));
      line = " ".repeat(label.length);
    }
    line += `  ${item}`;
  }
  return [...lines, fit(line, columns)];
}

/** How many of the blocks have room together; the first one always, if only in part. */
function fitting(blocks: readonly (readonly string[])[], room: number): number {
  let lines = 0;
  const beyond = blocks.findIndex((block) => {
    lines += block.length;
    return lines > room;
  });
  return beyond < 0 ? blocks.length : Math.max(1, beyond);
}

function more(rules: number, first: number, shown: number): string {
  return shown < rules ? `rules ${first + 1} to ${first + shown} of ${rules}` : "";
}

function nothing({ filter }: TopView): string {
  return filter === "" ? "no rules" : `no rule matches "${filter}"`;
}

function footer(view: TopView): string {
  if (view.isTyping) return `filter: ${view.filter}_   (name or ingress; Enter keeps it, Esc drops it)`;
  const filter = view.filter === "" ? "/ filter" : `/ filter: ${view.filter}`;
  return `q quit   s sort: ${view.sorting}   ${filter}   p ${view.isPaused ? "PAUSED" : "pause"}   arrows scroll`;
}

const unpainted: Paint = (text) => text;

const nameWidthMin = 10;
const curveWidthMin = 8;

/** Between the name and the curve; each with the blanks before it. */
interface Column {
  readonly heading: string;
  readonly width: number;
  text(rule: RuleLine): string;
  paint?(rule: RuleLine, colors: Colors): Paint | undefined;
}

const stateColumn: Column = {
  heading: " STATE".padEnd(9),
  width: 9,
  text: ({ state }) => ` ${state.padEnd(8)}`,
  paint(rule, { bad, warn }) {
    if (isInTrouble(rule)) return bad;
    return rule.state === "silent" ? warn : undefined;
  },
};
const inColumn = rateColumn("IN PPS", 10, ({ inPps }) => inPps);
const outColumn = rateColumn("OUT PPS", 10, ({ outPps }) => outPps);
const bitsColumn = rateColumn("BIT/S", 12, ({ bitsPerSecond }) => bitsPerSecond, formatBits);
const dropsColumn: Column = {
  ...rateColumn("DROPPED/S", 10, ({ droppedPps }) => droppedPps),
  paint: ({ droppedPps }, { bad }) => (orNone(droppedPps) > 0 ? bad : undefined),
};
const allColumns = [stateColumn, inColumn, outColumn, bitsColumn, dropsColumn];
/** What goes where there is no room, in this order: the losses are looked for longest. */
const dispensable = [bitsColumn, outColumn, inColumn, dropsColumn, stateColumn];

function rateColumn(
  heading: string,
  width: number,
  rate: (rule: RuleLine) => PerSecond,
  format = formatRate,
): Column {
  return {
    heading: heading.padStart(width),
    width,
    text: (rule) => formatPerSecond(rate(rule), format).padStart(width),
  };
}

function isInTrouble({ state }: RuleLine): boolean {
  return state === "failed" || state === "failing" || state === "waiting";
}

interface Layout {
  readonly nameWidth: number;
  readonly columns: readonly Column[];
  readonly curveWidth: number;
}

/**
 * The curve gets what the names leave; names are cut where there is no room for either, and then whole columns go:
 * half of a number would be another one.
 */
function layoutFor(
  rules: readonly RuleLine[],
  width: number,
  columns: readonly Column[] = allColumns,
): Layout {
  const rest = width - columns.reduce((sum, column) => sum + column.width, 0);
  const needless = dispensable.find((column) => columns.includes(column));
  if (rest < nameWidthMin && needless)
    return layoutFor(
      rules,
      width,
      columns.filter((column) => column !== needless),
    );
  const longest = Math.max(nameWidthMin, ...rules.map(({ name }) => Bun.stringWidth(name)));
  const nameWidth = Math.min(longest, rest, Math.max(nameWidthMin, rest - 2 - curveWidthMin));
  return { nameWidth, columns, curveWidth: Math.max(0, Math.min(historyMax, rest - 2 - nameWidth)) };
}

function headings({ nameWidth, columns, curveWidth }: Layout): string {
  const last = curveWidth > 0 ? `  ${"LATELY".slice(0, curveWidth)}` : "";
  return `${"RULE".padEnd(nameWidth)}${columns.map(({ heading }) => heading).join("")}${last}`;
}

/** With the reasons below it, each on a line of its own, which is what a reader needs when something is wrong. */
function ruleLines(rule: RuleLine, layout: Layout, width: number, colors: Colors): string[] {
  const curve = sparkline(rule.history, layout.curveWidth);
  const line = [
    pad(fit(rule.name, layout.nameWidth), layout.nameWidth),
    ...layout.columns.map((column) => (column.paint?.(rule, colors) ?? unpainted)(column.text(rule))),
    curve === "" ? "" : `  ${curve}`,
  ].join("");
  const remarks: readonly (readonly [text: string, isBad: boolean])[] = [
    [rule.reasons === "" ? "" : `dropped in all: ${rule.reasons}`, orNone(rule.droppedPps) > 0],
    [rule.reason ?? "", isInTrouble(rule)],
  ];
  return [
    line,
    ...remarks
      .filter(([text]) => text !== "")
      .map(([text, isBad]) => (isBad ? colors.bad : colors.aside)(fit(`  ${text}`, width))),
  ];
}

function formatPerSecond(rate: PerSecond, format = formatRate): string {
  return rate === null ? "-" : format(rate);
}

function formatBitsPerSecond(rate: PerSecond): string {
  return rate === null ? "- bit/s" : formatBitRate(rate);
}

const bars = " ▁▂▃▄▅▆▇█";

/** The newest values, scaled to the largest of them; something is never drawn as nothing. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = width === 0 ? [] : values.slice(-width);
  const top = Math.max(...shown, 1);
  return shown
    .map((value) => bars[value > 0 ? Math.max(1, Math.round((value / top) * (bars.length - 1))) : 0])
    .join("");
}

function ends(left: string, right: string, columns: number): string {
  const blanks = columns - Bun.stringWidth(left) - right.length;
  return blanks > 0 ? `${left}${" ".repeat(blanks)}${right}` : left;
}

function pad(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - Bun.stringWidth(text)));
}

/** No control character of a rule's name or of a system's words reaches the terminal. */
function fit(text: string, width: number): string {
  return cut(text.replace(/\p{Cc}/gu, " "), width);
}
