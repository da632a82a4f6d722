/*
 * AF_PACKET capture: rings, by block or by frame, the filter in front of them, the fanout
 * group that spreads the flows of one interface over the workers. packet(7),
 * Documentation/networking/packet_mmap.rst, filter.rst.
 */
#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Linux 6.1; without it a fanout group also captures what this host sends. */
#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

/* A length the kernel checks and V3 does not use. */
#define FRAME_BYTES 2048u
/*
 * A slot of V2 holds a jumbo frame, or a run of eight datagrams of 1,316 bytes.
 * What is longer, super-frames and reassembled datagrams up to 64 KiB, the
 * kernel queues whole on the socket beside it: packet(7), PACKET_COPY_THRESH.
 * Slots for the longest would make the ring a sixth as deep.
 */
#define SLOT_BYTES 12288u
/*
 * Blocks that are full before their time are collected for twice that time, see
 * forward.c; not in a ring of fewer blocks, which might fill meanwhile.
 */
#define PAUSE_TIMES 2
#define PAUSE_BLOCKS_MIN 64u

/* -- the filter ------------------------------------------------------------- */

struct writer {
	struct sock_filter *program;
	uint32_t length;
	uint32_t length_max;
};

static uint32_t put(struct writer *writer, struct sock_filter instruction)
{
	if (writer->length < writer->length_max)
		writer->program[writer->length] = instruction;
	return writer->length++;
}

#define PUT(writer, code, k) put(writer, (struct sock_filter)BPF_STMT(code, k))
#define PUT_JUMP(writer, code, k, yes, no) \
	put(writer, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_K | (code), k, yes, no))

#define ACCEPT 0x40000u /* bytes to keep: all */
#define REJECT 0u

/*
 * Binary search over sorted ranges, A holding the destination. Conditional
 * jumps reach 255 instructions only, so the far half is reached by BPF_JA.
 */
static void put_ranges(struct writer *writer, const struct mcr_address_range *ranges,
		       uint32_t count)
{
	uint32_t middle = count / 2;
	uint32_t jump;

	if (count == 1) {
		PUT_JUMP(writer, BPF_JGE, ranges->first, 0, 2);
		PUT_JUMP(writer, BPF_JGT, ranges->last, 1, 0);
		PUT(writer, BPF_RET | BPF_K, ACCEPT);
		PUT(writer, BPF_RET | BPF_K, REJECT);
		return;
	}
	PUT_JUMP(writer, BPF_JGE, ranges[middle].first, 0, 1);
	jump = PUT(writer, BPF_JMP | BPF_JA, 0);
	put_ranges(writer, ranges, middle);
	if (jump < writer->length_max)
		writer->program[jump].k = writer->length - jump - 1;
	put_ranges(writer, ranges + middle, count - middle);
}

int32_t mcr_filter_build(const struct mcr_address_range *ranges, uint32_t range_count,
			 struct sock_filter *program, uint32_t length_max)
{
	struct writer writer = { .program = program, .length_max = length_max };

	if (range_count > 0) {
		PUT(&writer, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE));
		PUT_JUMP(&writer, BPF_JEQ, PACKET_OUTGOING, 6, 0);
		/* The metadata's protocol, so that link headers do not matter. */
		PUT(&writer, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL));
		PUT_JUMP(&writer, BPF_JEQ, ETH_P_IP, 0, 4);
		PUT(&writer, BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + 9));
		PUT_JUMP(&writer, BPF_JEQ, IPPROTO_UDP, 0, 2);
		PUT(&writer, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + 16));
		PUT(&writer, BPF_JMP | BPF_JA, 1);
		PUT(&writer, BPF_RET | BPF_K, REJECT);
		put_ranges(&writer, ranges, range_count);
	} else {
		PUT(&writer, BPF_RET | BPF_K, REJECT);
	}
	return writer.length <= length_max ? (int32_t)writer.length : -E2BIG;
}

int32_t mcr_ring_filter(struct mcr_ring *ring, const struct mcr_address_range *ranges,
			uint32_t range_count)
{
	struct sock_fprog fprog;
	int32_t length;
	int error = 0;

	fprog.filter = malloc(MCR_FILTER_LENGTH_MAX * sizeof(*fprog.filter));
	if (!fprog.filter)
		return -ENOMEM;
	length = mcr_filter_build(ranges, range_count, fprog.filter, MCR_FILTER_LENGTH_MAX);
	fprog.len = (unsigned short)length;
	if (length < 0)
		error = length;
	else if (setsockopt(ring->fd, SOL_SOCKET, SO_ATTACH_FILTER, &fprog, sizeof(fprog)) < 0)
		error = -errno;
	free(fprog.filter);
	return error;
}

