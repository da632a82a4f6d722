/*
 * The header of RTP, RFC 3550 section 5.1. Static inline, no system calls. Every byte comes from
 * the network: what is not captured is not read.
 *
 *   0          1      2          4           8      12
 *   | V P X CC | M PT | sequence | timestamp | SSRC | CSRC, 4 * CC | extension | payload ...
 */
#ifndef MCR_RTP_H
#define MCR_RTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

#define MCR_RTP_HEADER_BYTES 12
/*
 * Two packets of one SSRC, so near each other, are of one stream; further ahead its sender began
 * anew: MAX_DROPOUT of appendix A.1.
 */
#define MCR_RTP_DISTANCE_MAX 3000

/* What is needed of it. */
struct mcr_rtp {
	uint16_t sequence;
	uint32_t ssrc;
};

/* True says little: one datagram in four has that version by chance. */
static inline bool mcr_rtp_may_be(const uint8_t *bytes, size_t captured)
{
	return captured >= MCR_RTP_HEADER_BYTES && bytes[0] >> 6 == 2;
}

static inline bool mcr_rtp_read(const uint8_t *bytes, size_t captured, struct mcr_rtp *rtp)
{
	if (!mcr_rtp_may_be(bytes, captured))
		return false;
	rtp->sequence = mcr_get16(bytes + 2);
	rtp->ssrc = (uint32_t)mcr_get16(bytes + 8) << 16 | mcr_get16(bytes + 10);
	return true;
}

/*
 * RTCP, which RTP may share a port with (RFC 5761): sender report to transport feedback, and a
 * length that fits the datagram's, section 6.4.
 */
static inline bool mcr_rtcp_is(const uint8_t *bytes, size_t captured, size_t length)
{
	return captured >= 8 && bytes[0] >> 6 == 2 && bytes[1] >= 200 && bytes[1] <= 207 &&
	       ((size_t)mcr_get16(bytes + 2) + 1) * 4 <= length;
}

/* How far it is from one sequence number to another, the shorter way round. */
static inline int mcr_rtp_distance(uint16_t from, uint16_t to)
{
	return (int16_t)(uint16_t)(to - from);
}

#endif
