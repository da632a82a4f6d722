// The executable under test, as an operator runs it: a rule file in a directory of its own, `mcr run` in relay-ns
// or another namespace, and its counters read through `mcr show --json` and `mcr stats --json` on the control socket.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import {
  type ReloadResult,
  ReloadSchema,
  type RuleSnapshot,
  RulesSchema,
  type Stats,
  StatsSchema,
  type Status,
  StatusSchema,
} from "../../src/control/protocol.ts";
import { offsetAddress } from "../../src/net/address.ts";
import type { Completed, Process } from "./process.ts";
import { repository, type Topology } from "./topology.ts";
import type { StreamRange } from "./traffic.ts";
import { relayLines, variant } from "./variant.ts";
import { waitFor } from "./wait.ts";

/** MCR_EXECUTABLE names another build, so that a test of what was mended can be seen red. */
export const executable = process.env["MCR_EXECUTABLE"] ?? `${repository}/dist/mcr`;

export interface RuleText {
  readonly name: string;
  readonly ingress: string;
  readonly egress: readonly string[];
}

/** One `[[rule]]` of a rule file, with the variant's keys where it has none of its own. */
export function ruleText({ name, ingress, egress }: RuleText): string {
  const exclusive = variant.isExclusive && !ingress.includes("exclusive =") ? ", exclusive = true" : "";
  const path = variant.path === "auto" ? "" : `, path = "${variant.path}"`;
  const egresses = egress.map((each) => `{ ${each}${each.includes("path =") ? "" : path} }`);
  return `[[rule]]\nname = "${name}"\ningress = { ${ingress}${exclusive} }\negress = [${egresses.join(", ")}]\n`;
}

/** A rule for each stream: group and port counted up on both sides, `from` → `to`. */
export function streamRules(
  ingress: StreamRange,
  egress: StreamRange,
  { from = "veth1", to = "veth2" } = {},
): string {
  return Array.from({ length: ingress.streams ?? 1 }, (_, i) =>
    ruleText({
      name: `stream-${i}`,
      ingress: `interface = "${from}", group = "${offsetAddress(ingress.group, i)}", port = ${ingress.port + i}`,
      egress: [`interface = "${to}", group = "${offsetAddress(egress.group, i)}", port = ${egress.port + i}`],
    }),
  ).join("\n");
}

export class RelayUnderTest {
  constructor(
    readonly topology: Topology,
    readonly file: string,
    readonly process: Process,
    readonly namespace = "relay-ns",
    /** Removed with the relay. */
    readonly directory?: string,
  ) {}

  /** Any mcr command in the relay's namespace. */
  run(...argv: readonly string[]): Promise<Completed> {
    return this.topology.run(this.namespace, [executable, ...argv], {
      env: { MCR_SOCKET: socketOf(this.namespace) },
    });
  }

  async rules(): Promise<readonly RuleSnapshot[]> {
    return v.parse(RulesSchema, await this.#json("show")).rules;
  }

  async rule(name: string): Promise<RuleSnapshot> {
    const found = (await this.rules()).find((rule) => rule.name === name);
    if (!found) throw new Error(`mcr show lists no rule "${name}"`);
    return found;
  }

  async stats(): Promise<Stats> {
    return v.parse(StatsSchema, await this.#json("stats"));
  }

  async status(): Promise<Status> {
    const answer = await this.topology.output(this.namespace, [
      "curl",
      "--silent",
      "--unix-socket",
      socketOf(this.namespace),
      "http://mcr/v1/status",
    ]);
    return v.parse(StatusSchema, JSON.parse(answer));
  }

  /** `mcr reload`: waits for the result, good or bad. */
  async reload(): Promise<ReloadResult> {
    const { stdout } = await this.run("reload", "--json");
    return v.parse(ReloadSchema, JSON.parse(stdout));
  }

  write(rules: string): Promise<void> {
    return writeFile(this.file, rules);
  }

  async waitForState(name: string, state: RuleSnapshot["state"], deadlineMs = 5_000): Promise<RuleSnapshot> {
    const what = `rule "${name}" to be ${state}`;
    return waitFor(
      () => this.rule(name),
      (rule) => rule.state === state,
      { what, deadlineMs, intervalMs: 50 },
    );
  }

  /** SIGTERM, and how it ended. */
  async stop(): Promise<Completed> {
    this.process.kill("SIGTERM");
    return this.process.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
    if (this.directory !== undefined) await rm(this.directory, { recursive: true, force: true });
  }

  async #json(command: "show" | "stats"): Promise<unknown> {
    const { exitCode, stdout, stderr } = await this.run(command, "--json");
    if (exitCode !== 0) throw new Error(`mcr ${command} failed: ${stderr}`);
    return JSON.parse(stdout);
  }
}

export interface StartOptions {
  /** Where it runs; each namespace has a control socket of its own. */
  readonly namespace?: string;
  readonly workers?: number;
  /** More lines of [relay]. */
  readonly settings?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Put in front of the command: setpriv and the like. */
  readonly prefix?: readonly string[];
}

/** Returns when every rule that can be relayed is. */
export async function startRelay(
  topology: Topology,
  rules: string,
  { namespace = "relay-ns", workers, settings: more = "", env = {}, prefix = [] }: StartOptions = {},
): Promise<RelayUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), "mcr-test-"));
  const file = join(directory, "rules.toml");
  const own = `control = "${socketOf(namespace)}"\n${workers === undefined ? "" : `workers = ${workers}\n`}${more}`;
  await writeFile(file, `[relay]\n${relayLines(own, variant)}\n${rules}`);
  const started = topology.spawn(namespace, [...prefix, executable, "run", file], { env });
  await started.waitForOutput(/running [\d,]+ rules? of/, 15_000);
  if (variant.isExclusive && started.stderr.includes("but not exclusive"))
    throw new Error(`this host cannot run the exclusive variant: ${started.stderr}`);
  return new RelayUnderTest(topology, file, started, namespace, directory);
}

/** /run is one for all namespaces of a topology; the usual relay has the usual socket. */
export function socketOf(namespace: string): string {
  return namespace === "relay-ns" ? "/run/mcr/mcr.sock" : `/run/mcr/${namespace}.sock`;
}
