/*
 * Addresses as the ABI has them: 16 bytes in network order, IPv4 mapped to
 * ::ffff:a.b.c.d, RFC 4291 section 2.5.5.2.
 */
#ifndef MCR_ADDRESS_H
#define MCR_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Of an IPv4 address in network order. */
static inline void mcr_map_ipv4(uint64_t mapped[2], const uint8_t ipv4[4])
{
	uint8_t bytes[16] = { [10] = 0xff, [11] = 0xff };

	memcpy(bytes + 12, ipv4, 4);
	memcpy(mapped, bytes, sizeof(bytes));
}

static inline uint32_t mcr_ipv4(const uint64_t mapped[2])
{
	uint32_t ipv4;

	memcpy(&ipv4, (const uint8_t *)mapped + 12, sizeof(ipv4));
	return ipv4;
}

static inline bool mcr_is_mapped_ipv4(const uint8_t address[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(address, prefix, sizeof(prefix)) == 0;
}

#endif
