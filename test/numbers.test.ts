// Numbers as sentences have them.

import { expect, test } from "bun:test";
import { plural, sum } from "../src/numbers.ts";

test("one is one, none and many are many", () => {
  expect([0, 1, 2, 1234].map((count) => plural(count, "rule"))).toEqual([
    "0 rules",
    "1 rule",
    "2 rules",
    "1,234 rules",
  ]);
  expect([1, 2].map((count) => plural(count, "egress", "egresses"))).toEqual(["1 egress", "2 egresses"]);
});

test("the sum of nothing is nothing, or what it begins with", () => {
  expect([sum([]), sum([], 3), sum([1, 2, 3]), sum([1, 2], 3)]).toEqual([0, 3, 6, 6]);
});
