// What is relayed on this host already: the rules of every mcr that runs here, asked for through its control socket,
// and the streams of a scan that they take or send. Who does not answer, or not to this user, is left out: listening
// needs none of them.
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { type Rule, RuleSchema } from "../config/schema.ts";
import { defaultSocketPath, request } from "../control/client.ts";
import { ConfigAnswerSchema } from "../control/protocol.ts";
import type { Scan } from "../net/scan.ts";
import type { Io } from "./command.ts";
import { takersOf } from "./taker.ts";

/** Of one mcr; nobody wants to wait longer before anything is heard. */
const answerMs = 500;

export async function runningRules(env: Io["env"]): Promise<readonly Rule[]> {
  const named = env["MCR_SOCKET"];
  const sockets = named ? [named] : await listSockets(dirname(defaultSocketPath));
  return (await Promise.all(sockets.map(rulesAt))).flat();
}

export function markRelayed(scan: Scan, running: readonly Rule[]): Scan {
  if (running.length === 0) return scan;
  const takers = takersOf(running);
  return {
    ...scan,
    flows: scan.flows.map((flow) => {
      const place = { ...flow, sources: [flow.source] };
      const name = flow.direction === "egress" ? takers.sends(place) : takers.takes(place);
      return { ...flow, relayed_by: name ?? null };
    }),
  };
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
