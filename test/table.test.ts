// Columns of text: alignment, cells of several lines, and what gives way in a narrow terminal.

import { describe, expect, test } from "bun:test";
import { cut, formatTable } from "../src/table.ts";

describe("formatTable", () => {
  test("aligns words to the left, numbers to the right, without borders or trailing blanks", () => {
    const rows = [
      ["a", 1, "x"],
      ["longer", 12345, ""],
    ];
    expect(formatTable(["NAME", "COUNT", "REMARK"], rows)).toBe(
      "NAME    COUNT  REMARK\na           1  x\nlonger  12345\n",
    );
  });

  test("puts the elements of lists below each other, in step", () => {
    expect(
      formatTable(
        ["NAME", "N", "WHY"],
        [
          ["a", [1, 22], ["x", "y"]],
          ["b", 3, "z"],
        ],
      ),
    ).toBe("NAME   N  WHY\na      1  x\n      22  y\nb      3  z\n");
  });

  test("without rows is its heading", () => {
    expect(formatTable(["A", "B"], [])).toBe("A  B\n");
  });

  test("cuts names where it must, counted as the terminal counts, and nothing else", () => {
    const rows = [
      ["a-name-that-is-long", "239.1.1.1-239.1.1.50:5001-5050"],
      ["名前名前名前名前", "x"],
      ["short", "y"],
    ];
    const text = formatTable(["NAME", "INGRESS"], rows, 44);
    expect(text).toBe(
      "NAME          INGRESS\na-name-that…  239.1.1.1-239.1.1.50:5001-5050\n名前名前名…   x\nshort         y\n",
    );
    expect(formatTable(["NAME", "INGRESS"], rows, 5)).toContain("a-name-…  239.1.1.1-239.1.1.50:5001-5050\n");
    expect(formatTable(["NAME", "INGRESS"], rows)).toContain("a-name-that-is-long  239.1.1.1");
  });

  test("leaves out whole columns where cut names are not enough, in the order given", () => {
    const rows = [["a-name-that-is-long", 1234567, ["x", "y"], 99]];
    const at = (columns: number) =>
      formatTable(["NAME", "COUNT", "WHY", "N"], rows, columns, ["WHY", "COUNT"]);
    expect(at(26)).toBe("NAME        COUNT  WHY   N\na-name-…  1234567  x    99\n                   y\n");
    expect(at(25)).toBe("NAME            COUNT   N\na-name-that…  1234567  99\n");
    expect(at(20)).toBe("NAME               N\na-name-that-is-…  99\n");
    expect(at(1)).toBe("NAME       N\na-name-…  99\n");
  });

  test("counts what takes no room as nothing", () => {
    const rows = [
      ["zero\u200bwidth", 1],
      ["\u001b[31mred\u001b[0m", 22],
    ];
    expect(formatTable(["NAME", "N"], rows)).toBe(
      "NAME        N\nzero\u200bwidth   1\n\u001b[31mred\u001b[0m        22\n",
    );
  });

  test("is the same for many rows as for few", () => {
    const rows = Array.from({ length: 65_536 }, (_, i) => [`rule-${i}`, i]);
    const lines = formatTable(["RULE", "N"], rows).trimEnd().split("\n");
    expect(lines).toHaveLength(65_537);
    expect(lines[0]).toBe("RULE            N");
    expect(new Set(lines.map((line) => line.length))).toEqual(new Set([17]));
  });
});

test("a text that is cut is never wider than asked, and says that it was cut where there is room", () => {
  expect([4, 3, 2, 1, 0, -1].map((width) => cut("名前", width))).toEqual(["名前", "名…", "…", "…", "", ""]);
  expect(cut("", 0)).toBe("");
});
