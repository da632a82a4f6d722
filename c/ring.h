/*
 * What the kernel captures for mcr, and the one reader of it: relay, scan and query all read frames here. packet(7),
 * Documentation/networking/packet_mmap.rst.
 *
 *   by block (TPACKET_V3): the kernel fills blocks, and hands each over when it is full or its time is up
 *     block: | block header | frame | frame | ... |
 *     frame: | tpacket3_hdr | sockaddr_ll | ... offload header | link header | network ... |
 *            0              48             tp_mac - 10         tp_mac        tp_net          tp_next_offset
 *   by frame (recvmmsg(2), PACKET_AUXDATA): the kernel queues frames on the socket, and wakes for each
 *     message: | offload header | link header | network ... |, with sockaddr_ll, auxiliary data and a timestamp
 *
 * Nothing of the kernel's is believed unread. A ring is memory that is filled again and again: a frame that the kernel
 * has counted and not completed (no TP_STATUS_USER) still shows what lay there a lap ago, so it is not looked at. Every
 * length and offset is checked against the block before anything behind it is read.
 */
#ifndef MCR_RING_H
#define MCR_RING_H

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mcr.h"
#include "offload.h"

/* In front of every frame of a block. */
#define MCR_FRAME_HEADER_BYTES \
	(TPACKET_ALIGN(sizeof(struct tpacket3_hdr)) + sizeof(struct sockaddr_ll))
/* An id that no 802.1Q tag has: the tag is another one, such as 802.1ad. */
#define MCR_VLAN_OTHER 0x1000u

/* -- one frame ----------------------------------------------------------------- */

struct mcr_frame {
	const uint8_t *network;
	size_t captured; /* from the network header on */
	size_t wire_bytes;
	uint32_t segment_bytes; /* super-frame: cut the payload here; 0: do not */
	uint16_t protocol; /* EtherType */
	uint16_t vlan; /* 0: untagged; an 802.1Q id, or MCR_VLAN_OTHER and that of the other tag */
	uint8_t packet_type; /* PACKET_HOST, PACKET_OTHERHOST ... */
	bool checksum_known; /* verified by the kernel, or left to a device by the sender's */
	uint64_t link_source; /* MAC address, 0 on links without */
	uint64_t received_ns; /* CLOCK_REALTIME */
};

static inline uint16_t mcr_frame_vlan(uint32_t status, uint32_t tci, uint16_t tpid)
{
	const uint16_t id = tci & 0xfff;

	if (!(status & TP_STATUS_VLAN_VALID))
		return 0;
	return status & TP_STATUS_VLAN_TPID_VALID && tpid != ETH_P_8021Q ? MCR_VLAN_OTHER | id : id;
}

/* What the kernel tells beside the bytes. */
static inline void mcr_frame_describe(struct mcr_frame *frame, uint32_t status,
				      const struct sockaddr_ll *link)
{
	frame->protocol = ntohs(link->sll_protocol);
	frame->packet_type = link->sll_pkttype;
	frame->checksum_known = status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID);
	frame->link_source = 0;
	if (link->sll_halen == ETH_ALEN) /* the rest of sll_addr is left as it was */
		memcpy(&frame->link_source, link->sll_addr, ETH_ALEN);
}

/*
 * Where the packet lies. mac and network count from base, of which `available` bytes may be read. False where these
 * numbers lie.
 */
static inline bool mcr_frame_locate(struct mcr_frame *frame, const uint8_t *base, size_t available,
				    size_t mac, size_t network, size_t captured, size_t wire_bytes,
				    bool has_offload)
{
	const size_t link_bytes = network - mac;
	struct virtio_net_hdr offload = { 0 };

	if (network < mac || mac > available || captured > available - mac ||
	    captured < link_bytes || wire_bytes < captured)
		return false;
	if (has_offload) {
		if (mac < sizeof(offload))
			return false;
		memcpy(&offload, base + mac - sizeof(offload), sizeof(offload));
	}
	frame->network = base + network;
	frame->captured = captured - link_bytes;
	frame->wire_bytes = wire_bytes - link_bytes;
	frame->segment_bytes = (offload.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) ==
					       VIRTIO_NET_HDR_GSO_UDP_L4 ?
				       offload.gso_size :
				       0;
	return true;
}

