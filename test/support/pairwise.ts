// Pairwise testing: of all combinations of some settings a few rows in which any two values meet at least once, since
// what goes wrong with a combination mostly goes wrong with two of its values. Pure and deterministic.

type Row = Readonly<Record<string, string | number | boolean>>;

/** Greedy: again and again the row that brings the most pairs not yet seen, of several the one with the rarest values. */
export function coverPairs<R extends Row>(combinations: readonly R[]): readonly R[] {
  const missing = new Set(combinations.flatMap(pairsOf));
  const used = new Map<string, number>();
  const rows: R[] = [];
  while (missing.size > 0) {
    let best: { readonly row: R; readonly gain: number; readonly wear: number } | undefined;
    for (const row of combinations) {
      const gain = pairsOf(row).filter((pair) => missing.has(pair)).length;
      const wear = valuesOf(row).reduce((sum, value) => sum + (used.get(value) ?? 0), 0);
      if (!best || gain > best.gain || (gain === best.gain && wear < best.wear)) best = { row, gain, wear };
    }
    if (!best) break;
    rows.push(best.row);
    for (const pair of pairsOf(best.row)) missing.delete(pair);
    for (const value of valuesOf(best.row)) used.set(value, (used.get(value) ?? 0) + 1);
  }
  return rows;
}

/** Every two settings of the row, as text. */
export function pairsOf(row: Row): readonly string[] {
  const values = valuesOf(row);
  return values.flatMap((a, i) => values.slice(i + 1).map((b) => `${a}, ${b}`));
}

function valuesOf(row: Row): readonly string[] {
  return Object.entries(row).map(([key, value]) => `${key} ${value}`);
}
