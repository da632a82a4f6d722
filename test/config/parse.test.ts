// The rule file as a whole: every restriction with its sentence, every mistake in one go, files that cannot be read,
// and texts that nobody would write.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { parseConfig, readConfig } from "../../src/config/parse.ts";
import { RuleSchema } from "../../src/config/schema.ts";
import { ExitCode, McrError } from "../../src/error.ts";
import { asOrdinaryUser } from "../control/fake-relay.ts";
import { cpuMsOf } from "../support/cpu-time.ts";
import { Random } from "./random.ts";
import { file, mistakesIn, mistakesOf, parseRule, ruleText } from "./rules.ts";

const example = await Bun.file(join(import.meta.dir, "golden/the-example-of-the-design.toml")).text();
const base = 'interface = "eth0", group = "239.1.1.1", port = 5001';

describe("defaults and canonical form", () => {
  test("a file without anything has every default", () => {
    expect(parseConfig("", file)).toEqual({
      relay: {
        workers: "auto",
        profile: "balanced",
        fanout: "flow",
        ring_bytes: 67_108_864,
        latency_sleep_us: 0,
        control: "/run/mcr/mcr.sock",
      },
      log: { level: "info", format: "text", facility: {} },
      rules: [],
    });
  });

  test("a short rule has every default, a TTL of 1 for groups and 64 for hosts", () => {
    const egress = ['interface = "eth1"', 'interface = "wg0", address = "10.100.0.2"'];
    const defaults = {
      source: "interface",
      source_port: "auto",
      path: "auto",
      dscp: 0,
      plain: false,
    } as const;
    expect(parseRule({ egress })).toEqual({
      name: "a",
      ingress: {
        interface: "eth0",
        group: "239.1.1.1",
        port: 5001,
        exclusive: false,
        protocol: "udp",
        allow_link_local: false,
      },
      egress: [
        { interface: "eth1", ...defaults, ttl: 1 },
        { interface: "wg0", address: "10.100.0.2", ...defaults, ttl: 64 },
      ],
    });
  });

  test("every way to write a value becomes one", () => {
    const { ingress } = parseRule({
      ingress:
        'interface = "eth0", group = "239.1.1.0/30", port = " 5001 - 5004 ", source = ["10.0.0.2", "10.0.0.1", "10.0.0.2"]',
    });
    expect(ingress).toMatchObject({
      group: "239.1.1.0-239.1.1.3",
      port: "5001-5004",
      source: ["10.0.0.1", "10.0.0.2"],
    });
    expect(
      parseRule({ ingress: 'interface = "eth0", group = "239.1.1.1", port = "5001"' }).ingress.port,
    ).toBe(5001);
  });

  test("a rule goes through the schema again unchanged, to the byte", () => {
    const rules = parseConfig(example, file).rules;
    expect(rules).toHaveLength(2);
    for (const rule of rules) {
      expect(JSON.stringify(v.parse(RuleSchema, rule))).toBe(JSON.stringify(rule));
      expect(JSON.stringify(v.parse(RuleSchema, JSON.parse(JSON.stringify(rule))))).toBe(
        JSON.stringify(rule),
      );
    }
  });

  test("settings are taken as they are", () => {
    const text = [
      "[relay]",
      "workers = 4",
      'control = "/tmp/x.sock"',
      "[log]",
      'level = "debug"',
      'format = "json"',
      "[log.facility]",
      'Ingress = "trace"',
    ].join("\n");
    expect(parseConfig(text, file)).toMatchObject({
      relay: { workers: 4, control: "/tmp/x.sock" },
      log: { level: "debug", format: "json", facility: { Ingress: "trace" } },
    });
  });
});

