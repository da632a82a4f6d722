/*
 * Receiving: one socket for each stream, bound to its group and port, so that
 * the kernel tells the streams apart and says for each what it dropped.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sock_diag.h>

#include "endpoint.h"
#include "option.h"
#include "clock.h"

#define BATCH_PACKETS 64
/* The largest datagram; the odd cache line keeps the buffers out of each other's sets. */
#define BUFFER_BYTES (65536 + 64)
#define EVENTS_MAX 64
/* Reads of one socket before the others have their turn. */
#define READS_MAX 16

struct mcr_receiver {
	struct mcr_receiver_options options;
	int epoll_fd;
	struct mcr_stream_counters *counters;
	struct mcr_stream *streams;
	struct mcr_latency_counters latency;
	struct mcr_pid *pids; /* MCR_PIDS for each stream */
	uint64_t *bits; /* MCR_SEQUENCE_WINDOW for each stream */
	uint8_t *buffers;
	struct iovec vectors[BATCH_PACKETS];
	struct mmsghdr messages[BATCH_PACKETS];
};

int32_t mcr_measure_abi(void)
{
	return MCR_MEASURE_ABI;
}

/* -- the sockets -------------------------------------------------------------- */

static int socket_setup(int fd, const struct mcr_receiver_options *options,
			const struct mcr_stream_spec *spec)
{
	struct sockaddr_in local;
	int error = mcr_stream_address(&local, spec);
	bool is_group;

	if (error)
		return error;
	is_group = IN_MULTICAST(ntohl(local.sin_addr.s_addr));
	/* Off: groups that other programs joined, on other interfaces, are not ours. */
	error = mcr_set_option(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	if (!error &&
	    mcr_set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, (int)options->buffer_bytes) < 0)
		error = mcr_set_option(fd, SOL_SOCKET, SO_RCVBUF, (int)options->buffer_bytes);
	/* Others may receive a group as well; a unicast datagram has one receiver. */
	if (!error && is_group)
		error = mcr_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!error && !is_group)
		error = mcr_set_option(fd, SOL_SOCKET, SO_BINDTOIFINDEX, (int)options->ifindex);
	if (!error && bind(fd, (const struct sockaddr *)&local, sizeof(local)) < 0)
		error = -errno;
	return error;
}

static int stream_open(struct mcr_receiver *receiver, uint32_t index)
{
	struct mcr_stream *stream = &receiver->streams[index];
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = index };
	int error;

	stream->counters = &receiver->counters[index];
	stream->transport.pids = &receiver->pids[(size_t)index * MCR_PIDS];
	stream->sequence.bits = &receiver->bits[(size_t)index * (MCR_SEQUENCE_WINDOW / 64)];
	stream->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (stream->fd < 0)
		return -errno;
	error = socket_setup(stream->fd, &receiver->options, &receiver->options.streams[index]);
	if (!error && epoll_ctl(receiver->epoll_fd, EPOLL_CTL_ADD, stream->fd, &event) < 0)
		error = -errno;
	return error;
}

/* -- opening ------------------------------------------------------------------ */

static struct mcr_receiver *allocate(const struct mcr_receiver_options *options)
{
	struct mcr_receiver *receiver = calloc(1, sizeof(*receiver));
	uint32_t count = options->stream_count;

	if (!receiver)
		return NULL;
	receiver->options = *options;
	receiver->epoll_fd = -1;
	/* Large and zeroed: pages that no stream needs are never touched. */
	receiver->streams = calloc(count, sizeof(*receiver->streams));
	receiver->counters = calloc(count, sizeof(*receiver->counters));
	receiver->pids = calloc((size_t)count * MCR_PIDS, sizeof(*receiver->pids));
	receiver->bits = calloc((size_t)count, MCR_SEQUENCE_WINDOW / 8);
	receiver->buffers = calloc(BATCH_PACKETS, BUFFER_BYTES);
	for (uint32_t i = 0; receiver->streams && i < count; i++)
		receiver->streams[i].fd = -1;
	if (receiver->streams && receiver->counters && receiver->pids && receiver->bits &&
	    receiver->buffers)
		return receiver;
	mcr_receiver_close(receiver);
	return NULL;
}

static void prepare_messages(struct mcr_receiver *receiver)
{
	for (size_t i = 0; i < BATCH_PACKETS; i++) {
		receiver->vectors[i] =
			(struct iovec){ &receiver->buffers[i * BUFFER_BYTES], BUFFER_BYTES };
		receiver->messages[i].msg_hdr =
			(struct msghdr){ .msg_iov = &receiver->vectors[i], .msg_iovlen = 1 };
	}
}

