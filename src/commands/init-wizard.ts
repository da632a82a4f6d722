// The questions of `mcr init`, in order. Each step asks one thing, knows what was answered before it, and can be gone
// back to; the world (interfaces, listening, the file) is given, so that tests walk every path. Returns what to write;
// writes nothing itself.
import { ExitCode, fail, McrError } from "../error.ts";
import type { ListedInterface } from "../net/interface-list.ts";
import type { Scan } from "../net/scan.ts";
import { plural } from "../numbers.ts";
import { formatBitRate } from "./figures.ts";
import { formatChange, type RuleFile, withRules } from "./init-file.ts";
import { readInterfaceName, readMapping, readStreams, wrongWith } from "./init-input.ts";
import {
  type Choices,
  type Mapping,
  planRules,
  refusedBecause,
  type Settings,
  type Stream,
  streamsOn,
  takenBy,
} from "./init-plan.ts";
import type { Answer, Choice, Prompts } from "./init-prompts.ts";
import { askSettings } from "./init-settings.ts";
import { formatPlanned } from "./init-text.ts";
import { formatTarget } from "./scan-report.ts";

/** What the wizard looks at. */
export interface World {
  readonly interfaces: readonly ListedInterface[];
  readonly file: RuleFile;
  /** Heard before, with --from; else `listen` is asked. */
  readonly scan: Scan | undefined;
  /** Undefined when the wizard was left meanwhile. Throws McrError when this process may not or cannot listen. */
  listen(): Promise<Scan | undefined>;
  /** What the operator should know about this host; none of it keeps a rule from being written. */
  hints(choices: Choices, scan: Scan | undefined): readonly string[];
}

export interface Outcome {
  readonly text: string;
  readonly rules: number;
}

/** What has been answered so far. */
interface Draft {
  readonly scan?: Scan | undefined;
  readonly ingress?: string;
  readonly streams?: readonly Stream[];
  readonly egresses?: readonly string[];
  readonly mapping?: Mapping;
  readonly settings?: Settings;
  readonly text?: string;
}

type Step = (draft: Draft, prompts: Prompts, world: World) => Promise<Answer<Draft>>;

const typed = " typed"; // no interface is called so: names have no blanks

const steps: readonly Step[] = [askIngress, askStreams, askEgresses, askMapping, askSpecial, askReview];

/** Undefined: left, and nothing is to be written. */
export async function runWizard(prompts: Prompts, world: World): Promise<Outcome | undefined> {
  const { file, interfaces } = world;
  if (interfaces.every(({ isLoopback }) => isLoopback))
    fail("mcr init: this host has no interface but the loopback (ip link shows them)", ExitCode.failed);
  prompts.intro(`mcr init: ${file.path}`);
  prompts.say(
    file.text === undefined
      ? "This file does not exist yet: it will have the rules that you choose now. Esc goes back, Ctrl-C leaves, and nothing is written before you say so."
      : `This file has ${plural(file.rules.length, "rule")}: new ones go to its end, and everything in it stays as it is. Esc goes back, Ctrl-C leaves.`,
  );
  const drafts: Draft[] = [{ scan: world.scan ?? (await hear(prompts, world)) }];
  while (drafts.length <= steps.length) {
    const step = steps[drafts.length - 1];
    const draft = drafts.at(-1);
    if (!step || !draft || prompts.hasLeft) return left(prompts);
    const answer = await step(draft, prompts, world);
    if (answer.kind === "leave") return left(prompts);
    if (answer.kind === "given") drafts.push(answer.value);
    else drafts.pop();
  }
  const { text, ...answers } = drafts.at(-1) ?? {};
  return text === undefined ? left(prompts) : { text, rules: planned(answers, file).length };
}

function left(prompts: Prompts): undefined {
  prompts.outro("Left; nothing was written.");
  return undefined;
}

