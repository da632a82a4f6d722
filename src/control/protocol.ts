// What the control socket says: one schema per answer, shared by server, client and tests. HTTP + JSON under /v1/.
//   GET /v1/status   GET /v1/rules   GET /v1/stats   POST /v1/reload
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
  flows: count,
  packets: count,
  bytes: count,
  last_packet: v.nullable(time),
  latency: LatencySchema,
  egress: v.array(EgressSchema),
});

export const RulesSchema = v.object({ rules: v.array(RuleSchema) });

export const ReloadSchema = v.object({
  time,
  ok: v.boolean(),
  /** `2 added, 1 removed, 1 changed, 47 unchanged`, or null when it failed. */
  difference: v.nullable(v.string()),
  added: v.array(v.string()),
  removed: v.array(v.string()),
  changed: v.array(v.string()),
  unchanged: count,
  /** What is wrong with the file; nothing was changed then. */
  errors: v.array(v.string()),
  /** Settings that only a restart changes. */
  notes: v.array(v.string()),
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
      /** Time spent on reading batches and on sending them. */
      gather_ns: count,
      send_ns: count,
      /** That time over the last 5 s, 0 to 100. */
      load_percent: v.number(),
    }),
  ),
  rules: v.array(RuleSchema),
  /** Of all rules; those that are gone are in here as well. */
  latency: LatencySchema,
  igmp: v.object({ attempted: count, succeeded: count, failed: count, active_groups: count }),
});

export const ErrorSchema = v.object({ error: v.string() });

export type EgressSnapshot = v.InferOutput<typeof EgressSchema>;
export type RuleSnapshot = v.InferOutput<typeof RuleSchema>;
export type ReloadResult = v.InferOutput<typeof ReloadSchema>;
export type Status = v.InferOutput<typeof StatusSchema>;
export type Stats = v.InferOutput<typeof StatsSchema>;
export type InterfaceStats = v.InferOutput<typeof InterfaceStatsSchema>;

/** What the server asks of the relay. */
export interface ControlledRelay {
  status(): Status;
  rules(): readonly RuleSnapshot[];
  stats(): Stats;
  reload(): Promise<ReloadResult>;
}
