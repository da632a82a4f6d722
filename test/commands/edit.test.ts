// `mcr add`, `mcr remove`, `mcr save` and `mcr check --diff`: words in, requests out, text, JSON and exit codes.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { addCommand } from "../../src/commands/add.ts";
import { checkCommand } from "../../src/commands/check.ts";
import { parseEgress, parseIngress, type Table } from "../../src/commands/endpoint.ts";
import { removeCommand } from "../../src/commands/remove.ts";
import { saveCommand } from "../../src/commands/save.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { DifferenceSchema, type EditResult, EditSchema } from "../../src/control/protocol.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import { parseRules, ruleText } from "../config/rules.ts";
import { edited, saved } from "../control/fake-relay.ts";
import { runRemote } from "./remote.ts";

const words = { name: "x", ingress: "eth0:239.1.1.1:5001", egress: "eth1:239.2.2.2:6001" };
const refused: EditResult = {
  ...edited,
  ok: false,
  changes: [],
  unsaved: saved,
  errors: ['rule "x": egress[1].ttl: 0 is not a TTL: give 1-255'],
  refusal: "config",
};

describe("an endpoint", () => {
  test("is interface, target and port, and settings behind commas", () => {
    const cases: readonly (readonly [string, Table])[] = [
      ["eth1", { interface: "eth1" }],
      ["eth1:239.1.1.1", { interface: "eth1", group: "239.1.1.1" }],
      ["eth1:239.1.1.1:5001", { interface: "eth1", group: "239.1.1.1", port: 5001 }],
      ["eth1:239.1.1.1:*", { interface: "eth1", group: "239.1.1.1" }],
      ["eth1::6001", { interface: "eth1", port: 6001 }],
      ["wg0:10.0.0.1:6001", { interface: "wg0", address: "10.0.0.1", port: 6001 }],
      [
        "eth0:239.1.1.1-239.1.1.50:5001-5050",
        { interface: "eth0", group: "239.1.1.1-239.1.1.50", port: "5001-5050" },
      ],
      ["eth0:239.1.1.0/24", { interface: "eth0", group: "239.1.1.0/24" }],
      ["eth0:[ff05::1]:5001", { interface: "eth0", group: "ff05::1", port: 5001 }],
      ["eth0:[ff05::1-ff05::9]", { interface: "eth0", group: "ff05::1-ff05::9" }],
      ["eth0:[2001:db8::1]:5001", { interface: "eth0", address: "2001:db8::1", port: 5001 }],
      ["eth0.5:not-a-group:many", { interface: "eth0.5", group: "not-a-group", port: "many" }],
      [
        "eth1::6001,ttl=8,source=10.0.0.1,dscp=keep,x=true",
        { interface: "eth1", port: 6001, ttl: 8, source: "10.0.0.1", dscp: "keep", x: true },
      ],
    ];
    for (const [word, table] of cases) expect([word, parseEgress(word)]).toEqual([word, table]);
  });

  test("that is none is wrong use, with an example", () => {
    for (const word of [
      "",
      ":239.1.1.1",
      "eth0:ff05::1:5001",
      "eth0:[ff05::1",
      "a:b:c:d",
      "eth0,ttl",
      "eth0,=8",
    ]) {
      expect(() => parseIngress(word)).toThrow(McrError);
      expect(() => parseIngress(word)).toThrow("such as eth0:239.1.1.1:5001");
    }
  });
});

describe("mcr add", () => {
  test("asks for the rule as a rule file would have it, and says that the file does not have it yet", async () => {
    let asked: unknown;
    const add = async (rules: readonly unknown[]) => {
      asked = rules;
      return edited;
    };
    const options = { ...words, egress: [words.egress, "eth2,ttl=8"], source: "10.0.0.1" };
    const { exitCode, stdout } = await runRemote(addCommand, { add }, options);
    expect(asked).toEqual([
      {
        name: "x",
        ingress: { interface: "eth0", group: "239.1.1.1", port: 5001, source: ["10.0.0.1"] },
        egress: [
          { interface: "eth1", group: "239.2.2.2", port: 6001 },
          { interface: "eth2", ttl: 8 },
        ],
      },
    ]);
    expect(stdout).toMatchInlineSnapshot(`
      "+ studio-b
          eth0 239.1.1.2:5002 → eth1 239.10.1.2:6002
      not saved: 1 added at run time: mcr save writes the file, mcr reload returns to it
      "
    `);
    expect(exitCode).toBe(0);
  });

  test("that is refused prints every mistake and ends with 78, as JSON too", async () => {
    const relay = { add: async () => refused };
    const text = await runRemote(addCommand, relay, words);
    expect(text.errors).toEqual([...refused.errors, "add refused: the running rules are unchanged"]);
    expect([text.exitCode, text.stdout]).toEqual([78, ""]);
    const json = await runRemote(addCommand, relay, { ...words, json: true });
    expect(v.parse(EditSchema, JSON.parse(json.stdout))).toEqual(refused);
    expect([json.exitCode, json.errors]).toEqual([78, []]);
  });

  test("without name, ingress or egress, or with two names, is wrong use", async () => {
    const { name, ingress, egress } = words;
    for (const options of [
      { name, ingress },
      { name, egress },
      { ingress, egress },
      { ...words, name: ["a", "b"] },
    ]) {
      const { exitCode, errors } = await runRemote(addCommand, {}, options);
      expect(exitCode).toBe(ExitCode.usage);
      expect(errors).toHaveLength(1);
    }
  });

  test("without a running mcr ends with 69", async () => {
    expect((await runRemote(addCommand, null, words)).exitCode).toBe(69);
  });
});

