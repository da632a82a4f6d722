// "Anything special?" of `mcr init`: a list of what a rule can have beyond its streams and targets, and then a question
// for each that was chosen. Esc goes back one of them, and from the first to the list.
import { readDscp, readTtl, wrongWith } from "./init-input.ts";
import type { Settings } from "./init-plan.ts";
import type { Answer, Choice, Prompts } from "./init-prompts.ts";

export interface SettingsWorld {
  readonly isUnicast: boolean;
  /** Some of the streams were heard, not typed. */
  readonly hasSenders: boolean;
}

type Question = (prompts: Prompts, world: SettingsWorld) => Promise<Answer<Settings>>;

/** Those of the list that need no question of their own are not here. */
const questions: ReadonlyMap<string, Question> = new Map([
  ["ttl", askTtl],
  ["dscp", askDscp],
  ["path", askPath],
]);

/** @param before what was chosen the last time. */
export async function askSettings(
  prompts: Prompts,
  world: SettingsWorld,
  before: readonly string[] = [],
): Promise<Answer<Settings>> {
  const chosen = await prompts.many(
    "Anything special? (space chooses; Enter alone: no)",
    choicesFor(world),
    before,
    { isRequired: false },
  );
  if (chosen.kind !== "given") return chosen;
  const asked = [...questions].flatMap(([key, ask]) => (chosen.value.includes(key) ? ask : []));
  // Each with those before it.
  const answers: Settings[] = [
    {
      ...(chosen.value.includes("senders") ? { bySource: true } : {}),
      ...(chosen.value.includes("exclusive") ? { exclusive: true } : {}),
    },
  ];
  while (answers.length <= asked.length) {
    const answer = await asked[answers.length - 1]?.(prompts, world);
    if (!answer || answer.kind === "leave") return { kind: "leave" };
    if (answer.kind === "given") answers.push({ ...answers.at(-1), ...answer.value });
    else answers.pop();
    if (answers.length === 0) return askSettings(prompts, world, chosen.value);
  }
  return { kind: "given", value: answers.at(-1) ?? {} };
}

/** In the label what it is, in the hint, which the line under the cursor shows, what it is good for. */
function choicesFor({ isUnicast, hasSenders }: SettingsWorld): readonly Choice[] {
  return [
    {
      value: "ttl",
      label: `another TTL than ${isUnicast ? 64 : 1}`,
      hint: isUnicast ? "how many routers they may pass" : "1: stays on the link behind the egress",
    },
    ...(hasSenders
      ? [{ value: "senders", label: "only the senders heard", hint: "source-specific joins" }]
      : []),
    { value: "dscp", label: "a DSCP other than 0", hint: "the priority that switches see" },
    {
      value: "exclusive",
      label: "exclusive",
      hint: "less CPU: local programs get none; CAP_NET_ADMIN",
    },
    // To a host there is only one.
    ...(isUnicast
      ? []
      : [{ value: "path", label: "a send path of your choice", hint: "mcr chooses one by itself" }]),
  ];
}

async function askTtl(prompts: Prompts, { isUnicast }: SettingsWorld): Promise<Answer<Settings>> {
  const answer = await prompts.text({
    message: `TTL: 1-255${isUnicast ? "" : ", keep (as it came) or decrement (one less)"}`,
    placeholder: isUnicast ? "64" : "1",
    validate: (text) => wrongWith(readTtl(text, isUnicast)),
  });
  if (answer.kind !== "given") return answer;
  const read = readTtl(answer.value, isUnicast);
  return { kind: "given", value: "value" in read && read.value !== undefined ? { ttl: read.value } : {} };
}

async function askDscp(prompts: Prompts, { isUnicast }: SettingsWorld): Promise<Answer<Settings>> {
  const answer = await prompts.text({
    message: `DSCP: 0-63${isUnicast ? "" : ", or keep (as it came)"}`,
    placeholder: "0",
    validate: (text) => wrongWith(readDscp(text, isUnicast)),
  });
  if (answer.kind !== "given") return answer;
  const read = readDscp(answer.value, isUnicast);
  return { kind: "given", value: "value" in read && read.value !== undefined ? { dscp: read.value } : {} };
}

async function askPath(prompts: Prompts): Promise<Answer<Settings>> {
  const answer = await prompts.one("Which send path?", [
    { value: "socket", label: "socket", hint: "the kernel routes and fragments; netfilter sees them" },
    { value: "frame", label: "frame", hint: "groups on Ethernet only; the least CPU" },
  ]);
  if (answer.kind !== "given") return answer;
  return { kind: "given", value: { path: answer.value === "frame" ? "frame" : "socket" } };
}
