// Any rule that this version relays, different for each number, so that many of them are no duplicates.

import { parseConfig } from "../../src/config/parse.ts";
import type { Rule } from "../../src/config/schema.ts";
import type { Random } from "./random.ts";

/** `number` is below 60,000; it chooses name, group and ports, `random` all the rest. */
export function randomRule(random: Random, number: number): Rule {
  const name = random.pick([
    `rule-${number}`,
    `Café ${number}`,
    `"${number}" \\ #`,
    `[${number}]`,
    `'${number} 📡`,
  ]);
  const group = `239.${1 + (number >> 8)}.${number & 255}`;
  const size = random.pick([1, 1, 1, 2, 50]);
  const range = (text: string) => (size === 1 ? `"${text}.1"` : `"${text}.1-${text}.${size}"`);
  const ports = size === 1 ? 5001 : `"5001-${5000 + size}"`;
  const source = random.pick(["", "", ', source = ["10.9.9.1"]', ', source = ["10.9.9.2", "10.9.9.1"]']);
  const egresses = Array.from({ length: 1 + random.below(3) }, (_, i) => {
    const target = random.pick([
      "",
      `, group = ${range(`238.${1 + (number >> 8)}.${number & 255}`)}`,
      `, group = "239.255.${number >> 8}.${number & 255}", port = 6001`,
      `, address = "10.1.${number >> 8}.${number & 255}", port = ${6001 + i}`,
    ]);
    const ttl = random.pick(["", "", ", ttl = 1", ", ttl = 8", ", ttl = 64"]);
    const more = random.pick([
      "",
      "",
      ", dscp = 46",
      ", plain = true",
      ", source_port = 7000",
      ', source = "10.8.8.8"',
    ]);
    return `{ interface = "out${i}"${target}${ttl}${more} }`;
  });
  const text = `[[rule]]
name = ${JSON.stringify(name)}
ingress = { interface = "in${random.below(3)}", group = ${range(group)}, port = ${ports}${source} }
egress = [${egresses.join(", ")}]
`;
  const [rule] = parseConfig(text, "random.toml").rules;
  if (!rule) throw new Error("a random rule is a good rule");
  return rule;
}
