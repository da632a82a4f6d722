// `make demo` is the first thing a newcomer runs, so it is a test as well.

import { expect, test } from "bun:test";
import { Process } from "../support/process.ts";
import { repository } from "../support/topology.ts";

test("the demo relays ten streams, shows both counts and ends with 0", async () => {
  const { exitCode, stdout, stderr } = await new Process([
    process.execPath,
    `${repository}/test/demo/demo.ts`,
  ]).exited;
  expect(stderr).toBe("");
  expect(stdout).toContain("100000 of 100000 packets received");
  expect(stdout.match(/^239\.1\.1\.\d+:50\d\d → 239\.10\.1\.\d+:60\d\d +10000 +10000 +0 +0$/gm)).toHaveLength(
    10,
  );
  expect(stdout).toMatch(/^packets out +100000 +100000$/m);
  expect(exitCode).toBe(0);
}, 60_000);
