/*
 * Listening beside the workers: on each interface one AF_PACKET ring that takes
 * multicast of any group and the beginning of each frame; flow_table.c keeps what
 * is in them. Joins nothing: PACKET_MR_ALLMULTI lets the interface pass groups that
 * nobody here has joined, and says nothing on the wire. A running mcr looks at
 * what arrives anyway (ingress_only), and leaves the interface alone. packet(7).
 */
#define _GNU_SOURCE
#include "flow_table.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "ring.h"

#define BLOCK_BYTES (256u << 10)
/* In all, so that 64 interfaces take no more memory than a few. */
#define BLOCKS_MAX 256u
#define BLOCKS_PER_INTERFACE_MAX 32u
/* So much of what came last is not heard: 1 % of a second. */
#define RETIRE_MS 10u
/* Of each frame: its link header and all that a kept packet has room for. */
#define SNAP_BYTES (MCR_RAW_CAPTURED_MAX + 64u)
/* For counting: link, longest IPv4 and UDP header, and of IGMPv3 the first 20 groups. */
#define SNAP_BYTES_INGRESS_ONLY 256u

struct mcr_scan {
	struct mcr_flow_table *table;
	struct mcr_ring **rings; /* by interface */
	uint32_t interface_count;
};

/* -- the rings ------------------------------------------------------------------ */

#define FILTER_LENGTH 13

/*
 * IPv4 UDP and IGMP to 224.0.0.0/4, IPv6 to ff00::/8 unless ingress_only; the
 * metadata's protocol, so link headers do not matter.
 */
static void filter_fill(struct sock_filter filter[FILTER_LENGTH], bool ingress_only)
{
	const uint32_t snap_bytes = ingress_only ? SNAP_BYTES_INGRESS_ONLY : SNAP_BYTES;
	const uint8_t ipv6 = ingress_only ? 9 : 0;
	const struct sock_filter program[FILTER_LENGTH] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, ETH_P_IP, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, ETH_P_IPV6, ipv6, 9),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + 24)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, 0xff, 6, 7),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + 16)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, 0xe0, 0, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + 9)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, IPPROTO_UDP, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, IPPROTO_IGMP, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, snap_bytes),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	memcpy(filter, program, sizeof(program));
}

static int pass_all_groups(const struct mcr_ring *ring, uint32_t ifindex)
{
	const struct packet_mreq all = { .mr_ifindex = (int)ifindex,
					 .mr_type = PACKET_MR_ALLMULTI };

	return setsockopt(ring->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) < 0 ?
		       -errno :
		       0;
}

static int listen_on(struct mcr_ring **ring, uint32_t ifindex, uint32_t block_count,
		     bool ingress_only)
{
	struct sock_filter filter[FILTER_LENGTH];
	const struct sock_fprog fprog = { .len = FILTER_LENGTH, .filter = filter };
	const struct mcr_capture capture = { .ifindex = ifindex,
					     .type = SOCK_RAW,
					     .protocol = ETH_P_ALL,
					     .has_offload = true,
					     .ignores_outgoing = ingress_only,
					     .block_bytes = BLOCK_BYTES,
					     .block_count = block_count,
					     .retire_ms = RETIRE_MS,
					     .filter = &fprog };
	int32_t error;

	filter_fill(filter, ingress_only);
	*ring = mcr_ring_prepare(&capture, &error);
	if (!*ring)
		return error;
	error = mcr_ring_start(*ring, &capture);
	return error || ingress_only ? error : pass_all_groups(*ring, ifindex);
}

/* -- opening ------------------------------------------------------------------------- */

static uint32_t blocks_for(uint32_t interface_count)
{
	uint32_t blocks = BLOCKS_MAX / interface_count;

	return blocks < BLOCKS_PER_INTERFACE_MAX ? blocks : BLOCKS_PER_INTERFACE_MAX;
}

static int scan_setup(struct mcr_scan *scan, const struct mcr_scan_options *options,
		      uint32_t *failed_interface)
{
	int32_t error;

	scan->table = mcr_flow_table_open(options, &error);
	if (error)
		return error;
	scan->rings = calloc(options->interface_count, sizeof(struct mcr_ring *));
	if (!scan->rings)
		return -ENOMEM;
	for (uint32_t i = 0; i < options->interface_count; i++) {
		scan->interface_count++;
		error = listen_on(&scan->rings[i], options->ifindexes[i],
				  blocks_for(options->interface_count), options->ingress_only);
		if (error) {
			*failed_interface = i;
			return error;
		}
	}
	return 0;
}

