/*
 * Test traffic: round-robin over the streams, a burst of each in turn, at
 * absolute deadlines, so that no delay adds up. Never loses a packet: what the
 * kernel has no room for is offered again, over as many calls as it takes.
 */
#define _GNU_SOURCE
#include "generator.h"

#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/prctl.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define NS_PER_MS UINT64_C(1000000)
/* A sleep costs about 5 us of CPU: at higher rates more leaves at once. */
#define WAKEUPS_PER_S 10000
#define UNPACED_PACKETS 64
/* A stall up to this is caught up with, at twice the rate; what is beyond is skipped. */
#define DEBT_NS_MAX (500 * NS_PER_MS)

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
	struct cmsghdr *segment = (struct cmsghdr *)generator->segment_control;
	const int on = 1;
	int error = copy_streams(generator);

	if (error)
		return error;
	copy_body(generator);
	generator->batch_turns = turns_per_batch(options);
	*segment = (struct cmsghdr){ .cmsg_level = SOL_UDP,
				     .cmsg_type = UDP_SEGMENT,
				     .cmsg_len = CMSG_LEN(sizeof(uint16_t)) };
	memcpy(CMSG_DATA(segment), &(uint16_t){ (uint16_t)options->payload_bytes },
	       sizeof(uint16_t));
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

	if (mcr_batch_finished(generator))
		return true;
	if (!generator->options.duration_ns)
		return false;
	return next >= stop || now >= stop + DEBT_NS_MAX;
}

int32_t mcr_generator_run(struct mcr_generator *generator, int32_t budget_ms)
{
	uint64_t now = now_ns(), end = now + (uint64_t)budget_ms * NS_PER_MS;

	for (;;) {
		int error = mcr_batch_offer(generator, end);
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
		mcr_batch_fill(generator, now);
		pace(generator, now);
	}
}
