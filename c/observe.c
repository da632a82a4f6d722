/*
 * What is on the wire: a short, passive look at one interface by a ring of its
 * own, beside the workers' rings and never in their loop. IPv4 multicast (or
 * any range of destinations) and IGMP, told apart by flow, counted in a table
 * of fixed size. Joins nothing, sends nothing. packet(7).
 */
#define _GNU_SOURCE
#include "frame.h"
#include "relay.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define OBSERVER_BLOCK_BYTES (128u << 10)
#define OBSERVER_BLOCKS 64u /* 8 MiB: 40,000 frames until somebody reads */
#define OBSERVER_RETIRE_MS 5u
#define OBSERVER_FRAME_BYTES 2048u
/* Link header, longest IPv4 header, UDP header, sample. */
#define OBSERVER_SNAP_BYTES (32u + 60u + 8u + MCR_SEEN_SAMPLE_BYTES)
#define HEADER_BYTES (TPACKET_ALIGN(sizeof(struct tpacket3_hdr)) + sizeof(struct sockaddr_ll))

#define IGMP_QUERY 0x11 /* RFC 2236, RFC 3376 */
#define IGMP_V1_REPORT 0x12
#define IGMP_V2_REPORT 0x16
#define IGMP_LEAVE 0x17
#define IGMP_V3_REPORT 0x22

struct mcr_observer {
	struct mcr_observer_totals totals;
	int fd;
	uint8_t *map;
	uint32_t block_next;
	uint32_t flows_max;
	uint32_t slot_mask;
	uint32_t *slots; /* hash -> index of flows + 1; at most half of them taken */
	struct mcr_seen_flow *flows;
};

/* -- the flow table ----------------------------------------------------------- */

static bool is_same(const struct mcr_seen_flow *a, const struct mcr_seen_flow *b)
{
	return memcmp(a->source, b->source, 16) == 0 &&
	       memcmp(a->destination, b->destination, 16) == 0 && a->port == b->port &&
	       a->vlan == b->vlan && a->kind == b->kind;
}

static uint32_t hash_of(const struct mcr_seen_flow *flow)
{
	uint64_t hash = 0xcbf29ce484222325;
	uint64_t words[5] = {
		0, 0, 0, 0, flow->port | (uint64_t)flow->vlan << 16 | (uint64_t)flow->kind << 32
	};

	memcpy(words, flow->source, 16);
	memcpy(words + 2, flow->destination, 16);
	for (size_t i = 0; i < 5; i++)
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15;
	return (uint32_t)(hash >> 32);
}

/* The flow of this key, made when there is room; NULL when there is none. */
static struct mcr_seen_flow *flow_of(struct mcr_observer *observer, const struct mcr_seen_flow *key)
{
	uint32_t slot = hash_of(key) & observer->slot_mask;
	struct mcr_seen_flow *flow;

	for (; observer->slots[slot]; slot = (slot + 1) & observer->slot_mask) {
		flow = &observer->flows[observer->slots[slot] - 1];
		if (is_same(flow, key))
			return flow;
	}
	if (observer->totals.flows == observer->flows_max)
		return NULL;
	flow = &observer->flows[observer->totals.flows];
	observer->slots[slot] = (uint32_t)++observer->totals.flows;
	*flow = *key;
	flow->size_min = UINT32_MAX;
	return flow;
}

static void flow_count(struct mcr_observer *observer, const struct mcr_seen_flow *key,
		       const uint8_t *payload, uint32_t payload_bytes, uint32_t captured_bytes,
		       uint32_t segment_bytes, uint64_t received_ns)
{
	uint32_t packets = mcr_segment_count(payload_bytes, segment_bytes);
	uint32_t largest = packets > 1 ? segment_bytes : payload_bytes;
	uint32_t smallest = packets > 1 ? payload_bytes - (packets - 1) * segment_bytes :
					  payload_bytes;
	struct mcr_seen_flow *flow = flow_of(observer, key);

	if (!flow) {
		observer->totals.overflow += packets;
		return;
	}
	if (flow->packets == 0) {
		flow->first_ns = received_ns;
		flow->sample_bytes = (uint16_t)(captured_bytes < MCR_SEEN_SAMPLE_BYTES ?
							captured_bytes :
							MCR_SEEN_SAMPLE_BYTES);
		memcpy(flow->sample, payload, flow->sample_bytes);
	}
	flow->packets += packets;
	flow->bytes += payload_bytes;
	flow->last_ns = received_ns;
	if (smallest < flow->size_min)
		flow->size_min = smallest;
	if (largest > flow->size_max)
		flow->size_max = largest;
}

/* -- one frame ---------------------------------------------------------------- */

