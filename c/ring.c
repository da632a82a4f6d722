/*
 * AF_PACKET sockets that capture: how they are set up, read to their end and
 * closed. What they hold is read by ring.h; filter.c and fanout.c say which
 * frames come to which of them. packet(7).
 */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "option.h"

/* A length the kernel checks and TPACKET_V3 does not use. */
#define FRAME_BYTES 2048u
/*
 * Blocks that are full before their time are collected for twice that time, see
 * forward.c; not in a ring of fewer blocks, which might fill meanwhile.
 */
#define PAUSE_TIMES 2
#define PAUSE_BLOCKS_MIN 64u

int32_t mcr_ring_permitted(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* -- setting up ---------------------------------------------------------------- */

/* Ring memory is the kernel's: mmap maps every page of it, and none is ever swapped. */
static int blocks_map(struct mcr_ring *ring, const struct mcr_capture *capture)
{
	const uint32_t frames = capture->block_bytes / FRAME_BYTES; /* of one block */
	const struct tpacket_req3 request = {
		.tp_block_size = capture->block_bytes,
		.tp_block_nr = capture->block_count,
		.tp_frame_size = FRAME_BYTES,
		.tp_frame_nr = frames * capture->block_count,
		.tp_retire_blk_tov = capture->retire_ms,
	};
	void *map;
	int error;

	if (frames == 0 || capture->block_count == 0 || capture->block_count > UINT32_MAX / frames)
		return -EINVAL;
	ring->block_bytes = capture->block_bytes;
	ring->block_count = capture->block_count;
	ring->map_bytes = (size_t)capture->block_bytes * capture->block_count;
	if (ring->block_count >= PAUSE_BLOCKS_MIN)
		ring->pause_ns = PAUSE_TIMES * INT64_C(1000000) * capture->retire_ms;
	error = mcr_set_option(ring->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V3);
	if (error)
		return error;
	if (setsockopt(ring->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) < 0)
		return -errno;
	map = mmap(NULL, ring->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	ring->map = map;
	return 0;
}

/* SO_TIMESTAMPNS: the time of arrival, which a ring by block tells by itself. */
static int frames_open(struct mcr_ring *ring, const struct mcr_capture *capture)
{
	const int bytes = capture->receive_bytes > INT32_MAX / 2 ? INT32_MAX / 2 :
								   (int)capture->receive_bytes;
	int error = mcr_set_option(ring->fd, SOL_PACKET, PACKET_AUXDATA, 1);

	if (!error)
		error = mcr_set_option(ring->fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	/* Beyond net.core.rmem_max where we may. */
	if (!error && mcr_set_option(ring->fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes))
		error = mcr_set_option(ring->fd, SOL_SOCKET, SO_RCVBUF, bytes);
	ring->frames = error ? NULL : mcr_frames_open();
	return error || ring->frames ? error : -ENOMEM;
}

static int ring_setup(struct mcr_ring *ring, const struct mcr_capture *capture)
{
	int error = 0;

	ring->has_offload = capture->has_offload;
	if (capture->has_offload)
		error = mcr_set_option(ring->fd, SOL_PACKET, PACKET_VNET_HDR, 1);
	if (!error && capture->ignores_outgoing)
		error = mcr_set_option(ring->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	if (!error)
		error = mcr_set_filter(ring->fd, capture->filter);
	if (error)
		return error;
	return capture->block_bytes > 0 ? blocks_map(ring, capture) : frames_open(ring, capture);
}

struct mcr_ring *mcr_ring_prepare(const struct mcr_capture *capture, int32_t *error)
{
	struct mcr_ring *ring;

	*error = -ENODEV;
	if (capture->ifindex == 0) /* would capture on every interface */
		return NULL;
	*error = -ENOMEM;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return NULL;
	/* Protocol 0: nothing is captured before bind, when ring and filter stand. */
	ring->fd = socket(AF_PACKET, capture->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*error = ring->fd < 0 ? -errno : ring_setup(ring, capture);
	if (*error) {
		mcr_ring_close(ring);
		return NULL;
	}
	return ring;
}

int32_t mcr_ring_start(struct mcr_ring *ring, const struct mcr_capture *capture)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(capture->protocol),
		.sll_ifindex = (int)capture->ifindex,
	};

	return bind(ring->fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

void mcr_ring_close(struct mcr_ring *ring)
{
	if (!ring)
		return;
	if (ring->map)
		munmap(ring->map, ring->map_bytes);
	if (ring->fd >= 0)
		close(ring->fd);
	mcr_frames_close(ring->frames);
	free(ring);
}

/* -- the rings of workers, several at once --------------------------------------- */

/* They mostly wait: the kernel lets an RCU grace period pass for every ring. */
#define THREADS_MAX 16u

struct opening {
	const struct mcr_ring_options *options;
	struct mcr_ring **rings;
	int32_t *errors;
	uint32_t count;
	uint32_t next; /* taken by whoever is free */
};

static struct mcr_capture capture_of(const struct mcr_ring_options *options)
{
	/* Admits nothing until every worker's ring is in the fanout group: before that each of them would see every
	 * frame. */
	static const struct sock_filter nothing[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	static const struct sock_fprog filter = { .len = 1, .filter = (void *)(uintptr_t)nothing };

	return (struct mcr_capture){
		.ifindex = options->ifindex,
		.type = SOCK_RAW,
		/* Taps for all protocols run before the kernel's ingress hooks. */
		.protocol = ETH_P_ALL,
		.has_offload = true,
		.ignores_outgoing = true,
		.block_bytes = options->block_bytes,
		.block_count = options->block_count,
		.retire_ms = options->retire_ms,
		.receive_bytes = options->receive_bytes,
		.filter = &filter,
	};
}

static struct mcr_ring *ring_prepare(const struct mcr_ring_options *options, int32_t *error)
{
	const struct mcr_capture capture = capture_of(options);
	struct mcr_ring *ring;

	*error = -EINVAL;
	if ((options->block_bytes == 0) == (options->receive_bytes == 0) ||
	    options->fanout >= MCR_FANOUT_COUNT ||
	    (options->fanout_id > 0xffff && options->fanout_id != MCR_FANOUT_NEW))
		return NULL;
	ring = mcr_ring_prepare(&capture, error);
	if (ring)
		ring->sleep_us = ring->frames ? options->sleep_us : 0;
	return ring;
}

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
		const struct mcr_capture capture = capture_of(&options[i]);
		uint32_t fanout_id = options[i].fanout_id;

		if (!rings[i])
			continue;
		if (fanout_id == MCR_FANOUT_NEW && i > 0 && rings[i - 1] &&
		    options[i].ifindex == options[i - 1].ifindex)
			fanout_id = rings[i - 1]->fanout_id;
		errors[i] = mcr_ring_start(rings[i], &capture);
		if (!errors[i])
			errors[i] = mcr_fanout_join(rings[i], fanout_id, options[i].fanout);
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

	if (!ring->frames)
		return 0;
	if (getsockopt(ring->fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length) < 0)
		return -errno;
	return bytes / 2; /* the kernel doubles what is asked for: socket(7) */
}

int32_t mcr_ring_fanout_id(const struct mcr_ring *ring)
{
	return (int32_t)ring->fanout_id;
}

int32_t mcr_ring_is_bound(const struct mcr_ring *ring)
{
	struct sockaddr_ll bound = { 0 };
	socklen_t bytes = sizeof(bound);

	/* The kernel writes -1 over the index when the device is unregistered. */
	return getsockname(ring->fd, (struct sockaddr *)&bound, &bytes) == 0 &&
	       bound.sll_ifindex > 0;
}

/* -- what became of the frames ------------------------------------------------------ */

void mcr_ring_release(struct mcr_ring *ring)
{
	uint32_t block = ring->block_next +
			 (ring->block_next < ring->blocks_held ? ring->block_count : 0) -
			 ring->blocks_held;

	for (; ring->blocks_held > 0; ring->blocks_held--) {
		struct tpacket_hdr_v1 *header =
			&((struct tpacket_block_desc *)(ring->map +
							(size_t)block * ring->block_bytes))
				 ->hdr.bh1;

		/* The kernel counts anew when it opens the block; until then it holds none. */
		__atomic_store_n(&header->num_pkts, 0, __ATOMIC_RELAXED);
		/* Release: every read of the block is done, the send calls have copied it. */
		__atomic_store_n(&header->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		block = block + 1 == ring->block_count ? 0 : block + 1;
	}
	__atomic_store_n(&ring->is_held, 0, __ATOMIC_RELEASE);
}

int64_t mcr_ring_taken(const struct mcr_ring *ring)
{
	/* A block holds those that could not be described; from a queue a worker takes their error. */
	return (int64_t)(__atomic_load_n(&ring->taken, __ATOMIC_RELAXED) +
			 __atomic_load_n(&ring->undescribed, __ATOMIC_RELAXED));
}

int64_t mcr_ring_drops(struct mcr_ring *ring)
{
	struct tpacket_stats_v3 statistics = { 0 };
	socklen_t bytes = sizeof(statistics);
	uint64_t undescribed = __atomic_load_n(&ring->undescribed, __ATOMIC_RELAXED);
	int64_t drops;

	/* Reading resets the kernel's count: packet(7), PACKET_STATISTICS. */
	if (getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &bytes) < 0)
		return -errno;
	drops = statistics.tp_drops + (int64_t)(undescribed - ring->undescribed_told);
	ring->undescribed_told = undescribed;
	return drops;
}

int64_t mcr_ring_unread(const struct mcr_ring *ring)
{
	int64_t frames = 0;
	int bytes = 0;

	for (uint32_t i = 0; i < ring->block_count; i++)
		frames += mcr_block_frames(ring->map + (size_t)i * ring->block_bytes,
					   ring->block_bytes);
	if (!ring->frames)
		return frames;
	/* What a worker takes from the queue it holds before it is gone from there. */
	if (ioctl(ring->fd, SIOCINQ, &bytes) == 0 && bytes > 0)
		return 1;
	return __atomic_load_n(&ring->is_held, __ATOMIC_ACQUIRE);
}

int64_t mcr_ring_discard(struct mcr_ring *ring)
{
	int64_t frames = 0;
	uint8_t begin[sizeof(struct virtio_net_hdr)]; /* with less room the kernel gives nothing */

	if (!ring->frames)
		return mcr_ring_unread(ring);
	for (;;) {
		if (recv(ring->fd, begin, sizeof(begin), MSG_DONTWAIT | MSG_TRUNC) >= 0)
			frames++;
		else if (errno == EAGAIN || errno == EBADF)
			return frames;
		else
			mcr_frames_error(ring, errno);
	}
}
