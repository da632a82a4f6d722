/*
 * The state of one generator, shared by generator.c, which paces, and batch.c,
 * which fills and sends.
 */
#ifndef MCR_GENERATOR_H
#define MCR_GENERATOR_H

#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>

#include "measure.h"
#include "payload.h"

#define NS_PER_S UINT64_C(1000000000)
#define BATCH_PACKETS_MAX MCR_BURST_MAX

struct mcr_generator {
	struct mcr_generator_options options;
	struct mcr_generator_counters *counters;
	uint64_t *sent_by_stream; /* right behind the counters */
	struct sockaddr_in *destinations;
	uint8_t *body;
	uint64_t body_hash;
	/* UDP_SEGMENT: udp(7) */
	_Alignas(struct cmsghdr) uint8_t segment_control[CMSG_SPACE(sizeof(uint16_t))];

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

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* True when the time has come, false when a signal did. */
static inline bool sleep_until(uint64_t until_ns)
{
	const struct timespec until = { .tv_sec = (time_t)(until_ns / NS_PER_S),
					.tv_nsec = (long)(until_ns % NS_PER_S) };

	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0;
}

/* All streams have had all their packets. batch.c */
bool mcr_batch_finished(const struct mcr_generator *generator);
/* The packets that come next, with this as their time. batch.c */
void mcr_batch_fill(struct mcr_generator *generator, uint64_t sent_ns);
/* Until all is taken or end_ns has passed: 0 or -errno. batch.c */
int mcr_batch_offer(struct mcr_generator *generator, uint64_t end_ns);

#endif
