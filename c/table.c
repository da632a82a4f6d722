/*
 * The immutable rule table: built whole, checked whole, never changed.
 *
 *   key (interface, vlan, destination, port) -> slot -> candidates by source
 *     -> flow -> rule counters, actions -> egress socket and destination
 *
 * A datagram belongs to one rule: exact port before any port, a rule that
 * names its source before one that takes every source. What has the source of
 * an egress that its rule feeds has come back: mcr_table_returned.
 */
#define _GNU_SOURCE
#include "relay.h"
#include "send.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t key_hash(const struct mcr_key *key)
{
	uint64_t words[3], hash;

	memcpy(words, key, sizeof(words));
	/* Odd 64-bit constants with well-mixed bits; the groups of a range differ
	 * in a few low bits of words[1] and words[2] only. */
	hash = (words[0] ^ words[1]) * 0x9e3779b97f4a7c15u;
	hash = (hash ^ (hash >> 32) ^ words[2]) * 0xd6e8feb86659fd93u;
	return hash ^ (hash >> 32);
}

static bool key_equal(const struct mcr_key *a, const struct mcr_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static uint32_t slot_find(const struct mcr_table *table, const struct mcr_key *key)
{
	uint32_t index = (uint32_t)key_hash(key) & table->slot_mask;

	/* At most half full, so an empty slot ends every search. */
	while (table->slots[index].candidate_count && !key_equal(&table->slots[index].key, key))
		index = (index + 1) & table->slot_mask;
	return index;
}

static uint32_t candidate_find(const struct mcr_table *table, const struct mcr_key *key,
			       const uint64_t source[2])
{
	const struct mcr_slot *slot = &table->slots[slot_find(table, key)];

	for (uint32_t i = 0; i < slot->candidate_count; i++) {
		const struct mcr_candidate *candidate =
			&table->candidates[slot->candidate_first + i];
		bool any = candidate->source[0] == 0 && candidate->source[1] == 0;

		if (any || (candidate->source[0] == source[0] && candidate->source[1] == source[1]))
			return candidate->flow;
	}
	return MCR_NONE;
}

uint32_t mcr_table_find(const struct mcr_table *table, const struct mcr_key *key,
			const uint64_t source[2])
{
	uint32_t flow = candidate_find(table, key, source);

	if (flow == MCR_NONE && table->any_port) {
		struct mcr_key any = *key;

		any.port = 0;
		flow = candidate_find(table, &any, source);
	}
	return flow;
}

bool mcr_origin_find(const struct mcr_table *table, const struct mcr_origin *sought,
		     uint32_t *egress)
{
	uint32_t index = mcr_origin_hash(sought) & table->origin_mask;

	/* At most half full, as the slots above. */
	for (;; index = (index + 1) & table->origin_mask) {
		const struct mcr_origin *origin = &table->origins[index];

		if (origin->egress == MCR_NONE)
			return false;
		if (origin->source == sought->source && origin->port == sought->port &&
		    origin->rule == sought->rule) {
			*egress = origin->egress;
			return true;
		}
	}
}

/* -- building --------------------------------------------------------------- */

static struct mcr_key match_key(const struct mcr_match_spec *match)
{
	struct mcr_key key = { .port = match->port,
			       .vlan = match->vlan,
			       .interface = match->interface };

	memcpy(key.address, match->address, sizeof(key.address));
	return key;
}

/* By key, then with the zero source (any) last, as the search wants it. */
static int match_compare(const void *left, const void *right)
{
	const struct mcr_match_spec *a = left, *b = right;
	struct mcr_key key_a = match_key(a), key_b = match_key(b);
	int order = memcmp(&key_a, &key_b, sizeof(key_a));

	return order ? order : memcmp(b->source, a->source, sizeof(a->source));
}

static bool rings_valid(const struct mcr_relay *relay, const struct mcr_table_spec *spec)
{
	uint32_t ports[MCR_WORKERS_MAX] = { 0 };

	for (uint32_t i = 0; i < spec->ring_count; i++)
		if (!spec->rings[i].ring || spec->rings[i].worker >= relay->worker_count ||
		    spec->rings[i].interface >= MCR_INTERFACES_MAX ||
		    ports[spec->rings[i].worker]++ == MCR_PORTS_MAX)
			return false;
	return true;
}

static bool spec_valid(const struct mcr_relay *relay, const struct mcr_table_spec *spec)
{
	if (!rings_valid(relay, spec))
		return false;
	for (uint32_t i = 0; i < spec->match_count; i++)
		if (spec->matches[i].interface >= MCR_INTERFACES_MAX ||
		    spec->matches[i].flow >= spec->flow_count || spec->matches[i].vlan > 4094)
			return false;
	for (uint32_t i = 0; i < spec->flow_count; i++)
		if (spec->flows[i].rule >= MCR_RULES_MAX ||
		    spec->flows[i].action_first > spec->action_count ||
		    spec->flows[i].action_count > spec->action_count - spec->flows[i].action_first)
			return false;
	for (uint32_t i = 0; i < spec->action_count; i++)
		if (spec->actions[i].egress >= spec->egress_count)
			return false;
	for (uint32_t i = 0; i < spec->egress_count; i++)
		if (spec->egresses[i].slot >= MCR_EGRESSES_MAX || spec->egresses[i].fd < -1 ||
		    (spec->egresses[i].keep && !spec->egresses[i].link &&
		     spec->egresses[i].fd >= 0))
			return false;
	for (uint32_t i = 0; i < spec->origin_count; i++)
		if (spec->origins[i].source == 0 || spec->origins[i].source_port == 0 ||
		    spec->origins[i].rule >= MCR_RULES_MAX ||
		    spec->origins[i].egress >= MCR_EGRESSES_MAX)
			return false;
	return spec->epoch > 0 && spec->epoch <= INT32_MAX;
}

/* Hands out parts of one allocation, each on a cache line of its own. */
struct carver {
	uint8_t *memory; /* NULL while only measuring */
	size_t used;
};

static void *carve(struct carver *carver, size_t count, size_t item_bytes)
{
	void *part = carver->memory ? carver->memory + carver->used : NULL;
	size_t bytes = count * item_bytes;

	carver->used += (bytes + MCR_CACHE_LINE - 1) / MCR_CACHE_LINE * MCR_CACHE_LINE;
	return part;
}

static bool has_template(const struct mcr_table_spec *spec, const struct mcr_action_spec *action)
{
	const struct mcr_egress_spec *egress = &spec->egresses[action->egress];

	return egress->link && egress->fd >= 0;
}

static uint32_t template_count(const struct mcr_table_spec *spec)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < spec->action_count; i++)
		count += has_template(spec, &spec->actions[i]);
	return count;
}

