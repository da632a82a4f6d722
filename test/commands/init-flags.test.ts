// `mcr init --yes`: every setting that a flag asks for is in the file, and a wrong one writes nothing.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initCommand } from "../../src/commands/init.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import { heardFlow, heardScan } from "../support/scans.ts";

const scan = heardScan([
  heardFlow({ group: "239.1.1.1", port: 5004, source: "10.0.0.1" }),
  heardFlow({ group: "239.1.1.2", port: 5005, source: "10.0.0.1" }),
]);

interface Written {
  readonly exitCode: ExitCode;
  /** Undefined: nothing was written. */
  readonly text: string | undefined;
  readonly refusal: string;
}

async function init(flags: Readonly<Record<string, unknown>>): Promise<Written> {
  const directory = mkdtempSync(join(tmpdir(), "mcr-init-"));
  const file = join(directory, "rules.toml");
  const from = join(directory, "scan.json");
  writeFileSync(from, JSON.stringify(scan));
  const io = { stdout: () => {}, stderr: () => {}, isTTY: false, columns: 100, env: {} };
  const given = { from, ingress: "eth0", egress: "eth1", yes: true, ...flags };
  const read = () => (existsSync(file) ? readFileSync(file, "utf8") : undefined);
  try {
    return { exitCode: await initCommand.run([file], given, io), text: read(), refusal: "" };
  } catch (thrown) {
    if (!(thrown instanceof McrError)) throw thrown;
    return { exitCode: thrown.exitCode, text: read(), refusal: thrown.lines.join("; ") };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("mcr init --yes", () => {
  test.each([
    ["nothing more", {}, {}, { ttl: 1, dscp: 0, path: "auto" }],
    ["--ttl decrement", { ttl: "decrement" }, {}, { ttl: "decrement" }],
    ["--ttl keep", { ttl: "keep" }, {}, { ttl: "keep" }],
    ["--ttl 8", { ttl: "8" }, {}, { ttl: 8 }],
    ["--dscp 46", { dscp: "46" }, {}, { dscp: 46 }],
    ["--dscp keep", { dscp: "keep" }, {}, { dscp: "keep" }],
    ["--path socket", { path: "socket" }, {}, { path: "socket" }],
    ["--senders", { senders: true }, { source: ["10.0.0.1"] }, {}],
    ["--exclusive", { exclusive: true }, { exclusive: true }, {}],
    ["--to 239.10.1.1:6001", { to: "239.10.1.1:6001" }, {}, { group: "239.10.1.1", port: 6001 }],
  ])("%s is in every rule it writes", async (_, flags, ingress, egress) => {
    const { exitCode, text } = await init(flags);
    expect(exitCode).toBe(ExitCode.ok);
    const [first, ...others] = parseConfig(text ?? "", "rules.toml").rules;
    expect(first?.ingress).toMatchObject({ interface: "eth0", ...ingress });
    expect(first?.egress).toMatchObject([{ interface: "eth1", ...egress }]);
    for (const rule of others) expect(rule.ingress).toMatchObject(ingress);
  });

  test.each([
    ["--ttl 0", { ttl: "0" }, ExitCode.usage],
    ["--dscp 64", { dscp: "64" }, ExitCode.usage],
    ["--path wire", { path: "wire" }, ExitCode.usage],
    ["--path socket with --ttl keep, which needs frames", { path: "socket", ttl: "keep" }, ExitCode.config],
    [
      "--senders for a stream that nobody was heard sending",
      { senders: true, stream: "239.9.9.9:1" },
      ExitCode.usage,
    ],
  ])("%s is refused, and nothing is written", async (_, flags, code) => {
    const { exitCode, text, refusal } = await init(flags);
    expect(text).toBeUndefined();
    expect(refusal).not.toBe("");
    expect(exitCode).toBe(code);
  });
});
