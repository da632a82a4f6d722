/*
 * What a scan has heard: bounded tables of flows, of group members and
 * queriers, and of announcements, filled frame by frame. No system calls, so
 * that tests and fuzzers drive it; scan.c brings the frames.
 *
 *   network -> | IPv4 or IPv6 header | UDP -> payload    -> flow, announcement
 *                                    | IGMP, ICMPv6 MLD  -> member, querier
 *              |<- captured: every length is checked against it ->|
 */
#ifndef MCR_HEARD_H
#define MCR_HEARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mcr.h"

#define MCR_SCAN_EXTENSIONS_MAX 8 /* IPv6 headers before the last one */

struct mcr_heard_frame {
	const uint8_t *network;
	size_t captured; /* from the network header on */
	uint32_t segment_bytes; /* super-frame: cut the payload here; 0: do not */
	uint32_t interface;
	uint16_t protocol; /* EtherType */
	uint16_t vlan;
	bool is_egress; /* this host sent it */
	uint64_t time_ns;
};

struct mcr_heard;

/* NULL and *error = -EINVAL or -ENOMEM. */
struct mcr_heard *mcr_heard_open(uint32_t flows_max, uint64_t seed, int32_t *error);
void mcr_hear_frame(struct mcr_heard *heard, const struct mcr_heard_frame *frame);
void mcr_heard_close(struct mcr_heard *heard);

struct mcr_scan_state *mcr_heard_state(struct mcr_heard *heard);
struct mcr_scan_flow *mcr_heard_flows(struct mcr_heard *heard);
struct mcr_scan_member *mcr_heard_members(struct mcr_heard *heard);
uint8_t *mcr_heard_announcements(struct mcr_heard *heard);

#endif
