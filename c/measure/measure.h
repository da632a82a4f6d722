/*
 * What the instruments share: addresses, and the state of one received
 * stream. receiver.c owns the states, stream.c tells what a datagram is worth.
 */
#ifndef MCR_MEASURE_H
#define MCR_MEASURE_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "mcr.h"
#include "rtp.h"
#include "sequence.h"

#define MCR_PIDS 8192
#define MCR_RECENT_HASHES 64

/* One PID of an MPEG transport stream; its continuity counters have 4 bits. */
struct mcr_pid {
	uint8_t is_known;
	uint8_t last; /* counter of the newest packet */
	uint8_t is_repeated; /* the standard lets a packet come twice in a row */
	uint8_t hole_first; /* counters missing so far: a late packet fills them */
	uint8_t hole_length;
};

struct mcr_stream {
	int fd;
	struct mcr_stream_counters *counters;
	struct mcr_sequence sequence;
	/* kind mcr */
	uint32_t id;
	uint64_t sent_ns; /* of the newest packet */
	/* kind rtp, and what may become it */
	bool has_candidate;
	struct mcr_rtp candidate;
	uint32_t ssrc;
	/* kind ts; PIDs lie in memory that is touched only then */
	struct mcr_pid *pids;
	uint64_t recent[MCR_RECENT_HASHES];
	uint32_t recent_next;
};

/* Counts one datagram; good ones of our own clock go into latency. stream.c */
void mcr_stream_count(struct mcr_stream *stream, const uint8_t *bytes, size_t length,
		      uint64_t clock, uint64_t now_ns, struct mcr_latency *latency);

/* Continuity of one datagram of transport packets. transport.c */
bool mcr_transport_is(const uint8_t *bytes, size_t length);
void mcr_transport_count(struct mcr_stream *stream, const uint8_t *bytes, size_t length);

static inline int mcr_ipv4_of(struct sockaddr_in *ipv4, const uint8_t address[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(address, mapped, sizeof(mapped)) != 0)
		return -EAFNOSUPPORT;
	*ipv4 = (struct sockaddr_in){ .sin_family = AF_INET };
	memcpy(&ipv4->sin_addr, address + 12, 4);
	return 0;
}

#endif