/* Of an open-addressing table: a power of two, no more than half of it taken. */
static uint32_t slots_for(uint32_t count)
{
	uint32_t slots = 2;

	while (slots < count * 2)
		slots *= 2;
	return slots;
}

static struct mcr_table *table_carve(struct carver *carver, const struct mcr_relay *relay,
				     const struct mcr_table_spec *spec)
{
	const uint32_t slot_count = slots_for(spec->match_count);
	const uint32_t origin_slots = slots_for(spec->origin_count);
	struct mcr_table layout = { .slot_mask = slot_count - 1,
				    .origin_mask = origin_slots - 1,
				    .epoch = spec->epoch };
	struct mcr_table *table = carve(carver, 1, sizeof(*table));

	layout.slots = carve(carver, slot_count, sizeof(*layout.slots));
	layout.candidates = carve(carver, spec->match_count, sizeof(*layout.candidates));
	layout.flows = carve(carver, spec->flow_count, sizeof(*layout.flows));
	layout.actions = carve(carver, spec->action_count, sizeof(*layout.actions));
	layout.templates = carve(carver, template_count(spec), sizeof(*layout.templates));
	layout.egresses = carve(carver, spec->egress_count, sizeof(*layout.egresses));
	layout.origins = carve(carver, origin_slots, sizeof(*layout.origins));
	layout.ports = carve(carver, spec->ring_count, sizeof(*layout.ports));
	layout.scratch = carve(carver, relay->worker_count, sizeof(*layout.scratch));
	for (uint32_t i = 0; i < relay->worker_count; i++) {
		struct mcr_scratch scratch = { 0 };

		scratch.lists = carve(carver, spec->flow_count, sizeof(*scratch.lists));
		scratch.touched = carve(carver, spec->flow_count, sizeof(*scratch.touched));
		scratch.runs_refused_until_ns =
			carve(carver, spec->egress_count, sizeof(*scratch.runs_refused_until_ns));
		if (table)
			layout.scratch[i] = scratch;
	}
	if (table) {
		*table = layout;
		table->memory = carver->memory;
	}
	return table;
}

