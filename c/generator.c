/*
 * Test traffic: round-robin over the streams, a burst of each in turn, at
 * absolute deadlines, so that no delay adds up. Never loses a packet: what the
 * kernel has no room for is offered again, over as many calls as it takes.
 */
#define _GNU_SOURCE
#include "measure.h"
#include "payload.h"

#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
/* A sleep costs about 5 us of CPU: at higher rates more leaves at once. */
#define WAKEUPS_PER_S 10000
#define UNPACED_PACKETS 64
#define BATCH_PACKETS_MAX MCR_BURST_MAX
/* A stall up to this is caught up with, at twice the rate; what is beyond is skipped. */
#define DEBT_NS_MAX (100 * NS_PER_MS)
/* The device queue is full (ENOBUFS): nothing tells when it has room again. */
#define QUEUE_PAUSE_NS 50000
/* So often in a row one message is refused before that is the end. */
#define ERRORS_MAX 3

union segment_control {
	struct cmsghdr header;
	uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
};

struct mcr_generator {
	struct mcr_generator_options options;
	struct mcr_generator_counters *counters;
	uint64_t *sent_by_stream; /* right behind the counters */
	struct sockaddr_in *destinations;
	uint8_t *body;
	uint64_t body_hash;
	union segment_control segment;

	/* What comes next: the burst of one stream, of one round over all streams. */
	uint32_t stream;
	uint64_t sequence; /* where this round begins */
	uint64_t start_ns;
	/* Since origin_ns, so many packets were due. */
	uint64_t origin_ns;
	uint64_t due_packets;
	uint64_t earliest_ns;
	uint32_t batch_turns;

	/* The batch that is being sent. */
	uint32_t message_next;
	uint32_t message_count;
	uint32_t errors_in_a_row;
	uint32_t packet_count;
	struct mmsghdr messages[BATCH_PACKETS_MAX];
	uint32_t message_streams[BATCH_PACKETS_MAX];
	struct iovec vectors[BATCH_PACKETS_MAX][2];
	uint8_t headers[BATCH_PACKETS_MAX][MCR_PAYLOAD_HEADER_BYTES];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* True when the time has come, false when a signal did. */
static bool sleep_until(uint64_t until_ns)
{
	const struct timespec until = { .tv_sec = (time_t)(until_ns / NS_PER_S),
					.tv_nsec = (long)(until_ns % NS_PER_S) };

	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0;
}

/* -- opening ------------------------------------------------------------------ */

static bool is_valid(const struct mcr_generator_options *options)
{
	return options->stream_count > 0 && options->payload_bytes >= MCR_PAYLOAD_HEADER_BYTES &&
	       options->payload_bytes <= MCR_PAYLOAD_BYTES_MAX && options->burst > 0 &&
	       options->burst <= MCR_BURST_MAX && options->segments > 0 &&
	       options->segments <= MCR_SEGMENTS_MAX &&
	       options->segments * options->payload_bytes <= MCR_PAYLOAD_BYTES_MAX;
}

static uint32_t turns_per_batch(const struct mcr_generator_options *options)
{
	uint32_t packets = options->rate_pps ? options->rate_pps / WAKEUPS_PER_S : UNPACED_PACKETS;

	if (packets > BATCH_PACKETS_MAX)
		packets = BATCH_PACKETS_MAX;
	return packets > options->burst ? packets / options->burst : 1;
}

static int copy_streams(struct mcr_generator *generator)
{
	for (uint32_t i = 0; i < generator->options.stream_count; i++) {
		const struct mcr_stream_spec *spec = &generator->options.streams[i];
		int error = mcr_ipv4_of(&generator->destinations[i], spec->address);

		if (error)
			return error;
		generator->destinations[i].sin_port = htons(spec->port);
	}
	return 0;
}

static void copy_body(struct mcr_generator *generator)
{
	const struct mcr_generator_options *options = &generator->options;
	uint32_t bytes = options->payload_bytes - MCR_PAYLOAD_HEADER_BYTES;

	for (uint32_t i = 0; options->body_bytes && i < bytes; i++)
		generator->body[i] = options->body[i % options->body_bytes];
	generator->body_hash = mcr_hash(generator->body, bytes);
}

static int setup(struct mcr_generator *generator)
{
	const struct mcr_generator_options *options = &generator->options;
	const int on = 1;
	int error = copy_streams(generator);

	if (error)
		return error;
	copy_body(generator);
	generator->batch_turns = turns_per_batch(options);
	generator->segment.header = (struct cmsghdr){ .cmsg_level = SOL_UDP,
						      .cmsg_type = UDP_SEGMENT,
						      .cmsg_len = CMSG_LEN(sizeof(uint16_t)) };
	memcpy(CMSG_DATA(&generator->segment.header),
	       &(uint16_t){ (uint16_t)options->payload_bytes }, sizeof(uint16_t));
	/* A receiver on this host shall see it too, as with any other sender. */
	if (setsockopt(options->fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on, sizeof(on)) < 0)
		return -errno;
	/* The default slack of 50 us would round every pause up. */
	prctl(PR_SET_TIMERSLACK, 1);
	return 0;
}

static struct mcr_generator *allocate(const struct mcr_generator_options *options)
{
	struct mcr_generator *generator = calloc(1, sizeof(*generator));

