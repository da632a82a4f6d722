// Whole numbers in sentences and tables, and sums. Pure; used from config/ up to commands/.

export function sum(numbers: readonly number[], initial = 0): number {
  return numbers.reduce((total, number) => total + number, initial);
}

/** 1,234,567 */
export function formatNumber(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** `1 stream`, `1,234 streams`. */
export function plural(count: number, noun: string, nouns = `${noun}s`): string {
  return `${formatNumber(count)} ${count === 1 ? noun : nouns}`;
}