async function hear(prompts: Prompts, world: World): Promise<Scan | undefined> {
  try {
    return await world.listen();
  } catch (error) {
    if (!(error instanceof McrError)) throw error;
    prompts.warn(`${error.message.replace(/^mcr init: /, "")}. You can type the streams.`);
    return undefined;
  }
}

async function askIngress({ scan }: Draft, prompts: Prompts, { interfaces }: World): Promise<Answer<Draft>> {
  const offered = interfaces.filter(({ isLoopback }) => !isLoopback);
  const choices = offered.map((each) => ({
    value: each.name,
    label: interfaceLabel(each, heardOn(scan, each.name)),
  }));
  const loudest = offered.toSorted((a, b) => streamCount(scan, b.name) - streamCount(scan, a.name))[0];
  return askInterface(
    prompts,
    "Where do the streams come from? (ingress: mcr captures there)",
    choices,
    loudest?.name,
    (ingress) => ({
      scan,
      ingress,
    }),
  );
}

async function askInterface(
  prompts: Prompts,
  message: string,
  choices: readonly Choice[],
  initial: string | undefined,
  toDraft: (name: string) => Draft,
): Promise<Answer<Draft>> {
  for (;;) {
    const answer = await prompts.one(message, [...choices, typedInterface], initial);
    if (answer.kind !== "given") return answer;
    if (answer.value !== typed) return { kind: "given", value: toDraft(answer.value) };
    const name = await askInterfaceName(prompts);
    if (name.kind === "leave") return name;
    if (name.kind === "given") return { kind: "given", value: toDraft(name.value) };
  }
}

const typedInterface: Choice = {
  value: typed,
  label: "another one",
  hint: "that does not exist yet: its rules wait for it",
};

function askInterfaceName(prompts: Prompts): Promise<Answer<string>> {
  return prompts.text({
    message: "The name of the interface",
    placeholder: "eth1",
    validate: (text) => wrongWith(readInterfaceName(text)),
  });
}

