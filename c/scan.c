/*
 * Listening beside the workers: on each interface one AF_PACKET ring that takes
 * multicast of any group and the beginning of each frame; heard.c keeps what it
 * means. Joins nothing: PACKET_MR_ALLMULTI lets the interface pass groups that
 * nobody here has joined, and says nothing on the wire. A running mcr looks at
 * what arrives anyway (ingress_only), and leaves the interface alone. packet(7).
 */
#define _GNU_SOURCE
#include "heard.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES (256u << 10)
/* In all, so that 64 interfaces take no more memory than a few. */
#define BLOCKS_MAX 256u
#define BLOCKS_PER_INTERFACE_MAX 32u
/* A length the kernel checks and V3 does not use. */
#define FRAME_BYTES 2048u
/* So much of what came last is not heard: 1 % of a second. */
#define RETIRE_MS 10u
/* Of each frame: every header and what announcements are long (RFC 2974 wants 1 KiB at most). */
#define SNAP_BYTES 1600u
/* For counting: link, longest IPv4 and UDP header, and of IGMPv3 the first 20 groups. */
#define SNAP_BYTES_INGRESS_ONLY 256u
#define GSO_UDP_L4 5 /* virtio_net.h of Linux 6.2 */

struct listener {
	int fd;
	uint8_t *map;
	uint32_t block; /* the next to read */
};

struct mcr_scan {
	struct mcr_heard *heard;
	struct listener *listeners;
	uint32_t interface_count;
	uint32_t block_count;
};

/* -- the sockets ------------------------------------------------------------------ */

/* IPv4 UDP and IGMP to 224.0.0.0/4, IPv6 to ff00::/8; the metadata's protocol, so link headers do not matter. */
static int filter_set(int fd, uint32_t snap_bytes)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, ETH_P_IP, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_K | BPF_JEQ, ETH_P_IPV6, 0, 9),
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
	const struct sock_fprog fprog = { .len = sizeof(program) / sizeof(program[0]),
					  .filter = program };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &fprog, sizeof(fprog)) < 0 ? -errno : 0;
}

static int option_set(int fd, int option, const void *value, socklen_t bytes)
{
	return setsockopt(fd, SOL_PACKET, option, value, bytes) < 0 ? -errno : 0;
}

