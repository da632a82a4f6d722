/*
 * What `mcr send` puts into every datagram, and `mcr receive` looks for. No
 * system calls. Little-endian, 36 bytes, then the body:
 *
 *   0      4       8          16        24      32      36
 *   | mcr1 | stream | sequence | sent_ns | clock | check | body ...
 *
 * check covers header, body and length, so that a datagram cut short is
 * corrupt too. The body of a run never changes: it is hashed once, and a
 * datagram costs its sender five multiplications. A check, not a signature.
 */
#ifndef MCR_PAYLOAD_H
#define MCR_PAYLOAD_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hash.h"

#define MCR_PAYLOAD_HEADER_BYTES 36

struct mcr_payload {
	uint32_t stream;
	uint64_t sequence;
	uint64_t sent_ns; /* CLOCK_MONOTONIC */
	uint64_t clock; /* sent_ns compares with ours when this equals ours */
};

enum mcr_payload_result {
	MCR_PAYLOAD_INTACT,
	MCR_PAYLOAD_CORRUPT,
	MCR_PAYLOAD_FOREIGN
};

static inline uint32_t mcr_load32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return le32toh(value);
}

static inline uint64_t mcr_load64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return le64toh(value);
}

static inline void mcr_store32(uint8_t *bytes, uint32_t value)
{
	value = htole32(value);
	memcpy(bytes, &value, sizeof(value));
}

static inline void mcr_store64(uint8_t *bytes, uint64_t value)
{
	value = htole64(value);
	memcpy(bytes, &value, sizeof(value));
}

/* Two lanes, so that one multiplication does not wait for the other. */
static inline uint64_t mcr_hash(const uint8_t *bytes, size_t length)
{
	uint64_t a = length, b = ~(uint64_t)length;
	uint8_t rest[32] = { 0 };

	for (; length >= 32; bytes += 32, length -= 32) {
		a = mcr_mix(a ^ mcr_load64(bytes), mcr_load64(bytes + 8));
		b = mcr_mix(b ^ mcr_load64(bytes + 16), mcr_load64(bytes + 24));
	}
	if (length > 0)
		memcpy(rest, bytes, length);
	a = mcr_mix(a ^ mcr_load64(rest), mcr_load64(rest + 8));
	b = mcr_mix(b ^ mcr_load64(rest + 16), mcr_load64(rest + 24));
	return mcr_mix(a, b);
}

/* The length is in body_hash, since the header's never changes. */
static inline uint32_t mcr_payload_check(const uint8_t *header, uint64_t body_hash)
{
	uint64_t hash = mcr_mix(body_hash ^ mcr_load64(header), mcr_load64(header + 8));

	hash = mcr_mix(hash ^ mcr_load64(header + 16), mcr_load64(header + 24));
	return (uint32_t)(hash ^ hash >> 32);
}

static inline void mcr_payload_write(uint8_t header[MCR_PAYLOAD_HEADER_BYTES],
				     const struct mcr_payload *payload, uint64_t body_hash)
{
	memcpy(header, "mcr1", 4);
	mcr_store32(header + 4, payload->stream);
	mcr_store64(header + 8, payload->sequence);
	mcr_store64(header + 16, payload->sent_ns);
	mcr_store64(header + 24, payload->clock);
	mcr_store32(header + 32, mcr_payload_check(header, body_hash));
}

static inline enum mcr_payload_result mcr_payload_read(const uint8_t *bytes, size_t length,
						       struct mcr_payload *payload)
{
	uint64_t body_hash;

	if (length < MCR_PAYLOAD_HEADER_BYTES || memcmp(bytes, "mcr1", 4) != 0)
		return MCR_PAYLOAD_FOREIGN;
	body_hash = mcr_hash(bytes + MCR_PAYLOAD_HEADER_BYTES, length - MCR_PAYLOAD_HEADER_BYTES);
	if (mcr_load32(bytes + 32) != mcr_payload_check(bytes, body_hash))
		return MCR_PAYLOAD_CORRUPT;
	payload->stream = mcr_load32(bytes + 4);
	payload->sequence = mcr_load64(bytes + 8);
	payload->sent_ns = mcr_load64(bytes + 16);
	payload->clock = mcr_load64(bytes + 24);
	return MCR_PAYLOAD_INTACT;
}

#endif
