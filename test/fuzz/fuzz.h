/* What the fuzzers share. */
#ifndef FUZZ_H
#define FUZZ_H

#include "frame.h"

#include <stdlib.h>

static inline void require(bool condition)
{
	if (!condition)
		abort();
}

/* Or hardly an input would come behind the checksum of the IPv4 header. */
static inline void mend_checksum(uint8_t *ip, size_t bytes)
{
	size_t header_bytes = bytes ? (ip[0] & 0x0fu) * 4 : 0;
	uint16_t sum;

	if (header_bytes < 20 || header_bytes > bytes)
		return;
	memset(ip + 10, 0, 2);
	sum = (uint16_t)~mcr_fold(mcr_sum(ip, header_bytes, 0));
	memcpy(ip + 10, &sum, 2);
}

#endif
