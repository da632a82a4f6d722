/*
 * SHA-256 (FIPS 180-4) of a stream of bytes, so that both ends can say what
 * they have sent and received in one line that anybody can compare. Written
 * out here because the traffic programs are linked against nothing.
 *
 *   sha256_begin(&hash); sha256_add(&hash, bytes, size); … sha256_end(&hash, text);
 */
#ifndef TRAFFIC_SHA256_H
#define TRAFFIC_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define SHA256_BLOCK_BYTES 64
#define SHA256_TEXT_BYTES 65 /* 64 hexadecimal digits and the end */

struct sha256 {
	uint32_t state[8];
	uint64_t bytes; /* added so far */
	uint8_t block[SHA256_BLOCK_BYTES]; /* the last bytes % 64 of them */
};

static inline void sha256_begin(struct sha256 *hash)
{
	static const uint32_t first[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
					   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	memcpy(hash->state, first, sizeof(first));
	hash->bytes = 0;
}

static inline uint32_t sha256_rotate(uint32_t word, int bits)
{
	return word >> bits | word << (32 - bits);
}

/* Words before the one at `i`, kept as the last 16 of the schedule. */
static inline uint32_t sha256_schedule(uint32_t words[16], size_t i)
{
	uint32_t a = words[(i + 1) & 15], b = words[(i + 14) & 15];
	uint32_t s0 = sha256_rotate(a, 7) ^ sha256_rotate(a, 18) ^ a >> 3;
	uint32_t s1 = sha256_rotate(b, 17) ^ sha256_rotate(b, 19) ^ b >> 10;

	return words[i & 15] += s0 + s1 + words[(i + 9) & 15];
}

static inline void sha256_block(struct sha256 *hash, const uint8_t *bytes)
{
	static const uint32_t round[64] = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
		0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
		0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
		0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
		0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
		0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
		0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
		0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
		0xc67178f2,
	};
	uint32_t words[16], v[8];

	memcpy(v, hash->state, sizeof(v));
	for (size_t i = 0; i < 64; i++) {
		uint32_t e = v[4], a = v[0], t1, t2;

		if (i < 16)
			words[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 |
				   (uint32_t)bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
		else
			sha256_schedule(words, i);
		t1 = v[7] + (sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25)) +
		     ((e & v[5]) ^ (~e & v[6])) + round[i] + words[i & 15];
		t2 = (sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22)) +
		     ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof(*v));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (size_t i = 0; i < 8; i++)
		hash->state[i] += v[i];
}

static inline void sha256_add(struct sha256 *hash, const uint8_t *bytes, size_t size)
{
	while (size > 0) {
		size_t filled = hash->bytes % SHA256_BLOCK_BYTES;
		size_t part = SHA256_BLOCK_BYTES - filled;

		if (part > size)
			part = size;
		if (part == SHA256_BLOCK_BYTES) {
			sha256_block(hash, bytes);
		} else {
			memcpy(hash->block + filled, bytes, part);
			if (filled + part == SHA256_BLOCK_BYTES)
				sha256_block(hash, hash->block);
		}
		hash->bytes += part;
		bytes += part;
		size -= part;
	}
}

static inline void sha256_end(struct sha256 *hash, char text[SHA256_TEXT_BYTES])
{
	static const uint8_t padding[SHA256_BLOCK_BYTES] = { 0x80 };
	uint64_t bits = hash->bytes * 8;
	uint8_t length[8];

	for (int i = 0; i < 8; i++)
		length[i] = (uint8_t)(bits >> (56 - 8 * i));
	sha256_add(hash, padding,
		   1 + (SHA256_BLOCK_BYTES * 2 - 9 - hash->bytes % SHA256_BLOCK_BYTES) %
				   SHA256_BLOCK_BYTES);
	sha256_add(hash, length, sizeof(length));
	for (int i = 0; i < 8; i++)
		snprintf(text + 8 * i, 9, "%08x", hash->state[i]);
}

/* `,"sha256":"…"`: the last member of a JSON object. */
static inline void print_digest(struct sha256 *hash)
{
	char text[SHA256_TEXT_BYTES];

	sha256_end(hash, text);
	printf(",\"sha256\":\"%s\"", text);
}

#endif