/* -- the fanout group ------------------------------------------------------- */

/*
 * Which worker gets a flow: a hash of (destination, port), so that a flow stays
 * in order on one worker, and groups and ports that count up together spread
 * evenly. Offset 0 is the IP header here; the kernel takes the result modulo
 * the number of workers.
 */
static int fanout_program(int fd)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 0x9e3779b1),
		BPF_STMT(BPF_ST, 0),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
		BPF_STMT(BPF_LDX | BPF_MEM, 0),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 0x85ebca6b),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	const struct sock_fprog fprog = { .len = sizeof(program) / sizeof(program[0]),
					  .filter = program };

	return setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &fprog, sizeof(fprog)) < 0 ? -errno :
											   0;
}

/* By enum mcr_fanout. */
static const uint32_t fanout_types[] = { PACKET_FANOUT_CBPF, PACKET_FANOUT_HASH, PACKET_FANOUT_CPU,
					 PACKET_FANOUT_QM };

/* type: with its flags */
static int fanout_set(int fd, uint32_t id, uint32_t type)
{
	uint32_t argument = id | type << 16;

	return setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, sizeof(argument)) < 0 ? -errno :
											    0;
}

static int fanout_join(struct mcr_ring *ring, uint32_t id, enum mcr_fanout mode)
{
	bool first = id == MCR_FANOUT_NEW;
	uint32_t type = fanout_types[mode] | PACKET_FANOUT_FLAG_DEFRAG |
			(first ? PACKET_FANOUT_FLAG_UNIQUEID : 0);
	uint32_t wanted = first ? 0 : id;
	uint32_t joined = 0;
	socklen_t bytes = sizeof(joined);
	int error = fanout_set(ring->fd, wanted, type | PACKET_FANOUT_FLAG_IGNORE_OUTGOING);

	if (error == -EINVAL) /* an older kernel: the filter rejects outgoing frames */
		error = fanout_set(ring->fd, wanted, type);
	if (error)
		return error;
	if (getsockopt(ring->fd, SOL_PACKET, PACKET_FANOUT, &joined, &bytes) < 0)
		return -errno;
	ring->fanout_id = joined & 0xffff;
	return first && mode == MCR_FANOUT_FLOW ? fanout_program(ring->fd) : 0;
}

/* -- the ring --------------------------------------------------------------- */

