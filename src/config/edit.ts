// Changes the rules of a rule file in its text, so that comments, order and everything else stay as the operator wrote
// them. Called by rule-file.ts (`mcr save`) and whatever else edits rule files. The text must be a good rule file.
//
// What belongs to a rule, and goes with it: the lines from its [[rule]] to its last value, those of its sub-tables
// ([rule.ingress], [[rule.egress]]), the comment lines directly above, and keys commented out directly below. Another
// comment below, and one that opens the file, stay: one comment too many harms less than one that is lost.
import { type AST, parseTOML } from "toml-eslint-parser";
import { assert, ExitCode, fail } from "../error.ts";
import { diffRules } from "./diff.ts";
import { formatEgresses, formatIngress, formatRule } from "./format.ts";
import { parseConfig } from "./parse.ts";
import type { Rule } from "./schema.ts";

/** The text with exactly these rules in it; only blocks of rules that differ are touched. */
export function updateRules(text: string, wanted: readonly Rule[]): string {
  const { added, removed, changed } = diffRules(parseConfig(text, "the rule file").rules, wanted);
  const names = removed.map(({ name }) => name);
  const replaced = replaceRules(
    removeRules(text, names),
    changed.map(({ after }) => after),
  );
  const updated = appendRules(replaced, added);
  // Nothing is written that does not say what runs, whatever the text looked like.
  const left = diffRules(parseConfig(updated, "the edited rule file").rules, wanted);
  assert(
    left.added.length + left.removed.length + left.changed.length === 0,
    "the edit says what was wanted",
  );
  return updated;
}

/** Rules that the file does not have, as new blocks at its end. */
export function appendRules(text: string, rules: readonly Rule[]): string {
  if (rules.length === 0) return text;
  const { end } = read(text);
  const isBlank = text.trim() === "" || text.trim() === "\uFEFF";
  const whole = isBlank || text.endsWith("\n") ? text : `${text}${end}`;
  const gap = isBlank || /\n[ \t\r]*\n$/.test(whole) ? "" : end;
  return whole + gap + rules.map((rule) => toLines(formatRule(rule), end).join("")).join(end);
}

/** Without the rules of these names; names that the file does not have are no matter. */
export function removeRules(text: string, names: readonly string[]): string {
  if (names.length === 0) return text;
  const file = read(text);
  const wanted = new Set(names);
  const gone = file.blocks.filter(({ name }) => wanted.has(name));
  // From the end, so that the lines above keep their numbers.
  for (const { from, to } of gone.toReversed()) {
    let first = commentsAbove(file, from);
    let last = commentsBelow(file, to);
    while (last + 1 < file.lines.length && isBlankLine(file, last + 1)) last += 1;
    if (last + 1 === file.lines.length) while (first > 0 && isBlankLine(file, first - 1)) first -= 1;
    file.lines.splice(first, last - first + 1);
  }
  return join(file);
}

/** These rules in the places of those that have their names; the values that differ, or the whole block. */
export function replaceRules(text: string, rules: readonly Rule[]): string {
  if (rules.length === 0) return text;
  const file = read(text);
  const wanted = new Map(rules.map((rule) => [rule.name, rule]));
  const before = new Map(parseConfig(text, "the rule file").rules.map((rule) => [rule.name, rule]));
  const replaced = new Set<string>();
  const firstOf = new Map(file.blocks.toReversed().map((block) => [block.name, block]));
  for (const block of file.blocks.toReversed()) {
    const rule = wanted.get(block.name);
    const old = before.get(block.name);
    if (!rule || !old) continue;
    replaced.add(rule.name);
    const lines =
      firstOf.get(block.name) === block
        ? (changeValues(file, block, old, rule) ?? toLines(formatRule(rule), file.end))
        : [];
    file.lines.splice(block.from, block.to - block.from + 1, ...lines);
  }
  assert(replaced.size === wanted.size, "a rule that is replaced is in the file");
  return join(file);
}

/** Consecutive lines that hold tables of one rule; another kind of table between them makes it two blocks. */
interface Block {
  readonly name: string;
  readonly tables: readonly AST.TOMLTable[];
  /** Numbers of its first and last line, without the comments around. */
  readonly from: number;
  readonly to: number;
}

interface RuleFileText {
  readonly byteOrderMark: string;
  /** Each with its line ending; the last may have none. */
  readonly lines: string[];
  /** How the file ends its lines. */
  readonly end: "\n" | "\r\n";
  readonly blocks: readonly Block[];
  /** Numbers of the lines that hold a comment and nothing else. */
  readonly comments: ReadonlySet<number>;
}

