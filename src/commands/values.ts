// Values of options that several commands take: names, whole numbers, times. What arrives is the text that was typed, or
// a list of texts where an option is repeated; these schemas say what is meant.
import * as v from "valibot";

/** A name or a path: one word. */
export function word(what: string) {
  return v.pipe(v.string(`takes ${what}`), v.nonEmpty(`takes ${what}`));
}

/** Required: which link the packets are for is no guess of ours. */
export const Interface = v.optional(
  v.pipe(
    v.string("takes the name of one interface"),
    v.nonEmpty("is missing: give the name of an interface (ip link shows them)"),
  ),
  "",
);

/** Part of a file's name, and of every log line. */
export const Instance = v.pipe(
  v.string("takes one name"),
  v.regex(/^[A-Za-z0-9_][\w.-]{0,63}$/, "takes a name of letters, digits, dots, dashes and underscores"),
);

/** Written as a number is printed: 007 and 1e3 are slips more often than numbers. */
export function whole(min: number, max: number) {
  const message = `takes a whole number from ${min.toLocaleString("en-US")} to ${max.toLocaleString("en-US")}`;
  return v.pipe(
    v.string(message),
    v.regex(/^(0|[1-9]\d*)$/, message),
    v.transform(Number),
    v.minValue(min, message),
    v.maxValue(max, message),
  );
}

const unitsMs: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
]);
const durationMessage = "takes a time such as 500ms, 10s or 2m";

/** Milliseconds; more than nothing. */
export const Duration = v.pipe(
  v.string(durationMessage),
  v.transform(parseDuration),
  v.number(durationMessage),
);

export function parseDuration(text: string): number | undefined {
  const [, digits, unit = ""] = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Number(digits) * (unitsMs.get(unit) ?? Number.NaN);
  return ms > 0 ? ms : undefined;
}
