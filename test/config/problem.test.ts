// Text of a rule file in a message: short, and nothing that a terminal obeys or an eye misses.

import { describe, expect, test } from "bun:test";
import { printable, quote } from "../../src/config/problem.ts";

describe("text from the file", () => {
  test.each([
    ["a control character", "\u001b[2J\u0007\u009b", "\\u001b[2J\\u0007\\u009b"],
    ["a line end, of any kind", "a\n\r\u0085\u2028\u2029b", "a\\u000a\\u000d\\u0085\\u2028\\u2029b"],
    [
      "what turns the direction of writing",
      "\u202ecod\u202c\u2066\u2069\u200f\u061c",
      String.raw`\u202ecod\u202c\u2066\u2069\u200f\u061c`,
    ],
    ["what takes no room", "a\u200b\ufeff\u00adb", String.raw`a\u200b\ufeff\u00adb`],
    ["a tag beyond the first plane", "\u{e0041}", String.raw`\U000e0041`],
    ["half a character", "\ud800", String.raw`\ud800`],
    ["letters of any script, and pictures", "Café 名前 שלום 📡", "Café 名前 שלום 📡"],
  ])("%s", (_, text, shown) => {
    expect(printable(text)).toBe(shown);
    expect(quote(text)).toBe(`"${shown}"`);
  });
});
