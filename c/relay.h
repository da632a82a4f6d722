/*
 * What the C files share among themselves; nothing here is exported.
 */
#ifndef MCR_RELAY_H
#define MCR_RELAY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "header.h"
#include "health.h"
#include "hop.h"
#include "mcr.h"
#include "reassembly.h"
#include "ring.h"

#define MCR_CACHE_LINE 64
/* Datagrams gathered before they are sent: a batch that fills up goes out early. */
#define MCR_BATCH_PACKETS_MAX 8192
/* Blocks held at once, so that none is held longer than a few ms of sending. */
#define MCR_BATCH_BLOCKS_MAX 32
/* Packets of a batch whose latency is sampled. */
#define MCR_SAMPLES_MAX 4
/*
 * Rings of one worker in one table: an interface that has come back under its
 * name has a new one, and its old one until that is read to its end.
 */
#define MCR_PORTS_MAX (2 * MCR_INTERFACES_MAX)

/* A counter has one writer; the relaxed store keeps readers from half a value. */
#define MCR_COUNT(field, n) __atomic_store_n(&(field), (field) + (uint64_t)(n), __ATOMIC_RELAXED)

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

struct mcr_packet_list {
	uint32_t first; /* MCR_NONE: empty */
	uint32_t last;
};
#define MCR_NONE UINT32_MAX

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
	struct mcr_reassembly *reassembly;
	struct mcr_sender *sender;
	struct mcr_queue *queues; /* of links that have something to send */
} __attribute__((aligned(MCR_CACHE_LINE)));