static void fill_ports(struct mcr_table *table, uint32_t worker_count,
		       const struct mcr_table_spec *spec)
{
	uint32_t used = 0;

	for (uint32_t worker = 0; worker <= MCR_WORKERS_MAX; worker++) {
		table->port_first[worker] = used;
		for (uint32_t i = 0; worker < worker_count && i < spec->ring_count; i++)
			if (spec->rings[i].worker == worker)
				table->ports[used++] =
					(struct mcr_port){ .ring = spec->rings[i].ring,
							   .interface = spec->rings[i].interface };
	}
}

static int fill_matches(struct mcr_table *table, struct mcr_match_spec *sorted, uint32_t count)
{
	qsort(sorted, count, sizeof(*sorted), match_compare);
	for (uint32_t i = 0; i < count; i++) {
		struct mcr_key key = match_key(&sorted[i]);
		struct mcr_slot *slot = &table->slots[slot_find(table, &key)];

		if (i > 0 && match_compare(&sorted[i - 1], &sorted[i]) == 0)
			return -EEXIST;
		if (slot->candidate_count == 0) {
			slot->key = key;
			slot->candidate_first = i;
		}
		slot->candidate_count++;
		table->candidates[i].flow = sorted[i].flow;
		memcpy(table->candidates[i].source, sorted[i].source,
		       sizeof(table->candidates[i].source));
		table->any_port |= key.port == 0;
		table->any_vlan |= key.vlan != 0;
	}
	return 0;
}

static void fill_template(struct mcr_template *template, const struct mcr_egress_spec *egress,
			  const struct sockaddr_in *to)
{
	const uint32_t keep = egress->keep;
	struct mcr_endpoints endpoints = {
		.source = keep & MCR_KEEP_SOURCE ? 0 : egress->source,
		.group = to->sin_addr.s_addr,
		.source_port = keep & MCR_KEEP_SOURCE_PORT ? 0 : htons(egress->source_port),
		.port = to->sin_port,
		.ttl = keep & (MCR_KEEP_TTL | MCR_KEEP_TTL_LESS_ONE) ? 0 : egress->ttl,
		.tos = keep & MCR_KEEP_DSCP ? 0 : (uint8_t)(egress->dscp << 2),
	};

	memcpy(endpoints.mac, mcr_link_mac(egress->link), sizeof(endpoints.mac));
	mcr_template_prepare(template, &endpoints);
}

static int fill_actions(struct mcr_table *table, const struct mcr_table_spec *spec)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < spec->action_count; i++) {
		const struct mcr_action_spec *action = &spec->actions[i];

		if (!mcr_is_mapped_ipv4(action->address))
			return -EINVAL;
		table->actions[i].egress = action->egress;
		table->actions[i].to.sin_family = AF_INET;
		table->actions[i].to.sin_port = htons(action->port);
		memcpy(&table->actions[i].to.sin_addr, action->address + 12, 4);
		table->actions[i].template = MCR_NONE;
		if (has_template(spec, action)) {
			fill_template(&table->templates[used], &spec->egresses[action->egress],
				      &table->actions[i].to);
			table->actions[i].template = used++;
		}
	}
	return 0;
}

