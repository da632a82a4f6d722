// `mcr check`: the table of what would run, its JSON, and that a mistake is an error and nothing else.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { checkCommand, formatCheck } from "../../src/commands/check.ts";
import type { Io } from "../../src/commands/command.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { RuleSchema } from "../../src/config/schema.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import { type RuleParts, ruleText } from "../config/rules.ts";

const studio: RuleParts = {
  name: "studio-a",
  ingress: 'interface = "eth0", group = "239.1.1.1", port = 5001',
  egress: [
    'interface = "eth1", group = "239.10.1.1", port = 6001',
    'interface = "eth2", ttl = 8',
    'interface = "wg0", address = "10.100.0.2", port = 6001',
  ],
};
const wall: RuleParts = {
  name: "wall",
  ingress:
    'interface = "eth0", group = "239.1.1.2-239.1.1.51", port = "5001-5050", source = ["10.10.1.100", "10.10.1.101"]',
  egress: ['interface = "eth1", group = "239.10.1.1-239.10.1.50", port = "6001-6050"'],
};

let directory: string;
let path: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
  path = join(directory, "rules.toml");
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function checkText(...rules: readonly RuleParts[]): string {
  return formatCheck("rules.toml", parseConfig(rules.map(ruleText).join(""), "rules.toml"));
}

async function run(
  text: string,
  options: unknown = {},
  positionals: readonly string[] = [path],
  columns = Number.POSITIVE_INFINITY,
) {
  writeFileSync(path, text);
  let stdout = "";
  const io: Io = {
    stdout: (written) => {
      stdout += written;
    },
    stderr: () => {},
    isTTY: false,
    columns,
    env: {},
  };
  try {
    return { exitCode: await checkCommand.run(positionals, options, io), stdout, errors: [] };
  } catch (thrown) {
    if (!(thrown instanceof McrError)) throw thrown;
    return { exitCode: thrown.exitCode, stdout, errors: thrown.lines };
  }
}

