// When one build counts as worse than another: the bound, the noise of the run, and figures that are not there.

import { describe, expect, test } from "bun:test";
import { compare, isFailure, type Verdict } from "./verdict.ts";

function verdict(before: number, after: number, again: number, better: "more" | "less" = "less"): Verdict {
  return compare({ before: [before], after: [after], "before again": [again] }, better).verdict;
}

describe("a build", () => {
  test("that is worse by up to 3 % is as good, where less is better and where more is", () => {
    expect(verdict(100, 102.9, 100)).toBe("ok");
    expect(verdict(100, 97.1, 100, "more")).toBe("ok");
  });

  test("that is worse by more than 3 % fails", () => {
    expect(verdict(100, 103.1, 100)).toBe("WORSE");
    expect(verdict(100, 96.9, 100, "more")).toBe("WORSE");
  });

  test("that is better never fails", () => {
    expect(verdict(100, 50, 100)).toBe("ok");
    expect(verdict(100, 200, 100, "more")).toBe("ok");
  });

  test("does not fail where two that are the same differ as much, in either direction", () => {
    for (const again of [105, 106, 95, 94]) expect(verdict(100, 105, again)).toBe("within the noise");
    for (const again of [104, 97, 100]) expect(verdict(100, 105, again)).toBe("WORSE");
  });
});

test("medians are compared, so one bad round does not decide", () => {
  const compared = compare({ before: [1, 1, 1], after: [1, 1, 9], "before again": [1, 1.02, 1.02] }, "less");
  expect(compared).toMatchObject({ afterOverBefore: 1, againOverBefore: 1.02, verdict: "ok" });
  expect(compared.spreads.after).toEqual({ median: 1, min: 1, max: 9 });
});

test("a row without a figure fails, and so does one whose figure is none", () => {
  const missing = compare({ before: [1], after: [], "before again": [1] }, "less");
  expect(missing.verdict).toBe("NOT MEASURED");
  expect(isFailure(missing)).toBe(true);
  expect(verdict(1, 1, 0)).toBe("NOT MEASURED");
  expect(verdict(-0.1, 1, 1)).toBe("NOT MEASURED");
});
