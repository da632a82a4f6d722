/*
 * One worker, and the batch that it gathers and sends: gather.c fills it frame
 * by frame, send.c empties it, forward.c does one after the other.
 */
#ifndef MCR_WORKER_H
#define MCR_WORKER_H

#include <stdint.h>

#include "count.h"
#include "health.h"
#include "hop.h"
#include "mcr.h"
#include "reassembly.h"
#include "ring.h"
#include "table.h"

/* Datagrams gathered before they are sent: a batch that fills up goes out early. */
#define MCR_BATCH_PACKETS_MAX 8192
/* Blocks held at once, so that none is held longer than a few ms of sending. */
#define MCR_BATCH_BLOCKS_MAX 32
/* Packets of a batch whose latency is sampled. */
#define MCR_SAMPLES_MAX 4

/* One datagram of a batch, still lying where the ring keeps it. */
struct mcr_packet {
	const uint8_t *payload;
	uint32_t bytes;
	uint32_t next; /* of the same flow, in arrival order */
	uint32_t source; /* network order */
	uint16_t source_port; /* network order */
	uint16_t port; /* it arrived at */
	uint8_t ttl;
	uint8_t tos;
	uint8_t hop; /* the number of its hop mark, 1 to MCR_HOP_MAX: hop.h */
};

/* A packet whose added latency is to be counted once it is sent. */
struct mcr_sample {
	uint64_t received_ns;
	uint32_t rule;
};

/* Everything that one worker needs for itself; allocated once. */
struct mcr_worker {
	uint32_t index;
	uint32_t epoch_seen;
	int event_fd;
	struct mcr_worker_counters *counters;
	struct mcr_interface_counters *interfaces;
	struct mcr_rule_counters *rules;
	struct mcr_egress_counters *egresses;
	struct mcr_added_latency_counters *latencies; /* by rule, then that of all */
	struct mcr_health health;
	struct mcr_hops hops;
	struct mcr_sample samples[MCR_SAMPLES_MAX];
	uint32_t sample_count;
	struct mcr_packet *packets; /* MCR_BATCH_PACKETS_MAX */
	uint32_t packet_count;
	uint32_t block_count; /* held: turns that rings gave to this batch */
	int64_t began_ns; /* when the batch was begun: CLOCK_MONOTONIC */
	int64_t pause_ns; /* of the rings that gave it full blocks, the longest */
	bool is_drained; /* the batch has read all that was in the rings when it began */
	struct mcr_reassembly *reassembly;
	struct mcr_sender *sender;
	struct mcr_queue *queues; /* of links that have something to send */
} __attribute__((aligned(MCR_CACHE_LINE)));

/* One frame of the interface in this slot, as the ring was read: into the batch, or one counter. gather.c */
void mcr_gather(const struct mcr_table *table, struct mcr_worker *worker,
		struct mcr_scratch *scratch, uint32_t interface, enum mcr_read read,
		const struct mcr_frame *frame);
/* All that is left in a block. gather.c */
void mcr_block_gather(const struct mcr_table *table, struct mcr_worker *worker,
		      struct mcr_scratch *scratch, uint32_t interface,
		      struct mcr_block_reader reader);
/* Sends what was gathered, then empties the lists. send.c */
void mcr_batch_send(const struct mcr_table *table, struct mcr_worker *worker,
		    struct mcr_scratch *scratch);
/* Counts the added latency of the batch's samples: it has just been sent. latency.c */
void mcr_samples_count(struct mcr_worker *worker);

#endif