/* -- a block ------------------------------------------------------------------- */

enum mcr_read {
	MCR_READ_FRAME,
	MCR_READ_UNDESCRIBED, /* counted by the kernel, among its drops, and not completed */
	MCR_READ_MALFORMED, /* its numbers lie: nothing of it was read */
};

struct mcr_block_reader {
	const uint8_t *block;
	size_t bytes;
	size_t offset; /* of the next frame */
	uint32_t left; /* frames */
	bool has_offload; /* PACKET_VNET_HDR */
};

/* Frames in the block: what it says, but no more than can lie in it. */
static inline uint32_t mcr_block_frames(const void *block, size_t block_bytes)
{
	const struct tpacket_block_desc *descriptor = block;
	/* Relaxed: the kernel counts on while it fills the block. */
	uint32_t frames = __atomic_load_n(&descriptor->hdr.bh1.num_pkts, __ATOMIC_RELAXED);
	size_t frames_max = block_bytes / MCR_FRAME_HEADER_BYTES;

	return frames > frames_max ? (uint32_t)frames_max : frames;
}

static inline struct mcr_block_reader mcr_block_read(const void *block, size_t block_bytes,
						     bool has_offload)
{
	const struct tpacket_block_desc *descriptor = block;

	return (struct mcr_block_reader){ .block = block,
					  .bytes = block_bytes,
					  .offset = descriptor->hdr.bh1.offset_to_first_pkt,
					  .left = mcr_block_frames(block, block_bytes),
					  .has_offload = has_offload };
}

/* One of the frames left (there are some): its facts where it is MCR_READ_FRAME. */
static inline enum mcr_read mcr_block_next(struct mcr_block_reader *reader, struct mcr_frame *frame)
{
	const size_t offset = reader->offset;
	const struct tpacket3_hdr *header;
	const uint8_t *base;
	size_t available, next;

	reader->left--;
	/* Without a header there is no next offset to follow: the rest is as malformed. */
	if (reader->bytes < MCR_FRAME_HEADER_BYTES ||
	    offset > reader->bytes - MCR_FRAME_HEADER_BYTES ||
	    offset % _Alignof(struct tpacket3_hdr))
		return MCR_READ_MALFORMED;
	base = reader->block + offset;
	header = (const void *)base;
	available = reader->bytes - offset;
	next = header->tp_next_offset; /* 0: the last one */
	/* The next frame lies behind this one, or nowhere: none is seen twice. */
	if (next >= MCR_FRAME_HEADER_BYTES && next <= available)
		available = next;
	reader->offset += next < MCR_FRAME_HEADER_BYTES ? reader->bytes : next;
	if (!(header->tp_status & TP_STATUS_USER))
		return MCR_READ_UNDESCRIBED;
	if (!mcr_frame_locate(frame, base, available, header->tp_mac, header->tp_net,
			      header->tp_snaplen, header->tp_len, reader->has_offload))
		return MCR_READ_MALFORMED;
	mcr_frame_describe(frame, header->tp_status,
			   (const void *)(base + TPACKET_ALIGN(sizeof(*header))));
	frame->vlan = mcr_frame_vlan(header->tp_status, header->hv1.tp_vlan_tci,
				     header->hv1.tp_vlan_tpid);
	frame->received_ns = header->tp_sec * UINT64_C(1000000000) + header->tp_nsec;
	return MCR_READ_FRAME;
}

/* -- rings --------------------------------------------------------------------- */

/* Frames that one look at a socket takes at most: a batch is a few hundred. */
#define MCR_FRAMES_MAX 64u

struct mcr_frames; /* frames.c */