static int igmp_kind(uint8_t type)
{
	switch (type) {
	case IGMP_QUERY:
		return MCR_SEEN_QUERY;
	case IGMP_V1_REPORT:
	case IGMP_V2_REPORT:
	case IGMP_V3_REPORT:
		return MCR_SEEN_REPORT;
	case IGMP_LEAVE:
		return MCR_SEEN_LEAVE;
	default:
		return -1;
	}
}

/*
 * ip points at captured bytes of which the wire carried wire_bytes. Only the
 * first bytes of a packet are captured, so no checksum can be verified.
 */
static void packet_count(struct mcr_observer *observer, const uint8_t *ip, size_t captured,
			 size_t wire_bytes, uint32_t segment_bytes, uint16_t vlan, uint64_t ns)
{
	struct mcr_seen_flow key = { .vlan = vlan };
	size_t header_bytes, total_bytes, before;
	uint64_t mapped[2];
	int kind = MCR_SEEN_UDP;

	observer->totals.malformed++;
	if (captured < MCR_IPV4_HEADER_BYTES_MIN || ip[0] >> 4 != 4)
		return;
	header_bytes = (size_t)(ip[0] & 0x0f) * 4;
	total_bytes = mcr_get16(ip + 2);
	if (header_bytes < MCR_IPV4_HEADER_BYTES_MIN || total_bytes > wire_bytes)
		return;
	if (mcr_get16(ip + 6) & 0x1fff) { /* a later fragment: its ports are elsewhere */
		observer->totals.malformed--;
		observer->totals.fragments++;
		return;
	}
	before = header_bytes + (ip[9] == IPPROTO_UDP ? MCR_UDP_HEADER_BYTES : 0);
	if (captured < before + (ip[9] == IPPROTO_IGMP) || total_bytes < before)
		return;
	if (ip[9] == IPPROTO_IGMP)
		kind = igmp_kind(ip[header_bytes]);
	else
		key.port = mcr_get16(ip + header_bytes + 2);
	if (kind < 0)
		return;
	observer->totals.malformed--;
	key.kind = (uint8_t)kind;
	key.ttl = ip[8];
	mcr_map_ipv4(mapped, ip + 12);
	memcpy(key.source, mapped, 16);
	mcr_map_ipv4(mapped, ip + 16);
	memcpy(key.destination, mapped, 16);
	if (captured > total_bytes) /* padding */
		captured = total_bytes;
	flow_count(observer, &key, ip + before, (uint32_t)(total_bytes - before),
		   (uint32_t)(captured - before), segment_bytes, ns);
}

static void frame_count(struct mcr_observer *observer, const uint8_t *base, size_t available)
{
	const struct tpacket3_hdr *header = (const void *)base;
	struct virtio_net_hdr offload;
	bool is_run, is_tagged;
	size_t link_bytes;

	observer->totals.frames++;
	if (header->tp_net < header->tp_mac || header->tp_mac < HEADER_BYTES + sizeof(offload) ||
	    header->tp_mac + (size_t)header->tp_snaplen > available ||
	    header->tp_snaplen < (uint32_t)(header->tp_net - header->tp_mac) ||
	    header->tp_len < header->tp_snaplen) {
		observer->totals.malformed++;
		return;
	}
	/* PACKET_VNET_HDR: written in front of the link header. */
	memcpy(&offload, base + header->tp_mac - sizeof(offload), sizeof(offload));
	is_run = (offload.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == 5; /* GSO_UDP_L4 */
	is_tagged = header->tp_status & TP_STATUS_VLAN_VALID;
	link_bytes = header->tp_net - header->tp_mac;
	packet_count(observer, base + header->tp_net, header->tp_snaplen - link_bytes,
		     header->tp_len - link_bytes, is_run ? offload.gso_size : 0,
		     is_tagged ? header->hv1.tp_vlan_tci & 0xfff : 0,
		     header->tp_sec * 1000000000ull + header->tp_nsec);
}

void mcr_observer_block(struct mcr_observer *observer, const struct tpacket_block_desc *block,
			size_t block_bytes)
{
	size_t offset = block->hdr.bh1.offset_to_first_pkt;
	uint32_t left = block->hdr.bh1.num_pkts;

	for (; left > 0; left--) {
		const struct tpacket3_hdr *header;

		if (offset > block_bytes - HEADER_BYTES || offset % _Alignof(struct tpacket3_hdr))
			return;
		header = (const void *)((const uint8_t *)block + offset);
		frame_count(observer, (const uint8_t *)header, block_bytes - offset);
		/* The next frame lies behind this one, or nowhere: none is seen twice. */
		if (header->tp_next_offset < HEADER_BYTES)
			return;
		offset += header->tp_next_offset;
	}
}

/* -- the ring ----------------------------------------------------------------- */

static int filter_set(int fd, uint32_t first, uint32_t last)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 9, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 7),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + 9)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IGMP, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + 16)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, OBSERVER_SNAP_BYTES),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog fprog = { .len = sizeof(program) / sizeof(program[0]),
					  .filter = program };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &fprog, sizeof(fprog)) < 0 ? -errno : 0;
}