	if (!generator)
		return NULL;
	generator->options = *options;
	generator->counters =
		calloc(1, sizeof(*generator->counters) + options->stream_count * sizeof(uint64_t));
	generator->destinations = calloc(options->stream_count, sizeof(*generator->destinations));
	generator->body = calloc(1, options->payload_bytes);
	if (!generator->counters || !generator->destinations || !generator->body) {
		mcr_generator_close(generator);
		return NULL;
	}
	generator->sent_by_stream = (uint64_t *)(generator->counters + 1);
	return generator;
}

struct mcr_generator *mcr_generator_open(const struct mcr_generator_options *options,
					 int32_t *error)
{
	struct mcr_generator *generator;

	*error = -EINVAL;
	if (!is_valid(options))
		return NULL;
	*error = -ENOMEM;
	generator = allocate(options);
	if (!generator)
		return NULL;
	*error = setup(generator);
	/* The caller's; they are not touched again. */
	generator->options.streams = NULL;
	generator->options.body = NULL;
	if (*error) {
		mcr_generator_close(generator);
		return NULL;
	}
	return generator;
}

void *mcr_generator_counters(const struct mcr_generator *generator)
{
	return generator->counters;
}

void mcr_generator_close(struct mcr_generator *generator)
{
	free(generator->counters);
	free(generator->destinations);
	free(generator->body);
	free(generator);
}

/* -- one batch ---------------------------------------------------------------- */

/* Packets of the stream whose turn it is. */
static uint32_t turn_length(const struct mcr_generator *generator)
{
	const struct mcr_generator_options *options = &generator->options;
	uint64_t left = options->count - generator->sequence;

	return options->count && left < options->burst ? (uint32_t)left : options->burst;
}

static bool is_finished(const struct mcr_generator *generator)
{
	return generator->options.count && generator->sequence >= generator->options.count;
}

static void add_message(struct mcr_generator *generator, uint32_t first, uint32_t packets)
{
	uint32_t index = generator->message_count++;
	bool is_segmented = packets > 1;

	generator->message_streams[index] = generator->stream;
	generator->messages[index].msg_hdr = (struct msghdr){
		.msg_name = &generator->destinations[generator->stream],
		.msg_namelen = sizeof(generator->destinations[0]),
		.msg_iov = generator->vectors[first],
		.msg_iovlen = 2 * packets,
		.msg_control = is_segmented ? generator->segment.bytes : NULL,
		.msg_controllen = is_segmented ? sizeof(generator->segment.bytes) : 0,
	};
}

static void add_packet(struct mcr_generator *generator, uint64_t sequence, uint64_t sent_ns)
{
	const struct mcr_generator_options *options = &generator->options;
	const struct mcr_payload payload = { .stream = generator->stream,
					     .sequence = sequence,
					     .sent_ns = sent_ns,
					     .clock = options->clock };
	uint32_t index = generator->packet_count++;

	mcr_payload_write(generator->headers[index], &payload, generator->body_hash);
	generator->vectors[index][0] =
		(struct iovec){ generator->headers[index], MCR_PAYLOAD_HEADER_BYTES };
	generator->vectors[index][1] =
		(struct iovec){ generator->body,
				options->payload_bytes - MCR_PAYLOAD_HEADER_BYTES };
}

static void add_turn(struct mcr_generator *generator, uint64_t sent_ns)
{
	uint32_t length = turn_length(generator), segments = generator->options.segments;

	for (uint32_t i = 0; i < length; i++) {
		if (i % segments == 0)
			add_message(generator, generator->packet_count,
				    length - i < segments ? length - i : segments);
		add_packet(generator, generator->sequence + i, sent_ns);
	}
	if (++generator->stream == generator->options.stream_count) {
		generator->stream = 0;
		generator->sequence += length;
	}
}

static void fill_batch(struct mcr_generator *generator, uint64_t sent_ns)
{
	generator->message_next = 0;
	generator->message_count = 0;
	generator->packet_count = 0;
	for (uint32_t turn = 0; turn < generator->batch_turns && !is_finished(generator); turn++)
		add_turn(generator, sent_ns);
	if (generator->counters->first_ns == 0)
		generator->counters->first_ns = sent_ns;
	generator->counters->last_ns = sent_ns;
	generator->counters->last_packets = generator->packet_count;
	generator->due_packets += generator->packet_count;
}

static void count_sent(struct mcr_generator *generator, uint32_t messages)
{
	for (uint32_t end = generator->message_next + messages; generator->message_next < end;
	     generator->message_next++) {
		uint32_t index = generator->message_next;
		uint64_t packets = generator->messages[index].msg_hdr.msg_iovlen / 2;

		generator->counters->sent_packets += packets;
		generator->sent_by_stream[generator->message_streams[index]] += packets;
	}
	generator->errors_in_a_row = 0;
}

static void wait_for_room(const struct mcr_generator *generator, int error)
{
	struct pollfd room = { .fd = generator->options.fd, .events = POLLOUT };

	if (error == EAGAIN)
		poll(&room, 1, 10);
	else
		sleep_until(now_ns() + QUEUE_PAUSE_NS);
}

/*
 * Until all is taken or end_ns has passed: 0, or -errno. A socket reports an
 * ICMP answer to an earlier datagram once (ip(7), IP_RECVERR), instead of
 * sending; an error that stays is another matter.
 */
static int send_batch(struct mcr_generator *generator, uint64_t end_ns)
{
	struct mcr_generator_counters *counters = generator->counters;

	while (generator->message_next < generator->message_count) {
		int sent = sendmmsg(generator->options.fd,
				    &generator->messages[generator->message_next],
				    generator->message_count - generator->message_next,
				    MSG_DONTWAIT);
		int error = errno;

		if (sent > 0) {
			count_sent(generator, (uint32_t)sent);
			continue;
		}
		if (error == EINTR)
			return 0;
		if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) {
			counters->retries++;
			wait_for_room(generator, error);
		} else {
			counters->errors++;
			if (error != ECONNREFUSED && ++generator->errors_in_a_row == ERRORS_MAX)
				return -error;
		}
		if (now_ns() >= end_ns)
			return 0;
	}
	counters->end_ns = now_ns();
	return 0;
}