function read(text: string): RuleFileText {
  const byteOrderMark = text.startsWith("\uFEFF") ? "\uFEFF" : "";
  const source = text.slice(byteOrderMark.length);
  const program = parse(source);
  const lines = splitLines(source);
  const comments = new Set(
    program.comments
      .filter(({ loc }) => /^\s*$/.test((lines[loc.start.line - 1] ?? "").slice(0, loc.start.column)))
      .map(({ loc }) => loc.start.line - 1),
  );
  const end = /\r\n/.test(lines[0] ?? "") ? "\r\n" : "\n";
  return { byteOrderMark, lines, end, blocks: blocksOf(program), comments };
}

function parse(source: string): AST.TOMLProgram {
  try {
    return parseTOML(source, { tomlVersion: "1.1" });
  } catch {
    // It was read by another parser; where the two disagree the text is of a kind that nobody writes.
    return fail(
      "the rule file is written in a way that mcr reads but cannot edit: write it as the README does",
      ExitCode.config,
    );
  }
}

function blocksOf(program: AST.TOMLProgram): Block[] {
  const names = new Map<number, string>();
  const groups: { index: number; tables: AST.TOMLTable[] }[] = [];
  let previous: number | undefined;
  for (const node of program.body[0].body) {
    const [list, index] = node.type === "TOMLTable" ? node.resolvedKey : [keyOf(node)];
    if (list === "rule" && node.type === "TOMLKeyValue")
      fail(
        "the rule file says rule = [ … ], which mcr cannot edit: write each rule as a [[rule]] table",
        ExitCode.config,
      );
    const isOfRule = list === "rule" && typeof index === "number" && node.type === "TOMLTable";
    if (isOfRule) {
      if (previous === index) groups.at(-1)?.tables.push(node);
      else groups.push({ index, tables: [node] });
      const name = node.resolvedKey.length === 2 ? nameIn(node) : undefined;
      if (name !== undefined) names.set(index, name);
    }
    previous = isOfRule ? index : undefined;
  }
  return groups.map(({ index, tables }) => {
    const name = names.get(index);
    assert(name !== undefined, "a checked rule has a name");
    const from = Math.min(...tables.map(({ loc }) => loc.start.line)) - 1;
    return { name, tables, from, to: Math.max(...tables.map(({ loc }) => loc.end.line)) - 1 };
  });
}

function nameIn(table: AST.TOMLTable): string | undefined {
  const pair = table.body.find((each) => each.key.keys.length === 1 && keyOf(each) === "name");
  return pair?.value.type === "TOMLValue" && pair.value.kind === "string" ? pair.value.value : undefined;
}

/** The first part of a dotted key. */
function keyOf(pair: AST.TOMLKeyValue): string {
  const [part] = pair.key.keys;
  if (!part) return "";
  return part.type === "TOMLBare" ? part.name : part.value;
}

/** The lines of the block with other values where they differ; undefined when it is not the short form. */
function changeValues(
  file: RuleFileText,
  block: Block,
  old: Rule,
  rule: Rule,
): readonly string[] | undefined {
  const [table, ...more] = block.tables;
  if (!table || more.length > 0 || table.body.some(({ key }) => key.keys.length > 1)) return undefined;
  let text = file.lines.slice(block.from, block.to + 1).join("");
  const start = file.lines.slice(0, block.from).join("").length;
  for (const pair of table.body.toReversed()) {
    const value = changedValue(keyOf(pair), old, rule);
    const [from, to] = pair.value.range;
    if (value !== undefined)
      text = text.slice(0, from - start) + toLines(value, file.end).join("") + text.slice(to - start);
  }
  return splitLines(text);
}

function changedValue(key: string, old: Rule, rule: Rule): string | undefined {
  if (key === "ingress" && !Bun.deepEquals(old.ingress, rule.ingress)) return formatIngress(rule.ingress);
  if (key === "egress" && !Bun.deepEquals(old.egress, rule.egress)) return formatEgresses(rule.egress);
  return undefined;
}

function commentsAbove({ comments }: RuleFileText, line: number): number {
  let first = line;
  while (comments.has(first - 1)) first -= 1;
  return first === 0 ? line : first;
}

function commentsBelow(file: RuleFileText, line: number): number {
  let last = line;
  while (file.comments.has(last + 1)) last += 1;
  // Comments that touch the next table are that one's.
  if (last + 1 < file.lines.length && !isBlankLine(file, last + 1)) return line;
  const below = file.lines.slice(line + 1, last + 1);
  return below.every((comment) => /^\s*#\s*[a-z_]+\s*=/.test(comment)) ? last : line;
}

function isBlankLine({ lines }: RuleFileText, line: number): boolean {
  return (lines[line] ?? "").trim() === "";
}

function splitLines(text: string): string[] {
  return text.split(/(?<=\n)/).filter((line) => line !== "");
}

/** Text of ours as lines of the file. */
function toLines(text: string, end: string): string[] {
  return splitLines(text).map((line) => line.replace(/\n$/, end));
}

function join({ byteOrderMark, lines }: RuleFileText): string {
  return byteOrderMark + lines.join("");
}
