/*
 * The IGMP messages that a scan and a query ring hear: RFC 1112, 2236, 3376.
 * Static inline, no system calls, so that tests and fuzzers include it. As in
 * heard.c, captured are the bytes that are there, bytes those of the message.
 *
 *   0      1          2          4       8           10        12
 *   | 0x11 | max code | checksum | group | flags, QQIC | n     | n sources |
 *   |<- all of a query of version 1 or 2 ->|<- version 3 only ----------->|
 */
#ifndef MCR_IGMP_H
#define MCR_IGMP_H

#include <netinet/in.h>

#include "frame.h"
#include "mcr.h"

#define MCR_IGMP_QUERY 0x11
#define MCR_IGMP_BYTES_MIN 8
#define MCR_IGMP_QUERY_V3_BYTES_MIN 12

/* A checksum is judged where all that it covers was captured. */
static inline bool mcr_igmp_is_intact(const uint8_t *igmp, size_t captured, size_t bytes)
{
	if (captured < MCR_IGMP_BYTES_MIN)
		return false;
	return captured < bytes || mcr_fold(mcr_sum(igmp, bytes, 0)) == 0xffff;
}

/* Of an intact query, by its length and code: RFC 3376 section 7.1; 0: it is none. */
static inline uint8_t mcr_igmp_query_version(const uint8_t *igmp, size_t captured, size_t bytes)
{
	if (igmp[0] != MCR_IGMP_QUERY)
		return 0;
	if (bytes == MCR_IGMP_BYTES_MIN)
		return igmp[1] ? 2 : 1;
	if (captured < MCR_IGMP_QUERY_V3_BYTES_MIN ||
	    bytes < MCR_IGMP_QUERY_V3_BYTES_MIN + (size_t)mcr_get16(igmp + 10) * 4)
		return 0;
	return 3;
}

/* The query in an IPv4 packet, but for when it came; false, and nothing written: it holds none, or not all of one. */
static inline bool mcr_igmp_query_read(const uint8_t *ip, size_t captured, struct mcr_query *query)
{
	const size_t header_bytes = mcr_ipv4_header_bytes(ip, captured);
	const uint8_t *igmp = ip + header_bytes;
	size_t bytes;
	uint64_t source[2];
	uint8_t version;

	if (!header_bytes || ip[9] != IPPROTO_IGMP || mcr_ipv4_is_fragment(ip) ||
	    mcr_get16(ip + 2) > captured)
		return false;
	bytes = mcr_get16(ip + 2) - header_bytes;
	if (!mcr_igmp_is_intact(igmp, bytes, bytes))
		return false;
	version = mcr_igmp_query_version(igmp, bytes, bytes);
	if (!version)
		return false;
	mcr_map_ipv4(source, ip + 12);
	memcpy(query->source, source, sizeof(query->source));
	query->version = version;
	return true;
}

#endif
