/*
 * Hearing IGMP queries of one interface all the time, beside the workers. A
 * ring, for its timestamps: those of a socket (SO_TIMESTAMPNS) would have the
 * kernel stamp every packet of the host. Whoever reads it does so by a timer
 * of its own, without a system call; nothing is ever woken. packet(7).
 */
#define _GNU_SOURCE
#include "igmp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whole pages on every machine. A flood costs a reader no more than it holds. */
#define RING_BYTES (64u << 10)
/* What Ethernet carries, and the kernel's header in front of it. */
#define FRAME_BYTES 2048u
#define FRAME_COUNT (RING_BYTES / FRAME_BYTES)

struct mcr_query_ring {
	int fd;
	uint8_t *map;
	uint32_t next; /* the frame to read */
};

/*
 * Queries that reach this host: the socket is bound to IPv4, behind what
 * exclusive ingress drops, and the test of the protocol comes first. VLANs are
 * networks of their own; the kernel shows their packets here too, as those of
 * their interface, or of another host where there is none. Looped back
 * (PACKET_LOOPBACK) is what this host has said itself. Queries have IP options
 * (router alert), so the message begins behind the header's own length.
 */
static int filter_set(int fd, uint32_t ifindex)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, IPPROTO_IGMP, 0, 8),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, MCR_IGMP_QUERY, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_IFINDEX)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, ifindex, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JGT, PACKET_MULTICAST, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, FRAME_BYTES),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog fprog = { .len = sizeof(program) / sizeof(program[0]),
					  .filter = program };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &fprog, sizeof(fprog)) < 0 ? -errno : 0;
}

static int option_set(int fd, int option, const void *value, socklen_t bytes)
{
	return setsockopt(fd, SOL_PACKET, option, value, bytes) < 0 ? -errno : 0;
}

static int query_ring_setup(struct mcr_query_ring *ring, uint32_t ifindex)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)ifindex,
	};
	const struct tpacket_req request = {
		.tp_block_size = RING_BYTES,
		.tp_block_nr = 1,
		.tp_frame_size = FRAME_BYTES,
		.tp_frame_nr = FRAME_COUNT,
	};
	const int version = TPACKET_V2;
	void *map;
	int error;

	if (ifindex == 0) /* would hear every interface */
		return -ENODEV;
	/* Without link header, so that offset 0 is IPv4; protocol 0: nothing is heard before bind. */
	ring->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ring->fd < 0)
		return -errno;
	error = option_set(ring->fd, PACKET_VERSION, &version, sizeof(version));
	if (!error)
		error = filter_set(ring->fd, ifindex);
	if (!error)
		error = option_set(ring->fd, PACKET_RX_RING, &request, sizeof(request));
	if (error)
		return error;
	map = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	ring->map = map;
	return bind(ring->fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

struct mcr_query_ring *mcr_query_ring_open(uint32_t ifindex, int32_t *error)
{
	struct mcr_query_ring *ring = calloc(1, sizeof(*ring));

	*error = -ENOMEM;
	if (!ring)
		return NULL;
	ring->fd = -1;
	*error = query_ring_setup(ring, ifindex);
	if (*error == 0)
		return ring;
	mcr_query_ring_close(ring);
	return NULL;
}

int32_t mcr_query_ring_read(struct mcr_query_ring *ring, struct mcr_query *newest)
{
	int32_t count = 0;

	for (uint32_t frames = 0; frames < FRAME_COUNT; frames++) {
		uint8_t *frame = ring->map + (size_t)ring->next * FRAME_BYTES;
		struct tpacket2_hdr *header = (void *)frame;

		/* Acquire: the kernel fills the frame before it hands over the status. */
		if (!(__atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			break;
		if (mcr_igmp_query_read(frame + header->tp_net, header->tp_snaplen, newest)) {
			newest->time_ns = header->tp_sec * UINT64_C(1000000000) + header->tp_nsec;
			count++;
		}
		__atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		ring->next = (ring->next + 1) % FRAME_COUNT;
	}
	return count;
}

void mcr_query_ring_close(struct mcr_query_ring *ring)
{
	if (ring->map)
		munmap(ring->map, RING_BYTES);
	if (ring->fd >= 0)
		close(ring->fd);
	free(ring);
}
