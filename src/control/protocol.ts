// What the control socket says: one schema per answer, shared by server, client and tests. HTTP + JSON under /v1/.
// routes.ts lists what can be asked. Fields are only ever added within /v1/, and every answer has its path as `schema`.
// Counters only grow.
import * as v from "valibot";
import { facilities, levels } from "../log.ts";
import { sendPaths } from "../net/send-path.ts";
import { egressStates, exclusiveStates, ruleStates } from "../net/state.ts";
import { egressReasons, ingressReasons } from "../stats/reasons.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** RFC 3339, UTC. */
const time = v.pipe(v.string(), v.isoTimestamp());

/** Over the last second or two; null until there is something to compare with. */
const rate = v.nullable(
  v.object({
    packets_per_s: v.number(),
    /** UDP payload. */
    bits_per_s: v.number(),
  }),
);

export const EgressSchema = v.object({
  interface: v.string(),
  /** `239.10.1.1:6001`, as the rule says; "same" parts are filled in from the ingress. */
  destination: v.string(),
  /** 0: the packet's own, or one less. */
  ttl: count,
  path: v.picklist(sendPaths),
  /** Why not frames, where they are not what the rule leaves or asks for. */
  path_reason: v.nullable(v.string()),
  /** One datagram a message, as an ordinary socket sends them. */
  plain: v.boolean(),
  state: v.picklist(egressStates),
  since: time,
  /** Why it is not active. */
  reason: v.nullable(v.string()),
  source_port: v.nullable(count),
  sent_packets: count,
  sent_bytes: count,
  /** Of the packets sent: as frames. */
  frame_packets: count,
  rate,
  /** Dropped packets by reason. */
  dropped: v.object(v.entriesFromList(egressReasons, count)),
  /** Of the packets sent: came back to a rule that feeds this egress, and are `looped` there. */
  returned_packets: v.optional(count, 0),
  /** The system's words for the last refused packet. */
  last_error: v.nullable(v.string()),
});

/**
 * RTP that arrived, by its sequence numbers; null where none was recognised, and where packets of a flow are spread
 * over workers. c/mcr.h tells what each means.
 */
const RtpSchema = v.nullable(
  v.object({ packets: count, missing: count, reordered: count, duplicate: count }),
);

/** What mcr adds to a packet's way, of sampled packets; null when none was sampled. */
const LatencySchema = v.nullable(v.object({ samples: count, p50_ns: count, p99_ns: count, max_ns: count }));

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
  /** By which means what is captured goes no further; "refused" with exclusive_reason. */
  exclusive: v.picklist(exclusiveStates),
  exclusive_reason: v.nullable(v.string()),
  flows: count,
  packets: count,
  bytes: count,
  rate,
  last_packet: v.nullable(time),
  latency: LatencySchema,
  rtp: v.optional(RtpSchema, null),
  /** None of its packets: they came back, from an egress that it feeds or through other relays, and were dropped. */
  looped: v.optional(count, 0),
  egress: v.array(EgressSchema),
});

const names = v.array(v.string());
/** Where the running rules and the rule file differ: what was edited at run time and not saved. */
const UnsavedSchema = v.object({ added: names, changed: names, removed: names });

export const RulesSchema = v.object({
  rules: v.array(RuleSchema),
  unsaved: v.optional(UnsavedSchema, { added: [], changed: [], removed: [] }),
});

