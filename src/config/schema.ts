// The rule file as one schema; every type of the configuration is inferred from it. Called by parse.ts.
//
// Internal form: the file's own keys and values, checked, in canonical text and with defaults filled in. A group is
// "239.1.1.1" or "239.1.1.1-239.1.1.50" (a prefix becomes its range), a port 5001 or "5001-5050", sources are sorted.
// A key that is absent stays absent only where absence has a meaning of its own: every port, any source, untagged,
// same group, no metrics. A Rule is plain JSON: two rules are equal if and only if their JSON is, and a Rule that
// goes through RuleSchema again comes out the same.
import * as v from "valibot";
import { type Facility, facilities, type Level as LogLevel, levels, logFormats } from "../log.ts";
import {
  ControlPath,
  EgressPort,
  Flag,
  Group,
  Host,
  HostPort,
  InterfaceName,
  oneOf,
  Port,
  RuleName,
  SourceList,
  says,
  table,
  UserGroup,
  wholeOr,
} from "./field.ts";
import { isTable } from "./problem.ts";

const Level = oneOf(levels, "a log level");
const Facilities = v.pipe(
  v.custom<Partial<Record<Facility, LogLevel>>>(
    isTable,
    says('not a table: write [log.facility] and Ingress = "debug"'),
  ),
  v.record(oneOf(facilities, "a facility"), Level),
);

export const Workers = wholeOr(["auto"], 1, 64, 'not a number of workers: give "auto" or 1-64');
export const Profile = oneOf(["balanced", "throughput", "latency"], "a profile");
export const Fanout = oneOf(["flow", "hash", "cpu", "qm"], "a fanout");
export const RingBytes = wholeOr(
  [],
  4 << 20,
  2 ** 32,
  "not a ring size in bytes: give 4_194_304 (4 MiB) to 4_294_967_296 (4 GiB)",
);
export const LatencySleep = wholeOr([], 0, 1_000, "not a sleep in microseconds: give 0-1000, 0 for none");
export const Protocol = oneOf(["udp", "esp"], "a protocol");
export const Vlan = wholeOr([], 1, 4094, "not a VLAN id: give 1-4094, or leave it out for untagged packets");
export const Ttl = wholeOr(["keep", "decrement"], 1, 255, 'not a TTL: give 1-255, "keep" or "decrement"');
export const Dscp = wholeOr(["keep"], 0, 63, 'not a DSCP: give 0-63 or "keep"');
export const EgressPath = oneOf(["auto", "frame", "socket"], "a path");
export const SourcePort = wholeOr(
  ["auto", "keep"],
  1,
  65_535,
  'not a source port: give 1-65535, "keep" or "auto"',
);
const sourceText = 'not a source: give "interface", "keep" or the address of one host';
export const EgressSource = v.union([v.picklist(["interface", "keep"]), Host], says(sourceText));

export const relayEntries = {
  workers: v.optional(Workers, "auto"),
  profile: v.optional(Profile, "balanced"),
  fanout: v.optional(Fanout, "flow"),
  ring_bytes: v.optional(RingBytes, 64 << 20),
  latency_sleep_us: v.optional(LatencySleep, 0),
  control: v.optional(ControlPath, "/run/mcr/mcr.sock"),
  control_group: v.exactOptional(UserGroup),
  metrics: v.exactOptional(HostPort),
};

export const logEntries = {
  level: v.optional(Level, "info"),
  format: v.optional(oneOf(logFormats, "a log format"), "text"),
  facility: v.optional(Facilities, {}),
};

const interfaceMissing = { interface: 'name the interface, such as interface = "eth0"' };

export const ingressEntries = {
  interface: InterfaceName,
  group: v.exactOptional(Group),
  address: v.exactOptional(Host),
  port: v.exactOptional(Port),
  source: v.exactOptional(SourceList),
  vlan: v.exactOptional(Vlan),
  exclusive: v.optional(Flag, false),
  protocol: v.optional(Protocol, "udp"),
  allow_link_local: v.optional(Flag, false),
};
const ingressExample = 'ingress = { interface = "eth0", group = "239.1.1.1", port = 5001 }';

export const egressEntries = {
  interface: InterfaceName,
  group: v.exactOptional(Group),
  address: v.exactOptional(Host),
  port: v.exactOptional(EgressPort),
  ttl: v.optional(Ttl),
  source: v.optional(EgressSource, "interface"),
  source_port: v.optional(SourcePort, "auto"),
  path: v.optional(EgressPath, "auto"),
  dscp: v.optional(Dscp, 0),
  plain: v.optional(Flag, false),
};
const egressExample = '{ interface = "eth1" }';

const EgressSchema = v.pipe(
  table(egressEntries, egressExample, interfaceMissing),
  // A TTL of 1 keeps a group on its link; a unicast copy is meant to travel. Last key always, so that JSON compares.
  v.transform(({ ttl, ...egress }) => ({ ...egress, ttl: ttl ?? (egress.address === undefined ? 1 : 64) })),
);

export const ruleEntries = {
  name: RuleName,
  ingress: table(ingressEntries, ingressExample, interfaceMissing),
  egress: v.pipe(
    v.array(EgressSchema, says(`not a list: write egress = [${egressExample}]`)),
    v.minLength(1, `is an empty list: name at least one, such as egress = [${egressExample}]`),
  ),
};

export const RuleSchema = table(ruleEntries, "[[rule]]", {
  name: 'give every rule its own name, such as name = "studio-a"',
  ingress: `write ${ingressExample}`,
  egress: `write egress = [${egressExample}]`,
});

export const fileEntries = {
  relay: v.optional(table(relayEntries, "[relay]"), {}),
  log: v.optional(table(logEntries, "[log]"), {}),
  rule: v.optional(v.array(RuleSchema, says("not a list: write [[rule]], with two brackets")), []),
};

/** The whole file; in the program its list of [[rule]] tables is `rules`. */
export const ConfigSchema = v.pipe(
  table(fileEntries, "[[rule]]"),
  v.transform(({ rule, ...config }) => ({ ...config, rules: rule })),
);

export type Config = v.InferOutput<typeof ConfigSchema>;
export type RelaySettings = Config["relay"];
export type Rule = v.InferOutput<typeof RuleSchema>;
export type Ingress = Rule["ingress"];
export type Egress = Rule["egress"][number];
