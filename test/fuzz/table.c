/*
 * Fuzzes c/table.c: tables of arbitrary arrays, each in memory of exactly its
 * size. What cannot be built is refused; in what is built, every match is
 * found, and whatever is found lies inside the table.
 *
 *   input: | counts, 5 | one byte for each field of each entry ... | finds ... |
 */
#define _GNU_SOURCE
#include "fuzz.h"
#include "relay.h"

#include <errno.h>

static struct mcr_relay *relay;

static const uint8_t *next, *end;

static uint8_t take(void)
{
	return next < end ? *next++ : 0;
}

/* Small numbers, and those at the limits. */
static uint32_t number(void)
{
	static const uint32_t limits[] = { UINT32_MAX,	       INT32_MAX,     4095,
					   MCR_INTERFACES_MAX, MCR_RULES_MAX, MCR_EGRESSES_MAX };
	uint8_t byte = take();

	return byte < 250 ? byte % 16 : limits[byte - 250];
}

/* One of a few, so that keys meet; now and then no IPv4 address. */
static void address(uint8_t bytes[16])
{
	uint8_t byte = take();

	memset(bytes, 0, 16);
	if (byte % 8 == 0)
		return;
	bytes[10] = bytes[11] = 0xff;
	bytes[12] = 239;
	bytes[15] = byte % 8;
	bytes[0] = byte == 255;
}

static void *array(uint32_t count, size_t item_bytes)
{
	void *memory = calloc(count, item_bytes);

	require(memory != NULL);
	return memory;
}

static void require_found(const struct mcr_table *table, const struct mcr_table_spec *spec)
{
	for (uint32_t i = 0; i < spec->match_count; i++) {
		const struct mcr_match_spec *match = &spec->matches[i];
		struct mcr_key key = { .port = match->port,
				       .vlan = match->vlan,
				       .interface = match->interface };
		uint64_t source[2];

		memcpy(key.address, match->address, 16);
		memcpy(source, match->source, 16);
		require(mcr_table_find(table, &key, source) == match->flow);
	}
	while (next < end) {
		struct mcr_key key = { .interface = number(),
				       .vlan = (uint16_t)number(),
				       .port = (uint16_t)number() };
		uint64_t source[2];
		uint32_t flow;

		address((uint8_t *)key.address);
		address((uint8_t *)source);
		flow = mcr_table_find(table, &key, source);
		require(flow == MCR_NONE || flow < spec->flow_count);
	}
	require(table->port_first[MCR_WORKERS_MAX] == spec->ring_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	static struct mcr_ring ring;
	struct mcr_table_spec spec = { 0 };
	struct mcr_ring_spec *rings;
	struct mcr_match_spec *matches;
	struct mcr_flow_spec *flows;
	struct mcr_action_spec *actions;
	struct mcr_egress_spec *egresses;
	struct mcr_table *table;
	int32_t error = 1;

	if (!relay)
		relay = mcr_relay_open(3, &error);
	require(relay != NULL);
	next = input;
	end = input + size;
	spec.ring_count = take() % 4;
	spec.match_count = take() % 16;
	spec.flow_count = take() % 8;
	spec.action_count = take() % 8;
	spec.egress_count = take() % 4;
	spec.epoch = 1 + take();
	spec.rings = rings = array(spec.ring_count, sizeof(*rings));
	spec.matches = matches = array(spec.match_count, sizeof(*matches));
	spec.flows = flows = array(spec.flow_count, sizeof(*flows));
	spec.actions = actions = array(spec.action_count, sizeof(*actions));
	spec.egresses = egresses = array(spec.egress_count, sizeof(*egresses));

	for (uint32_t i = 0; i < spec.ring_count; i++)
		rings[i] = (struct mcr_ring_spec){ take() == 255 ? NULL : &ring, number() % 4,
						   number() };
	for (uint32_t i = 0; i < spec.match_count; i++) {
		address(matches[i].address);
		address(matches[i].source);
		matches[i].port = (uint16_t)number();
		matches[i].vlan = (uint16_t)number();
		matches[i].interface = number();
		matches[i].flow = number();
	}
	for (uint32_t i = 0; i < spec.flow_count; i++)
		flows[i] = (struct mcr_flow_spec){ .rule = number(),
						   .action_first = number(),
						   .action_count = number() };
	for (uint32_t i = 0; i < spec.action_count; i++) {
		address(actions[i].address);
		actions[i].port = (uint16_t)number();
		actions[i].egress = number();
	}
	for (uint32_t i = 0; i < spec.egress_count; i++)
		egresses[i] = (struct mcr_egress_spec){ .fd = (int32_t)number(), .slot = number() };

	table = mcr_table_build(relay, &spec, &error);
	require(table ? error == 0 : error == -EINVAL || error == -EEXIST);
	if (table)
		require_found(table, &spec);
	mcr_table_free(table);
	free(rings);
	free(matches);
	free(flows);
	free(actions);
	free(egresses);
	return 0;
}