describe("a value of ingress that is wrong says what would be right", () => {
  const notPort = 'is not a port: give 1-65535, "5001-5050", or leave it out for every port';
  const notName = 'is not an interface name: give 1-15 bytes without "/", ":" or blanks, such as "eth0"';
  const notGroup = 'is not a group: give "239.1.1.1", "239.1.1.1-239.1.1.50" or "239.1.1.0/24"';
  const cases: readonly (readonly [string, string])[] = [
    ["port = 0", `port: 0 ${notPort}`],
    ["port = 65536", `port: 65536 ${notPort}`],
    ["port = -1", `port: -1 ${notPort}`],
    ["port = 50.5", `port: 50.5 ${notPort}`],
    ["port = nan", `port: nan ${notPort}`],
    ["port = true", `port: true ${notPort}`],
    ["port = [5001]", `port: a list ${notPort}`],
    ["port = 2026-01-01", `port: a date ${notPort}`],
    ['port = ""', `port: "" ${notPort}`],
    ['port = "5001-70000"', `port: "5001-70000" ${notPort}`],
    ['port = "5050-5001"', 'port: "5050-5001" ends before it starts: give "5001-5050"'],
    ['group = "239.1.1"', `group: "239.1.1" ${notGroup}`],
    ["group = 239", `group: 239 ${notGroup}`],
    ['group = "239.1.1.7/24"', 'group: "239.1.1.7/24" has bits set after the prefix: give "239.1.1.0/24"'],
    [
      'group = "239.1.1.9-239.1.1.1"',
      'group: "239.1.1.9-239.1.1.1" ends before it starts: give "239.1.1.1-239.1.1.9"',
    ],
    [
      'group = "10.0.0.1"',
      'group: "10.0.0.1" is not multicast (224.0.0.0 to 239.255.255.255): use `address` for a single host',
    ],
    [
      'group = "239.1.1.1-240.0.0.1"',
      'group: "239.1.1.1-240.0.0.1" is not multicast (224.0.0.0 to 239.255.255.255): end it inside',
    ],
    [
      'group = "2001:db8::1"',
      'group: "2001:db8::1" is not multicast (ff00::/8): use `address` for a single host',
    ],
    [
      'group = "224.0.0.251"',
      'group: "224.0.0.251" is link-local (224.0.0.0/24) and not meant to be relayed: set ingress.allow_link_local = true to relay it all the same',
    ],
    ['interface = ""', `interface: "" ${notName}`],
    ['interface = "eth0/1"', `interface: "eth0/1" ${notName}`],
    ['interface = "eth0:1"', `interface: "eth0:1" ${notName}`],
    ['interface = "a b"', `interface: "a b" ${notName}`],
    ['interface = "."', `interface: "." ${notName}`],
    ['interface = "sixteen-letters-"', `interface: "sixteen-letters-" ${notName}`],
    ['interface = "éééééééé"', `interface: "éééééééé" ${notName}`],
    [
      'source = "10.0.0.1"',
      'source: "10.0.0.1" is not a list: write source = ["10.0.0.1"], or leave it out for any source',
    ],
    ["source = []", "source: is an empty list: name at least one source, or leave it out for any source"],
    ["vlan = 0", "vlan: 0 is not a VLAN id: give 1-4094, or leave it out for untagged packets"],
    ["vlan = 4095", "vlan: 4095 is not a VLAN id: give 1-4094, or leave it out for untagged packets"],
    ['exclusive = "yes"', 'exclusive: "yes" is neither true nor false: write it without quotes'],
    ['protocol = "tcp"', 'protocol: "tcp" is not a protocol: give "udp" or "esp"'],
  ];
  for (const [text, mistake] of cases)
    test(text, () => {
      const key = text.split(" ")[0] ?? "";
      const others = base.split(", ").filter((pair) => !pair.startsWith(`${key} `));
      const found = mistakesOf({ ingress: [text, ...others].join(", ") });
      const column = 13 + text.indexOf("=") + 2;
      expect(found).toEqual([`3:${column}: rule "a": ingress.${mistake}`]);
    });
});