async function askStreams(draft: Draft, prompts: Prompts, { file }: World): Promise<Answer<Draft>> {
  const { scan, ingress = "" } = draft;
  const taker = takenBy(file.rules, ingress);
  const heard = scan ? streamsOn(scan, ingress) : [];
  const byKey = new Map(heard.map((stream) => [keyOf(stream), stream]));
  const choices = heard.map((stream): Choice => {
    const rule = taker(stream);
    const refusal = rule === undefined ? stream.refusal : `rule "${rule}" takes it already`;
    const [value, label] = [keyOf(stream), labelOf(stream)];
    // A refusal is more to say than all that would be relayed.
    return refusal === undefined
      ? { value, label, short: value, hint: sendersOf(stream) }
      : { value, label: value, hint: refusal.replace(/^[\w.[\]]+: (?:"[^"]*" )?/, ""), disabled: true };
  });
  const free = choices
    .filter(({ value, disabled }) => !disabled && byKey.get(value)?.heard?.relayedBy === undefined)
    .map(({ value }) => value);
  if (choices.length === 0 && scan)
    prompts.say(
      `Nothing was heard on ${ingress}. A switch with IGMP snooping passes only groups that somebody has joined, and mcr joins only when it relays: type what you expect.`,
    );
  for (;;) {
    const answer: Answer<string[]> =
      choices.length === 0
        ? { kind: "given", value: [typed] }
        : await prompts.many(
            `Which streams? (space chooses, a chooses all; ${plural(free.length, "stream")} free)`,
            [...choices, { value: typed, label: "others", hint: "typed by you" }],
            free.length <= 8 ? free : [],
          );
    if (answer.kind !== "given") return answer;
    const chosen = answer.value.flatMap((key) => byKey.get(key) ?? []);
    if (!answer.value.includes(typed)) return { kind: "given", value: { ...draft, streams: chosen } };
    const others = await prompts.text({
      message: "Which groups and ports?",
      placeholder: "239.1.1.1:5001",
      validate: (text) => wrongWith(readStreams(text)) ?? wrongWithStreams(text, ingress, taker),
    });
    if (others.kind === "leave" || (others.kind === "back" && choices.length === 0)) return others;
    if (others.kind === "back") continue;
    const read = readStreams(others.value);
    const more =
      "value" in read
        ? read.value.filter((stream) => !chosen.some((one) => keyOf(one) === keyOf(stream)))
        : [];
    return {
      kind: "given",
      value: { ...draft, streams: [...chosen, ...more.map((stream) => byKey.get(keyOf(stream)) ?? stream)] },
    };
  }
}

/** What the rule file's own checks say about typed streams. */
function wrongWithStreams(
  text: string,
  ingress: string,
  taker: (stream: Stream) => string | undefined,
): string | undefined {
  const read = readStreams(text);
  if ("wrong" in read) return read.wrong;
  for (const stream of read.value) {
    const rule = taker(stream);
    if (rule !== undefined) return `${keyOf(stream)}: rule "${rule}" takes it already`;
  }
  // To any other interface: nothing is known of the egress yet.
  const egresses = [ingress === "eth0" ? "eth1" : "eth0"];
  const choices: Choices = { ingress, egresses, streams: read.value, mapping: { kind: "same" } };
  return refusedBecause(() => planRules(choices, []).map(formatPlanned).join(""));
}

async function askEgresses(draft: Draft, prompts: Prompts, { interfaces }: World): Promise<Answer<Draft>> {
  const { ingress, scan } = draft;
  const choices = interfaces
    .filter(({ isLoopback }) => !isLoopback)
    .map((each) => ({
      value: each.name,
      label: interfaceLabel(each, [
        ...(each.name === ingress ? ["the ingress: only with other groups"] : []),
        ...membersOn(scan, each.name),
      ]),
    }));
  const likely = interfaces.find(({ name, isUp, isLoopback }) => !isLoopback && isUp && name !== ingress);
  for (;;) {
    const answer = await prompts.many(
      "Where do they go? (egress: one copy to each)",
      [...choices, typedInterface],
      likely ? [likely.name] : [],
    );
    if (answer.kind !== "given") return answer;
    const names = answer.value.filter((name) => name !== typed);
    if (names.length === answer.value.length) return { kind: "given", value: { ...draft, egresses: names } };
    const name = await askInterfaceName(prompts);
    if (name.kind === "leave") return name;
    if (name.kind === "given")
      return { kind: "given", value: { ...draft, egresses: [...names, name.value] } };
  }
}

async function askMapping(draft: Draft, prompts: Prompts): Promise<Answer<Draft>> {
  for (;;) {
    const kind = await prompts.one("To which groups?", [
      { value: "same", label: "the same groups and ports", hint: "receivers need not change anything" },
      {
        value: "shift",
        label: "other groups",
        hint: "you give the first one, the others keep their distance to it",
      },
      { value: "unicast", label: "one host", hint: "unicast, through any interface the kernel routes" },
    ]);
    if (kind.kind !== "given") return kind;
    if (kind.value === "same") return { kind: "given", value: { ...draft, mapping: { kind: "same" } } };
    const isHost = kind.value === "unicast";
    const target = await prompts.text({
      message: isHost
        ? "Address of the host, with :PORT for another port"
        : "The first group, with :PORT for other ports",
      placeholder: isHost ? "10.0.1.2:6001" : "239.10.1.1:6001",
      validate: (text) => {
        const read = readMapping(text);
        if ("wrong" in read) return read.wrong;
        if (read.value.kind !== kind.value)
          return isHost ? "give a host, not a group" : "give a group (224.0.0.0 to 239.255.255.255)";
        return undefined;
      },
    });
    if (target.kind === "leave") return target;
    const read = target.kind === "given" ? readMapping(target.value) : undefined;
    if (read && "value" in read) return { kind: "given", value: { ...draft, mapping: read.value } };
  }
}

async function askSpecial(draft: Draft, prompts: Prompts): Promise<Answer<Draft>> {
  const answer = await askSettings(prompts, {
    isUnicast: draft.mapping?.kind === "unicast",
    hasSenders: draft.streams?.some(({ heard }) => heard !== undefined) ?? false,
  });
  if (answer.kind !== "given") return answer;
  return { kind: "given", value: { ...draft, settings: answer.value } };
}

async function askReview(draft: Draft, prompts: Prompts, world: World): Promise<Answer<Draft>> {
  const { file } = world;
  let text: string;
  try {
    text = withRules(file, planned(draft, file));
  } catch (error) {
    if (!(error instanceof McrError)) throw error;
    prompts.warn(`The rule file's checks refuse this:\n${error.message}`);
    return { kind: "back" };
  }
  prompts.show(
    file.text === undefined ? `${file.path} would be` : `${file.path} would change`,
    formatChange(file, text),
  );
  for (const hint of world.hints(choicesOf(draft), draft.scan)) prompts.warn(hint);
  const answer = await prompts.one(`Write ${file.path}?`, [
    { value: "write", label: "write it" },
    { value: "back", label: "go back" },
    { value: "leave", label: "leave", hint: "nothing is written" },
  ]);
  if (answer.kind !== "given") return answer;
  if (answer.value === "write") return { kind: "given", value: { ...draft, text } };
  return { kind: answer.value === "back" ? "back" : "leave" };
}

function planned(draft: Draft, { rules }: RuleFile) {
  return planRules(
    choicesOf(draft),
    rules.map(({ name }) => name),
  );
}

function choicesOf({
  ingress = "",
  egresses = [],
  streams = [],
  mapping = { kind: "same" },
  settings,
}: Draft): Choices {
  return { ingress, egresses, streams, mapping, ...(settings === undefined ? {} : { settings }) };
}

// -- what the choices say

function keyOf({ group, port, vlan }: Stream): string {
  const target = port === undefined ? group : formatTarget({ group, port });
  return vlan === null ? target : `${target} vlan ${vlan}`;
}

/** The name last: it is what a narrow terminal cuts. */
function labelOf(stream: Stream): string {
  const { heard, name } = stream;
  const by = heard?.relayedBy === undefined ? "" : `relayed by rule "${heard.relayedBy}", `;
  const what = heard ? `${by}${heard.text}, ${formatBitRate(heard.bits_per_second)}` : "";
  return [keyOf(stream), what, name ?? ""].filter((text) => text !== "").join("  ");
}

function sendersOf({ heard }: Stream): string {
  if (!heard) return "";
  return heard.sources.length === 1 ? `from ${heard.sources[0]}` : `${heard.sources.length} senders`;
}

/** In the label, not in the hint, which only the line under the cursor shows. */
function interfaceLabel(link: ListedInterface, more: readonly string[]): string {
  const texts = [linkText(link), ...more].filter((text) => text !== "").join(", ");
  return [link.name, link.address ?? "no address", texts].filter((text) => text !== "").join("  ");
}

function linkText({ isUp, hasCarrier }: ListedInterface): string {
  if (!isUp) return "down";
  return hasCarrier ? "" : "no carrier";
}

function streamCount(scan: Scan | undefined, name: string): number {
  return scan ? streamsOn(scan, name).length : 0;
}

function heardOn(scan: Scan | undefined, name: string): readonly string[] {
  if (!scan?.interfaces.some((each) => each.name === name)) return [];
  const queriers = scan.queriers.filter((each) => each.interface === name);
  return [
    plural(streamCount(scan, name), "stream"),
    ...queriers.slice(0, 1).map(({ address, protocol }) => `querier ${address} (${protocol})`),
  ];
}

function membersOn(scan: Scan | undefined, name: string): readonly string[] {
  const groups = new Set(
    scan?.members
      .filter((each) => each.interface === name && each.state === "member" && !each.is_this_host)
      .map(({ group }) => group)
      .filter((group) => !group.startsWith("224.0.0.") && !group.startsWith("ff02:")),
  );
  return groups.size === 0 ? [] : [`${plural(groups.size, "group")} wanted there`];
}
