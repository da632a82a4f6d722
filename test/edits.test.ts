// Reload, add, remove and save of running rules, on a relay that only takes turns: what waits, what is shared, what is
// refused, and what counts as saved.

import { describe, expect, test } from "bun:test";
import { parseConfig } from "../src/config/parse.ts";
import type { Config, Rule } from "../src/config/schema.ts";
import { Events } from "../src/control/events.ts";
import type { EditResult, ReloadResult } from "../src/control/protocol.ts";
import { Edits, type EditsDependencies } from "../src/edits.ts";
import { ExitCode, McrError } from "../src/error.ts";
import type { Apply } from "../src/relay.ts";
import { parseRule, type RuleParts, ruleText } from "./config/rules.ts";
import { recordedLog, runningRule, startMs } from "./support/fakes.ts";

const a = partsOf("a", 1);
const b = partsOf("b", 2);
const c = partsOf("c", 3);

function partsOf(name: string, last: number): RuleParts {
  return { name, ingress: `interface = "eth0", group = "239.1.1.${last}", port = 5001` };
}

function configOf(...rules: readonly RuleParts[]): Config {
  return parseConfig(rules.map(ruleText).join(""), "rules.toml");
}

/** One turn after the other, as relay.ts takes them. */
function openRelay(loaded: Config) {
  const watched: { readonly applied: string[][]; onApply: () => void } = { applied: [], onApply: () => {} };
  let running: readonly Rule[] = loaded.rules;
  let queue: Promise<unknown> = Promise.resolve();
  const apply: Apply = async (rules) => {
    await Promise.resolve();
    running = rules;
    watched.applied.push(rules.map(({ name }) => name));
    watched.onApply();
  };
  const relay: EditsDependencies["relay"] = {
    settings: loaded.relay,
    get rules() {
      return running.map((rule, slot) => runningRule(rule, slot));
    },
    inTurn(step) {
      const result = queue.then(() => step(apply));
      queue = result.catch(() => undefined);
      return result;
    },
  };
  return { relay, watched };
}

/** The file has `a` at first, and what the test puts into `file` later. */
function openEdits() {
  const { relay, watched } = openRelay(configOf(a));
  const disk = { file: configOf(a), reads: 0, onFirstRead: () => {} };
  const phases: string[] = [];
  const edits = new Edits({
    relay,
    log: recordedLog().log,
    events: new Events(() => startMs),
    file: "rules.toml",
    readConfig: async () => {
      disk.reads += 1;
      const config = disk.file;
      if (disk.reads === 1) disk.onFirstRead();
      return config;
    },
    saveRules: async () => {
      throw new McrError(["the disk is full"], ExitCode.failed);
    },
    onReload: (phase) => void phases.push(phase),
    serveMetrics: () => {},
    nowMs: () => startMs,
    pause: async () => {},
  });
  const names = () => relay.rules.map(({ rule }) => rule.name);
  return { edits, disk, phases, names, watched };
}

describe("a reload", () => {
  test("is shared by all who ask before it begins, and none gets one that began before it asked", async () => {
    const { edits, disk, phases, names } = openEdits();
    edits.open(disk.file.rules);
    const shared = [edits.reload(), edits.reload(), edits.reload()];
    const late = Promise.withResolvers<ReloadResult>();
    disk.onFirstRead = () => {
      late.resolve(edits.reload());
      disk.file = configOf(a, b);
    };
    expect(await Promise.all(shared)).toMatchObject(Array(3).fill({ ok: true, unchanged: 1, added: [] }));
    expect(await late.promise).toMatchObject({ ok: true, added: ["b"] });
    expect(disk.reads).toBe(2);
    expect(phases).toEqual(["begun", "ended", "begun", "ended"]);
    expect(names()).toEqual(["a", "b"]);
  });

  test("returns to the file and says which edits it drops", async () => {
    const { edits, disk, names } = openEdits();
    edits.open(disk.file.rules);
    await edits.add([parseRule(b)]);
    expect(edits.unsaved()).toEqual({ added: ["b"], changed: [], removed: [] });
    const { notes } = await edits.reload();
    expect(notes).toEqual(["dropped 1 rule added at run time: b (mcr save before a reload keeps them)"]);
    expect(edits.unsaved()).toEqual({ added: [], changed: [], removed: [] });
    expect(names()).toEqual(["a"]);
  });

  test("that is done before the start is leaves its own file as the loaded one", async () => {
    const { edits, disk } = openEdits();
    const started = disk.file.rules;
    disk.file = configOf(a, b);
    await edits.reload();
    edits.open(started);
    expect(edits.unsaved()).toEqual({ added: [], changed: [], removed: [] });
  });
});