test("every source that is wrong is told, each at its own place", () => {
  const source = '["x", "10.0.0.1", 3, "10.0.0.0/8", "239.1.1.1", "0.0.0.0"]';
  const cure = 'give the address of one host, such as "10.0.0.1"';
  const found = mistakesOf({ ingress: `source = ${source}, interface = "eth0", group = "239.1.1.1"` });
  expect(found).toEqual([
    '3:23: rule "a": ingress.source[1]: "x" is not an address: give one host, such as "10.0.0.1"',
    '3:40: rule "a": ingress.source[3]: 3 is not an address: give one host, such as "10.0.0.1"',
    '3:43: rule "a": ingress.source[4]: "10.0.0.0/8" is not an address: give one host, such as "10.0.0.1"',
    `3:57: rule "a": ingress.source[5]: "239.1.1.1" is multicast: ${cure}`,
    `3:70: rule "a": ingress.source[6]: "0.0.0.0" is the unspecified address: ${cure}`,
  ]);
});

describe("a value of egress that is wrong says what would be right", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["ttl = 0", 'ttl: 0 is not a TTL: give 1-255, "keep" or "decrement"'],
    ["ttl = 256", 'ttl: 256 is not a TTL: give 1-255, "keep" or "decrement"'],
    ['ttl = "1"', 'ttl: "1" is not a TTL: give 1-255, "keep" or "decrement"'],
    ["dscp = 64", 'dscp: 64 is not a DSCP: give 0-63 or "keep"'],
    ["dscp = -1", 'dscp: -1 is not a DSCP: give 0-63 or "keep"'],
    ["plain = 1", "plain: 1 is neither true nor false: write it without quotes"],
    ["port = 0", 'port: 0 is not a port: give 1-65535, "6001-6050", or leave it out for the same port'],
    ["source_port = 0", 'source_port: 0 is not a source port: give 1-65535, "keep" or "auto"'],
    [
      'source = "eth1"',
      'source: "eth1" is not a source: give "interface", "keep" or the address of one host',
    ],
    ['path = "fast"', 'path: "fast" is not a path: give "auto", "frame" or "socket"'],
    [
      'address = "239.1.1.1"',
      'address: "239.1.1.1" is multicast: give the address of one host, such as "10.0.0.1"',
    ],
    [
      'address = "10.0.0.1-10.0.0.9"',
      'address: "10.0.0.1-10.0.0.9" is not an address: give one host, such as "10.0.0.1"',
    ],
  ];
  for (const [text, mistake] of cases)
    test(text, () => {
      const column = 13 + 'interface = "eth1", '.length + text.indexOf("=") + 2;
      expect(mistakesOf({ egress: [`interface = "eth1", ${text}`] })).toEqual([
        `4:${column}: rule "a": egress[1].${mistake}`,
      ]);
    });
});

describe("a setting that is wrong says what would be right", () => {
  const levels =
    'give "emergency", "alert", "critical", "error", "warning", "notice", "info", "debug" or "trace"';
  const notSocket =
    'is not a socket path: give an absolute path of at most 107 bytes, such as "/run/mcr/mcr.sock"';
  const notWorkers = 'is not a number of workers: give "auto" or 1-64';
  const cases: readonly (readonly [string, string])[] = [
    ["relay.workers = 0", `0 ${notWorkers}`],
    ["relay.workers = 65", `65 ${notWorkers}`],
    ['relay.workers = "2"', `"2" ${notWorkers}`],
    ['relay.profile = "fast"', '"fast" is not a profile: give "balanced", "throughput" or "latency"'],
    ['relay.fanout = "lb"', '"lb" is not a fanout: give "flow", "hash", "cpu" or "qm"'],
    ['relay.control = "mcr.sock"', `"mcr.sock" ${notSocket}`],
    ['relay.control = "/run/"', `"/run/" ${notSocket}`],
    ['relay.control_group = "a b"', '"a b" is not a group of users: give its name, such as "mcr"'],
    [
      'relay.metrics = "9477"',
      '"9477" is not a host and port: give one to listen on, such as "127.0.0.1:9477"',
    ],
    ['log.level = "loud"', `"loud" is not a log level: ${levels}`],
    ['log.format = "xml"', '"xml" is not a log format: give "text" or "json"'],
    ["log.facility = 1", '1 is not a table: write [log.facility] and Ingress = "debug"'],
    ["log = 1", "1 is not a table: write [log]"],
    ["relay = []", "an empty list is not a table: write [relay]"],
    ["rule = 1", "1 is not a list: write [[rule]], with two brackets"],
  ];
  for (const [text, mistake] of cases)
    test(text, () => {
      const [key = ""] = text.split(" ");
      expect(mistakesIn(text)).toEqual([`rules.toml:1:${key.length + 4}: ${key}: ${mistake}`]);
    });
});