struct mcr_ring {
	int fd;
	uint32_t fanout_id;
	bool splits_flows; /* over the workers: MCR_FANOUT_CPU, MCR_FANOUT_QM */
	bool has_offload; /* PACKET_VNET_HDR */
	uint64_t taken; /* blocks, or by frame frames; only grows; its worker's, read by anyone */
	/* By block: */
	uint8_t *map;
	size_t map_bytes;
	uint32_t block_bytes;
	uint32_t block_count;
	uint32_t block_next; /* to be taken; this and blocks_held are its worker's only */
	uint32_t blocks_held; /* taken and not given back: those before block_next */
	int64_t pause_ns; /* from one batch of full blocks to the next */
	/* By frame: */
	struct mcr_frames *frames; /* NULL: by block */
	uint32_t sleep_us;
	uint32_t is_held; /* 1: frames were taken, or are about to be, and are not sent yet */
	bool is_empty; /* the last look took all that was there: not worth another before a sleep */
	uint64_t undescribed; /* frames that the kernel dropped since it could not describe them */
	uint64_t undescribed_told; /* of these, by mcr_ring_drops */
};

/* How to capture; what is 0 or NULL is left out. */
struct mcr_capture {
	uint32_t ifindex;
	int type; /* SOCK_RAW; SOCK_DGRAM: without link header */
	uint16_t protocol; /* ETH_P_ALL ... */
	bool has_offload;
	bool ignores_outgoing;
	uint32_t block_bytes; /* 0: by frame */
	uint32_t block_count;
	uint32_t retire_ms;
	uint32_t receive_bytes; /* by frame: what the kernel may queue */
	const struct sock_fprog *filter;
};

/* Captures nothing before mcr_ring_start. NULL and *error = -errno. */
struct mcr_ring *mcr_ring_prepare(const struct mcr_capture *capture, int32_t *error);
/* 0 or -errno. */
int32_t mcr_ring_start(struct mcr_ring *ring, const struct mcr_capture *capture);

/* frames.c: what a ring by frame has taken last. */
struct mcr_frames *mcr_frames_open(void);
void mcr_frames_close(struct mcr_frames *frames);
/* Takes what has come, at most MCR_FRAMES_MAX frames; held until mcr_ring_release. */
uint32_t mcr_frames_take(struct mcr_ring *ring);
/* One of those taken last. */
enum mcr_read mcr_frames_read(const struct mcr_ring *ring, uint32_t index, struct mcr_frame *frame);
/* An error that waited on the socket: of a frame that could not be described, it is counted. */
void mcr_frames_error(struct mcr_ring *ring, int error);

/*
 * The next block of the ring once the kernel has handed it over, else NULL. It
 * is held until mcr_ring_release. Half of the ring at most is held, so that a
 * small one has room for what arrives meanwhile, and no block is taken twice.
 */
static inline const void *mcr_ring_take(struct mcr_ring *ring)
{
	const uint8_t *block = ring->map + (size_t)ring->block_next * ring->block_bytes;
	const struct tpacket_block_desc *descriptor = (const void *)block;

	if (2 * ring->blocks_held >= ring->block_count)
		return NULL;
	/* Acquire: the kernel fills the block before it hands over the status. */
	if (!(__atomic_load_n(&descriptor->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
	      TP_STATUS_USER))
		return NULL;
	ring->block_next = ring->block_next + 1 == ring->block_count ? 0 : ring->block_next + 1;
	ring->blocks_held++;
	__atomic_store_n(&ring->taken, ring->taken + 1, __ATOMIC_RELAXED);
	return block;
}

/* Gives all that was taken back to the kernel. */
void mcr_ring_release(struct mcr_ring *ring);

/* filter.c: the program for these ranges; its length, or -E2BIG. */
#define MCR_FILTER_LENGTH_MAX 4096 /* BPF_MAXINSNS */
int32_t mcr_filter_build(const struct mcr_address_range *ranges, uint32_t range_count,
			 struct sock_filter *program, uint32_t length_max);

/* fanout.c: makes the ring a member of the group `id`, or with MCR_FANOUT_NEW of a new one. */
int32_t mcr_fanout_join(struct mcr_ring *ring, uint32_t id, enum mcr_fanout mode);

#endif
