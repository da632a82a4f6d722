// A rule file that may have mistakes, as typed data: null where a value is wrong, absent where it is not given.
// parse.ts reads a file this way after the schema refused it, so that the checks across keys and rules still run on
// everything else, and all mistakes come out in one go. A correct Config is a Draft too: the checks know only drafts.
import * as v from "valibot";
import {
  EgressPort,
  Flag,
  Group,
  Host,
  HostPort,
  InterfaceName,
  Port,
  RuleName,
  SourceList,
} from "./field.ts";
import { isTable, type Path, quoteWhole } from "./problem.ts";
import {
  Dscp,
  EgressPath,
  EgressSource,
  Fanout,
  LatencySleep,
  Profile,
  Protocol,
  RingBytes,
  SourcePort,
  Ttl,
  Vlan,
  Workers,
} from "./schema.ts";

/** The value, or null when it is wrong. */
function orNull<const S extends v.GenericSchema>(schema: S) {
  return v.fallback(v.nullable(schema), null);
}
function key<const S extends v.GenericSchema>(schema: S) {
  return v.exactOptional(orNull(schema));
}
function tableKey<const E extends v.ObjectEntries>(entries: E) {
  const object = v.object(entries);
  return key(v.pipe(v.custom<v.InferInput<typeof object>>(isTable), object));
}

const DraftEgressSchema = v.object({
  interface: key(InterfaceName),
  group: key(Group),
  address: key(Host),
  port: key(EgressPort),
  ttl: key(Ttl),
  source: key(EgressSource),
  source_port: key(SourcePort),
  path: key(EgressPath),
  dscp: key(Dscp),
  plain: key(Flag),
});

const DraftRuleSchema = v.object({
  name: key(RuleName),
  ingress: tableKey({
    interface: key(InterfaceName),
    group: key(Group),
    address: key(Host),
    port: key(Port),
    source: key(SourceList),
    vlan: key(Vlan),
    exclusive: key(Flag),
    protocol: key(Protocol),
    allow_link_local: key(Flag),
  }),
  egress: key(v.array(orNull(DraftEgressSchema))),
});

const DraftSchema = v.object({
  relay: tableKey({
    workers: key(Workers),
    profile: key(Profile),
    fanout: key(Fanout),
    ring_bytes: key(RingBytes),
    latency_sleep_us: key(LatencySleep),
    metrics: key(HostPort),
  }),
  rule: key(v.array(orNull(DraftRuleSchema))),
});

export type DraftRule = v.InferOutput<typeof DraftRuleSchema>;
export type DraftIngress = NonNullable<DraftRule["ingress"]>;
export type DraftEgress = v.InferOutput<typeof DraftEgressSchema>;
/** In file order; null where a [[rule]] is no table at all. */
export type DraftRules = readonly (DraftRule | null)[];

export interface Draft {
  readonly relay: v.InferOutput<typeof DraftSchema>["relay"];
  readonly rules: DraftRules;
}

export function readDraft(root: unknown): Draft {
  const draft = v.parse(DraftSchema, root);
  return { relay: draft.relay ?? null, rules: draft.rule ?? [] };
}

/** How messages name a rule: `rule "wall"`, or by its place when it has no usable name. */
export function ruleLabel(rules: DraftRules, index: number): string {
  const name = rules[index]?.name;
  return typeof name === "string" ? `rule ${quoteWhole(name)}` : `rule ${index + 1}`;
}

/** Each egress that could be read, with its path below the rule. */
export function* egressesOf(rule: DraftRule): Generator<[DraftEgress, Path]> {
  for (const [index, egress] of (rule.egress ?? []).entries()) if (egress) yield [egress, ["egress", index]];
}