describe("mcr check", () => {
  test("shows a line for each ingress and each egress below it, and the sums", () => {
    expect(checkText(studio, wall)).toMatchInlineSnapshot(`
      "RULE      INGRESS, → EGRESS                        FLOWS  TTL  SETTINGS
      studio-a  eth0 239.1.1.1:5001                          1
                → eth1 239.10.1.1:6001                            1
                → eth2 239.1.1.1:5001                             8
                → wg0 10.100.0.2:6001                            64  path socket: unicast
      wall      eth0 239.1.1.2-239.1.1.51:5001-5050         50
                  from 10.10.1.100
                  from 10.10.1.101
                → eth1 239.10.1.1-239.10.1.50:6001-6050           1

      profile balanced, 64 MiB per ring: 512 blocks of 128 KiB, handed over within 1 ms; fanout flow
      rules.toml: 2 rules, 51 flows, 53 egresses: ok
      "
    `);
  });

  test("shows the settings of an egress when there are any", () => {
    const set =
      'interface = "eth1", source = "10.1.0.1", source_port = 7000, path = "socket", dscp = 46, plain = true';
    expect(checkText({ ...studio, egress: [set, 'interface = "eth2"'] })).toMatchInlineSnapshot(`
      "RULE      INGRESS, → EGRESS      FLOWS  TTL  SETTINGS
      studio-a  eth0 239.1.1.1:5001        1
                → eth1 239.1.1.1:5001           1  source 10.1.0.1
                                                   source_port 7000
                                                   path socket
                                                   dscp 46
                                                   plain
                → eth2 239.1.1.1:5001           1

      profile balanced, 64 MiB per ring: 512 blocks of 128 KiB, handed over within 1 ms; fanout flow
      rules.toml: 1 rule, 1 flow, 2 egresses: ok
      "
    `);
  });

  test("fits 100 columns with the longest ranges, and cuts names only in a narrower terminal", () => {
    const wide: RuleParts = {
      name: "a-rule-with-a-rather-long-name",
      ingress: 'interface = "eth0", group = "239.101.101.101-239.101.101.200", port = "50001-50100"',
      egress: ['interface = "eth1", group = "239.201.101.101-239.201.101.200", port = "60001-60100"'],
    };
    const text = checkText(wide);
    expect(Math.max(...text.split("\n").map((line) => Bun.stringWidth(line)))).toBeLessThanOrEqual(100);
    const config = parseConfig(ruleText(wide), "rules.toml");
    expect(formatCheck("rules.toml", config, 80)).toContain(
      "\na-rule-with-a-r…  eth0 239.101.101.101-239.101.101.200:50001-50100      100\n",
    );
  });

  test("keeps to the width that watch(1) gives, as show does, and cuts nothing in a pipe", async () => {
    const long = ruleText({ ...studio, name: "a-rule-with-a-name-that-is-much-too-long-for-this" });
    const narrow = await run(long, {}, [path], 70);
    expect(narrow.stdout).toContain("\na-rule-with… ");
    expect(narrow.stdout).not.toContain("too-long-for-this");
    expect((await run(long)).stdout).toContain("too-long-for-this");
  });

  test("says so when there is nothing to relay", async () => {
    const { exitCode, stdout } = await run("# nothing\n");
    expect([exitCode, stdout]).toEqual([0, `${path}: no rules: ok, but nothing would be relayed\n`]);
  });

  test("of a file that is right ends with 0", async () => {
    const { exitCode, stdout, errors } = await run(ruleText(studio));
    expect([exitCode, errors]).toEqual([0, []]);
    expect(stdout).toEndWith(`\n${path}: 1 rule, 1 flow, 3 egresses: ok\n`);
  });

  test("of a file with mistakes prints nothing but every mistake, as JSON too, and ends with 78", async () => {
    const mistakes = [
      `${path}:1:1: x: is not a key of the file, which has relay, log, rule`,
      `${path}:5:11: rule "a": egress[1].interface: is missing: name the interface, such as interface = "eth0"`,
      `${path}:5:19: rule "a": egress[1].ttl: 0 is not a TTL: give 1-255, "keep" or "decrement"`,
    ];
    const bad = `x = 1\n${ruleText({ egress: ["ttl = 0"] })}`;
    expect(await run(bad)).toEqual({ exitCode: ExitCode.config, stdout: "", errors: mistakes });
    for (const [diff, schema] of [
      [false, "check/1"],
      [true, "check-diff/1"],
    ] as const) {
      const { exitCode, stdout, errors } = await run(bad, { json: true, diff });
      expect([exitCode, errors]).toEqual([ExitCode.config, []]);
      expect(JSON.parse(stdout)).toEqual({ schema, file: path, ok: false, errors: mistakes });
    }
  });

  test("--json prints the file as mcr understands it", async () => {
    const { exitCode, stdout } = await run(`${ruleText(studio)}${ruleText(wall)}`, { json: true });
    expect(exitCode).toBe(0);
    const Flows = v.object({ flows: v.number() });
    const answer = v.parse(
      v.object({
        schema: v.literal("check/1"),
        file: v.string(),
        ok: v.literal(true),
        errors: v.tuple([]),
        flows: v.number(),
        egresses: v.number(),
        relay: v.object({ control: v.string() }),
        log: v.object({ level: v.string() }),
        rules: v.array(v.unknown()),
      }),
      JSON.parse(stdout),
    );
    expect(answer).toMatchObject({
      file: path,
      flows: 51,
      egresses: 53,
      relay: { control: "/run/mcr/mcr.sock" },
    });
    expect(answer.rules.map((rule) => v.parse(Flows, rule).flows)).toEqual([1, 50]);
    const rules = answer.rules.map((rule) => v.parse(v.object(RuleSchema.pipe[1].entries), rule));
    expect(rules).toEqual([...parseConfig(`${ruleText(studio)}${ruleText(wall)}`, path).rules]);
  });

  test("of a file that is not there ends with 78", async () => {
    const { exitCode, errors } = await run("", {}, [join(directory, "none.toml")]);
    expect(exitCode).toBe(ExitCode.config);
    expect(errors).toEqual([expect.stringContaining("no such file")]);
  });
});

describe("a metrics address", () => {
  const relay = (metrics: string) => `[relay]\nmetrics = "${metrics}"\n${ruleText(studio)}`;

  test("that others may reach is allowed, and one sentence says what that means", async () => {
    const note =
      'relay.metrics: 0.0.0.0:9477 is not a loopback address: whoever reaches it reads names, groups and rates of all rules; let a firewall admit your Prometheus only, or give "127.0.0.1:PORT"';
    const { exitCode, stdout } = await run(relay("0.0.0.0:9477"));
    expect(exitCode).toBe(ExitCode.ok);
    expect(stdout.split("\n").filter((line) => line.startsWith("note: "))).toEqual([`note: ${note}`]);
    expect(JSON.parse((await run(relay("0.0.0.0:9477"), { json: true })).stdout).notes).toEqual([note]);
  });

  test.each([":9477", "127.0.0.1:9477", "[::1]:9477"])(
    "%s is loopback and not worth a word",
    async (metrics) => {
      expect((await run(relay(metrics))).stdout).not.toContain("note:");
    },
  );

  test("without a host is loopback's", () => {
    expect(parseConfig(relay(":9477"), "rules.toml").relay.metrics).toBe("127.0.0.1:9477");
  });
});
