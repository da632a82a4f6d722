// Pairwise testing: of all combinations of some settings a few rows in which any two values meet at least once, since
// what goes wrong with a combination mostly goes wrong with two of its values. Pure and deterministic.

type Row = Readonly<Record<string, string | number | boolean>>;

/** Greedy: again and again the first row that brings the most pairs not yet seen. */
export function coverPairs<R extends Row>(combinations: readonly R[]): readonly R[] {
  const missing = new Set(combinations.flatMap(pairsOf));
  const rows: R[] = [];
  while (missing.size > 0) {
    let best: R | undefined;
    let bestCount = 0;
    for (const row of combinations) {
      const count = pairsOf(row).filter((pair) => missing.has(pair)).length;
      if (count <= bestCount) continue;
      best = row;
      bestCount = count;
    }
    if (!best) break;
    rows.push(best);
    for (const pair of pairsOf(best)) missing.delete(pair);
  }
  return rows;
}

/** Every two settings of the row, as text. */
export function pairsOf(row: Row): readonly string[] {
  const values = Object.entries(row).map(([key, value]) => `${key} ${value}`);
  return values.flatMap((a, i) => values.slice(i + 1).map((b) => `${a}, ${b}`));
}
