/*
 * Mixing of 64-bit words: for tables that strangers fill, and for the check of
 * the instruments' payload. Static inline, no system calls.
 */
#ifndef MCR_HASH_H
#define MCR_HASH_H

#include <stdint.h>

/* Odd, with bits set evenly: the fractions of the golden ratio and of the square root of 3. */
#define MCR_MIX_A UINT64_C(0x9e3779b97f4a7c15)
#define MCR_MIX_B UINT64_C(0xbb67ae8584caa73b)

static inline uint64_t mcr_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)(a ^ MCR_MIX_A) * (b ^ MCR_MIX_B);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/*
 * The same for keys that a sender chooses: both factors hide behind a random
 * seed, or he would make one of them zero, and whatever the other is.
 */
static inline uint64_t mcr_mix_seeded(uint64_t a, uint64_t b, uint64_t seed)
{
	return mcr_mix(a ^ seed, b ^ (seed << 32 | seed >> 32));
}

#endif