describe("an edit", () => {
  test("waits for the rules of the file", async () => {
    const { edits, disk } = openEdits();
    const order: string[] = [];
    const added = edits.add([parseRule(b)]).then(() => order.push("added"));
    await edits.reload().then(() => order.push("reloaded"));
    edits.open(disk.file.rules);
    await added;
    expect(order).toEqual(["reloaded", "added"]);
  });

  test("begins with the rules that the one before has left", async () => {
    const { edits, disk, names } = openEdits();
    edits.open(disk.file.rules);
    const results = await Promise.all([
      edits.add([parseRule(b)]),
      edits.add([parseRule(b)]),
      edits.remove(["a"]),
      edits.add([parseRule(c)]),
    ]);
    expect(results.map(({ ok }) => ok)).toEqual([true, false, true, true]);
    expect(names()).toEqual(["b", "c"]);
  });

  test("shares its turn with those that wait: the rules are applied once, and each gets a result of its own", async () => {
    const { edits, disk, names, watched } = openEdits();
    edits.open(disk.file.rules);
    const late = Promise.withResolvers<readonly EditResult[]>();
    watched.onApply = () => {
      watched.onApply = () => {};
      late.resolve(
        Promise.all([
          edits.remove(["b"]),
          edits.add([{ name: "d" }]),
          edits.add([parseRule(b), parseRule(c)]),
        ]),
      );
    };
    expect(await edits.add([parseRule(b)])).toMatchObject({ ok: true, unsaved: { added: ["b"] } });
    expect(await late.promise).toMatchObject([
      { ok: true, changes: [{ kind: "removed", name: "b" }] },
      { ok: false, changes: [], refusal: "config" },
      {
        ok: true,
        changes: [
          { kind: "added", name: "b" },
          { kind: "added", name: "c" },
        ],
        unsaved: { added: ["b", "c"] },
      },
    ]);
    expect(watched.applied).toEqual([
      ["a", "b"],
      ["a", "b", "c"],
    ]);
    expect(names()).toEqual(["a", "b", "c"]);
  });

  test("of a hundred at once takes a few turns, and each is told what it did", async () => {
    const { edits, disk, names, watched } = openEdits();
    edits.open(disk.file.rules);
    const many = Array.from({ length: 60 }, (_, i) => `many-${i}`);
    const results = await Promise.all(many.map((name, i) => edits.add([parseRule(partsOf(name, 100 + i))])));
    expect(results.map(({ changes }) => changes.map(({ name }) => name))).toEqual(many.map((name) => [name]));
    expect(names()).toEqual(["a", ...many]);
    expect(watched.applied.map(({ length }) => length)).toEqual([26, 51, 61]);
  });

  test("among many at once is refused alone, where it is at odds with one beside it", async () => {
    const { edits, disk, names } = openEdits();
    edits.open(disk.file.rules);
    const sameStream = { ...c, name: "d" };
    const results = await Promise.all([b, c, sameStream].map((parts) => edits.add([parseRule(parts)])));
    expect(results.map(({ ok }) => ok)).toEqual([true, true, false]);
    expect(results[2]?.errors).toEqual([
      expect.stringMatching(/^rule "d": ingress\.group: rule "c" takes the same interface, group, port/),
    ]);
    expect(names()).toEqual(["a", "b", "c"]);
  });

  test("is refused for a rule that runs, also when one beside it removes either of the two again", async () => {
    const { edits, disk, names } = openEdits();
    edits.open(disk.file.rules);
    const sameStream = { ...a, name: "d" };
    const turn = [edits.add([parseRule(sameStream)]), edits.remove(["d"]), edits.remove(["a"])];
    expect((await Promise.all(turn)).map(({ ok }) => ok)).toEqual([false, false, true]);
    expect(names()).toEqual([]);
  });

  test("that is refused applies nothing", async () => {
    const { edits, disk, watched } = openEdits();
    edits.open(disk.file.rules);
    expect(await edits.remove(["b"])).toMatchObject({ ok: false });
    expect(watched.applied).toEqual([]);
  });

  test("is refused once mcr stops, and so is one that still waits for the start", async () => {
    const { edits, names } = openEdits();
    const waiting = edits.add([parseRule(b)]);
    edits.close();
    for (const result of [await waiting, await edits.remove(["a"])])
      expect(result).toMatchObject({
        ok: false,
        refusal: "failed",
        errors: ["mcr is stopping: start it again, then repeat this"],
      });
    expect(names()).toEqual(["a"]);
  });

  test("and a reload that comes then is refused as well, and reads nothing", async () => {
    const { edits, disk, names } = openEdits();
    const { reads } = disk;
    edits.close();
    expect(await edits.reload()).toMatchObject({
      ok: false,
      errors: ["mcr is stopping: start it again, then repeat this"],
    });
    expect([disk.reads, names()]).toEqual([reads, ["a"]]);
  });

  test("stays unsaved when the file cannot be written", async () => {
    const { edits, disk } = openEdits();
    edits.open(disk.file.rules);
    await edits.add([parseRule(b)]);
    expect(await edits.save(false)).toMatchObject({ ok: false, errors: ["the disk is full"] });
    expect(edits.unsaved()).toEqual({ added: ["b"], changed: [], removed: [] });
  });
});