describe("rules with something missing or too much", () => {
  const cases: readonly (readonly [string, string, readonly string[]])[] = [
    [
      "an empty rule",
      "[[rule]]\n",
      [
        'rules.toml:1:1: rule 1: name: is missing: give every rule its own name, such as name = "studio-a"',
        'rules.toml:1:1: rule 1: ingress: is missing: write ingress = { interface = "eth0", group = "239.1.1.1", port = 5001 }',
        'rules.toml:1:1: rule 1: egress: is missing: write egress = [{ interface = "eth1" }]',
      ],
    ],
    [
      "no interface",
      ruleText({ ingress: 'group = "239.1.1.1"', egress: ["ttl = 2"] }),
      [
        'rules.toml:3:11: rule "a": ingress.interface: is missing: name the interface, such as interface = "eth0"',
        'rules.toml:4:11: rule "a": egress[1].interface: is missing: name the interface, such as interface = "eth0"',
      ],
    ],
    [
      "no egress",
      ruleText({ egress: [] }),
      [
        'rules.toml:4:10: rule "a": egress: is an empty list: name at least one, such as egress = [{ interface = "eth1" }]',
      ],
    ],
    [
      "neither group nor address",
      ruleText({ ingress: 'interface = "eth0"' }),
      [
        'rules.toml:3:11: rule "a": ingress: says neither group nor address: add the group to relay, such as group = "239.1.1.1"',
      ],
    ],
    [
      "group and address on an egress",
      ruleText({ egress: ['interface = "eth1", group = "239.2.1.1", address = "10.0.0.1"'] }),
      [
        'rules.toml:4:64: rule "a": egress[1].address: group is given too: give one of them, group for multicast, address for unicast',
      ],
    ],
    [
      "a name that no terminal should print",
      ruleText({ name: "x\\u001b[2J" }),
      [
        'rules.toml:2:8: rule 1: name: "x\\u001b[2J" is not a rule name: give 1-64 printable characters, no blank at either end',
      ],
    ],
    [
      "a name of 65 letters",
      ruleText({ name: "n".repeat(65) }),
      [
        `rules.toml:2:8: rule 1: name: "${"n".repeat(48)}…" is not a rule name: give 1-64 printable characters, no blank at either end`,
      ],
    ],
  ];
  for (const [what, text, mistakes] of cases)
    test(what, () => {
      expect(mistakesIn(text)).toEqual(mistakes);
    });
});

describe("a key that does not exist", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["prot = 1", "ingress.prot: is not a key of an ingress: did you mean port?"],
    ["Port = 1", "ingress.Port: is not a key of an ingress: did you mean port?"],
    ["sources = []", "ingress.sources: is not a key of an ingress: did you mean source?"],
    ["interfcae = 1", "ingress.interfcae: is not a key of an ingress: did you mean interface?"],
    [
      "allow-link-local = true",
      "ingress.allow-link-local: is not a key of an ingress: did you mean allow_link_local?",
    ],
    ["iface = 1", undefinedNear("iface")],
    ["ttl = 1", "ingress.ttl: is not a key of an ingress but of an egress: move it there"],
    ["workers = 1", "ingress.workers: is not a key of an ingress but of [relay]: move it there"],
    ['"" = 1', undefinedNear('""')],
    ["toString = 1", undefinedNear("toString")],
    ["constructor = 1", undefinedNear("constructor")],
  ];
  function undefinedNear(key: string): string {
    return `ingress.${key}: is not a key of an ingress, which has interface, group, address, port, source, vlan, exclusive, protocol, allow_link_local`;
  }
  for (const [text, mistake] of cases)
    test(text, () => {
      expect(mistakesOf({ ingress: `${base}, ${text}` })).toEqual([`3:67: rule "a": ${mistake}`]);
    });

  test("is found in every table, all of them at once", () => {
    const text = "x1 = 1\n[relay]\nx2 = 1\n[log]\nx3 = 1\n[[rule]]\nx4 = 1\n";
    const found = mistakesIn(text).filter((line) => line.includes(": is not a key of "));
    expect(found.map((line) => line.split(": is not")[0])).toEqual([
      "rules.toml:1:1: x1",
      "rules.toml:3:1: relay.x2",
      "rules.toml:5:1: log.x3",
      "rules.toml:7:1: rule 1: x4",
    ]);
  });

  test("is refused in a log facility with the facilities there are", () => {
    expect(mistakesIn('[log.facility]\nIngres = "debug"')).toEqual([
      'rules.toml:2:1: log.facility.Ingres: "Ingres" is not a facility: give "Supervisor", "RuleDispatch", "ControlSocket", "DataPlane", "Ingress", "Egress", "Stats", "Security" or "Network"',
    ]);
  });
});

