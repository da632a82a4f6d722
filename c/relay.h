/*
 * What the C files share among themselves; nothing here is exported.
 */
#ifndef MCR_RELAY_H
#define MCR_RELAY_H

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mcr.h"

#define MCR_CACHE_LINE 64
/* Datagrams gathered before they are sent: a batch that fills up goes out early. */
#define MCR_BATCH_PACKETS_MAX 8192
/* Blocks held at once, so that none is held longer than a few ms of sending. */
#define MCR_BATCH_BLOCKS_MAX 32
/* Packets of a batch whose latency is sampled. */
#define MCR_SAMPLES_MAX 4
#define MCR_FILTER_LENGTH_MAX 4096 /* BPF_MAXINSNS */

/* A counter has one writer; the relaxed store keeps readers from half a value. */
#define MCR_COUNT(field, n) __atomic_store_n(&(field), (field) + (uint64_t)(n), __ATOMIC_RELAXED)

struct mcr_ring {
	int fd;
	uint32_t block_next; /* written by its worker only */
	uint32_t block_bytes;
	uint32_t block_count;
	uint32_t fanout_id;
	uint8_t *map;
	size_t map_bytes;
};

/* One datagram of a batch, still lying in ring memory. */
struct mcr_packet {
	const uint8_t *payload;
	uint32_t bytes;
	uint32_t next; /* of the same flow, in arrival order */
	uint16_t port; /* it arrived at */
};

struct mcr_packet_list {
	uint32_t first; /* MCR_NONE: empty */
	uint32_t last;
};
#define MCR_NONE UINT32_MAX

/* A packet whose added latency is to be counted once it is sent. */
struct mcr_sample {
	uint64_t received_ns;
	uint32_t flow;
	uint32_t rule;
};

/* Everything that one worker needs for itself; allocated once. */
struct mcr_worker {
	uint32_t epoch_seen;
	int event_fd;
	struct mcr_worker_counters *counters;
	struct mcr_interface_counters *interfaces;
	struct mcr_rule_counters *rules;
	struct mcr_egress_counters *egresses;
	struct mcr_added_latency_counters *latencies; /* by rule, then that of all */
	struct mcr_sample samples[MCR_SAMPLES_MAX];
	uint32_t sample_count;
	struct mcr_packet *packets; /* MCR_BATCH_PACKETS_MAX */
	uint32_t packet_count;
	struct tpacket_block_desc *blocks[MCR_BATCH_BLOCKS_MAX];
	uint32_t block_count;
	struct mcr_sender *sender;
} __attribute__((aligned(MCR_CACHE_LINE)));

struct mcr_relay {
	struct mcr_table *table;
	uint32_t worker_count;
	int32_t stopping;
	uint8_t *counters;
	size_t counters_bytes; /* of all workers */
	struct mcr_worker workers[];
};

/* -- the table, as built --------------------------------------------------- */

struct mcr_key {
	uint64_t address[2];
	uint16_t port;
	uint16_t vlan;
	uint32_t interface;
};
_Static_assert(sizeof(struct mcr_key) == 24, "hashed as three words");

struct mcr_candidate {
	uint64_t source[2]; /* zero: any */
	uint32_t flow;
	uint32_t reserved;
};

struct mcr_slot {
	struct mcr_key key;
	uint32_t candidate_first;
	uint32_t candidate_count; /* 0: the slot is empty */
};

struct mcr_action {
	struct sockaddr_in to; /* port 0: the port it arrived at */
	uint32_t egress;
};

/* What one worker writes while it uses a table. */
struct mcr_scratch {
	struct mcr_packet_list *lists; /* by flow */
	uint32_t *touched; /* flows of this batch, in order of arrival */
	uint32_t touched_count;
	uint8_t *run_refused; /* by egress: this egress takes no super-frames */
};

struct mcr_port {
	struct mcr_ring *ring;
	uint32_t interface;
};

struct mcr_table {
	uint32_t epoch;
	uint32_t slot_mask;
	bool any_port; /* some match names no port */
	struct mcr_slot *slots;
	struct mcr_candidate *candidates; /* the ones with a source first */
	struct mcr_flow_spec *flows;
	struct mcr_action *actions;
	struct mcr_egress_spec *egresses;
	struct mcr_port *ports; /* worker w: port_first[w] to port_first[w + 1] */
	uint32_t port_first[MCR_WORKERS_MAX + 1];
	struct mcr_scratch *scratch; /* by worker */
	void *memory;
};

/* Flow of this datagram, or MCR_NONE. source is 16 bytes. rules.c */
uint32_t mcr_table_find(const struct mcr_table *table, const struct mcr_key *key,
			const uint64_t source[2]);

/* The filter program for these ranges; its length, or -E2BIG. ring.c */
int32_t mcr_filter_build(const struct mcr_address_range *ranges, uint32_t range_count,
			 struct sock_filter *program, uint32_t length_max);

/* Gathers the datagrams of one ring block into the worker's lists. forward.c */
void mcr_block_gather(const struct mcr_table *table, struct mcr_worker *worker,
		      struct mcr_scratch *scratch, uint32_t interface,
		      const struct tpacket_block_desc *block, size_t block_bytes);
/* Sends what was gathered, then empties the lists. forward.c */
void mcr_batch_send(const struct mcr_table *table, struct mcr_worker *worker,
		    struct mcr_scratch *scratch);

/* Counts the added latency of the samples of this flow: it has just been sent. latency.c */
void mcr_samples_count(struct mcr_worker *worker, uint32_t flow);

/* Message arrays of one worker. egress.c */
struct mcr_sender *mcr_sender_open(void);
void mcr_sender_close(struct mcr_sender *sender);
/* Sends one flow's packets to every egress of the flow. egress.c */
void mcr_flow_send(const struct mcr_table *table, struct mcr_worker *worker,
		   struct mcr_scratch *scratch, uint32_t flow);

/* For sockets that only join or only send: nothing is ever queued on them. member.c */
int mcr_socket_receive_nothing(int fd);

#endif
