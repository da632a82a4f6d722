/*
 * Hearing IGMP queries of one interface all the time, beside the workers. A
 * ring, for its timestamps: those of a socket (SO_TIMESTAMPNS) would have the
 * kernel stamp every packet of the host. Whoever reads it does so by a timer
 * of its own, without a system call; nothing is ever woken. packet(7).
 */
#define _GNU_SOURCE
#include "raw_packet.h"

#include <sys/socket.h>

/* Of a page of every machine, and enough that a flood costs a reader no more than it holds. */
#define BLOCK_BYTES (64u << 10)
#define BLOCK_COUNT 2u
/* Whoever reads looks twice a second. */
#define RETIRE_MS 250u
/* What Ethernet carries. */
#define SNAP_BYTES MCR_RAW_CAPTURED_MAX
#define IGMP_QUERY 0x11
#define FILTER_LENGTH 11

/*
 * Queries that reach this host: the socket is bound to IPv4, behind what
 * exclusive ingress drops, and the test of the protocol comes first. VLANs are
 * networks of their own; the kernel shows their packets here too, as those of
 * their interface, or of another host where there is none. Looped back
 * (PACKET_LOOPBACK) is what this host has said itself. Queries have IP options
 * (router alert), so the message begins behind the header's own length.
 */
static void filter_fill(struct sock_filter filter[FILTER_LENGTH], uint32_t ifindex)
{
	const struct sock_filter program[FILTER_LENGTH] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, IPPROTO_IGMP, 0, 8),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, IGMP_QUERY, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_IFINDEX)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, ifindex, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JGT, PACKET_MULTICAST, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SNAP_BYTES),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	memcpy(filter, program, sizeof(program));
}

struct mcr_ring *mcr_query_ring_open(uint32_t ifindex, int32_t *error)
{
	struct sock_filter filter[FILTER_LENGTH];
	const struct sock_fprog fprog = { .len = FILTER_LENGTH, .filter = filter };
	/* Without link header, so that offset 0 is IPv4. */
	const struct mcr_capture capture = { .ifindex = ifindex,
					     .type = SOCK_DGRAM,
					     .protocol = ETH_P_IP,
					     .block_bytes = BLOCK_BYTES,
					     .block_count = BLOCK_COUNT,
					     .retire_ms = RETIRE_MS,
					     .filter = &fprog };
	struct mcr_ring *ring;

	filter_fill(filter, ifindex);
	ring = mcr_ring_prepare(&capture, error);
	if (!ring)
		return NULL;
	*error = mcr_ring_start(ring, &capture);
	if (*error == 0)
		return ring;
	mcr_ring_close(ring);
	return NULL;
}

int32_t mcr_query_ring_read(struct mcr_ring *ring, uint8_t *packets)
{
	const struct mcr_raw_packet head = { .flow = MCR_RAW_OTHER };
	int32_t count = 0;

	for (uint32_t blocks = 0; blocks < BLOCK_COUNT; blocks++) {
		const void *block = mcr_ring_take(ring);
		struct mcr_block_reader reader;
		struct mcr_frame frame;

		if (!block)
			break;
		reader = mcr_block_read(block, ring->block_bytes, ring->has_offload);
		while (reader.left > 0) {
			size_t slot = (size_t)count % MCR_QUERIES_MAX;

			if (mcr_block_next(&reader, &frame) != MCR_READ_FRAME)
				continue;
			mcr_raw_packet_keep(packets + slot * MCR_RAW_PACKET_BYTES, head, &frame);
			count++;
		}
		mcr_ring_release(ring);
	}
	return count;
}
