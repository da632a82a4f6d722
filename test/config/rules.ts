// Rule files as text for the tests of config/, and what comes of them.

import { parseConfig } from "../../src/config/parse.ts";
import type { Rule } from "../../src/config/schema.ts";
import { ExitCode, McrError } from "../../src/error.ts";

/** What every test calls its rule file. */
export const file = "rules.toml";

export interface RuleParts {
  readonly name?: string;
  /** Inside the braces. */
  readonly ingress?: string;
  readonly egress?: readonly string[];
}

/** A [[rule]] of four lines; what is not given is right. */
export function ruleText(parts: RuleParts = {}): string {
  const {
    name = "a",
    ingress = 'interface = "eth0", group = "239.1.1.1", port = 5001',
    egress = ['interface = "eth1"'],
  } = parts;
  const egresses = egress.map((each) => `{ ${each} }`).join(", ");
  return `[[rule]]\nname = "${name}"\ningress = { ${ingress} }\negress = [${egresses}]\n`;
}

export function parseRules(...parts: readonly RuleParts[]): readonly Rule[] {
  return parseConfig(parts.map(ruleText).join(""), file).rules;
}

export function parseRule(parts: RuleParts = {}): Rule {
  const [rule] = parseRules(parts);
  if (!rule) throw new Error("expected one rule");
  return rule;
}

/** Every message of a file that must be refused. */
export function mistakesIn(text: string): readonly string[] {
  let thrown: unknown;
  try {
    parseConfig(text, file);
  } catch (error) {
    thrown = error;
  }
  if (!(thrown instanceof McrError)) throw new Error(`expected a refusal, got ${Bun.inspect(thrown)}`);
  if (thrown.exitCode !== ExitCode.config) throw new Error(`expected exit code 78, got ${thrown.exitCode}`);
  return thrown.lines;
}

/** The same for rules, without the name of the file: `3:41: rule "a": ingress.group: …`. */
export function mistakesOf(...parts: readonly RuleParts[]): readonly string[] {
  return mistakesIn(parts.map(ruleText).join("")).map((line) => line.replace(/^rules\.toml:/, ""));
}