static int listener_setup(struct listener *listener, uint32_t ifindex, uint32_t block_count,
			  bool ingress_only)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)ifindex,
	};
	const struct packet_mreq all = { .mr_ifindex = (int)ifindex,
					 .mr_type = PACKET_MR_ALLMULTI };
	const int version = TPACKET_V3, on = 1;
	struct tpacket_req3 request = {
		.tp_block_size = BLOCK_BYTES,
		.tp_block_nr = block_count,
		.tp_frame_size = FRAME_BYTES,
		.tp_frame_nr = BLOCK_BYTES / FRAME_BYTES * block_count,
		.tp_retire_blk_tov = RETIRE_MS,
	};
	int error = option_set(listener->fd, PACKET_VERSION, &version, sizeof(version));
	void *map;

	if (!error)
		error = option_set(listener->fd, PACKET_VNET_HDR, &on, sizeof(on));
	if (!error && ingress_only)
		error = option_set(listener->fd, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
	if (!error)
		error = filter_set(listener->fd,
				   ingress_only ? SNAP_BYTES_INGRESS_ONLY : SNAP_BYTES);
	if (!error)
		error = option_set(listener->fd, PACKET_RX_RING, &request, sizeof(request));
	if (error)
		return error;
	map = mmap(NULL, (size_t)BLOCK_BYTES * block_count, PROT_READ | PROT_WRITE, MAP_SHARED,
		   listener->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	listener->map = map;
	if (bind(listener->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (ingress_only)
		return 0;
	return option_set(listener->fd, PACKET_ADD_MEMBERSHIP, &all, sizeof(all));
}

static int listener_open(struct listener *listener, uint32_t ifindex, uint32_t block_count,
			 bool ingress_only)
{
	if (ifindex == 0) /* would listen on every interface */
		return -ENODEV;
	/* Protocol 0: nothing is captured before bind, when ring and filter stand. */
	listener->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return listener->fd < 0 ? -errno :
				  listener_setup(listener, ifindex, block_count, ingress_only);
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

	scan->heard = mcr_heard_open(options->flows_max, options->seed, &error);
	if (error)
		return error;
	scan->listeners = calloc(options->interface_count, sizeof(*scan->listeners));
	if (!scan->listeners)
		return -ENOMEM;
	scan->block_count = blocks_for(options->interface_count);
	for (uint32_t i = 0; i < options->interface_count; i++) {
		scan->listeners[i].fd = -1;
		scan->interface_count++;
		error = listener_open(&scan->listeners[i], options->ifindexes[i], scan->block_count,
				      options->ingress_only);
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
	for (uint32_t i = 0; i < scan->interface_count; i++) {
		struct listener *listener = &scan->listeners[i];

		if (listener->map)
			munmap(listener->map, (size_t)BLOCK_BYTES * scan->block_count);
		if (listener->fd >= 0)
			close(listener->fd);
	}
	free(scan->listeners);
	if (scan->heard)
		mcr_heard_close(scan->heard);
	free(scan);
}

void *mcr_scan_state(const struct mcr_scan *scan)
{
	return mcr_heard_state(scan->heard);
}

void *mcr_scan_flows(const struct mcr_scan *scan)
{
	return mcr_heard_flows(scan->heard);
}

void *mcr_scan_members(const struct mcr_scan *scan)
{
	return mcr_heard_members(scan->heard);
}

void *mcr_scan_announcements(const struct mcr_scan *scan)
{
	return mcr_heard_announcements(scan->heard);
}

/* -- listening -------------------------------------------------------------------------- */

static void hear_ring_frame(struct mcr_scan *scan, uint32_t interface, const uint8_t *base)
{
	const struct tpacket3_hdr *header = (const void *)base;
	const struct sockaddr_ll *link =
		(const void *)(base + TPACKET_ALIGN(sizeof(struct tpacket3_hdr)));
	struct virtio_net_hdr offload;
	struct mcr_heard_frame frame;
	size_t link_bytes = (size_t)header->tp_net - header->tp_mac;

	if (header->tp_net < header->tp_mac || header->tp_mac < sizeof(offload) ||
	    header->tp_snaplen < link_bytes)
		return;
	/* PACKET_VNET_HDR: written in front of the link header. */
	memcpy(&offload, base + header->tp_mac - sizeof(offload), sizeof(offload));
	frame = (struct mcr_heard_frame){
		.network = base + header->tp_net,
		.captured = header->tp_snaplen - link_bytes,
		.segment_bytes = (offload.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == GSO_UDP_L4 ?
					 offload.gso_size :
					 0,
		.interface = interface,
		.protocol = ntohs(link->sll_protocol),
		.vlan = header->tp_status & TP_STATUS_VLAN_VALID ? header->hv1.tp_vlan_tci & 0xfff :
								   0,
		.is_egress = link->sll_pkttype == PACKET_OUTGOING,
		.time_ns = header->tp_sec * UINT64_C(1000000000) + header->tp_nsec,
	};
	mcr_hear_frame(scan->heard, &frame);
}

static bool hear_blocks(struct mcr_scan *scan, uint32_t interface)
{
	struct listener *listener = &scan->listeners[interface];
	bool has_heard = false;

	for (uint32_t blocks = 0; blocks < scan->block_count; blocks++) {
		struct tpacket_block_desc *block =
			(void *)(listener->map + (size_t)listener->block * BLOCK_BYTES);
		const uint8_t *frame;

		/* Acquire: the kernel fills the block before it hands over the status. */
		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
		      TP_STATUS_USER))
			break;
		frame = (const uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;
		for (uint32_t left = block->hdr.bh1.num_pkts; left > 0; left--) {
			hear_ring_frame(scan, interface, frame);
			frame += ((const struct tpacket3_hdr *)(const void *)frame)->tp_next_offset;
		}
		__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		listener->block = (listener->block + 1) % scan->block_count;
		has_heard = true;
	}
	return has_heard;
}

static void count_drops(struct mcr_scan *scan)
{
	for (uint32_t i = 0; i < scan->interface_count; i++) {
		struct tpacket_stats_v3 statistics = { 0 };
		socklen_t bytes = sizeof(statistics);

		/* Reading resets the kernel's count: packet(7), PACKET_STATISTICS. */
		if (getsockopt(scan->listeners[i].fd, SOL_PACKET, PACKET_STATISTICS, &statistics,
			       &bytes) == 0)
			mcr_heard_state(scan->heard)->ring_drops += statistics.tp_drops;
	}
}

static int wait_for_frames(struct mcr_scan *scan, int timeout_ms)
{
	struct pollfd ready[MCR_SCAN_INTERFACES_MAX];

	for (uint32_t i = 0; i < scan->interface_count; i++)
		ready[i] = (struct pollfd){ .fd = scan->listeners[i].fd, .events = POLLIN };
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