const ChangeSchema = v.object({
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

export const StatusSchema = v.object({
  version: v.string(),
  /** `mcr run -i NAME`. */
  instance: v.nullable(v.string()),
  pid: count,
  file: v.string(),
  started: time,
  uptime_s: count,
  profile: v.string(),
  fanout: v.string(),
  workers: v.array(v.object({ worker: count, cpu: count })),
  interfaces: v.array(v.object({ interface: v.string(), fanout_id: count })),
  /** How many rules are in each state. */
  rules: v.object({ waiting: count, joining: count, active: count, silent: count, failed: count }),
  last_reload: v.nullable(ReloadSchema),
});

const InterfaceStatsSchema = v.object({
  interface: v.string(),
  packets: count,
  matched: count,
  /** UDP payload of matched packets. */
  bytes: count,
  /** Dropped packets by reason; ring is the kernel's count of frames that it could not put into the ring. */
  dropped: v.object(v.entriesFromList(ingressReasons, count)),
  /** Of `ring`: frames with an offload type that the kernel cannot describe. */
  undescribed: v.optional(count, 0),
  /** How often its rings were opened anew because they only dropped. */
  reopened: v.optional(count, 0),
});

/** Of an interface that egresses send out of: what the kernel dropped of what all of this host sent there. */
const DeviceSchema = v.object({
  interface: v.string(),
  /** veth, vxlan, tun …, as `ip -d link show` says it; null for a network card. */
  type: v.optional(v.nullable(v.string()), null),
  /** As `ip -s link show` counts since the interface was made: TX dropped, and TX errors. */
  dropped: count,
  errors: count,
  /** Its queue, as `tc -s qdisc show` counts since that was made; a super-frame that is dropped whole is one drop. */
  qdisc: v.nullable(
    v.object({
      kind: v.string(),
      dropped: count,
      overlimits: count,
      requeues: count,
      backlog_packets: count,
      backlog_bytes: count,
    }),
  ),
});

export const StatsSchema = v.object({
  time,
  totals: v.object({
    packets: count,
    matched: count,
    bytes: count,
    sent_packets: count,
    sent_bytes: count,
    /** Of the reasons of interfaces all but `no_match`, `tagged`, `other_host` and `looped`: what no rule wants is no loss. */
    ingress_dropped: count,
    /** The sum of the four below, each packet in exactly one. Rules that are gone are in here as well. */
    egress_dropped: count,
    egress_full: count,
    egress_error: count,
    egress_unavailable: count,
    egress_expired: count,
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
      /** Time spent on reading batches and on sending them. */
      gather_ns: count,
      send_ns: count,
      /** That time over the last 5 s, 0 to 100. */
      load_percent: v.number(),
    }),
  ),
  rules: v.array(RuleSchema),
  /** Read at most once a second. */
  devices: v.optional(v.array(DeviceSchema), []),
  /** Of all rules; those that are gone are in here as well. */
  latency: LatencySchema,
  igmp: v.object({ attempted: count, succeeded: count, failed: count, active_groups: count }),
});

export const FlowSchema = v.object({
  /** That takes it; null: no rule wants this stream. */
  rule: v.nullable(v.string()),
  interface: v.string(),
  /** 0: untagged. Above 4095: 4096 more than the id of a tag that is not 802.1Q, which no rule takes. */
  vlan: count,
  source: v.string(),
  destination: v.string(),
  port: count,
  packets: count,
  /** UDP payload, as all sizes here. */
  bytes: count,
  size_min: count,
  size_max: count,
  packets_per_s: v.number(),
  bits_per_s: v.number(),
  last_packet: time,
});

export const FlowsSchema = v.object({
  time,
  /** How long the wire was watched. */
  seconds: v.number(),
  /** Frames that the watching itself lost: the rates are too low then. */
  dropped: count,
  /** Packets of flows beyond the most that are told apart. */
  overflow: count,
  flows: v.array(FlowSchema),
  igmp: v.array(
    v.object({
      interface: v.string(),
      vlan: count,
      kind: v.picklist(["query", "report", "leave"]),
      source: v.string(),
      /** The group; of a query for any group 224.0.0.1, where it is sent to. */
      destination: v.string(),
      packets: count,
      last_packet: time,
    }),
  ),
  /** Interfaces that could not be watched, and why. */
  failures: v.array(v.object({ interface: v.string(), reason: v.string() })),
});

const MembershipSchema = v.object({
  interface: v.string(),
  group: v.string(),
  /** Null: any source. */
  source: v.nullable(v.string()),
  state: v.picklist(["joining", "joined", "failed"]),
  reason: v.nullable(v.string()),
  retry_at: v.nullable(time),
  /** Which count on it. */
  rules: v.array(v.string()),
});
export const MembershipsSchema = v.object({ memberships: v.array(MembershipSchema) });

/** An IGMP query, of any group. */
const LastQuerySchema = v.object({
  /** When the kernel received it. */
  time,
  /** 0.0.0.0: of a switch that asks for want of a router. */
  from: v.string(),
  /** Of IGMP. */
  version: count,
});

export const InterfaceSchema = v.object({
  interface: v.string(),
  state: v.picklist(["active", "waiting"]),
  /** Why it is waiting. */
  reason: v.nullable(v.string()),
  ifindex: v.nullable(count),
  mtu: v.nullable(count),
  address: v.nullable(v.string()),
  /** How many rules take from it, and how many egresses send out of it. */
  ingress_rules: count,
  egresses: count,
  /** Why how many of them do not send although the interface is there. */
  failed_egresses: v.optional(v.array(v.object({ reason: v.string(), egresses: count })), []),
  /** Why what how many of them send goes nowhere. */
  failing_egresses: v.optional(v.array(v.object({ reason: v.string(), egresses: count })), []),
  fanout_id: v.nullable(count),
  /** Null: none since mcr listens there. */
  last_query: v.optional(v.nullable(LastQuerySchema), null),
  /** Since when mcr has listened for queries without a gap; null: it does not. */
  listening_since: v.optional(v.nullable(time), null),
  ingress: v.nullable(InterfaceStatsSchema),
  sent_packets: count,
  sent_bytes: count,
  egress_dropped: count,
  /** What became of packets behind `sent_packets`; null where no egress sends, or the kernel does not tell. */
  device: v.optional(v.nullable(DeviceSchema), null),
});
export const InterfacesSchema = v.object({ interfaces: v.array(InterfaceSchema) });

export const WorkersSchema = v.object({ workers: StatsSchema.entries.workers });

const section = v.record(v.string(), v.unknown());
export const ConfigAnswerSchema = v.object({
  file: v.string(),
  instance: v.nullable(v.string()),
  /** As at the start: only a restart changes it. */
  relay: section,
  log: section,
  /** As they run, with every default filled in. */
  rules: v.array(section),
  unsaved: UnsavedSchema,
});

const level = v.picklist(levels);
const facility = v.picklist(facilities);
export const LogLevelsSchema = v.object({
  level,
  /** Those with a level of their own. */
  facility: v.record(v.string(), level),
});
/** Of a facility: as all that have none of their own. */
const levelOrDefault = v.picklist([...levels, "default"]);
export const LogLevelChangeSchema = v.pipe(
  v.object({
    level: levelOrDefault,
    /** Absent: the level of all that have none of their own. */
    facility: v.optional(facility),
  }),
  v.check(
    (change) => change.level !== "default" || change.facility !== undefined,
    'the level "default" is of one facility',
  ),
);

const change = v.picklist(["began", "ended"]);
const at = { time };
export const EventSchema = v.variant("event", [
  /** The first line: from here on nothing is missed. */
  v.object({ event: v.literal("connected"), ...at, version: v.string(), pid: count }),
  v.object({
    event: v.literal("rule"),
    ...at,
    rule: v.string(),
    state: v.picklist(ruleStates),
    reason: v.nullable(v.string()),
  }),
  v.object({
    event: v.literal("egress"),
    ...at,
    rule: v.string(),
    interface: v.string(),
    destination: v.string(),
    state: v.picklist(egressStates),
    reason: v.nullable(v.string()),
  }),
  v.object({
    event: v.literal("membership"),
    ...at,
    change: v.picklist(["joined", "left", "failed"]),
    interface: v.string(),
    group: v.string(),
    source: v.nullable(v.string()),
    reason: v.nullable(v.string()),
  }),
  v.object({
    event: v.literal("querier"),
    ...at,
    /** Another one asks than before; or nobody has for 260 s, when switches forget members. */
    change: v.picklist(["heard", "silent"]),
    interface: v.string(),
    from: v.string(),
    /** Of IGMP. */
    version: count,
  }),
  v.object({
    event: v.literal("drops"),
    ...at,
    change,
    /** Null where an interface drops. */
    rule: v.nullable(v.string()),
    interface: v.string(),
    destination: v.nullable(v.string()),
    /** The name of the counter. */
    reason: v.string(),
    /** Since they began. */
    packets: count,
  }),
  v.object({ event: v.literal("reload"), ...at, ...v.omit(ReloadSchema, ["time"]).entries }),
  v.object({
    event: v.literal("edit"),
    ...at,
    verb: v.picklist(["add", "remove", "save"]),
    ...v.omit(EditSchema, ["time"]).entries,
  }),
  v.object({
    event: v.literal("log-level"),
    ...at,
    level: levelOrDefault,
    facility: v.nullable(facility),
  }),
  v.object({ event: v.literal("stopping"), ...at }),
]);

export const ErrorSchema = v.object({ error: v.string() });

export type EgressSnapshot = v.InferOutput<typeof EgressSchema>;
export type RuleSnapshot = v.InferOutput<typeof RuleSchema>;
export type ReloadResult = v.InferOutput<typeof ReloadSchema>;
export type DifferenceSnapshot = v.InferOutput<typeof DifferenceSchema>;
export type EditResult = v.InferOutput<typeof EditSchema>;
export type Unsaved = v.InferOutput<typeof UnsavedSchema>;
export type Status = v.InferOutput<typeof StatusSchema>;
export type Stats = v.InferOutput<typeof StatsSchema>;
export type InterfaceStats = v.InferOutput<typeof InterfaceStatsSchema>;
export type DeviceStats = v.InferOutput<typeof DeviceSchema>;
export type Rate = v.InferOutput<typeof rate>;
export type Flows = v.InferOutput<typeof FlowsSchema>;
export type MembershipSnapshot = v.InferOutput<typeof MembershipSchema>;
export type InterfaceSnapshot = v.InferOutput<typeof InterfaceSchema>;
export type ConfigAnswer = v.InferOutput<typeof ConfigAnswerSchema>;
export type LogLevels = v.InferOutput<typeof LogLevelsSchema>;
export type LogLevelChange = v.InferOutput<typeof LogLevelChangeSchema>;
export type Event = v.InferOutput<typeof EventSchema>;
/** An event before it has its time. */
export type News = Event extends infer E ? (E extends Event ? Omit<E, "time"> : never) : never;

/** What the server asks of the relay. */
export interface ControlledRelay {
  status(): Status;
  rules(): readonly RuleSnapshot[];
  stats(): Stats;
  reload(): Promise<ReloadResult>;
  /** Watches the wire for about a second. */
  flows(): Promise<Flows>;
  memberships(): readonly MembershipSnapshot[];
  interfaces(): readonly InterfaceSnapshot[];
  config(): ConfigAnswer;
  logLevels(): LogLevels;
  /** At once; until the next reload, which takes the file's levels. */
  setLogLevel(change: LogLevelChange): LogLevels;
  /** Returns how to end it. */
  subscribe(listener: (event: Event) => void): () => void;
  unsaved(): Unsaved;
  add(rules: readonly unknown[]): Promise<EditResult>;
  remove(names: readonly string[]): Promise<EditResult>;
  save(force: boolean): Promise<EditResult>;
}
