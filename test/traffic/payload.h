/*
 * The test payload: what send.c writes into every datagram and receive.c
 * demands back, byte for byte.
 *
 *   0       4       8       12        16        24                     size
 *   | magic | size  | stream| sequence| sent_ns | pattern .............. |
 *
 * All integers are in host order, since both ends run on one host. sent_ns is
 * CLOCK_MONOTONIC. The pattern follows from every other field, so a single
 * changed bit anywhere, a shorter or a longer datagram does not verify.
 */
#ifndef TRAFFIC_PAYLOAD_H
#define TRAFFIC_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAYLOAD_MAGIC 0x4d435254u /* "MCRT" */

struct payload {
	uint32_t magic;
	uint32_t size; /* of the whole datagram */
	uint32_t stream;
	uint32_t sequence; /* per stream, from 0 */
	uint64_t sent_ns;
};

_Static_assert(sizeof(struct payload) == 24, "the payload header has no padding");

/* At least one pattern word, so that the header is always protected; at most what UDP over IPv4 holds. */
enum {
	PAYLOAD_SIZE_MIN = 32,
	PAYLOAD_SIZE_MAX = 65507
};

/* One round of splitmix64. */
static inline uint64_t payload_mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15ull;
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
	return value ^ (value >> 31);
}

static inline uint64_t payload_seed(const struct payload *header)
{
	uint64_t seed = payload_mix((uint64_t)header->magic << 32 | header->size);

	seed = payload_mix(seed ^ ((uint64_t)header->stream << 32 | header->sequence));
	return payload_mix(seed ^ header->sent_ns);
}

/* Words of the pattern differ by an odd constant: no two are equal, and the compiler can vectorise it. */
static inline uint64_t payload_word(uint64_t seed, size_t index)
{
	return seed + index * 0xd1342543de82ef95ull;
}

static inline void payload_write(uint8_t *bytes, const struct payload *header)
{
	uint64_t seed = payload_seed(header);
	size_t length = header->size - sizeof(*header), words = length / 8;
	uint8_t *pattern = bytes + sizeof(*header);

	memcpy(bytes, header, sizeof(*header));
	for (size_t i = 0; i < words; i++) {
		uint64_t word = payload_word(seed, i);

		memcpy(pattern + 8 * i, &word, 8);
	}
	if (length % 8) {
		uint64_t word = payload_word(seed, words);

		memcpy(pattern + 8 * words, &word, length % 8);
	}
}

/* True, and the header filled in, when all `size` received bytes are exactly what payload_write wrote. */
static inline bool payload_read(const uint8_t *bytes, size_t size, struct payload *header)
{
	const uint8_t *pattern = bytes + sizeof(*header);
	size_t length, words;
	uint64_t seed, difference = 0;

	if (size < PAYLOAD_SIZE_MIN)
		return false;
	memcpy(header, bytes, sizeof(*header));
	if (header->magic != PAYLOAD_MAGIC || header->size != size)
		return false;
	seed = payload_seed(header);
	length = size - sizeof(*header);
	words = length / 8;
	for (size_t i = 0; i < words; i++) {
		uint64_t word;

		memcpy(&word, pattern + 8 * i, 8);
		difference |= word ^ payload_word(seed, i);
	}
	if (length % 8) {
		uint64_t word = payload_word(seed, words);

		difference |= (uint64_t)memcmp(pattern + 8 * words, &word, length % 8);
	}
	return difference == 0;
}

#endif