struct mcr_relay {
	struct mcr_table *table;
	uint32_t worker_count;
	int32_t stopping;
	uint8_t *counters;
	size_t counters_bytes; /* of all workers */
	uint32_t *rule_numbers; /* by slot: of the rule that has it, counted from the first that began */
	uint32_t rule_number_last;
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

struct mcr_flow {
	uint32_t rule; /* slot of its counters */
	uint32_t rule_number; /* no other rule has, nor had it */
	uint32_t action_first;
	uint32_t action_count;
};

/* Whose packets come back when the rule takes them: mcr_origin_spec. */
struct mcr_origin {
	uint32_t source; /* IPv4, network order */
	uint16_t port; /* network order */
	uint16_t reserved;
	uint32_t rule;
	uint32_t egress; /* MCR_NONE: the place is empty */
};

struct mcr_action {
	struct sockaddr_in to; /* port 0: the port it arrived at */
	uint32_t egress;
	uint32_t template; /* index; MCR_NONE: the socket sends all */
};

/* What one worker writes while it uses a table. */
struct mcr_scratch {
	struct mcr_packet_list *lists; /* by flow */
	uint32_t *touched; /* flows of this batch, in order of arrival */
	uint32_t touched_count;
	int64_t *runs_refused_until_ns; /* by egress: its socket, mcr_takes_runs() */
};

struct mcr_port {
	struct mcr_ring *ring;
	uint32_t interface;
};

struct mcr_table {
	uint32_t epoch;
	uint32_t slot_mask;
	bool any_port; /* some match names no port */
	bool any_vlan; /* some match names a VLAN */
	bool counts_health; /* every packet of a flow comes to one worker */
	struct mcr_slot *slots;
	struct mcr_candidate *candidates; /* the ones with a source first */
	struct mcr_flow *flows;
	struct mcr_action *actions;
	struct mcr_template *templates; /* of the actions that have a link */
	struct mcr_egress_spec *egresses;
	struct mcr_origin *origins;
	uint64_t origin_sources; /* a bit for each of their addresses: mcr_origin_bit */
	uint32_t origin_mask;
	struct mcr_port *ports; /* worker w: port_first[w] to port_first[w + 1] */
	uint32_t port_first[MCR_WORKERS_MAX + 1];
	struct mcr_scratch *scratch; /* by worker */
	void *memory;
};

/* Flow of this datagram, or MCR_NONE. source is 16 bytes. rules.c */
uint32_t mcr_table_find(const struct mcr_table *table, const struct mcr_key *key,
			const uint64_t source[2]);

static inline uint64_t mcr_origin_bit(uint32_t source)
{
	return 1ull << (source * 0x9e3779b1u >> 26);
}

static inline uint32_t mcr_origin_hash(const struct mcr_origin *origin)
{
	uint64_t hash = ((uint64_t)origin->source << 32 | origin->rule) * 0x9e3779b97f4a7c15u;

	hash = (hash ^ hash >> 32 ^ origin->port) * 0xd6e8feb86659fd93u;
	return (uint32_t)(hash >> 32);
}

/* Finds the origin with this source, port and rule. rules.c */
bool mcr_origin_find(const struct mcr_table *table, const struct mcr_origin *sought,
		     uint32_t *egress);

/*
 * A packet that this rule would take has come back: it was sent by the egress in this slot, which
 * the rule feeds. Source and port in network order. One bit says no for nearly all others.
 */
static inline bool mcr_table_returned(const struct mcr_table *table, uint32_t source,
				      uint16_t source_port, uint32_t rule, uint32_t *egress)
{
	const struct mcr_origin sought = { .source = source, .port = source_port, .rule = rule };

	if (__builtin_expect(!(table->origin_sources & mcr_origin_bit(source)), 1))
		return false;
	return mcr_origin_find(table, &sought, egress);
}

/* Gathers the datagrams of one ring block into the worker's lists. forward.c */
void mcr_block_gather(const struct mcr_table *table, struct mcr_worker *worker,
		      struct mcr_scratch *scratch, uint32_t interface,
		      struct mcr_block_reader reader);
/* Sends what was gathered, then empties the lists. forward.c */
void mcr_batch_send(const struct mcr_table *table, struct mcr_worker *worker,
		    struct mcr_scratch *scratch);

/* Counts the added latency of the batch's samples: it has just been sent. latency.c */
void mcr_samples_count(struct mcr_worker *worker);
/* Of the interface, six bytes. link.c */
const uint8_t *mcr_link_mac(const struct mcr_link *link);
/* Queues one flow's packets for the link of this action. link.c */
void mcr_flow_queue(const struct mcr_table *table, struct mcr_worker *worker,
		    const struct mcr_packet_list *list, const struct mcr_action *action);
/* Sends what is queued: on the link of this egress, or on all. link.c */
void mcr_link_flush(struct mcr_worker *worker, struct mcr_link *link);
void mcr_links_flush(struct mcr_worker *worker);

/* How sending failed. egress.c */
bool mcr_is_full(int error);
bool mcr_refuses_run(int error);
void mcr_count_dropped(struct mcr_egress_counters *counters, size_t packets, int error);

/*
 * Where a run was refused and its first datagram alone was not, no run is tried
 * for so long. The reason may pass: an MTU that was lower for a moment, a route.
 */
#define MCR_RUN_RETRY_NS 5000000000ll
/* CLOCK_MONOTONIC to a few ms, without a system call. egress.c */
int64_t mcr_coarse_ns(void);

static inline bool mcr_takes_runs(int64_t *refused_until_ns)
{
	if (__builtin_expect(*refused_until_ns != 0, 0) && mcr_coarse_ns() >= *refused_until_ns)
		*refused_until_ns = 0;
	return *refused_until_ns == 0;
}

/* Message arrays of one worker. egress.c */
struct mcr_sender *mcr_sender_open(void);
void mcr_sender_close(struct mcr_sender *sender);
/* Sends one flow's packets to every egress of the flow. egress.c */
void mcr_flow_send(const struct mcr_table *table, struct mcr_worker *worker,
		   struct mcr_scratch *scratch, uint32_t flow);

/* For sockets that only join or only send: nothing is ever queued on them. member.c */
int mcr_socket_receive_nothing(int fd);

#endif