/* Otherwise a worker sees holes where the packets of another are. */
static bool keeps_flows(const struct mcr_relay *relay, const struct mcr_table_spec *spec)
{
	for (uint32_t i = 0; i < spec->ring_count && relay->worker_count > 1; i++)
		if (spec->rings[i].ring->splits_flows)
			return false;
	return true;
}

static void fill_flows(struct mcr_table *table, const struct mcr_relay *relay,
		       const struct mcr_table_spec *spec)
{
	for (uint32_t i = 0; i < spec->flow_count; i++) {
		const struct mcr_flow_spec *flow = &spec->flows[i];

		table->flows[i] = (struct mcr_flow){ .rule = flow->rule,
						     .rule_number = relay->rule_numbers[flow->rule],
						     .action_first = flow->action_first,
						     .action_count = flow->action_count };
	}
}

/* Of two egresses with one source, the first: they send the same. */
static void fill_origins(struct mcr_table *table, const struct mcr_table_spec *spec)
{
	for (uint32_t i = 0; i <= table->origin_mask; i++)
		table->origins[i].egress = MCR_NONE;
	for (uint32_t i = 0; i < spec->origin_count; i++) {
		const struct mcr_origin origin = { .source = spec->origins[i].source,
						   .port = htons(spec->origins[i].source_port),
						   .rule = spec->origins[i].rule,
						   .egress = spec->origins[i].egress };
		uint32_t index = mcr_origin_hash(&origin) & table->origin_mask, known;

		if (mcr_origin_find(table, &origin, &known))
			continue;
		while (table->origins[index].egress != MCR_NONE)
			index = (index + 1) & table->origin_mask;
		table->origins[index] = origin;
		table->origin_sources |= mcr_origin_bit(origin.source);
	}
}

static void copy(void *to, const void *from, size_t bytes)
{
	if (bytes)
		memcpy(to, from, bytes);
}

struct mcr_table *mcr_table_build(const struct mcr_relay *relay, const struct mcr_table_spec *spec,
				  int32_t *error)
{
	struct carver carver = { 0 };
	struct mcr_match_spec *sorted;
	struct mcr_table *table;

	*error = -EINVAL;
	if (spec->match_count > UINT32_MAX / 4 || spec->origin_count > UINT32_MAX / 4 ||
	    !spec_valid(relay, spec))
		return NULL;

	*error = -ENOMEM;
	table_carve(&carver, relay, spec);
	carver.memory = aligned_alloc(MCR_CACHE_LINE, carver.used);
	sorted = malloc(spec->match_count * sizeof(*sorted) + 1);
	if (!carver.memory || !sorted)
		goto failed;
	memset(carver.memory, 0, carver.used);
	carver.used = 0;
	table = table_carve(&carver, relay, spec);

	fill_ports(table, relay->worker_count, spec);
	table->counts_health = keeps_flows(relay, spec);
	fill_flows(table, relay, spec);
	fill_origins(table, spec);
	copy(table->egresses, spec->egresses, spec->egress_count * sizeof(*spec->egresses));
	*error = fill_actions(table, spec);
	if (*error)
		goto failed;
	copy(sorted, spec->matches, spec->match_count * sizeof(*sorted));
	*error = fill_matches(table, sorted, spec->match_count);
	if (*error)
		goto failed;
	for (uint32_t i = 0; i < relay->worker_count; i++)
		for (uint32_t flow = 0; flow < spec->flow_count; flow++)
			table->scratch[i].lists[flow].first = MCR_NONE;
	free(sorted);
	return table;

failed:
	free(sorted);
	free(carver.memory);
	return NULL;
}

void mcr_table_free(struct mcr_table *table)
{
	if (table)
		free(table->memory);
}