struct mcr_receiver *mcr_receiver_open(const struct mcr_receiver_options *options,
				       uint32_t *failed_stream, int32_t *error)
{
	struct mcr_receiver *receiver = NULL;

	*failed_stream = UINT32_MAX;
	*error = -EINVAL;
	if (options->stream_count == 0)
		return NULL;
	*error = -ENOMEM;
	receiver = allocate(options);
	if (!receiver)
		return NULL;
	prepare_messages(receiver);
	*error = 0;
	receiver->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (receiver->epoll_fd < 0)
		*error = -errno;
	for (uint32_t i = 0; *error == 0 && i < options->stream_count; i++) {
		*error = stream_open(receiver, i);
		if (*error)
			*failed_stream = i;
	}
	receiver->options.streams = NULL; /* the caller's */
	if (*error == 0)
		return receiver;
	mcr_receiver_close(receiver);
	return NULL;
}

void mcr_receiver_close(struct mcr_receiver *receiver)
{
	for (uint32_t i = 0; receiver->streams && i < receiver->options.stream_count; i++)
		if (receiver->streams[i].fd >= 0)
			close(receiver->streams[i].fd);
	if (receiver->epoll_fd >= 0)
		close(receiver->epoll_fd);
	free(receiver->streams);
	free(receiver->counters);
	free(receiver->pids);
	free(receiver->bits);
	free(receiver->buffers);
	free(receiver);
}

void *mcr_receiver_counters(const struct mcr_receiver *receiver)
{
	return receiver->counters;
}

void *mcr_receiver_latency(const struct mcr_receiver *receiver)
{
	return (void *)(uintptr_t)&receiver->latency;
}

int32_t mcr_receiver_fd(const struct mcr_receiver *receiver, uint32_t stream)
{
	return stream < receiver->options.stream_count ? receiver->streams[stream].fd : -EINVAL;
}

int32_t mcr_receiver_buffer_bytes(const struct mcr_receiver *receiver)
{
	int bytes;
	socklen_t length = sizeof(bytes);

	if (getsockopt(receiver->streams[0].fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length) < 0)
		return -errno;
	return bytes;
}

/* -- receiving ---------------------------------------------------------------- */

static void count_batch(struct mcr_receiver *receiver, struct mcr_stream *stream, int packets)
{
	uint64_t now = now_ns(CLOCK_MONOTONIC), time = now_ns(CLOCK_REALTIME);

	if (stream->counters->packets == 0)
		stream->counters->first_ns = time;
	stream->counters->last_ns = time;
	for (int i = 0; i < packets; i++)
		mcr_stream_count(stream, receiver->vectors[i].iov_base,
				 receiver->messages[i].msg_len, receiver->options.clock, now,
				 &receiver->latency);
}

static int read_stream(struct mcr_receiver *receiver, struct mcr_stream *stream)
{
	for (int reads = 0; reads < READS_MAX; reads++) {
		int packets =
			recvmmsg(stream->fd, receiver->messages, BATCH_PACKETS, MSG_DONTWAIT, NULL);

		if (packets < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		count_batch(receiver, stream, packets);
		if (packets < BATCH_PACKETS)
			return 0;
	}
	return 0;
}

/* The counter of the socket itself, which outlives every read of it. */
static void read_drops(struct mcr_receiver *receiver)
{
	for (uint32_t i = 0; i < receiver->options.stream_count; i++) {
		struct mcr_stream *stream = &receiver->streams[i];
		uint32_t memory[SK_MEMINFO_VARS] = { 0 };
		socklen_t length = sizeof(memory);

		if (getsockopt(stream->fd, SOL_SOCKET, SO_MEMINFO, memory, &length) == 0)
			stream->counters->socket_drops = memory[SK_MEMINFO_DROPS];
	}
}

static uint64_t good_packets(const struct mcr_stream_counters *counters)
{
	return counters->packets - counters->duplicated - counters->corrupt - counters->foreign;
}

static bool has_expected(const struct mcr_receiver *receiver)
{
	uint64_t good = 0;

	if (receiver->options.expect == 0)
		return false;
	for (uint32_t i = 0; i < receiver->options.stream_count; i++)
		good += good_packets(&receiver->counters[i]);
	return good >= receiver->options.expect;
}

int32_t mcr_receiver_run(struct mcr_receiver *receiver, int32_t budget_ms)
{
	uint64_t now = now_ns(CLOCK_MONOTONIC), end = now + (uint64_t)budget_ms * NS_PER_MS;
	struct epoll_event events[EVENTS_MAX];
	int error = 0;

	while (!error && now < end) {
		int timeout_ms = (int)((end - now + NS_PER_MS - 1) / NS_PER_MS);
		int ready = epoll_wait(receiver->epoll_fd, events, EVENTS_MAX, timeout_ms);

		if (ready < 0) {
			error = errno == EINTR ? 0 : -errno;
			break;
		}
		for (int i = 0; !error && i < ready; i++)
			error = read_stream(receiver, &receiver->streams[events[i].data.u32]);
		now = now_ns(CLOCK_MONOTONIC);
	}
	read_drops(receiver);
	return error ? error : has_expected(receiver);
}
