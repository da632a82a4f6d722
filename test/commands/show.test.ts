// `mcr show`: its text for every kind of rule, its width, its JSON.

import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { plain } from "../../src/commands/color.ts";
import { formatAge } from "../../src/commands/figures.ts";
import { showCommand } from "../../src/commands/show.ts";
import { formatShow } from "../../src/commands/show-rules.ts";
import { type RuleSnapshot, RulesSchema } from "../../src/control/protocol.ts";
import { egress, now, refused, rule, rules, saved, status } from "../control/fake-relay.ts";
import { runRemote } from "./remote.ts";

const show = (shown: readonly RuleSnapshot[] = rules, columns = 100, of = status) =>
  formatShow(of, shown, now.getTime(), columns);
const widthOf = (text: string) => Math.max(...text.split("\n").map((line) => Bun.stringWidth(line)));

describe("mcr show", () => {
  test("shows one line for each rule and each egress, and why something does not run below it", () => {
    expect(show()).toMatchInlineSnapshot(`
      "mcr 0.1.0, pid 123, up 2h 6m, 2 workers, profile balanced
      /etc/mcr/rules.toml: 2 rules: 1 waiting, 1 active

      RULE      INGRESS, → EGRESS                                STATE    SINCE     PPS   BIT/S  PACKETS
      studio-a  eth0 239.1.1.1:5001 from 10.10.1.100 and 1 more  active   2h 5m   20000    164M  1234567
                → eth1 239.10.1.1:6001                           active   2h 5m   20000    164M  1234567
                → wg0 10.100.0.2:6001                            active   2h 5m   20000    164M  1234500
                    dropped 67: 60 full, 7 error; last refused: network is unreachable (ENETUNREACH)
      wall      eth9 239.1.1.1-239.1.1.50:5001-5050              waiting  42s         -       -        0
                  interface eth9 does not exist
                → eth1 239.10.1.1-239.10.1.50:6001-6050          waiting  4d 4h       -       -        0
                    interface eth1 is down: ip link set eth1 up
      "
      `);
  });

  test("tells below an egress that it is plain, and why it sends no frames", () => {
    const egresses = [
      { ...egress, plain: true },
      { ...egress, plain: true, path: "socket" as const, path_reason: "unicast" },
      { ...egress, path: "socket" as const, path_reason: "unicast" },
    ];
    expect(
      show([{ ...rule, egress: egresses }])
        .match(/^ +path .*/gm)
        ?.map((line) => line.trim()),
    ).toEqual(["path frame, plain", "path socket, plain: unicast", "path socket: unicast"]);
  });

  test("tells below a rule by what means it is exclusive, or why it is not", () => {
    const below = (changes: Partial<RuleSnapshot>) =>
      show([{ ...rule, ...changes }])
        .split("\n")[5]
        ?.trim();
    expect(below({ exclusive: "tcx" })).toBe("exclusive by tcx");
    expect(below({ exclusive: "nft" })).toBe("exclusive by nft");
    expect(below({ exclusive: "waiting" })).toBe("exclusive as soon as it is captured");
    expect(below({ exclusive: "refused", exclusive_reason: "tcx: no, nft: no" })).toBe("tcx: no, nft: no");
    expect(below({ exclusive: "off" })).toStartWith("→ eth1");
  });

  test("tells below rule and egress what came back", () => {
    const looping = { ...rule, looped: 20, egress: [{ ...egress, returned_packets: 15 }] };
    const text = formatShow(status, [looping], now.getTime(), 100);
    expect(text).toMatch(
      /\nstudio-a .*\n +looped 20: came back on eth0 and were dropped \(mcr explain studio-a says from where\)\n/,
    );
    expect(text).toMatch(/→ eth1 .*\n +15 of the packets sent came back\n/);
    expect(formatShow(status, [rule], now.getTime(), 100)).not.toContain("came back");
  });

  test("fits 100 columns with the longest ranges and large counters", () => {
    const wide: RuleSnapshot = {
      ...rule,
      name: "a-rule-with-a-name-that-is-rather-long",
      state: "waiting",
      ingress: "239.101.101.101-239.101.101.200:50001-50100",
      packets: 123456789012,
      egress: [{ ...egress, destination: "239.201.101.101-239.201.101.200:60001-60100", state: "waiting" }],
    };
    const text = show([wide]);
    expect(widthOf(text.split("\n\n")[1] ?? "")).toBeLessThanOrEqual(100);
    expect(text).toContain("\na-rule-wi…  eth0 239.101.101.101-239.101.101.200:50001-50100  ");
  });

  test("cuts a name only where the line would be too long", () => {
    const name = "a-rule-with-a-name-that-is-rather-long";
    expect(show([{ ...rule, name }], 120)).toContain(`${name}  eth0`);
    expect(show([{ ...rule, name }], 80)).toContain("\na-rule-wi…  eth0 239.1.1.1:5001");
    expect(widthOf(show([{ ...rule, name }], 80).split("\n\n")[1] ?? "")).toBe(80);
    // Beyond that it is too narrow for the rest, of which some columns go and nothing is cut.
    expect(show([{ ...rule, name }], 20)).toMatch(
      /^a-rule-… {2}eth0 239\.1\.1\.1:5001 +active +2h 5m +20000 {2}1234567$/m,
    );
  });

  test("shows the senders of a rule", () => {
    expect(show([{ ...rule, source: ["10.10.1.100"] }])).toContain("239.1.1.1:5001 from 10.10.1.100  active");
    expect(show([{ ...rule, source: ["10.0.0.1", "10.0.0.2", "10.0.0.3"] }])).toContain(
      "from 10.0.0.1 and 2 more",
    );
  });

  test("says so when there are no rules", () => {
    const none = { ...status, rules: { waiting: 0, joining: 0, active: 0, silent: 0, failed: 0 } };
    expect(show([], 100, none)).toBe(
      "mcr 0.1.0, pid 123, up 2h 6m, 2 workers, profile balanced\n/etc/mcr/rules.toml: no rules\n",
    );
  });

  test("tells that the last reload was refused, for the file and what runs differ then", () => {
    const last = { ...refused, time: "2026-11-21T11:30:00.000Z" };
    expect(show(rules, 100, { ...status, last_reload: last }).split("\n")[2]).toBe(
      'last reload refused 30m ago: /etc/mcr/rules.toml:13:9: rule "wall": ingress.port: 70000 is not a port: give 1 to 65535 (and 1 more)',
    );
  });

  test("asks the running mcr for rules and status", async () => {
    const { exitCode, stdout } = await runRemote(showCommand, {});
    expect(exitCode).toBe(0);
    expect(stdout).toStartWith(
      "mcr 0.1.0, pid 123, up 2h 6m, 2 workers, profile balanced\n/etc/mcr/rules.toml: 2 rules: 1 waiting",
    );
    expect(stdout).toContain("→ eth1 239.10.1.1:6001");
  });

  test("marks what the file does not have, and tells what it still has", async () => {
    const unsaved = { added: ["studio-a"], changed: ["wall"], removed: ["old", "older"] };
    const text = formatShow(status, rules, now.getTime(), 100, plain, unsaved);
    expect(text).toContain(
      "\nnot saved: 1 added, 1 changed, 2 removed at run time: mcr save writes the file, mcr reload returns to it\n",
    );
    expect(text).toMatch(/\nstudio-a .*\n +not in the file\n/);
    expect(text).toMatch(/\nwall .*\n +other than in the file\n +interface eth9 does not exist\n/);
    expect(text).toEndWith("\n\nremoved, still in the file: old, older\n");
    const { stdout } = await runRemote(showCommand, { unsaved: () => unsaved }, { json: true });
    expect(v.parse(RulesSchema, JSON.parse(stdout)).unsaved).toEqual(unsaved);
  });

  test("--json prints the answer as it came", async () => {
    const newer = rules.map((rule) => ({ ...rule, new_in_a_later_version: true }));
    const { exitCode, stdout } = await runRemote(showCommand, { rules: () => newer }, { json: true });
    expect(exitCode).toBe(0);
    expect(stdout).toBe(
      `${JSON.stringify({ schema: "/v1/rules", rules: newer, unsaved: saved }, null, 2)}\n`,
    );
    expect(v.parse(RulesSchema, JSON.parse(stdout))).toEqual({ rules: [...rules], unsaved: saved });
  });

  test("without a running mcr ends with 69 and says how to start it", async () => {
    const { exitCode, stdout, errors } = await runRemote(showCommand, null);
    expect(exitCode).toBe(69);
    expect(stdout).toBe("");
    expect(errors).toEqual([expect.stringMatching(/^no mcr answers at .*mcr run FILE.*--socket PATH/)]);
  });

  test("refuses a --socket that is no path", async () => {
    for (const socket of [true, "", ["/a", "/b"], { x: 1 }]) {
      const { exitCode, errors } = await runRemote(showCommand, {}, { socket });
      expect(exitCode).toBe(64);
      expect(errors).toEqual(["mcr show: --socket takes one path"]);
    }
  });
});

test("an age has its two largest units", () => {
  const s = 1000;
  const m = 60 * s;
  const h = 60 * m;
  const cases = [
    -5 * s,
    0,
    999,
    59 * s,
    60 * s,
    59 * m + 59 * s,
    h,
    2 * h + 5 * m,
    24 * h,
    76 * h + 1,
    400 * 24 * h,
  ];
  expect(cases.map(formatAge)).toEqual([
    "0s",
    "0s",
    "0s",
    "59s",
    "1m",
    "59m",
    "1h 0m",
    "2h 5m",
    "1d 0h",
    "3d 4h",
    "400d 0h",
  ]);
});
