// The wizard of `mcr init`, walked by keys on a terminal made of streams: every way through it and out of it.

import { describe, expect, test } from "bun:test";
import type { RuleFile } from "../../src/commands/init-file.ts";
import { hintsFor } from "../../src/commands/init-hints.ts";
import { Prompts } from "../../src/commands/init-prompts.ts";
import { type Outcome, runWizard, type World } from "../../src/commands/init-wizard.ts";
import { formatRule } from "../../src/config/format.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import type { ListedInterface } from "../../src/net/interface-list.ts";
import { FakeTerminal, key } from "../support/keys.ts";
import { heardFlow, heardScan } from "../support/scans.ts";

const { enter, esc, ctrlC, down, space } = key;

const link = (
  name: string,
  address: string | null,
  changes: Partial<ListedInterface> = {},
): ListedInterface => ({
  ...{ name, ifindex: 1, mtu: 1500, address, isUp: true, hasCarrier: true, isLoopback: false },
  ...changes,
});
const interfaces = [
  link("lo", "127.0.0.1", { isLoopback: true, mtu: 65_536 }),
  link("eth0", "10.0.0.2"),
  link("eth1", "10.0.1.1"),
  link("eth2", null, { hasCarrier: false }),
];
const noFile: RuleFile = { path: "rules.toml", text: undefined, rules: [], before: undefined };
const scan = heardScan([
  heardFlow({ group: "239.1.1.1", port: 5004, kind: "rtp", payload_type: 33, programs: 2, name: "Studio A" }),
  heardFlow({ group: "239.2.2.2", port: 1234, kind: "mpeg-ts" }),
  heardFlow({ group: "ff1e::1", port: 5004, source: "fe80::1" }),
]);
const host = { mayCapture: true, hasReversePathFilter: () => false, hasFirewall: false };

function start(changes: Partial<World> = {}) {
  const terminal = new FakeTerminal();
  const prompts = new Prompts(terminal.input, terminal.output);
  const outcome = runWizard(prompts, {
    ...{ interfaces, file: noFile, scan: undefined, listen: async () => scan },
    hints: (choices, heard) => hintsFor(choices, heard, interfaces, host),
    ...changes,
  });
  return { terminal, prompts, outcome };
}

function existing(text: string): RuleFile {
  return { path: "rules.toml", text, rules: parseConfig(text, "rules.toml").rules, before: undefined };
}

/** The text is a good rule file, and its rules are as the formatter writes them. */
function rulesOf(outcome: Outcome | undefined) {
  const text = outcome?.text ?? "";
  const { rules } = parseConfig(text, "rules.toml");
  for (const rule of rules) expect(text).toContain(formatRule(rule));
  return rules;
}

describe("a fresh file", () => {
  test("has what was heard, named, mapped to other groups, with the settings that were asked for", async () => {
    const { terminal, outcome } = start();
    await terminal.answer("Where do the streams come from?", enter);
    await terminal.answer("Which streams?", enter); // the two that can be relayed are chosen
    await terminal.answer("Where do they go?", enter);
    await terminal.answer("To which groups?", down, enter);
    await terminal.answer("The first group", "239.10.1.1:6001", enter);
    // TTL, senders, DSCP, exclusive and path.
    await terminal.answer(
      "Anything special?",
      ...[space, down, space, down, space, down, space, down, space],
      enter,
    );
    await terminal.answer("TTL: 1-255", "300", enter);
    await terminal.answer("give a whole number from 1 to 255", ..."\x7f".repeat(3), "keep", enter);
    await terminal.answer("DSCP: 0-63", "46", enter);
    await terminal.answer("Which send path?", down, enter);
    await terminal.answer("Write rules.toml?", enter);
    const result = await outcome;
    expect(result?.rules).toBe(2);
    expect(rulesOf(result)).toMatchObject([
      {
        name: "studio-a",
        ingress: {
          ...{ interface: "eth0", group: "239.1.1.1", port: 5004, source: ["10.0.0.1"] },
          exclusive: true,
        },
        egress: [
          { interface: "eth1", group: "239.10.1.1", port: 6001, ttl: "keep", path: "frame", dscp: 46 },
        ],
      },
      { name: "ts-239.2.2.2", egress: [{ group: "239.11.2.2", port: 2231 }] },
    ]);
    expect(result?.text).toStartWith("# Rules of mcr");
    expect(result?.text).toContain('# announced as "Studio A", RTP 33 (MPEG-TS), 2 programs');
    expect(terminal.all).toContain("is not supported yet: give an IPv4 group");
    expect(terminal.input.isRaw).toBe(false);
  });

  test("goes to one host", async () => {
    const { terminal, outcome } = start();
    await terminal.answer("Where do the streams come from?", enter);
    await terminal.answer("Which streams?", down, space, enter); // without the second
    await terminal.answer("Where do they go?", enter);
    await terminal.answer("To which groups?", down, down, enter);
    await terminal.answer("Address of the host", "239.1.1.1", enter);
    await terminal.answer("give a host, not a group", ..."\x7f".repeat(9), "10.0.1.2:6001", enter);
    await terminal.answer("Anything special?", enter);
    await terminal.answer("Write rules.toml?", enter);
    expect(rulesOf(await outcome)).toMatchObject([
      { name: "studio-a", egress: [{ address: "10.0.1.2", port: 6001, ttl: 64 }] },
    ]);
  });

  test("takes streams and an interface that are typed, and folds neighbours into one rule", async () => {
    const { terminal, outcome } = start({ listen: async () => heardScan([]) });
    await terminal.answer("Where do the streams come from?", enter);
    await terminal.answer("Nothing was heard on eth0");
    await terminal.answer("Which groups and ports?", "10.0.0.1:5", enter);
    await terminal.answer("10.0.0.1 is no group", ..."\x7f".repeat(10), "224.0.0.5:1", enter);
    await terminal.answer("allow_link_local", ..."\x7f".repeat(11), "239.1.1.1:5001+50", enter);
    await terminal.answer("Where do they go?", down, space, down, down, space, enter); // not eth1, but another
    await terminal.answer("The name of the interface", "wg0", enter);
    await terminal.answer("To which groups?", enter);
    await terminal.answer("Anything special?", enter);
    await terminal.answer("wg0 does not exist yet");
    await terminal.answer("Write rules.toml?", enter);
    const [rule, ...more] = rulesOf(await outcome);
    expect(more).toEqual([]);
    expect(rule).toMatchObject({ ingress: { group: "239.1.1.1-239.1.1.50", port: "5001-5050" } });
    expect(rule?.egress.map((egress) => egress.interface)).toContain("wg0");
  });

  test("without permission to listen has what is typed", async () => {
    const { terminal, outcome } = start({
      listen: async () => {
        throw new McrError(
          ["mcr init: cannot listen: operation not permitted (EPERM)"],
          ExitCode.noPermission,
        );
      },
    });
    await terminal.answer("Where do the streams come from?", enter);
    await terminal.answer("Which groups and ports?", "239.9.9.9", enter);
    await terminal.answer("Where do they go?", enter);
    await terminal.answer("To which groups?", enter);
    await terminal.answer("Anything special?", enter);
    await terminal.answer("Write rules.toml?", enter);
    expect(terminal.all).toContain(
      "cannot listen: operation not permitted (EPERM). You can type the streams.",
    );
    expect(rulesOf(await outcome)).toMatchObject([{ ingress: { group: "239.9.9.9" } }]);
  });
});

