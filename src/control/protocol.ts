// What the control socket says: one schema per answer, shared by server, client and tests. HTTP + JSON under /v1/.
//   GET /v1/status   GET /v1/rules   GET /v1/stats   GET /v1/config
//   POST /v1/reload   POST /v1/rules   DELETE /v1/rules   POST /v1/save
// Fields are only ever added within /v1/. Counters only grow; rates are the reader's subtraction.
import * as v from "valibot";
import { egressStates, ruleStates } from "../net/state.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** RFC 3339, UTC. */
const time = v.pipe(v.string(), v.isoTimestamp());

export const EgressSchema = v.object({
  interface: v.string(),
  /** `239.10.1.1:6001`, as the rule says; "same" parts are filled in from the ingress. */
  destination: v.string(),
  ttl: count,
  path: v.picklist(["socket"]),
  state: v.picklist(egressStates),
  since: time,
  /** Why it is not active. */
  reason: v.nullable(v.string()),
  source_port: v.nullable(count),
  sent_packets: count,
  sent_bytes: count,
  /** Dropped packets by reason. */
  dropped: v.object({ full: count, error: count, unavailable: count }),
  /** The system's words for the last refused packet. */
  last_error: v.nullable(v.string()),
});

export const RuleSchema = v.object({
  name: v.string(),
  state: v.picklist(ruleStates),
  since: time,
  /** Why it is waiting or failed. */
  reason: v.nullable(v.string()),
  interface: v.string(),
  /** `239.1.1.1:5001`, ranges as the rule says. */
  ingress: v.string(),
  source: v.array(v.string()),
  flows: count,
  packets: count,
  bytes: count,
  last_packet: v.nullable(time),
  egress: v.array(EgressSchema),
});

const names = v.array(v.string());
/** Where the running rules and the rule file differ: what was edited at run time and not saved. */
export const UnsavedSchema = v.object({ added: names, changed: names, removed: names });

export const RulesSchema = v.object({
  rules: v.array(RuleSchema),
  unsaved: v.optional(UnsavedSchema, { added: [], changed: [], removed: [] }),
});

export const ChangeSchema = v.object({
  kind: v.picklist(["added", "removed", "changed"]),
  name: v.string(),
  /** Where an added or removed rule sends what, or what of a changed one was and is. */
  details: v.array(v.string()),
});

export const DifferenceSchema = v.object({
  /** `2 added, 1 removed, 1 changed, 47 unchanged`, or null when it failed. */
  difference: v.nullable(v.string()),
  added: names,
  removed: names,
  changed: names,
  unchanged: count,
  changes: v.optional(v.array(ChangeSchema), []),
  /** The flows of the unchanged rules: nothing is done to them. */
  unchanged_flows: v.optional(count, 0),
});

export const ReloadSchema = v.object({
  time,
  ok: v.boolean(),
  ...DifferenceSchema.entries,
  /** What is wrong with the file; nothing was changed then. */
  errors: v.array(v.string()),
  /** Settings that only a restart changes, and edits at run time that the file has undone. */
  notes: v.array(v.string()),
});

/** Body of POST /v1/rules: rules with the keys and values of a [[rule]]. */
export const AddRequestSchema = v.object({ rules: v.pipe(v.array(v.unknown()), v.minLength(1)) });
/** Body of DELETE /v1/rules. */
export const RemoveRequestSchema = v.object({ names: v.pipe(names, v.minLength(1)) });
/** Body of POST /v1/save. */
export const SaveRequestSchema = v.object({ force: v.optional(v.boolean(), false) });

/** What came of an add, a remove or a save: everything that was asked, or nothing. */
export const EditSchema = v.object({
  time,
  ok: v.boolean(),
  file: v.string(),
  /** Of the running rules, or by a save of the file. */
  changes: v.array(ChangeSchema),
  unsaved: UnsavedSchema,
  errors: v.array(v.string()),
  /** Why not: the request or the file is wrong, mcr may not write the file, or could not. */
  refusal: v.nullable(v.picklist(["config", "noPermission", "failed"])),
});

const section = v.record(v.string(), v.unknown());
/** What `mcr check --diff` compares with. */
export const ConfigAnswerSchema = v.object({
  file: v.string(),
  /** As at the start: only a restart changes it. */
  relay: section,
  /** As they run, with every default filled in. */
  rules: v.array(section),
  unsaved: UnsavedSchema,
});

export const StatusSchema = v.object({
  version: v.string(),
  pid: count,
  file: v.string(),
  started: time,
  uptime_s: count,
  workers: v.array(v.object({ worker: count, cpu: count })),
  interfaces: v.array(v.object({ interface: v.string(), fanout_id: count })),
  /** How many rules are in each state. */
  rules: v.object({ waiting: count, joining: count, active: count, silent: count, failed: count }),
  last_reload: v.nullable(ReloadSchema),
});

export const InterfaceStatsSchema = v.object({
  interface: v.string(),
  packets: count,
  matched: count,
  /** UDP payload of matched packets. */
  bytes: count,
  /** Dropped packets by reason; ring is the kernel's count of frames that found the ring full. */
  dropped: v.object({
    ring: count,
    no_match: count,
    tagged: count,
    fragment: count,
    malformed: count,
    truncated: count,
    bad_checksum: count,
  }),
});

export const StatsSchema = v.object({
  time,
  totals: v.object({
    packets: count,
    matched: count,
    bytes: count,
    sent_packets: count,
    sent_bytes: count,
    ingress_dropped: count,
    /** The sum of the three below, each packet in exactly one. Rules that are gone are in here as well. */
    egress_dropped: count,
    egress_full: count,
    egress_error: count,
    egress_unavailable: count,
  }),
  interfaces: v.array(InterfaceStatsSchema),
  workers: v.array(
    v.object({
      worker: count,
      cpu: count,
      matched: count,
      sent_packets: count,
      wakeups: count,
      blocks: count,
      sends: count,
      runs: count,
      run_packets: count,
    }),
  ),
  rules: v.array(RuleSchema),
  igmp: v.object({ attempted: count, succeeded: count, failed: count, active_groups: count }),
});

export const ErrorSchema = v.object({ error: v.string() });

export type EgressSnapshot = v.InferOutput<typeof EgressSchema>;
export type RuleSnapshot = v.InferOutput<typeof RuleSchema>;
export type ReloadResult = v.InferOutput<typeof ReloadSchema>;
export type DifferenceSnapshot = v.InferOutput<typeof DifferenceSchema>;
export type EditResult = v.InferOutput<typeof EditSchema>;
export type Unsaved = v.InferOutput<typeof UnsavedSchema>;
export type ConfigAnswer = v.InferOutput<typeof ConfigAnswerSchema>;
export type Status = v.InferOutput<typeof StatusSchema>;
export type Stats = v.InferOutput<typeof StatsSchema>;
export type InterfaceStats = v.InferOutput<typeof InterfaceStatsSchema>;

/** What the server asks of the relay. */
export interface ControlledRelay {
  status(): Status;
  rules(): readonly RuleSnapshot[];
  stats(): Stats;
  reload(): Promise<ReloadResult>;
  config(): ConfigAnswer;
  unsaved(): Unsaved;
  add(rules: readonly unknown[]): Promise<EditResult>;
  remove(names: readonly string[]): Promise<EditResult>;
  save(force: boolean): Promise<EditResult>;
}