int32_t mcr_ring_permitted(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int set_level_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_option(int fd, int option, int value)
{
	return set_level_option(fd, SOL_PACKET, option, value);
}

/*
 * The kernel gives memory in blocks of a power of two. A ring by frame cuts
 * them into slots of whole pages, and leaves out what remains of each: so the
 * slots of all blocks follow each other without a gap.
 */
static int ring_shape(struct mcr_ring *ring, const struct mcr_ring_options *options,
		      struct tpacket_req3 *request)
{
	const uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
	const uint32_t slot_bytes = (SLOT_BYTES + page - 1) / page * page;
	uint32_t frame_bytes = ring->by_frame ? slot_bytes : FRAME_BYTES;
	uint32_t frames = options->block_bytes / frame_bytes; /* of one block */

	if (frames == 0 || options->block_count == 0 || options->block_count > UINT32_MAX / frames)
		return -EINVAL;
	*request = (struct tpacket_req3){
		.tp_block_size = ring->by_frame ? frames * slot_bytes : options->block_bytes,
		.tp_block_nr = options->block_count,
		.tp_frame_size = frame_bytes,
		.tp_frame_nr = frames * options->block_count,
		.tp_retire_blk_tov = options->retire_ms, /* V2 does not read this */
	};
	ring->block_bytes = ring->by_frame ? slot_bytes : options->block_bytes;
	ring->block_count = ring->by_frame ? request->tp_frame_nr : options->block_count;
	ring->map_bytes = (size_t)request->tp_block_size * request->tp_block_nr;
	if (!ring->by_frame && ring->block_count >= PAUSE_BLOCKS_MIN)
		ring->pause_ns = PAUSE_TIMES * 1000000ll * options->retire_ms;
	return 0;
}

/* Ring memory is the kernel's: mmap maps every page of it, and none is ever swapped. */
static int ring_map(struct mcr_ring *ring, const struct tpacket_req3 *request)
{
	void *map;

	if (setsockopt(ring->fd, SOL_PACKET, PACKET_RX_RING, request, sizeof(*request)) < 0)
		return -errno;
	map = mmap(NULL, ring->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	ring->map = map;
	return 0;
}

/* Where a frame is longer than its slot; copies lie there until the batch is sent. */
static int ring_copy_long(struct mcr_ring *ring)
{
	int error = set_option(ring->fd, PACKET_COPY_THRESH, 1);

	ring->copies = malloc(MCR_COPIES_BYTES); /* a page exists once it is written */
	if (!error && !ring->copies)
		error = -ENOMEM;
	if (!error &&
	    set_level_option(ring->fd, SOL_SOCKET, SO_RCVBUFFORCE, MCR_RING_RECEIVE_BYTES))
		error = set_level_option(ring->fd, SOL_SOCKET, SO_RCVBUF, MCR_RING_RECEIVE_BYTES);
	return error;
}

/* All that takes long; no frame comes before ring_join. */
static int ring_setup(struct mcr_ring *ring, const struct mcr_ring_options *options)
{
	struct tpacket_req3 request;
	int error = ring_shape(ring, options, &request);

	if (!error)
		error = set_option(ring->fd, PACKET_VERSION,
				   ring->by_frame ? TPACKET_V2 : TPACKET_V3);
	if (!error)
		error = set_option(ring->fd, PACKET_VNET_HDR, 1);
	if (!error)
		error = set_option(ring->fd, PACKET_IGNORE_OUTGOING, 1);
	if (!error && ring->by_frame)
		error = ring_copy_long(ring);
	/* Admit nothing until every worker's ring is in the fanout group: before
	 * that each of them would see every frame. */
	if (!error)
		error = mcr_ring_filter(ring, NULL, 0);
	return error ? error : ring_map(ring, &request);
}

static int ring_join(struct mcr_ring *ring, const struct mcr_ring_options *options,
		     uint32_t fanout_id)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		/* Taps for all protocols run before the kernel's ingress hooks. */
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)options->ifindex,
	};

	if (bind(ring->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fanout_join(ring, fanout_id, options->fanout);
}

/* NULL and *error. */
static struct mcr_ring *ring_prepare(const struct mcr_ring_options *options, int32_t *error)
{
	struct mcr_ring *ring;

	*error = -EINVAL;
	if ((options->version != 2 && options->version != 3) ||
	    options->fanout >= sizeof(fanout_types) / sizeof(fanout_types[0]) ||
	    (options->fanout_id > 0xffff && options->fanout_id != MCR_FANOUT_NEW))
		return NULL;
	*error = -ENODEV;
	if (options->ifindex == 0) /* would capture on every interface */
		return NULL;
	*error = -ENOMEM;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return NULL;
	ring->by_frame = options->version == 2;
	ring->splits_flows = options->fanout == MCR_FANOUT_CPU || options->fanout == MCR_FANOUT_QM;
	ring->sleep_us = ring->by_frame ? options->sleep_us : 0;
	/* Protocol 0: nothing is captured before bind, when ring and filter stand. */
	ring->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*error = ring->fd < 0 ? -errno : ring_setup(ring, options);
	if (*error) {
		mcr_ring_close(ring);
		return NULL;
	}
	return ring;
}

/* -- several at once -------------------------------------------------------- */

/* They mostly wait: the kernel lets an RCU grace period pass for every ring. */
#define THREADS_MAX 16u

struct opening {
	const struct mcr_ring_options *options;
	struct mcr_ring **rings;
	int32_t *errors;
	uint32_t count;
	uint32_t next; /* taken by whoever is free */
};

static void *rings_prepare(void *argument)
{
	struct opening *opening = argument;

	for (;;) {
		uint32_t i = __atomic_fetch_add(&opening->next, 1, __ATOMIC_RELAXED);

		if (i >= opening->count)
			return NULL;
		opening->rings[i] = ring_prepare(&opening->options[i], &opening->errors[i]);
	}
}

/* This thread takes its share, so that none is missing where no other can start. */
static void rings_prepare_all(struct opening *opening)
{
	pthread_t threads[THREADS_MAX];
	uint32_t thread_count = 0;
	sigset_t all, before;

	/* The process's signals are for the threads that were there before. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (thread_count < THREADS_MAX && thread_count + 1 < opening->count &&
	       pthread_create(&threads[thread_count], NULL, rings_prepare, opening) == 0)
		thread_count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	rings_prepare(opening);
	while (thread_count > 0)
		pthread_join(threads[--thread_count], NULL);
}

void mcr_rings_open(const struct mcr_ring_options *options, uint32_t count, struct mcr_ring **rings,
		    int32_t *errors)
{
	struct opening opening = {
		.options = options, .rings = rings, .errors = errors, .count = count
	};

	rings_prepare_all(&opening);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t fanout_id = options[i].fanout_id;

		if (!rings[i])
			continue;
		if (fanout_id == MCR_FANOUT_NEW && i > 0 && rings[i - 1] &&
		    options[i].ifindex == options[i - 1].ifindex)
			fanout_id = rings[i - 1]->fanout_id;
		errors[i] = ring_join(rings[i], &options[i], fanout_id);
		if (errors[i]) {
			mcr_ring_close(rings[i]);
			rings[i] = NULL;
		}
	}
}

int32_t mcr_ring_receive_bytes(const struct mcr_ring *ring)
{
	int bytes = 0;
	socklen_t length = sizeof(bytes);

	if (!ring->by_frame)
		return 0;
	if (getsockopt(ring->fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length) < 0)
		return -errno;
	return bytes / 2; /* the kernel doubles what is asked for: socket(7) */
}

int32_t mcr_ring_fanout_id(const struct mcr_ring *ring)
{
	return (int32_t)ring->fanout_id;
}

/*
 * The kernel queues copies in the order of their slots, one for each. So one
 * that were left behind would be taken for the next: an error that waits on the
 * socket, as ENETDOWN does after the interface went down, is told once, before
 * anything is taken, and costs none.
 */
struct mcr_copy mcr_ring_copy(struct mcr_ring *ring)
{
	uint8_t *copy = ring->copies + ring->copies_held;
	ssize_t bytes;

	do
		bytes = recv(ring->fd, copy, MCR_COPY_BYTES_MAX, MSG_DONTWAIT);
	while (bytes < 0 && errno == ENETDOWN);
	if (bytes <= 0)
		return (struct mcr_copy){ 0 };
	ring->copies_held += MCR_COPY_BYTES_MAX;
	return (struct mcr_copy){ copy, (size_t)bytes };
}

void mcr_ring_release(struct mcr_ring *ring)
{
	uint32_t block =
		(ring->block_next + ring->block_count - ring->blocks_held) % ring->block_count;

	for (; ring->blocks_held > 0; ring->blocks_held--) {
		uint8_t *start = ring->map + (size_t)block * ring->block_bytes;
		struct tpacket_hdr_v1 *header = &((struct tpacket_block_desc *)start)->hdr.bh1;
		uint32_t *status = ring->by_frame ? &((struct tpacket2_hdr *)start)->tp_status :
						    &header->block_status;

		/* The kernel counts anew when it opens the block; until then it holds none. */
		if (!ring->by_frame)
			__atomic_store_n(&header->num_pkts, 0, __ATOMIC_RELAXED);
		/* Release: every read of the block is done, the send calls have copied it. */
		__atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		block = block + 1 == ring->block_count ? 0 : block + 1;
	}
	ring->copies_held = 0;
}

int64_t mcr_ring_drops(struct mcr_ring *ring)
{
	struct tpacket_stats_v3 statistics = { 0 };
	socklen_t bytes = sizeof(statistics);

	/* Reading resets the kernel's count: packet(7), PACKET_STATISTICS. */
	if (getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &bytes) < 0)
		return -errno;
	return statistics.tp_drops;
}

int64_t mcr_ring_unread(const struct mcr_ring *ring)
{
	int64_t frames = 0;

	for (uint32_t i = 0; i < ring->block_count; i++) {
		const uint8_t *block = ring->map + (size_t)i * ring->block_bytes;

		/* A slot is filled before it is handed over, a block may be in the making. */
		if (ring->by_frame)
			frames += __atomic_load_n(&((const struct tpacket2_hdr *)block)->tp_status,
						  __ATOMIC_ACQUIRE) &
				  TP_STATUS_USER;
		else
			frames += mcr_block_frames((const void *)block, ring->block_bytes);
	}
	return frames;
}

void mcr_ring_close(struct mcr_ring *ring)
{
	if (!ring)
		return;
	if (ring->map)
		munmap(ring->map, ring->map_bytes);
	if (ring->fd >= 0)
		close(ring->fd);
	free(ring->copies);
	free(ring);
}
