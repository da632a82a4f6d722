/*
 * What a scan has heard: a bounded table of UDP flows with their counters, and
 * a bounded pool of packets for TypeScript to read. No system calls, so that
 * tests and fuzzers drive it; scan.c brings the frames. Of a packet no more is
 * read here than the fixed headers: what hides behind more of them, and what
 * is no UDP, goes to the pool as it came.
 *
 *   network -> | IPv4 header | UDP | payload    -> flow, and the pool where samples are wanted
 *              | IPv4 header | IGMP             -> pool
 *              | IPv6, 40    | UDP | payload    -> flow, as above
 *              | IPv6, 40    | anything else    -> pool
 */
#ifndef MCR_FLOW_TABLE_H
#define MCR_FLOW_TABLE_H

#include "mcr.h"
#include "ring.h"

struct mcr_flow_table;

/* NULL and *error = -EINVAL or -ENOMEM. */
struct mcr_flow_table *mcr_flow_table_open(const struct mcr_scan_options *options, int32_t *error);
void mcr_flow_table_close(struct mcr_flow_table *table);

/* interface: position in the scan's list. */
void mcr_flow_table_hear(struct mcr_flow_table *table, uint32_t interface,
			 const struct mcr_frame *frame);
/* As mcr_scan_release and mcr_scan_wish. */
void mcr_flow_table_release(struct mcr_flow_table *table);
int32_t mcr_flow_table_wish(struct mcr_flow_table *table, const struct mcr_scan_wish *wishes,
			    uint32_t wish_count);

struct mcr_scan_state *mcr_flow_table_state(struct mcr_flow_table *table);
struct mcr_scan_flow *mcr_flow_table_flows(struct mcr_flow_table *table);
uint8_t *mcr_flow_table_packets(struct mcr_flow_table *table);

#endif