static int set_option(int fd, int option, int value)
{
	return setsockopt(fd, SOL_PACKET, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int ring_setup(struct mcr_observer *observer, const struct mcr_observer_options *options)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		/* Taps for all protocols run before the kernel's ingress hooks. */
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)options->ifindex,
	};
	struct tpacket_req3 request = {
		.tp_block_size = OBSERVER_BLOCK_BYTES,
		.tp_block_nr = OBSERVER_BLOCKS,
		.tp_frame_size = OBSERVER_FRAME_BYTES,
		.tp_frame_nr = OBSERVER_BLOCK_BYTES / OBSERVER_FRAME_BYTES * OBSERVER_BLOCKS,
		.tp_retire_blk_tov = OBSERVER_RETIRE_MS,
	};
	int error = set_option(observer->fd, PACKET_VERSION, TPACKET_V3);
	void *map;

	if (!error)
		error = set_option(observer->fd, PACKET_VNET_HDR, 1);
	if (!error)
		error = set_option(observer->fd, PACKET_IGNORE_OUTGOING, 1);
	if (!error)
		error = filter_set(observer->fd, options->destination_first,
				   options->destination_last);
	if (error)
		return error;
	if (setsockopt(observer->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) < 0)
		return -errno;
	map = mmap(NULL, (size_t)OBSERVER_BLOCK_BYTES * OBSERVER_BLOCKS, PROT_READ | PROT_WRITE,
		   MAP_SHARED, observer->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	observer->map = map;
	/* Protocol 0 until here: nothing is captured before ring and filter stand. */
	return bind(observer->fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno :
											    0;
}

struct mcr_observer *mcr_observer_alloc(uint32_t flows_max)
{
	struct mcr_observer *observer = calloc(1, sizeof(*observer));
	uint32_t slot_count = 2;

	if (!observer)
		return NULL;
	while (slot_count < flows_max * 2)
		slot_count *= 2;
	observer->fd = -1;
	observer->flows_max = flows_max;
	observer->slot_mask = slot_count - 1;
	observer->slots = calloc(slot_count, sizeof(*observer->slots));
	observer->flows = calloc(flows_max, sizeof(*observer->flows));
	if (observer->slots && observer->flows)
		return observer;
	mcr_observer_close(observer);
	return NULL;
}

struct mcr_observer *mcr_observer_open(const struct mcr_observer_options *options, int32_t *error)
{
	struct mcr_observer *observer;

	*error = -EINVAL;
	if (options->flows_max == 0 || options->flows_max > MCR_SEEN_FLOWS_MAX)
		return NULL;
	*error = -ENODEV;
	if (options->ifindex == 0) /* would look at every interface */
		return NULL;
	*error = -ENOMEM;
	observer = mcr_observer_alloc(options->flows_max);
	if (!observer)
		return NULL;
	observer->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*error = observer->fd < 0 ? -errno : ring_setup(observer, options);
	if (*error) {
		mcr_observer_close(observer);
		return NULL;
	}
	return observer;
}

int32_t mcr_observer_read(struct mcr_observer *observer)
{
	struct tpacket_stats_v3 statistics = { 0 };
	socklen_t bytes = sizeof(statistics);

	/* No more than the whole ring: a flood keeps nobody here. */
	for (uint32_t i = 0; i < OBSERVER_BLOCKS; i++) {
		struct tpacket_block_desc *block =
			(void *)(observer->map +
				 (size_t)observer->block_next * OBSERVER_BLOCK_BYTES);

		/* Acquire: the kernel fills the block before it hands over the status. */
		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
		      TP_STATUS_USER))
			break;
		mcr_observer_block(observer, block, OBSERVER_BLOCK_BYTES);
		/* Release: every read of the block is done. */
		__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		observer->block_next = (observer->block_next + 1) % OBSERVER_BLOCKS;
	}
	/* Reading resets the kernel's count: packet(7), PACKET_STATISTICS. */
	if (getsockopt(observer->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &bytes) < 0)
		return -errno;
	observer->totals.dropped += statistics.tp_drops;
	return (int32_t)observer->totals.flows;
}

void *mcr_observer_totals(const struct mcr_observer *observer)
{
	return (void *)&observer->totals;
}

void *mcr_observer_flows(const struct mcr_observer *observer)
{
	return observer->flows;
}

void mcr_observer_close(struct mcr_observer *observer)
{
	if (!observer)
		return;
	if (observer->map)
		munmap(observer->map, (size_t)OBSERVER_BLOCK_BYTES * OBSERVER_BLOCKS);
	if (observer->fd >= 0)
		close(observer->fd);
	free(observer->slots);
	free(observer->flows);
	free(observer);
}