describe("the example of the design", () => {
  test("is taken", () => {
    expect(parseConfig(example, file).rules.map(({ name }) => name)).toEqual(["studio-a", "wall"]);
  });

  test("refuses every other part that the data plane cannot do, each by name", () => {
    const ingress = ["vlan = 5", 'protocol = "esp"', 'group = "ff3e::1"', 'source = ["2001:db8::1"]'];
    for (const text of ingress) {
      const key = text.split(" ")[0] ?? "";
      const others = ['interface = "eth0"', ...(key === "group" ? [] : ['group = "239.1.1.1"'])];
      const found = mistakesOf({ ingress: [...others, text].join(", ") });
      expect(
        found.filter((line) => line.includes(`ingress.${key}: `) && line.includes("not supported yet")),
      ).toHaveLength(1);
    }
    const egress = ['group = "ff3e::1"', 'address = "2001:db8::1"'];
    for (const text of egress) {
      const key = text.split(" ")[0] ?? "";
      const [mistake = "", ...more] = mistakesOf({ egress: [`interface = "eth1", ${text}`] });
      expect(more).toEqual([]);
      expect(mistake).toMatch(
        new RegExp(`^4:\\d+: rule "a": egress\\[1\\]\\.${key}: "[^"]+" is not supported yet: give `),
      );
    }
  });
});

describe("profiles", () => {
  const relayOf = (text: string) => parseConfig(`[relay]\n${text}`, file).relay;

  test("each profile goes with each fanout and any ring size", () => {
    for (const profile of ["balanced", "throughput", "latency"])
      for (const fanout of ["flow", "hash", "cpu", "qm"])
        for (const bytes of [4_194_304, 5_000_001, 4_294_967_296])
          expect(
            relayOf(`profile = "${profile}"\nfanout = "${fanout}"\nring_bytes = ${bytes}`),
          ).toMatchObject({ profile, fanout, ring_bytes: bytes });
    expect(relayOf("ring_bytes = 8_388_608").ring_bytes).toBe(8_388_608);
  });

  test.each(["4_194_303", "4_294_967_297", "0", "-1", "8_000_000.5", '"64 MiB"', "true"])(
    "a ring of %s is refused",
    (value) => {
      const mistakes = mistakesIn(`[relay]\nring_bytes = ${value}`);
      expect(mistakes).toEqual([
        expect.stringMatching(/^rules.toml:2:14: relay.ring_bytes: .* is not a ring size in bytes: give /),
      ]);
    },
  );

  test("the sleep is for the latency profile only, and never ignored", () => {
    expect(relayOf('profile = "latency"\nlatency_sleep_us = 50').latency_sleep_us).toBe(50);
    expect(relayOf("latency_sleep_us = 0").latency_sleep_us).toBe(0);
    expect(mistakesIn("[relay]\nlatency_sleep_us = 50")).toEqual([
      'rules.toml:2:20: relay.latency_sleep_us: is for profile "latency", and the profile is "balanced": leave it out, or set profile = "latency"',
    ]);
    expect(mistakesIn('[relay]\nprofile = "throughput"\nlatency_sleep_us = 1')).toHaveLength(1);
    expect(mistakesIn('[relay]\nprofile = "fast"\nlatency_sleep_us = 1')).toHaveLength(1);
    expect(mistakesIn('[relay]\nprofile = "latency"\nlatency_sleep_us = 1001')).toEqual([
      "rules.toml:3:20: relay.latency_sleep_us: 1001 is not a sleep in microseconds: give 0-1000, 0 for none",
    ]);
  });
});