describe("an existing file", () => {
  const text =
    '# ours, do not touch\n\n[relay]\nworkers = 2 # two\n\n[[rule]]\nname = "studio-a" # the first\ningress = { interface = "eth0", group = "239.1.1.1", port = 5004 }\negress = [{ interface = "eth1", group = "239.99.1.1" }]\n# the end\n';

  test("keeps every byte of its own, gets the new rules behind it, and shows only those", async () => {
    const { terminal, outcome } = start({ file: existing(text) });
    await terminal.answer("This file has 1 rule");
    await terminal.answer("Where do the streams come from?", enter);
    await terminal.answer("Which streams?", enter);
    await terminal.answer("Where do they go?", enter);
    await terminal.answer("To which groups?", enter);
    await terminal.answer("Anything special?", enter);
    await terminal.answer("Write rules.toml?", enter);
    const result = await outcome;
    expect(result?.text).toStartWith(text);
    expect(parseConfig(result?.text ?? "", "").rules.map(({ name }) => name)).toEqual([
      "studio-a",
      "ts-239.2.2.2",
    ]);
    expect(terminal.all).toContain('rule "studio-a" takes it already');
    expect(terminal.all).toContain('+ name    = "ts-239.2.2.2"');
    expect(terminal.all).not.toContain("+ workers");
  });

  test("that would relay in a circle is refused by its own checks, and the question comes again", async () => {
    const { terminal, outcome } = start({ file: existing(text) });
    await terminal.answer("Where do the streams come from?", enter);
    await terminal.answer("Which streams?", enter);
    // Not eth1, but eth0 itself.
    await terminal.answer("Where do they go?", space, down, space, enter);
    await terminal.answer("To which groups?", enter);
    await terminal.answer("Anything special?", enter);
    await terminal.answer("feeds its own ingress");
    await terminal.answer("Anything special?", esc);
    await terminal.answer("To which groups?", ctrlC);
    expect(await outcome).toBeUndefined();
  });
});

