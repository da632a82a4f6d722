// What is relayed on this host already: the rules of every mcr that runs here, asked for through its control socket,
// and the streams of a scan that they take or send. Who does not answer, or not to this user, is left out: listening
// needs none of them.
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { expandFlows, type Flow } from "../config/flows.ts";
import { matcherOf } from "../config/matcher.ts";
import { type Rule, RuleSchema } from "../config/schema.ts";
import { defaultSocketPath, request } from "../control/client.ts";
import { ConfigAnswerSchema } from "../control/protocol.ts";
import type { Address } from "../net/address.ts";
import type { Scan, ScanFlow } from "../net/scan.ts";
import type { Io } from "./command.ts";

/** Of one mcr; nobody wants to wait longer before anything is heard. */
const answerMs = 500;

export async function runningRules(env: Io["env"]): Promise<readonly Rule[]> {
  const named = env["MCR_SOCKET"];
  const sockets = named ? [named] : await listSockets(dirname(defaultSocketPath));
  return (await Promise.all(sockets.map(rulesAt))).flat();
}

export function markRelayed(scan: Scan, running: readonly Rule[]): Scan {
  if (running.length === 0) return scan;
  const rules = running.map((rule) => ({ rule, flows: expandFlows(rule) }));
  const [takerOf, senderOf] = [matcherOf(rules), sendersOf(rules)];
  return {
    ...scan,
    flows: scan.flows.map((flow) => {
      const name =
        flow.direction === "egress"
          ? senderOf(flow)
          : takerOf({ ...flow, address: flow.group, vlan: flow.vlan ?? 0 });
      return { ...flow, relayed_by: name ?? null };
    }),
  };
}

/** The rule that sends a flow out of an interface. What a rule sends is untagged. */
function sendersOf(
  rules: readonly { readonly rule: Rule; readonly flows: readonly Flow[] }[],
): (flow: ScanFlow) => string | undefined {
  const keyOf = (name: string, address: Address, port: number) => `${name} ${address} ${port}`;
  const names = new Map<string, string>();
  for (const { rule, flows } of rules)
    for (const { port, egress } of flows)
      for (const [index, target] of egress.entries()) {
        const to = rule.egress[index]?.interface ?? "";
        // Without a port of its own, that of the ingress, which may be every port.
        names.set(keyOf(to, target.address, target.port || port), rule.name);
      }
  return ({ interface: name, vlan, group, port }) =>
    vlan === null ? (names.get(keyOf(name, group, port)) ?? names.get(keyOf(name, group, 0))) : undefined;
}

/** One for each instance. */
async function listSockets(directory: string): Promise<readonly string[]> {
  try {
    const names = await readdir(directory);
    return names.filter((name) => name.endsWith(".sock")).map((name) => join(directory, name));
  } catch {
    return [];
  }
}

async function rulesAt(socket: string): Promise<readonly Rule[]> {
  try {
    const limit = { limitMs: answerMs };
    const { value } = await request(socket, "GET", "/v1/config", ConfigAnswerSchema, limit);
    return value.rules.flatMap((rule) => {
      const read = v.safeParse(RuleSchema, rule);
      return read.success ? read.output : [];
    });
  } catch {
    return [];
  }
}
