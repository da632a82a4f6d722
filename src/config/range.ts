// Port ranges as operators write them: 5001, "5001-5050", or nothing for every port.
// Called by field.ts for what is typed and by the checks and flows.ts for the size. Pure.

/** `size` ports from `first` on. */
export interface PortRange {
  readonly first: number;
  readonly size: number;
}
/** The one canonical form in a Rule: a number, or "A-B" with A < B. */
export type PortText = number | string;

export const portMax = 65_535;

export function parsePortRange(value: PortText): PortRange | undefined {
  const [, firstText, lastText = firstText] =
    /^\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?$/.exec(String(value)) ?? [];
  const first = Number(firstText);
  const last = Number(lastText);
  if (!isPort(first) || !isPort(last) || last < first) return undefined;
  return { first, size: last - first + 1 };
}

export function formatPortRange({ first, size }: PortRange): PortText {
  return size === 1 ? first : `${first}-${first + size - 1}`;
}

export function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= portMax;
}