describe("leaving", () => {
  const questions: readonly [string, readonly string[]][] = [
    ["Where do the streams come from?", [enter]],
    ["Which streams?", [enter]],
    ["Where do they go?", [enter]],
    ["To which groups?", [down, enter]],
    ["The first group", ["239.10.1.1", enter]],
    ["Anything special?", [space, down, down, space, down, down, space, enter]],
    ["TTL: 1-255", [enter]],
    ["DSCP: 0-63", [enter]],
    ["Which send path?", [enter]],
    ["Write rules.toml?", [enter]],
  ];
  const walk = async (terminal: FakeTerminal, to: number) => {
    for (const [seen, keys] of questions.slice(0, to)) await terminal.answer(seen, ...keys);
  };
  const ways: readonly [string, (terminal: FakeTerminal, prompts: Prompts) => void][] = [
    ["Ctrl-C", (terminal) => void terminal.input.write(ctrlC)],
    ["SIGTERM", (_, prompts) => prompts.leave()],
    ["the end of the input", (terminal) => void terminal.input.end()],
  ];
  for (const [way, leave] of ways) {
    test.each(questions.map(([question], index) => [question, index] as const))(
      `by ${way} at "%s" writes nothing and gives the terminal back`,
      async (question, index) => {
        const { terminal, prompts, outcome } = start();
        await walk(terminal, index);
        await terminal.answer(question);
        leave(terminal, prompts);
        expect(await outcome).toBeUndefined();
        prompts.close();
        expect(terminal.all).toContain("nothing was written");
        expect(terminal.input.isRaw).toBe(false);
        expect(terminal.output.text.lastIndexOf("\x1b[?25h")).toBeGreaterThan(
          terminal.output.text.lastIndexOf("\x1b[?25l"),
        );
      },
    );
  }

  test("by Esc is one question back each time, and out at the first", async () => {
    const { terminal, outcome } = start();
    await walk(terminal, 3);
    await terminal.answer("To which groups?", esc);
    await terminal.answer("Where do they go?", esc);
    await terminal.answer("Which streams?", esc);
    await terminal.answer("Where do the streams come from?", esc);
    expect(await outcome).toBeUndefined();
  });

  test("by Esc in the special settings is one of them back, with the choice kept", async () => {
    const { terminal, outcome } = start();
    await walk(terminal, 3);
    await terminal.answer("To which groups?", enter);
    await terminal.answer("Anything special?", space, down, down, space, enter);
    await terminal.answer("TTL: 1-255", "9", enter);
    await terminal.answer("DSCP: 0-63", esc);
    await terminal.answer("TTL: 1-255", esc);
    await terminal.answer("Anything special?", enter); // both are chosen still
    await terminal.answer("TTL: 1-255", "8", enter);
    await terminal.answer("DSCP: 0-63", "keep", enter);
    await terminal.answer("Write rules.toml?", enter);
    expect(rulesOf(await outcome)[0]?.egress).toMatchObject([{ ttl: 8, dscp: "keep" }]);
  });

  test("by its own word at the end", async () => {
    const { terminal, outcome } = start();
    await walk(terminal, 3);
    await terminal.answer("To which groups?", enter);
    await terminal.answer("Anything special?", enter);
    await terminal.answer("Write rules.toml?", down, enter);
    await terminal.answer("Anything special?", enter);
    await terminal.answer("Write rules.toml?", down, down, enter);
    expect(await outcome).toBeUndefined();
  });

  test("without an interface there is nothing to ask", async () => {
    const { outcome } = start({ interfaces: interfaces.slice(0, 1) });
    await expect(outcome).rejects.toThrow("no interface but the loopback");
  });
});

test("what a running mcr relays is shown, not chosen by itself, and warned of when it is", async () => {
  const flows = [
    heardFlow({ group: "239.1.1.1", relayed_by: "studio" }),
    heardFlow({ group: "239.2.2.2" }),
    heardFlow({ group: "239.2.2.2", vlan: 7 }),
  ];
  const { terminal, outcome } = start({ scan: heardScan(flows) });
  await terminal.answer("Where do the streams come from?", enter);
  await terminal.answer('relayed by rule "studio"', space, enter);
  await terminal.answer("Where do they go?", enter);
  await terminal.answer("To which groups?", enter);
  await terminal.answer("Anything special?", enter);
  await terminal.answer('relayed already, by rule "studio" of the mcr that runs here');
  await terminal.answer("Write rules.toml?", enter);
  expect(rulesOf(await outcome).map(({ ingress }) => ingress.group)).toEqual(["239.1.1.1", "239.2.2.2"]);
});

test("what the host lacks is said with its cure", () => {
  const streams = [
    {
      ...{ group: "239.1.1.1", port: 5004, vlan: null, name: null },
      heard: {
        ...({ kind: "rtp", text: "RTP 96", sources: ["10.0.0.1", "10.0.0.9"] } as const),
        ...{ packets_per_second: 100, bits_per_second: 1e6, bytes_max: 8972 },
      },
    },
  ];
  const hints = hintsFor(
    { ingress: "eth0", egresses: ["eth1", "eth2", "wg0"], streams, mapping: { kind: "same" } },
    scan,
    interfaces,
    { mayCapture: false, hasReversePathFilter: () => true, hasFirewall: true },
  );
  expect(hints).toEqual([
    expect.stringContaining("CAP_NET_RAW"),
    expect.stringContaining("eth2 has no carrier"),
    expect.stringContaining("wg0 does not exist yet"),
    expect.stringContaining("Packets of 9000 bytes do not fit eth1 (MTU 1500)"),
    expect.stringContaining("Packets of 9000 bytes do not fit eth2 (MTU 1500)"),
    expect.stringContaining("No querier was heard on eth0"),
    expect.stringContaining("239.1.1.1 has several senders"),
    expect.stringContaining("rp_filter is on for eth0, and does not matter"),
    expect.stringContaining("packet filter"),
  ]);
});
