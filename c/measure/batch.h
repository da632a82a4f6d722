/*
 * One batch of test traffic: what the packets of all streams have in common,
 * whose turn it is, and the messages that are being sent. generator.c owns it
 * and says when; batch.c fills and sends.
 */
#ifndef MCR_BATCH_H
#define MCR_BATCH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "measure.h"
#include "payload.h"

#define MCR_BATCH_PACKETS_MAX MCR_BURST_MAX

struct mcr_batch {
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

	/* What is being sent. */
	uint32_t message_next;
	uint32_t message_count;
	uint32_t errors_in_a_row;
	uint32_t packet_count;
	struct mmsghdr messages[MCR_BATCH_PACKETS_MAX];
	uint32_t message_streams[MCR_BATCH_PACKETS_MAX];
	struct iovec vectors[MCR_BATCH_PACKETS_MAX][2];
	uint8_t headers[MCR_BATCH_PACKETS_MAX][MCR_PAYLOAD_HEADER_BYTES];
};

/* Of zeroed memory, with options in range: 0 or -errno. To be closed in either case. */
int mcr_batch_open(struct mcr_batch *batch, const struct mcr_generator_options *options);
void mcr_batch_close(struct mcr_batch *batch);

/* All streams have had all their packets. */
bool mcr_batch_is_finished(const struct mcr_batch *batch);
/* The packets of so many turns, with this as their time. */
void mcr_batch_fill(struct mcr_batch *batch, uint32_t turns, uint64_t sent_ns);
/* Until all is taken or end_ns has passed: 0 or -errno. */
int mcr_batch_offer(struct mcr_batch *batch, uint64_t end_ns);

static inline bool mcr_batch_is_taken(const struct mcr_batch *batch)
{
	return batch->message_next == batch->message_count;
}

#endif
