/*
 * Packets that C hands over unread: a head that says when and where each came,
 * and its first bytes, in slots of MCR_RAW_PACKET_BYTES. Filled by scan and query.
 *
 *   0                32
 *   | mcr_raw_packet | network header ... | unused |
 *                    |<- captured ------->|
 */
#ifndef MCR_RAW_PACKET_H
#define MCR_RAW_PACKET_H

#include "mcr.h"
#include "ring.h"

/* The rest of the head is left to the caller. */
static inline void mcr_raw_packet_keep(uint8_t *slot, struct mcr_raw_packet head,
				       const struct mcr_frame *frame)
{
	const size_t captured = frame->captured < MCR_RAW_CAPTURED_MAX ? frame->captured :
									 MCR_RAW_CAPTURED_MAX;

	head.time_ns = frame->received_ns;
	head.captured = (uint16_t)captured;
	head.vlan = frame->vlan;
	head.is_egress = frame->packet_type == PACKET_OUTGOING;
	head.checksum_known = frame->checksum_known;
	memcpy(slot, &head, sizeof(head));
	memcpy(slot + sizeof(head), frame->network, captured);
}

#endif