/* -- pacing ------------------------------------------------------------------- */

static uint64_t due_ns(const struct mcr_generator *generator)
{
	double ns_per_packet = (double)NS_PER_S / generator->options.rate_pps;

	return generator->origin_ns + (uint64_t)((double)generator->due_packets * ns_per_packet);
}

/* When the next batch goes; moves the schedule when it is too far behind. */
static uint64_t next_ns(struct mcr_generator *generator, uint64_t now)
{
	uint64_t due;

	if (!generator->start_ns)
		generator->start_ns = generator->origin_ns = now;
	if (!generator->options.rate_pps)
		return now;
	due = due_ns(generator);
	if (now > due + DEBT_NS_MAX) {
		generator->counters->skipped_ns += now - due - DEBT_NS_MAX;
		generator->origin_ns += now - due - DEBT_NS_MAX;
	}
	return due > generator->earliest_ns ? due : generator->earliest_ns;
}

static void pace(struct mcr_generator *generator, uint64_t now)
{
	if (generator->options.rate_pps)
		generator->earliest_ns =
			now + generator->packet_count * NS_PER_S / generator->options.rate_pps / 2;
}

/* Paced, what is due before the end is sent even when it is a little late. */
static bool is_over(const struct mcr_generator *generator, uint64_t next, uint64_t now)
{
	uint64_t stop = generator->start_ns + generator->options.duration_ns;

	if (is_finished(generator))
		return true;
	if (!generator->options.duration_ns)
		return false;
	return next >= stop || now >= stop + DEBT_NS_MAX;
}

int32_t mcr_generator_run(struct mcr_generator *generator, int32_t budget_ms)
{
	uint64_t now = now_ns(), end = now + (uint64_t)budget_ms * NS_PER_MS;

	for (;;) {
		int error = send_batch(generator, end);
		uint64_t next;

		if (error)
			return error;
		now = now_ns();
		if (generator->message_next < generator->message_count)
			return 0;
		next = next_ns(generator, now);
		if (is_over(generator, next, now))
			return 1;
		if (next >= end || now >= end) {
			sleep_until(next < end ? next : end);
			return 0;
		}
		if (next > now && !sleep_until(next))
			return 0;
		now = now_ns();
		fill_batch(generator, now);
		pace(generator, now);
	}
}
