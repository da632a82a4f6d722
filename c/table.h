/*
 * The rule table as it is built: which flow a datagram belongs to, where that
 * goes, and what has come back. Immutable but for the scratch of each worker.
 *
 *   key (interface, VLAN, destination, port) -> slot -> candidates by source
 *     -> flow -> rule counters, actions -> egress, destination, template of its header
 */
#ifndef MCR_TABLE_H
#define MCR_TABLE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "count.h"
#include "header.h"
#include "mcr.h"

/*
 * Rings of one worker in one table: an interface that has come back under its
 * name has a new one, and its old one until that is read to its end.
 */
#define MCR_PORTS_MAX (2 * MCR_INTERFACES_MAX)

/* Packets of one flow in a batch: worker.h. */
struct mcr_packet_list {
	uint32_t first; /* MCR_NONE: empty */
	uint32_t last;
};

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

/* Flow of this datagram, or MCR_NONE. source is 16 bytes. table.c */
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

/* Finds the origin with this source, port and rule. table.c */
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

#endif
