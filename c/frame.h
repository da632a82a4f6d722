/*
 * Parse what the ring holds. Static inline, no system calls, so that tests and
 * fuzzers include it. Every byte here comes from the network: each length is
 * checked against what was captured before anything behind it is read.
 *
 *   network -> | IPv4 header, ihl * 4 | UDP header, 8 | payload |
 *              |<- total_length ----------------------------------->| padding
 *              |<- captured, what the ring holds (may be less) ---------->|
 *
 * A frame made by segmentation offload holds several datagrams behind one UDP
 * header: segment_bytes says where to cut (virtio_net.h, GSO_UDP_L4).
 */
#ifndef MCR_FRAME_H
#define MCR_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "address.h"

enum mcr_verdict {
	MCR_FRAME_OK,
	MCR_FRAME_FRAGMENT,
	MCR_FRAME_MALFORMED,
	MCR_FRAME_TRUNCATED,
	MCR_FRAME_BAD_CHECKSUM,
};

struct mcr_datagram {
	uint64_t destination[2]; /* 16 bytes in network order, IPv4 mapped */
	uint64_t source[2];
	uint16_t port; /* destination port, host order */
	uint16_t source_port; /* network order: only ever passed on */
	uint16_t identification;
	bool is_atomic; /* DF, and no fragment: RFC 6864 section 4 */
	uint8_t ttl;
	uint8_t tos;
	const uint8_t *payload;
	uint32_t payload_bytes;
};

#define MCR_IPV4_HEADER_BYTES_MIN 20
#define MCR_UDP_HEADER_BYTES 8

static inline uint16_t mcr_get16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/*
 * Ones' complement sum of bytes, RFC 1071: not folded, not inverted. The order
 * of the bytes in memory does not matter for the comparison with 0xffff.
 */
static inline uint64_t mcr_sum(const uint8_t *bytes, size_t count, uint64_t sum)
{
	uint64_t word;
	uint16_t last = 0;

	for (; count >= 8; count -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		sum += word;
		sum += sum < word; /* end-around carry */
	}
	for (; count >= 2; count -= 2, bytes += 2) {
		uint16_t half;

		memcpy(&half, bytes, 2);
		sum += half;
		sum += sum < half;
	}
	if (count) {
		memcpy(&last, bytes, 1);
		sum += last;
		sum += sum < last;
	}
	return sum;
}

static inline uint16_t mcr_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Of a sound IPv4 header, whose packet is at least as long as itself; 0: it is none. */
static inline size_t mcr_ipv4_header_bytes(const uint8_t *ip, size_t captured)
{
	size_t header_bytes;

	if (captured < MCR_IPV4_HEADER_BYTES_MIN || ip[0] >> 4 != 4)
		return 0;
	header_bytes = (size_t)(ip[0] & 0x0f) * 4;
	if (header_bytes < MCR_IPV4_HEADER_BYTES_MIN || header_bytes > captured ||
	    mcr_get16(ip + 2) < header_bytes || mcr_fold(mcr_sum(ip, header_bytes, 0)) != 0xffff)
		return 0;
	return header_bytes;
}

/* More fragments, or an offset. */
static inline bool mcr_ipv4_is_fragment(const uint8_t *ip)
{
	return mcr_get16(ip + 6) & 0x3fff;
}

/* A UDP checksum of 0 means none was computed, RFC 768. */
static inline bool mcr_udp_checksum_ok(const uint8_t *ip, const uint8_t *udp, uint32_t udp_bytes)
{
	const uint8_t pseudo[4] = { 0, 17, (uint8_t)(udp_bytes >> 8), (uint8_t)udp_bytes };
	uint64_t sum;

	if (udp[6] == 0 && udp[7] == 0)
		return true;
	sum = mcr_sum(ip + 12, 8, 0); /* source and destination */
	sum = mcr_sum(pseudo, sizeof(pseudo), sum);
	return mcr_fold(mcr_sum(udp, udp_bytes, sum)) == 0xffff;
}