describe("mcr remove", () => {
  test("asks for all names at once", async () => {
    let asked: unknown;
    const remove = async (names: readonly string[]) => {
      asked = names;
      return edited;
    };
    expect((await runRemote(removeCommand, { remove }, {}, ["a", "b"])).exitCode).toBe(0);
    expect(asked).toEqual(["a", "b"]);
  });
});

describe("mcr save", () => {
  test("says what is in the file now", async () => {
    const { stdout } = await runRemote(saveCommand, {});
    expect(stdout).toMatchInlineSnapshot(`
      "saved /etc/mcr/rules.toml: 1 rule changed in it
      + studio-b
          eth0 239.1.1.2:5002 → eth1 239.10.1.2:6002
      "
    `);
    const nothing = await runRemote(saveCommand, { save: async () => ({ ...edited, changes: [] }) });
    expect(nothing.stdout).toBe("/etc/mcr/rules.toml has the running rules already\n");
  });

  test("forces when it is told to, and ends as the refusal says", async () => {
    const forced: boolean[] = [];
    for (const [refusal, exitCode] of [
      ["config", 78],
      ["noPermission", 77],
      ["failed", 1],
    ] as const) {
      const save = async (force: boolean) => {
        forced.push(force);
        return { ...refused, refusal };
      };
      const ran = await runRemote(saveCommand, { save }, { force: refusal === "failed" });
      expect(ran.exitCode).toBe(exitCode);
      expect(ran.errors.at(-1)).toBe("save refused: the file is unchanged");
    }
    expect(forced).toEqual([false, false, true]);
  });
});

describe("mcr check --diff", () => {
  let directory: string;
  let file: string;
  const wanted = { name: "new", ingress: 'interface = "eth0", group = "239.1.1.3"' };
  const kept = { name: "kept", ingress: 'interface = "eth0", group = "239.1.2.0/24"' };
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
    file = join(directory, "rules.toml");
    const rules = [ruleText({ egress: ['interface = "eth1", ttl = 8'] }), ruleText(kept), ruleText(wanted)];
    writeFileSync(file, `[relay]\nworkers = 2\n${rules.join("")}`);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const relay = {
    config: () => ({
      file: "/etc/mcr/rules.toml",
      instance: null,
      log: {},
      relay: parseConfig("", "none").relay,
      rules: parseRules({}, kept, { name: "tried", ingress: 'interface = "eth0", group = "239.1.1.4"' }).map(
        (rule) => ({ ...rule }),
      ),
      unsaved: { added: ["tried"], changed: [], removed: [] },
    }),
  };

  test("shows what a reload would change, and what it would not touch", async () => {
    const { exitCode, stdout } = await runRemote(checkCommand, relay, { diff: true }, [file]);
    expect(stdout.replaceAll(directory, "")).toMatchInlineSnapshot(`
      "/rules.toml, not applied yet: 1 added, 1 removed, 1 changed, 1 unchanged
      + new
          eth0 239.1.1.3:* → eth1 239.1.1.3:*
      - tried
          eth0 239.1.1.4:* → eth1 239.1.1.4:*
      ~ a
          egress eth1 239.1.1.1:5001: ttl: 1 → 8
      not touched: 1 rule, 256 flows: packets, counters and memberships go on
      note: a reload drops 1 rule added at run time: tried (mcr save keeps them)
      note: relay.workers is 2 in the file and takes effect at the next start
      "
    `);
    expect(exitCode).toBe(0);
  });

  test("--json says the same", async () => {
    const { stdout } = await runRemote(checkCommand, relay, { diff: true, json: true }, [file]);
    const answer = v.parse(
      v.object({ schema: v.literal("check-diff/1"), ok: v.literal(true), ...DifferenceSchema.entries }),
      JSON.parse(stdout),
    );
    expect(answer).toMatchObject({ added: ["new"], removed: ["tried"], changed: ["a"], unchanged: 1 });
    expect(answer.unchanged_flows).toBe(256);
  });

  test("asks nobody about a broken file", async () => {
    writeFileSync(join(directory, "bad.toml"), "x = 1\n");
    const ran = await runRemote(checkCommand, null, { diff: true }, [join(directory, "bad.toml")]);
    expect(ran.exitCode).toBe(78);
    expect((await runRemote(checkCommand, null, { diff: true }, [file])).exitCode).toBe(69);
  });
});
