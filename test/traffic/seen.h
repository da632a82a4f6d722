/* Which sequence numbers of a stream have come: one bit each, as many as are needed. */
#ifndef TRAFFIC_SEEN_H
#define TRAFFIC_SEEN_H

#include "common.h"

struct seen {
	uint8_t *bits;
	uint64_t count;
};

/* Marks the sequence number; true when it was marked before. */
static inline bool was_seen(struct seen *seen, uint32_t sequence)
{
	uint8_t bit = (uint8_t)(1u << (sequence % 8));
	bool was;

	if (sequence >= seen->count) {
		uint64_t count = seen->count ? seen->count : 8192;

		while (count <= sequence)
			count *= 2;
		seen->bits = realloc(seen->bits, count / 8);
		if (!seen->bits)
			die(EXIT_FAILED, "out of memory for %llu sequence numbers",
			    (unsigned long long)count);
		memset(seen->bits + seen->count / 8, 0, (count - seen->count) / 8);
		seen->count = count;
	}
	was = seen->bits[sequence / 8] & bit;
	seen->bits[sequence / 8] |= bit;
	return was;
}

#endif
