// From a path of keys to line and column in the TOML text. Called by parse.ts, only when a file has mistakes: the
// positions come from a second, slower parser. A path that is not in the text (a missing key) is found at the
// nearest table that should hold it. Lines and columns count from 1.
import { type AST, parseTOML } from "toml-eslint-parser";
import type { Path } from "./problem.ts";

export interface Position {
  readonly line: number;
  readonly column: number;
}
/** No key of ours lies deeper; a hostile file goes as deep as its parser lets it. */
const depthMax = 8;

export type Locate = (path: Path, atKey?: boolean) => Position;

/** `text` must already have been parsed without error, and must not start with a byte order mark. */
export function locateIn(text: string): Locate {
  const keys = new Map<string, Position>();
  const values = new Map<string, Position>();

  function note(map: Map<string, Position>, path: Path, node: AST.HasLocs): void {
    if (path.length > depthMax) return;
    const id = JSON.stringify(path);
    if (!map.has(id)) map.set(id, { line: node.loc.start.line, column: node.loc.start.column + 1 });
  }
  function noteValue(path: Path, node: AST.TOMLContentNode): void {
    note(values, path, node);
    if (path.length >= depthMax) return;
    if (node.type === "TOMLArray")
      for (const [i, element] of node.elements.entries()) noteValue([...path, i], element);
    if (node.type === "TOMLInlineTable") for (const pair of node.body) notePair(path, pair);
  }
  function notePair(base: Path, pair: AST.TOMLKeyValue): void {
    const path = noteKeys(base, pair.key);
    noteValue(path, pair.value);
  }
  /** a.b.c = 1 also makes the tables a and a.b. */
  function noteKeys(base: Path, key: AST.TOMLKey): Path {
    let path = base;
    for (const part of key.keys.slice(0, depthMax)) {
      path = [...path, part.type === "TOMLBare" ? part.name : part.value];
      note(keys, path, part);
      if (part !== key.keys.at(-1)) note(values, path, part);
    }
    return path;
  }

  for (const node of topLevel(text)) {
    if (node.type === "TOMLKeyValue") {
      notePair([], node);
      continue;
    }
    for (let length = 1; length <= Math.min(node.resolvedKey.length, depthMax); length += 1) {
      note(keys, node.resolvedKey.slice(0, length), node.key);
      note(values, node.resolvedKey.slice(0, length), node);
    }
    for (const pair of node.body) notePair(node.resolvedKey, pair);
  }

  return (path, atKey = false) => {
    const own = atKey ? keys.get(JSON.stringify(path)) : undefined;
    if (own) return own;
    for (let length = path.length; length > 0; length -= 1) {
      const position = values.get(JSON.stringify(path.slice(0, length)));
      if (position) return position;
    }
    return { line: 1, column: 1 };
  };
}

function topLevel(text: string): readonly (AST.TOMLKeyValue | AST.TOMLTable)[] {
  try {
    return parseTOML(text, { tomlVersion: "1.1" }).body[0].body;
  } catch {
    // The other parser took this text. Messages without positions are better than none.
    return [];
  }
}
