/*
 * Frames as records, the format between the tests and inject.c, record.c:
 *
 *   | u32 frame bytes, little-endian | 10 bytes virtio_net_hdr | u16 packet type | frame |
 *
 * The virtio header is the kernel's own, host byte order. The packet type is
 * sll_pkttype of what was captured; inject does not read it. The frame begins
 * with its Ethernet header.
 */
#ifndef TRAFFIC_RECORD_H
#define TRAFFIC_RECORD_H

#include "options.h"

#include <linux/virtio_net.h>
#include <stddef.h>

/* The largest IPv4 packet behind an Ethernet header and a few tags. */
#define FRAME_BYTES_MAX (65535 + 14 + 16)
#define RECORD_BATCH 64

struct record {
	uint32_t frame_bytes;
	struct virtio_net_hdr offload;
	uint16_t packet_type;
};
_Static_assert(sizeof(struct record) == 16, "one header of 16 bytes");
_Static_assert(sizeof(struct virtio_net_hdr) == 10, "the kernel's short header");

/* Target: const char *. */
static inline void parse_text(const struct option_row *row, const char *text)
{
	*(const char **)row->target = text;
}

#endif
