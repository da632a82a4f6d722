/*
 * The state of one received stream. receiver.c owns the states, stream.c tells
 * what a datagram is worth.
 */
#ifndef MCR_STREAM_H
#define MCR_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "measure.h"
#include "rtp.h"
#include "sequence.h"
#include "transport.h"

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
	/* kind ts */
	struct mcr_transport transport;
};

/* Counts one datagram; good ones of our own clock go into latency. */
void mcr_stream_count(struct mcr_stream *stream, const uint8_t *bytes, size_t length,
		      uint64_t clock, uint64_t now_ns, struct mcr_latency_counters *latency);

#endif