struct mcr_scan *mcr_scan_open(const struct mcr_scan_options *options, uint32_t *failed_interface,
			       int32_t *error)
{
	struct mcr_scan *scan;

	*failed_interface = UINT32_MAX;
	*error = -EINVAL;
	if (options->interface_count == 0 || options->interface_count > MCR_SCAN_INTERFACES_MAX)
		return NULL;
	*error = -ENOMEM;
	scan = calloc(1, sizeof(*scan));
	if (!scan)
		return NULL;
	*error = scan_setup(scan, options, failed_interface);
	if (*error == 0)
		return scan;
	mcr_scan_close(scan);
	return NULL;
}

void mcr_scan_close(struct mcr_scan *scan)
{
	for (uint32_t i = 0; i < scan->interface_count; i++)
		mcr_ring_close(scan->rings[i]);
	free(scan->rings);
	if (scan->table)
		mcr_flow_table_close(scan->table);
	free(scan);
}

void *mcr_scan_state(const struct mcr_scan *scan)
{
	return mcr_flow_table_state(scan->table);
}

void *mcr_scan_flows(const struct mcr_scan *scan)
{
	return mcr_flow_table_flows(scan->table);
}

void *mcr_scan_packets(const struct mcr_scan *scan)
{
	return mcr_flow_table_packets(scan->table);
}

void mcr_scan_release(struct mcr_scan *scan)
{
	mcr_flow_table_release(scan->table);
}

int32_t mcr_scan_wish(struct mcr_scan *scan, const struct mcr_scan_wish *wishes,
		      uint32_t wish_count)
{
	return mcr_flow_table_wish(scan->table, wishes, wish_count);
}

/* -- listening -------------------------------------------------------------------------- */

static bool hear_blocks(struct mcr_scan *scan, uint32_t interface)
{
	struct mcr_ring *ring = scan->rings[interface];
	bool has_heard = false;

	/* A ring's worth at most, lest one interface keeps the others waiting. */
	for (uint32_t blocks = 0; blocks < ring->block_count; blocks++) {
		const void *block = mcr_ring_take(ring);
		struct mcr_block_reader reader;
		struct mcr_frame frame;

		if (!block)
			break;
		reader = mcr_block_read(block, ring->block_bytes, ring->has_offload);
		while (reader.left > 0)
			if (mcr_block_next(&reader, &frame) == MCR_READ_FRAME)
				mcr_flow_table_hear(scan->table, interface, &frame);
		mcr_ring_release(ring);
		has_heard = true;
	}
	return has_heard;
}

static void count_drops(struct mcr_scan *scan)
{
	for (uint32_t i = 0; i < scan->interface_count; i++) {
		int64_t drops = mcr_ring_drops(scan->rings[i]);

		if (drops > 0)
			mcr_flow_table_state(scan->table)->ring_drops += (uint64_t)drops;
	}
}

static int wait_for_frames(struct mcr_scan *scan, int timeout_ms)
{
	struct pollfd ready[MCR_SCAN_INTERFACES_MAX];

	for (uint32_t i = 0; i < scan->interface_count; i++)
		ready[i] = (struct pollfd){ .fd = scan->rings[i]->fd, .events = POLLIN };
	if (poll(ready, scan->interface_count, timeout_ms) < 0)
		return -errno;
	for (uint32_t i = 0; i < scan->interface_count; i++) {
		int down;
		socklen_t bytes = sizeof(down);

		/* An interface that goes down says so once; when it is back, so are its frames. */
		if (ready[i].revents & POLLERR)
			getsockopt(ready[i].fd, SOL_SOCKET, SO_ERROR, &down, &bytes);
	}
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int32_t mcr_scan_run(struct mcr_scan *scan, int32_t budget_ms)
{
	int64_t end = now_ms() + budget_ms;
	int error = 0;

	while (!error) {
		int64_t left = end - now_ms();
		bool has_heard = false;

		for (uint32_t i = 0; i < scan->interface_count; i++)
			has_heard |= hear_blocks(scan, i);
		if (left <= 0)
			break;
		if (!has_heard)
			error = wait_for_frames(scan, (int)left);
	}
	count_drops(scan);
	return error == -EINTR ? 0 : error;
}
