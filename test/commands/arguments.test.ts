import { expect, test } from "bun:test";
import { parseArguments } from "../../src/commands/arguments.ts";
import { sendCommand } from "../../src/commands/send.ts";

test.each([
  [["--payload", "0010"], "0010"],
  [["--payload=0010"], "0010"],
  [["--payload", "1e3"], "1e3"],
  [["--payload", "10"], 10],
  [["--payload", "ten"], "ten"],
])("%p: what would not read back as it was typed stays text", (words, payload) => {
  const { options, positionals } = parseArguments(sendCommand, [...words, "239.1.1.1:5001"]);
  expect(options).toMatchObject({ payload });
  expect(positionals).toEqual(["239.1.1.1:5001"]);
});