describe("text", () => {
  test("may begin with a byte order mark, and positions do not count it", () => {
    expect(parseConfig(`\uFEFF${ruleText()}`, file).rules).toHaveLength(1);
    expect(mistakesIn("\uFEFFx = 1")).toEqual([
      "rules.toml:1:1: x: is not a key of the file, which has relay, log, rule",
    ]);
  });

  test("may end its lines with CRLF, and positions are the same", () => {
    const text = ruleText({ ingress: `${base}, vlan = 0` });
    expect(parseConfig(ruleText().replaceAll("\n", "\r\n"), file)).toEqual(parseConfig(ruleText(), file));
    expect(mistakesIn(text.replaceAll("\n", "\r\n"))).toEqual(mistakesIn(text));
  });

  test("that is not TOML is refused with its line and column", () => {
    const texts = [
      "[[rule]]\nname = ",
      "a = 1\na = 2",
      'a = "\n',
      "[a\n",
      "a = 99999999999999999999",
      "\u0000",
      "a = [[[[",
    ];
    for (const text of texts) {
      const [line = "", ...more] = mistakesIn(text);
      expect(line).toMatch(/^rules\.toml:\d+:\d+: not valid TOML: [a-z]/);
      expect(more).toEqual([]);
    }
  });

  test("with mistakes everywhere gets them all, in the order of the file", () => {
    const broken = ruleText({
      name: "b",
      ingress: 'interface = "eth0", group = "x", port = 0',
      egress: ["ttl = 0"],
    });
    const lines = mistakesIn(`x = 1\n${ruleText()}${broken}${ruleText()}`);
    const places = lines.map((line) => /^rules\.toml:(\d+):(\d+): /.exec(line)?.slice(1).map(Number) ?? []);
    expect(lines.length).toBeGreaterThan(5);
    expect(places).toEqual(places.toSorted(([a = 0, b = 0], [c = 0, d = 0]) => a - c || b - d));
  });
});

test("the cost of parsing grows with the rules, not with their square, also when one of them is wrong", () => {
  const rules = Array.from({ length: 5_000 }, (_, i) =>
    ruleText({
      name: `rule-${i}`,
      ingress: `interface = "eth0", group = "239.1.${i >> 8}.${i & 255}", port = ${5000 + (i % 100)}`,
      egress: [`interface = "eth1", group = "239.2.${i >> 8}.${i & 255}"`, 'interface = "eth2"'],
    }),
  ).join("");
  const good = cpuMsOf(() => expect(parseConfig(rules, file).rules).toHaveLength(5_000));
  const second = ruleText({ name: "rule-0", ingress: 'interface = "eth9", group = "239.1.1.1"' });
  const bad = cpuMsOf(() =>
    expect(mistakesIn(`${rules}${second}`)).toEqual([
      'rules.toml:20002:8: rule "rule-0": name: rule 1 (line 2) has this name already: give every rule its own',
    ]),
  );
  expect(good).toBeLessThan(5_000);
  expect(bad).toBeLessThan(10_000);
});

