/*
 * Test traffic: round-robin over the streams, a burst of each in turn, at
 * absolute deadlines, so that no delay adds up. Never loses a packet: what the
 * kernel has no room for is offered again, over as many calls as it takes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "batch.h"
#include "clock.h"

/* A sleep costs about 5 us of CPU: at higher rates more leaves at once. */
#define WAKEUPS_PER_S 10000
#define UNPACED_PACKETS 64
/* A stall up to this is caught up with, at twice the rate; what is beyond is skipped. */
#define DEBT_NS_MAX (500 * NS_PER_MS)

struct mcr_generator {
	struct mcr_batch batch;
	uint32_t batch_turns;
	uint64_t start_ns;
	/* Since origin_ns, so many packets were due. */
	uint64_t origin_ns;
	uint64_t due_packets;
	uint64_t earliest_ns;
};

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

	if (packets > MCR_BATCH_PACKETS_MAX)
		packets = MCR_BATCH_PACKETS_MAX;
	return packets > options->burst ? packets / options->burst : 1;
}

struct mcr_generator *mcr_generator_open(const struct mcr_generator_options *options,
					 int32_t *error)
{
	struct mcr_generator *generator;

	*error = -EINVAL;
	if (!is_valid(options))
		return NULL;
	*error = -ENOMEM;
	generator = calloc(1, sizeof(*generator));
	if (!generator)
		return NULL;
	*error = mcr_batch_open(&generator->batch, options);
	if (*error) {
		mcr_generator_close(generator);
		return NULL;
	}
	generator->batch_turns = turns_per_batch(options);
	/* The default slack of 50 us would round every pause up. */
	prctl(PR_SET_TIMERSLACK, 1);
	return generator;
}

void *mcr_generator_counters(const struct mcr_generator *generator)
{
	return generator->batch.counters;
}

void mcr_generator_close(struct mcr_generator *generator)
{
	mcr_batch_close(&generator->batch);
	free(generator);
}

/* -- pacing ------------------------------------------------------------------- */

static uint64_t due_ns(const struct mcr_generator *generator)
{
	double ns_per_packet = (double)NS_PER_S / generator->batch.options.rate_pps;

	return generator->origin_ns + (uint64_t)((double)generator->due_packets * ns_per_packet);
}

/* When the next batch goes; moves the schedule when it is too far behind. */
static uint64_t next_ns(struct mcr_generator *generator, uint64_t now)
{
	uint64_t due;

	if (!generator->start_ns)
		generator->start_ns = generator->origin_ns = now;
	if (!generator->batch.options.rate_pps)
		return now;
	due = due_ns(generator);
	if (now > due + DEBT_NS_MAX) {
		generator->batch.counters->skipped_ns += now - due - DEBT_NS_MAX;
		generator->origin_ns += now - due - DEBT_NS_MAX;
	}
	return due > generator->earliest_ns ? due : generator->earliest_ns;
}

static void pace(struct mcr_generator *generator, uint64_t now)
{
	if (generator->batch.options.rate_pps)
		generator->earliest_ns = now + generator->batch.packet_count * NS_PER_S /
						       generator->batch.options.rate_pps / 2;
}

/* Paced, what is due before the end is sent even when it is a little late. */
static bool is_over(const struct mcr_generator *generator, uint64_t next, uint64_t now)
{
	uint64_t stop = generator->start_ns + generator->batch.options.duration_ns;

	if (mcr_batch_is_finished(&generator->batch))
		return true;
	if (!generator->batch.options.duration_ns)
		return false;
	return next >= stop || now >= stop + DEBT_NS_MAX;
}

int32_t mcr_generator_run(struct mcr_generator *generator, int32_t budget_ms)
{
	uint64_t now = now_ns(CLOCK_MONOTONIC), end = now + (uint64_t)budget_ms * NS_PER_MS;

	for (;;) {
		int error = mcr_batch_offer(&generator->batch, end);
		uint64_t next;

		if (error)
			return error;
		now = now_ns(CLOCK_MONOTONIC);
		if (!mcr_batch_is_taken(&generator->batch))
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
		now = now_ns(CLOCK_MONOTONIC);
		mcr_batch_fill(&generator->batch, generator->batch_turns, now);
		generator->due_packets += generator->batch.packet_count;
		pace(generator, now);
	}
}
