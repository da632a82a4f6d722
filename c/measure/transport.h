/*
 * The continuity of one MPEG transport stream, datagram by datagram. No system
 * calls. stream.c owns one for each stream and says which counters it has.
 */
#ifndef MCR_TRANSPORT_H
#define MCR_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "measure.h"

#define MCR_PIDS 8192
#define MCR_RECENT_HASHES 64

/* One PID; its continuity counters have 4 bits. */
struct mcr_pid {
	uint8_t is_known;
	uint8_t last; /* counter of the newest packet */
	uint8_t is_repeated; /* the standard lets a packet come twice in a row */
	uint8_t hole_first; /* counters missing so far: a late packet fills them */
	uint8_t hole_length;
};

struct mcr_transport {
	struct mcr_pid *pids; /* MCR_PIDS of them, in memory that is touched only when one comes */
	uint64_t recent[MCR_RECENT_HASHES];
	uint32_t recent_next;
};

/* A whole number of transport packets. */
bool mcr_transport_is(const uint8_t *bytes, size_t length);
void mcr_transport_count(struct mcr_transport *transport, struct mcr_stream_counters *counters,
			 const uint8_t *bytes, size_t length);

#endif
