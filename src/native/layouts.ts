// The structs of c/mcr.h by name, and what its counters and limits are called here. What lies where is written from the
// header: abi.ts.
import { constants, counters, layouts } from "./abi.ts";
import { codecOf, type DecodedOf, type StructOf } from "./struct.ts";

/** The counter area of one worker: what c/mcr.h draws. Sizes in bytes, fields in 64-bit words. */
export const counterArea = {
  interfacesMax: constants.MCR_INTERFACES_MAX,
  rulesMax: constants.MCR_RULES_MAX,
  egressesMax: constants.MCR_EGRESSES_MAX,
  worker: counters.mcr_worker_counters.words,
  interface: counters.mcr_interface_counters.words,
  rule: counters.mcr_rule_counters.words,
  egress: counters.mcr_egress_counters.words,
  /** In front of its buckets. */
  addedLatency: counters.mcr_added_latency_counters.words,
  addedLatencyBuckets: counters.mcr_added_latency_counters.buckets.count,
  bytes: {
    worker: counters.mcr_worker_counters.size,
    interface: counters.mcr_interface_counters.size,
    rule: counters.mcr_rule_counters.size,
    egress: counters.mcr_egress_counters.size,
    addedLatency: counters.mcr_added_latency_counters.size,
  },
} as const;

/** Of one scan. */
export const scanInterfacesMax = constants.MCR_SCAN_INTERFACES_MAX;
export const scanFlowsMax = constants.MCR_SCAN_FLOWS_MAX;
/** Room of each packet that C hands over unread, its struct included. */
export const rawPacketBytes = constants.MCR_RAW_PACKET_BYTES;
/** Of a raw packet: one of no flow. */
export const rawOther = constants.MCR_RAW_OTHER;
/** Of one look at a query ring. */
export const queriesMax = constants.MCR_QUERIES_MAX;
/** An id of the shim's that no 802.1Q tag has: this, and that of another tag (c/ring.h). */
export const vlanOther = 0x1000;

export { layouts };
export const { encode, decode } = codecOf(layouts);
export type Struct<Name extends keyof typeof layouts> = StructOf<(typeof layouts)[Name]>;
export type Decoded<Name extends keyof typeof layouts> = DecodedOf<(typeof layouts)[Name]>;
