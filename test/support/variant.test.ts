// A variant of the end-to-end tests: what the environment says, in words, and where a test's own settings stand.

import { expect, test } from "bun:test";
import { mayReorder, nameVariant, readVariant, relayLines } from "./variant.ts";

test("nothing in the environment is the default, which has no name", () => {
  const usual = readVariant({});
  expect(usual).toEqual({ settings: {}, isExclusive: false, path: "auto", offloads: "on" });
  expect(nameVariant(usual)).toBeUndefined();
  expect(relayLines("workers = 2\n", usual)).toBe("workers = 2\n");
});

test("every variable is read, and named", () => {
  const read = readVariant({
    MCR_TEST_SETTINGS: 'profile = "latency", workers = 8',
    MCR_TEST_EXCLUSIVE: "1",
    MCR_TEST_PATH: "socket",
    MCR_TEST_OFFLOADS: "off",
  });
  expect(nameVariant(read)).toBe("profile latency, workers 8, exclusive, path socket, offloads off");
  expect(mayReorder(read.settings)).toBe(false);
  expect(mayReorder(readVariant({ MCR_TEST_SETTINGS: 'fanout = "cpu"' }).settings)).toBe(true);
});

test("a key that the test sets itself stays the test's", () => {
  const read = readVariant({ MCR_TEST_SETTINGS: 'profile = "latency", workers = 8' });
  expect(relayLines("workers = 2\n", read)).toBe('workers = 2\nprofile = "latency"\n');
  expect(relayLines("", read)).toBe('profile = "latency"\nworkers = 8\n');
});

test.each([
  [{ MCR_TEST_SETTINGS: "latency" }, "MCR_TEST_SETTINGS"],
  [{ MCR_TEST_EXCLUSIVE: "yes" }, "MCR_TEST_EXCLUSIVE"],
  [{ MCR_TEST_PATH: "frame" }, "MCR_TEST_PATH"],
  [{ MCR_TEST_OFFLOADS: "none" }, "MCR_TEST_OFFLOADS"],
])("%j is refused by name, not ignored", (environment, name) => {
  expect(() => readVariant(environment)).toThrow(name);
});
