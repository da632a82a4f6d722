// When drops begin and end, told once each, with their number.

import { expect, test } from "bun:test";
import { DropWatch } from "../../src/stats/drops.ts";

const at = (total: number, key = "ring") => [{ key, place: key, total }];

test("drops begin with the first and end two seconds after the last", () => {
  const watch = new DropWatch<string>();
  expect(watch.look(at(7), 0)).toEqual([]); // before anybody looked
  expect(watch.look(at(10), 500)).toEqual([{ change: "began", place: "ring", packets: 3 }]);
  expect(watch.look(at(20), 1000)).toEqual([]);
  expect(watch.look(at(20), 2999)).toEqual([]);
  expect(watch.look(at(20), 3000)).toEqual([{ change: "ended", place: "ring", packets: 13 }]);
  expect(watch.look(at(20), 9000)).toEqual([]);
  expect(watch.look(at(21), 9500)).toEqual([{ change: "began", place: "ring", packets: 1 }]);
});

test("a counter that comes later began at zero", () => {
  const watch = new DropWatch<string>();
  watch.look([], 0);
  expect(watch.look(at(5), 500)).toEqual([{ change: "began", place: "ring", packets: 5 }]);
});

test("after forgetting, the next look begins anew", () => {
  const watch = new DropWatch<string>();
  watch.look(at(0), 0);
  watch.forget();
  expect(watch.look(at(5), 500)).toEqual([]);
});