describe("a file that cannot be read is a mistake of the configuration", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "mcr-test-"));
    writeFileSync(join(directory, "secret.toml"), ruleText());
    writeFileSync(join(directory, "latin1.toml"), Uint8Array.from([0x23, 0xe9, 0x0a]));
    symlinkSync("loop.toml", join(directory, "loop.toml"));
    mkdirSync(join(directory, "closed"));
    writeFileSync(join(directory, "closed/rules.toml"), "");
    chmodSync(join(directory, "secret.toml"), 0o600);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  async function refusal(name: string): Promise<string> {
    const thrown: unknown = await readConfig(join(directory, name)).catch((error: unknown) => error);
    if (!(thrown instanceof McrError)) throw new Error(`expected a refusal, got ${Bun.inspect(thrown)}`);
    expect(thrown.exitCode).toBe(ExitCode.config);
    expect(thrown.lines).toHaveLength(1);
    return thrown.message.replace(directory, "DIR");
  }

  const cases: readonly (readonly [string, string])[] = [
    ["none.toml", "cannot read DIR/none.toml: no such file; give the path of the rule file, or create it"],
    [".", "cannot read DIR: it is a directory; give the path of a file in it"],
    [
      "secret.toml/x",
      "cannot read DIR/secret.toml/x: a part of the path is not a directory; give the path of the rule file",
    ],
    ["loop.toml", "cannot read DIR/loop.toml: too many symbolic links; give the path of the file itself"],
    ["latin1.toml", "DIR/latin1.toml: is not UTF-8 text, as TOML must be; convert it: iconv -t UTF-8"],
  ];
  for (const [name, message] of cases)
    test(name, async () => {
      expect(await refusal(name)).toBe(message);
    });

  test("one that this user may not read", async () => {
    using _ = asOrdinaryUser(join(directory, "closed"));
    expect(await refusal("closed/rules.toml")).toBe(
      "cannot read DIR/closed/rules.toml: permission denied; run as a user who may read it, or let this one: chmod o+r, chgrp or setfacl",
    );
  });

  test("one without an end", async () => {
    const thrown: unknown = await readConfig("/dev/zero").catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(McrError);
    expect(String(thrown)).toContain("cannot read /dev/zero: it is larger than 64 MiB; give the rule file");
  });
});

describe("a good file with something changed at random is taken or refused, in our own words", () => {
  const whole = example;
  const tokens = whole.match(/"[^"\n]*"|[\w.]+|\s+|[^\w\s]/g) ?? [];
  const strange = [
    "",
    "0",
    "-1",
    "1.5",
    "nan",
    "inf",
    "true",
    '""',
    '"x"',
    "[]",
    "{}",
    "[[]]",
    "2026-01-01",
    "07:30:00",
    "9007199254740993",
    '"239.0.0.0/8"',
    '"ff3e::/16"',
    '"\\u001b[31m"',
    "__proto__",
    "constructor",
    "=",
    "\n",
    "[[rule]]",
    "[rule]",
    "\u0000",
    "é",
  ] as const;

  function mutate(random: Random): string {
    const changed = [...tokens];
    for (let count = 1 + random.below(3); count > 0; count -= 1) {
      const at = random.below(changed.length);
      switch (random.below(4)) {
        case 0:
          changed.splice(at, 1);
          break;
        case 1:
          changed.splice(at, 0, changed[random.below(changed.length)] ?? "");
          break;
        case 2:
          changed[at] = changed[random.below(changed.length)] ?? "";
          break;
        default:
          changed[at] = random.pick([...strange]);
      }
    }
    return changed.join("");
  }

  function outcome(text: string): readonly string[] {
    try {
      parseConfig(text, file);
      return [];
    } catch (thrown) {
      if (!(thrown instanceof McrError)) throw new Error(`on ${JSON.stringify(text)}`, { cause: thrown });
      return thrown.lines;
    }
  }

  for (const seed of [1, 2, 3, 4])
    test(`seed ${seed}`, () => {
      const random = new Random(seed);
      let refused = 0;
      for (let round = 0; round < 1_000; round += 1) {
        const text = mutate(random);
        const lines = outcome(text);
        if (lines.length > 0) refused += 1;
        for (const line of lines) {
          if (!/^rules\.toml:\d+:\d+: \S/.test(line))
            throw new Error(`no place: ${line} of ${JSON.stringify(text)}`);
          if (/Invalid|Expected|received|undefined|\[object|internal/.test(line))
            throw new Error(`not our words: ${line} of ${JSON.stringify(text)}`);
          if (/\p{Cc}/u.test(line)) throw new Error(`unprintable: ${JSON.stringify(line)}`);
        }
      }
      // Of both kinds there are some, or this tests nothing.
      expect(refused).toBeGreaterThan(300);
      expect(refused).toBeLessThan(1_000);
    });
});
