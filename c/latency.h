/*
 * The arithmetic of added latency, as mcr.h draws its buckets: which packet is
 * sampled, which bucket a time falls into. No system calls.
 */
#ifndef MCR_LATENCY_H
#define MCR_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "mcr.h"

#define MCR_SAMPLE_PACKETS 1024u
#define MCR_SAMPLE_INTERVAL_NS 1000000000ull
/* Longer than any ring holds a packet. */
#define MCR_SAMPLE_NS_MAX 60000000000ull

/*
 * Asked for each frame, with the rule's cache line at hand: segments of the
 * rule's packets have just come, at received_ns. A clock that was set back
 * makes the difference huge, so that is one sample too many, and then again
 * one a second.
 */
static inline bool mcr_sample_is_due(const struct mcr_rule_counters *rule, uint32_t segments,
				     uint64_t received_ns)
{
	return (rule->packets ^ (rule->packets - segments)) >= MCR_SAMPLE_PACKETS ||
	       received_ns - rule->sampled_ns >= MCR_SAMPLE_INTERVAL_NS;
}

static inline uint32_t mcr_latency_bucket(uint64_t ns)
{
	uint64_t units = ns >> 9;
	uint32_t exponent, bucket;

	if (units < 8)
		return (uint32_t)units;
	exponent = 61 - (uint32_t)__builtin_clzll(units); /* leaves three bits, the top one set */
	bucket = 4 * exponent + (uint32_t)(units >> exponent);
	return bucket < MCR_ADDED_LATENCY_BUCKETS ? bucket : MCR_ADDED_LATENCY_BUCKETS - 1;
}

#endif