/*
 * ip points at captured bytes of which the wire carried wire_bytes.
 * checksum_known: the kernel has verified the UDP checksum, or the sender's
 * kernel left it to a device (it is partial then, and says nothing).
 */
static inline enum mcr_verdict mcr_frame_parse(const uint8_t *ip, size_t captured,
					       size_t wire_bytes, bool checksum_known,
					       struct mcr_datagram *datagram)
{
	size_t header_bytes, total_bytes, udp_bytes;
	const uint8_t *udp;

	if (captured < MCR_IPV4_HEADER_BYTES_MIN)
		return captured < wire_bytes ? MCR_FRAME_TRUNCATED : MCR_FRAME_MALFORMED;
	header_bytes = (size_t)(ip[0] & 0x0f) * 4;
	total_bytes = mcr_get16(ip + 2);
	if (ip[0] >> 4 != 4 || header_bytes < MCR_IPV4_HEADER_BYTES_MIN || ip[9] != 17)
		return MCR_FRAME_MALFORMED;
	if (mcr_ipv4_is_fragment(ip)) /* may be shorter than a UDP header: reassembly.h judges it */
		return MCR_FRAME_FRAGMENT;
	if (total_bytes < header_bytes + MCR_UDP_HEADER_BYTES || total_bytes > wire_bytes)
		return MCR_FRAME_MALFORMED;
	if (total_bytes > captured)
		return MCR_FRAME_TRUNCATED;
	if (mcr_fold(mcr_sum(ip, header_bytes, 0)) != 0xffff)
		return MCR_FRAME_BAD_CHECKSUM;

	udp = ip + header_bytes;
	udp_bytes = mcr_get16(udp + 4);
	if (udp_bytes < MCR_UDP_HEADER_BYTES || udp_bytes > total_bytes - header_bytes)
		return MCR_FRAME_MALFORMED;
	if (!checksum_known && !mcr_udp_checksum_ok(ip, udp, (uint32_t)udp_bytes))
		return MCR_FRAME_BAD_CHECKSUM;

	mcr_map_ipv4(datagram->source, ip + 12);
	mcr_map_ipv4(datagram->destination, ip + 16);
	datagram->port = mcr_get16(udp + 2);
	memcpy(&datagram->source_port, udp, sizeof(datagram->source_port));
	datagram->identification = mcr_get16(ip + 4);
	datagram->is_atomic = ip[6] & 0x40; /* no fragment: looked at above */
	datagram->ttl = ip[8];
	datagram->tos = ip[1];
	datagram->payload = udp + MCR_UDP_HEADER_BYTES;
	datagram->payload_bytes = (uint32_t)udp_bytes - MCR_UDP_HEADER_BYTES;
	return MCR_FRAME_OK;
}

/* How many datagrams a payload is, cut at segment_bytes (0: not cut). */
static inline uint32_t mcr_segment_count(uint32_t payload_bytes, uint32_t segment_bytes)
{
	if (segment_bytes == 0 || payload_bytes <= segment_bytes)
		return 1;
	return (payload_bytes - 1) / segment_bytes + 1;
}

/*
 * The same of a packet that is dropped before it is parsed: by the length of
 * its frame, since that is what the kernel tells.
 */
static inline uint32_t mcr_dropped_count(const uint8_t *ip, size_t captured, size_t wire_bytes,
					 uint32_t segment_bytes)
{
	size_t header_bytes = MCR_IPV4_HEADER_BYTES_MIN;

	if (captured > 0 && (size_t)(ip[0] & 0x0f) * 4 > header_bytes)
		header_bytes = (size_t)(ip[0] & 0x0f) * 4;
	header_bytes += MCR_UDP_HEADER_BYTES;
	if (wire_bytes <= header_bytes)
		return 1;
	return mcr_segment_count((uint32_t)(wire_bytes - header_bytes), segment_bytes);
}

#endif
