/*
 * The health of the RTP streams that arrive for a rule: which packets came late, twice or never.
 * No system calls, no allocation. The hot loop asks for each datagram: what is usual is inline
 * here, what is not in health.c, lest it takes the registers.
 *
 * A stream is one SSRC from one source to one (group, port) of one rule, once so many of its
 * packets have come in a row, each the next by its number: MCR_HEALTH_PROBATION, in the spirit of
 * RFC 3550 appendix A.1. Those are not counted; copies of them do no harm. From then on:
 *
 *                    63 ............ 1   0
 *       missing <- | came: one bit each | <- ahead, less than MCR_RTP_DISTANCE_MAX
 *                                highest
 *
 *   missing    a number that leaves the window and has not come: 64 packets later at most
 *   late       one that comes behind a higher one, and is still in the window: not missing
 *   duplicate  one in the window that had come
 *   stray      anything else. Two of them in a row are a sender that began anew, and are on
 *              probation: what is open in the window then is never counted
 *
 * The table is fixed, each stream is one cache line, and no stream is ever removed: one that
 * finds no room takes the place of that which has been silent longest. A rule has a number of
 * its own as long as it runs (relay.c): a reload keeps what it has not changed, and whoever gets
 * the counter slot of a removed rule begins without its streams.
 */
#ifndef MCR_HEALTH_H
#define MCR_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hash.h"
#include "rtp.h"

/*
 * Of each worker: 2 MB, of which only pages in use exist. Some 5,000 streams are never in each
 * other's way; of 16,384 one in 200 is.
 */
#define MCR_HEALTH_STREAMS 32768u
#define MCR_HEALTH_PROBES 8u
#define MCR_HEALTH_PROBATION 8u
#define MCR_HEALTH_WINDOW 64u
/* About a millisecond; 32 bits of it are 52 days. */
#define MCR_HEALTH_TICK_SHIFT 20

/* What tells a stream from all others. */
struct mcr_health_key {
	uint32_t group; /* IPv4, network order */
	uint32_t source;
	uint32_t rule; /* its number */
	uint32_t ssrc;
	uint16_t port;
};

struct mcr_health_stream {
	struct mcr_health_key key; /* all zero while it is free, so it is nobody's */
	uint32_t seen_ticks;
	uint64_t came; /* bit i: highest - i; ones for what was before the stream was known */
	uint16_t highest;
	uint16_t last; /* of the packet before this one */
	uint8_t known; /* numbers up to highest that are the stream's, to the window's end */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct mcr_health_stream) == 64, "one cache line");

struct mcr_health {
	struct mcr_health_stream *streams;
	uint32_t mask; /* how many there are, a power of two, less one */
	uint64_t seed; /* random: keeps senders from choosing whom they get in the way of */
};

enum mcr_health_verdict {
	MCR_HEALTH_PROBATIONAL, /* not to be counted at all */
	MCR_HEALTH_NEXT,
	MCR_HEALTH_LATE,
	MCR_HEALTH_DUPLICATE,
	MCR_HEALTH_STRAY,
};

/* The same for a stream that is not in its first place, and for a new one. health.c */
struct mcr_health_stream *mcr_health_search(struct mcr_health *health,
					    const struct mcr_health_key *key, uint32_t first,
					    uint32_t ticks);
/* The same for a number that is not the next, and on probation. health.c */
enum mcr_health_verdict mcr_health_judge(struct mcr_health_stream *stream, uint16_t sequence,
					 uint64_t *missing);

static inline uint64_t mcr_health_hash(const struct mcr_health_key *key, uint64_t seed)
{
	return mcr_mix_seeded((uint64_t)key->group << 32 | key->source,
			      ((uint64_t)key->rule << 32 | key->ssrc) ^ (uint64_t)key->port << 48,
			      seed);
}

static inline bool mcr_health_is(const struct mcr_health_stream *stream,
				 const struct mcr_health_key *key)
{
	return stream->key.ssrc == key->ssrc && stream->key.rule == key->rule &&
	       stream->key.group == key->group && stream->key.source == key->source &&
	       stream->key.port == key->port;
}

/* The stream of this key; a new one, on probation, where there is none. */
static inline struct mcr_health_stream *
mcr_health_find(struct mcr_health *health, const struct mcr_health_key *key, uint64_t received_ns)
{
	const uint32_t first = (uint32_t)mcr_health_hash(key, health->seed) & health->mask;
	const uint32_t ticks = (uint32_t)(received_ns >> MCR_HEALTH_TICK_SHIFT);
	struct mcr_health_stream *stream = &health->streams[first];

	if (__builtin_expect(!mcr_health_is(stream, key), 0))
		return mcr_health_search(health, key, first, ticks);
	stream->seen_ticks = ticks;
	return stream;
}

/* One packet of the stream; adds to *missing what is now known never to have come. */
static inline enum mcr_health_verdict mcr_health_take(struct mcr_health_stream *stream,
						      uint16_t sequence, uint64_t *missing)
{
	enum mcr_health_verdict verdict = MCR_HEALTH_NEXT;

	if (__builtin_expect(stream->known == MCR_HEALTH_WINDOW &&
				     (uint16_t)(sequence - stream->highest) == 1,
			     1)) {
		*missing += ~stream->came >> 63;
		stream->came = stream->came << 1 | 1;
		stream->highest = sequence;
	} else {
		verdict = mcr_health_judge(stream, sequence, missing);
	}
	stream->last = sequence;
	return verdict;
}

#endif
