/*
 * c/table.c: what a table refuses to be built of, which flow a datagram
 * belongs to, and which has come back.
 */
#define _GNU_SOURCE
#include "relay.h"

#include "check.h"

static struct mcr_relay *relay; /* of three workers */
static struct mcr_ring rings[4]; /* only pointed at */

/* One of everything: 239.1.1.1:5001 on interface 0 -> rule 0 -> 239.10.1.1:6001. */
struct parts {
	struct mcr_ring_spec rings[4];
	struct mcr_match_spec matches[8];
	struct mcr_flow_spec flows[8];
	struct mcr_action_spec actions[2];
	struct mcr_egress_spec egresses[1];
	struct mcr_origin_spec origins[2];
	struct mcr_table_spec spec;
};

static void parts_reset(struct parts *parts)
{
	memset(parts, 0, sizeof(*parts));
	parts->rings[0] = (struct mcr_ring_spec){ .ring = &rings[0] };
	map_address(parts->matches[0].address, "239.1.1.1");
	parts->matches[0].port = 5001;
	parts->flows[0].action_count = 1;
	map_address(parts->actions[0].address, "239.10.1.1");
	parts->actions[0].port = 6001;
	parts->egresses[0] = (struct mcr_egress_spec){ .fd = -1, .segment_bytes_max = 1472 };
	parts->origins[0] = (struct mcr_origin_spec){ .source = 1, .source_port = 1 };
	parts->spec = (struct mcr_table_spec){ .rings = parts->rings,
					       .matches = parts->matches,
					       .flows = parts->flows,
					       .actions = parts->actions,
					       .egresses = parts->egresses,
					       .origins = parts->origins,
					       .ring_count = 1,
					       .match_count = 1,
					       .flow_count = 1,
					       .action_count = 1,
					       .egress_count = 1,
					       .origin_count = 1,
					       .epoch = 1 };
}

/* 0 when it can be built, else the error. */
static int32_t build_error(const struct parts *parts)
{
	int32_t error = 1;
	struct mcr_table *table = mcr_table_build(relay, &parts->spec, &error);

	EXPECT(table == NULL, error != 0);
	mcr_table_free(table);
	return error;
}

/* One value of the good parts is changed. */
#define REFUSED(place, value, expected)                \
	do {                                           \
		struct parts parts;                    \
		begin(#place " = " #value);            \
		parts_reset(&parts);                   \
		parts.place = value;                   \
		EXPECT(build_error(&parts), expected); \
	} while (0)

static void test_limits(void)
{
	REFUSED(spec.epoch, 1, 0);
	REFUSED(spec.epoch, 0, -EINVAL);
	REFUSED(spec.epoch, INT32_MAX, 0);
	REFUSED(spec.epoch, INT32_MAX + 1u, -EINVAL);
	REFUSED(rings[0].ring, NULL, -EINVAL);
	REFUSED(rings[0].worker, 2, 0);
	REFUSED(rings[0].worker, 3, -EINVAL);
	REFUSED(rings[0].worker, UINT32_MAX, -EINVAL);
	REFUSED(rings[0].interface, MCR_INTERFACES_MAX - 1, 0);
	REFUSED(rings[0].interface, MCR_INTERFACES_MAX, -EINVAL);
	REFUSED(matches[0].interface, MCR_INTERFACES_MAX - 1, 0);
	REFUSED(matches[0].interface, MCR_INTERFACES_MAX, -EINVAL);
	REFUSED(matches[0].flow, 1, -EINVAL);
	REFUSED(matches[0].flow, UINT32_MAX, -EINVAL);
	REFUSED(matches[0].vlan, 4094, 0);
	REFUSED(matches[0].vlan, 4095, -EINVAL);
	REFUSED(spec.match_count, UINT32_MAX, -EINVAL);
	REFUSED(flows[0].rule, MCR_RULES_MAX - 1, 0);
	REFUSED(flows[0].rule, MCR_RULES_MAX, -EINVAL);
	REFUSED(flows[0].action_first, 1, -EINVAL);
	REFUSED(flows[0].action_first, UINT32_MAX, -EINVAL);
	REFUSED(flows[0].action_count, 0, 0);
	REFUSED(flows[0].action_count, 2, -EINVAL);
	REFUSED(flows[0].action_count, UINT32_MAX, -EINVAL);
	REFUSED(actions[0].egress, 1, -EINVAL);
	REFUSED(actions[0].egress, UINT32_MAX, -EINVAL);
	REFUSED(actions[0].address[0], 0x20, -EINVAL); /* IPv6 */
	REFUSED(actions[0].address[11], 0, -EINVAL);
	REFUSED(egresses[0].slot, MCR_EGRESSES_MAX - 1, 0);
	REFUSED(egresses[0].slot, MCR_EGRESSES_MAX, -EINVAL);
	REFUSED(egresses[0].fd, -2, -EINVAL);
	REFUSED(origins[0].source, 0, -EINVAL);
	REFUSED(origins[0].source_port, 0, -EINVAL);
	REFUSED(origins[0].source_port, 65535, 0);
	REFUSED(origins[0].rule, MCR_RULES_MAX - 1, 0);
	REFUSED(origins[0].rule, MCR_RULES_MAX, -EINVAL);
	REFUSED(origins[0].egress, MCR_EGRESSES_MAX - 1, 0);
	REFUSED(origins[0].egress, MCR_EGRESSES_MAX, -EINVAL);
	REFUSED(spec.origin_count, UINT32_MAX, -EINVAL);
}

static void test_nothing(void)
{
	const struct mcr_table_spec spec = { .epoch = 1 };
	const struct mcr_key key = { .port = 5001 };
	const uint64_t source[2] = { 0, 1 };
	struct mcr_table *table;
	int32_t error = 1;

	begin("a table of nothing is built, and matches nothing");
	table = mcr_table_build(relay, &spec, &error);
	need(table != NULL, "the empty table");
	EXPECT(error, 0);
	EXPECT(mcr_table_find(table, &key, source), MCR_NONE);
	mcr_table_free(table);
	mcr_table_free(NULL);
}

/* -- which flow ---------------------------------------------------------------- */

struct pattern {
	const char *group;
	uint16_t port, vlan;
	uint32_t interface;
	const char *source; /* NULL: any */
};

/* Pattern i belongs to flow i. */
static const struct pattern patterns[] = {
	{ "239.1.1.1", 5001, 0, 0, NULL },	 { "239.1.1.1", 5001, 0, 0, "10.0.0.1" },
	{ "239.1.1.1", 5001, 0, 0, "10.0.0.2" }, { "239.1.1.1", 0, 0, 0, NULL },
	{ "239.1.1.1", 0, 0, 0, "10.0.0.3" },	 { "239.1.1.1", 5001, 7, 0, NULL },
	{ "239.1.1.1", 5001, 0, 1, NULL },	 { "239.1.1.2", 5002, 0, 0, "10.0.0.1" },
};

static const struct {
	const char *name;
	struct pattern packet;
	int64_t flow; /* -1: none */
} finds[] = {
	{ "source before any source", { "239.1.1.1", 5001, 0, 0, "10.0.0.1" }, 1 },
	{ "the other source", { "239.1.1.1", 5001, 0, 0, "10.0.0.2" }, 2 },
	{ "a source nobody names", { "239.1.1.1", 5001, 0, 0, "10.0.0.9" }, 0 },
	{ "exact port before any port", { "239.1.1.1", 5001, 0, 0, "10.0.0.3" }, 0 },
	{ "any port", { "239.1.1.1", 5002, 0, 0, "10.0.0.1" }, 3 },
	{ "any port, source before any source", { "239.1.1.1", 5002, 0, 0, "10.0.0.3" }, 4 },
	{ "its VLAN", { "239.1.1.1", 5001, 7, 0, "10.0.0.1" }, 5 },
	{ "another VLAN", { "239.1.1.1", 5001, 8, 0, "10.0.0.1" }, -1 },
	{ "VLAN, another port", { "239.1.1.1", 5002, 7, 0, "10.0.0.1" }, -1 },
	{ "its interface", { "239.1.1.1", 5001, 0, 1, "10.0.0.1" }, 6 },
	{ "another interface", { "239.1.1.1", 5001, 0, 2, "10.0.0.1" }, -1 },
	{ "a named source only", { "239.1.1.2", 5002, 0, 0, "10.0.0.1" }, 7 },
	{ "not the named source", { "239.1.1.2", 5002, 0, 0, "10.0.0.2" }, -1 },
	{ "another group", { "239.1.1.3", 5001, 0, 0, "10.0.0.1" }, -1 },
};

static uint32_t find(const struct mcr_table *table, const struct pattern *packet)
{
	struct mcr_key key = { .port = packet->port,
			       .vlan = packet->vlan,
			       .interface = packet->interface };
	uint64_t source[2];
	uint8_t address[16];

	map_address(address, packet->group);
	memcpy(key.address, address, 16);
	map_address(address, packet->source);
	memcpy(source, address, 16);
	return mcr_table_find(table, &key, source);
}

static void match_of(struct mcr_match_spec *match, const struct pattern *pattern, uint32_t flow)
{
	*match = (struct mcr_match_spec){ .port = pattern->port,
					  .vlan = pattern->vlan,
					  .interface = pattern->interface,
					  .flow = flow };
	map_address(match->address, pattern->group);
	if (pattern->source)
		map_address(match->source, pattern->source);
}

/* The answer must not depend on the order in which the matches are given. */
static void test_find(bool reversed)
{
	const uint32_t count = COUNT(patterns);
	struct mcr_table *table;
	struct parts parts;
	int32_t error;

	parts_reset(&parts);
	for (uint32_t i = 0; i < count; i++)
		match_of(&parts.matches[reversed ? count - 1 - i : i], &patterns[i], i);
	parts.spec.match_count = parts.spec.flow_count = count;
	table = mcr_table_build(relay, &parts.spec, &error);
	need(table != NULL, "the table of patterns");
	for (size_t i = 0; i < COUNT(finds); i++) {
		begin("%s%s", finds[i].name, reversed ? " (matches in reverse)" : "");
		EXPECT((int32_t)find(table, &finds[i].packet), finds[i].flow);
	}
	mcr_table_free(table);
}

static void test_duplicates(void)
{
	for (uint32_t i = 0; i < COUNT(patterns); i++) {
		struct parts parts;

		begin("pattern %u twice", i);
		parts_reset(&parts);
		match_of(&parts.matches[0], &patterns[i], 0);
		match_of(&parts.matches[1], &patterns[(i + 1) % COUNT(patterns)], 0);
		match_of(&parts.matches[2], &patterns[i], 1);
		parts.spec.match_count = 3;
		parts.spec.flow_count = 2;
		EXPECT(build_error(&parts), -EEXIST);
		begin("pattern %u and another", i);
		parts.spec.match_count = 2;
		EXPECT(build_error(&parts), 0);
	}
}

/* -- many --------------------------------------------------------------------- */

static struct pattern pattern_number(uint32_t index, char *group, size_t bytes)
{
	snprintf(group, bytes, "239.%u.%u.%u", index >> 16 & 0xff, index >> 8 & 0xff, index & 0xff);
	return (struct pattern){ group, (uint16_t)(5000 + index % 1000), 0, 0, "10.0.0.1" };
}

static void test_many(void)
{
	const uint32_t count = MCR_RULES_MAX;
	struct mcr_match_spec *matches = calloc(count, sizeof(*matches));
	struct mcr_flow_spec *flows = calloc(count, sizeof(*flows));
	const struct mcr_table_spec spec = { .matches = matches,
					     .flows = flows,
					     .match_count = count,
					     .flow_count = count,
					     .epoch = 1 };
	uint32_t wrong = 0, leaked = 0;
	struct mcr_table *table;
	struct pattern pattern;
	char group[16];
	int32_t error;

	need(matches && flows, "memory");
	for (uint32_t i = 0; i < count; i++) {
		pattern = pattern_number(i, group, sizeof(group));
		pattern.source = NULL;
		match_of(&matches[i], &pattern, i);
		flows[i].rule = i;
	}
	begin("%u flows", count);
	table = mcr_table_build(relay, &spec, &error);
	need(table != NULL, "the table of many");
	for (uint32_t i = 0; i < count; i++) {
		pattern = pattern_number(i, group, sizeof(group));
		wrong += find(table, &pattern) != i;
		pattern.port++;
		leaked += find(table, &pattern) != MCR_NONE;
		pattern = pattern_number(count + i, group, sizeof(group));
		leaked += find(table, &pattern) != MCR_NONE;
	}
	EXPECT(wrong, 0);
	EXPECT(leaked, 0);
	mcr_table_free(table);
	free(matches);
	free(flows);
}

/* -- what comes back ------------------------------------------------------------- */

static void test_origins(void)
{
	enum {
		COUNT_MAX = 5000
	};
	struct mcr_origin_spec *origins = calloc(COUNT_MAX, sizeof(*origins));
	uint32_t egress, found = 0, foreign = 0;
	struct mcr_table *table;
	struct parts parts;
	int32_t error;

	need(origins != NULL, "memory");
	begin("a table without origins takes nothing for its own");
	parts_reset(&parts);
	parts.spec.origin_count = 0;
	table = mcr_table_build(relay, &parts.spec, &error);
	need(table != NULL, "a table");
	EXPECT_TRUE(!mcr_table_returned(table, 0, 0, 0, &egress));
	EXPECT_TRUE(!mcr_table_returned(table, htonl(0x0a000002), htons(4000), 0, &egress));
	mcr_table_free(table);

	begin("an origin is a source, its port and the rule that would take it");
	parts_reset(&parts);
	parts.origins[0] = (struct mcr_origin_spec){
		.source = htonl(0x0a000002), .source_port = 4000, .rule = 3, .egress = 7
	};
	parts.origins[1] = parts.origins[0];
	parts.origins[1].egress = 8; /* the same source once more: the first one is named */
	parts.spec.origin_count = 2;
	table = mcr_table_build(relay, &parts.spec, &error);
	need(table != NULL, "a table");
	EXPECT_TRUE(mcr_table_returned(table, htonl(0x0a000002), htons(4000), 3, &egress));
	EXPECT(egress, 7);
	EXPECT_TRUE(!mcr_table_returned(table, htonl(0x0a000003), htons(4000), 3, &egress));
	EXPECT_TRUE(!mcr_table_returned(table, htonl(0x0a000002), htons(4001), 3, &egress));
	EXPECT_TRUE(!mcr_table_returned(table, htonl(0x0a000002), htons(4000), 4, &egress));
	mcr_table_free(table);

	begin("thousands of them are told apart");
	for (uint32_t i = 0; i < COUNT_MAX; i++)
		origins[i] = (struct mcr_origin_spec){ .source = htonl(0x0a000000 + i % 50 + 1),
						       .source_port = (uint16_t)(30000 + i / 50),
						       .rule = i % 1000,
						       .egress = i };
	parts.spec.origins = origins;
	parts.spec.origin_count = COUNT_MAX;
	table = mcr_table_build(relay, &parts.spec, &error);
	need(table != NULL, "a table of thousands");
	for (uint32_t i = 0; i < COUNT_MAX; i++) {
		const uint16_t port = htons(origins[i].source_port);

		found += mcr_table_returned(table, origins[i].source, port, i % 1000, &egress) &&
			 egress == i;
		foreign += mcr_table_returned(table, origins[i].source, port, i % 1000 + 1000,
					      &egress);
		foreign +=
			mcr_table_returned(table, htonl(0x0a010000 + i), port, i % 1000, &egress);
	}
	EXPECT(found, COUNT_MAX);
	EXPECT(foreign, 0);
	mcr_table_free(table);
	free(origins);
}

static void test_ports(void)
{
	/* ring r on interface r: worker 0 has 1 and 3, worker 1 none, worker 2 has 0 and 2 */
	static const uint32_t worker_of[] = { 2, 0, 2, 0 };
	static const uint32_t expected[3][2] = { { 1, 3 }, { 0, 0 }, { 0, 2 } };
	static const uint32_t expected_count[3] = { 2, 0, 2 };
	struct mcr_table *table;
	struct parts parts;
	int32_t error;

	parts_reset(&parts);
	for (uint32_t i = 0; i < COUNT(worker_of); i++)
		parts.rings[i] = (struct mcr_ring_spec){ .ring = &rings[i],
							 .worker = worker_of[i],
							 .interface = i };
	parts.spec.ring_count = COUNT(worker_of);
	table = mcr_table_build(relay, &parts.spec, &error);
	need(table != NULL, "the table of ports");
	for (uint32_t worker = 0; worker < 3; worker++) {
		uint32_t first = table->port_first[worker];

		begin("rings of worker %u", worker);
		EXPECT(table->port_first[worker + 1] - first, expected_count[worker]);
		for (uint32_t i = 0; i < expected_count[worker]; i++) {
			EXPECT(table->ports[first + i].interface, expected[worker][i]);
			EXPECT_TRUE(table->ports[first + i].ring == &rings[expected[worker][i]]);
		}
	}
	mcr_table_free(table);
}

/* Every interface may have come back while its ring of before is still read. */
static void test_ports_max(void)
{
	struct mcr_ring_spec many[2 * MCR_INTERFACES_MAX + 2];
	struct parts parts;

	parts_reset(&parts);
	for (uint32_t i = 0; i < COUNT(many); i++)
		many[i] = (struct mcr_ring_spec){ .ring = &rings[0],
						  .worker = i == 0,
						  .interface = i % MCR_INTERFACES_MAX };
	parts.spec.rings = many;
	begin("two rings of a worker for each interface, and one of another worker");
	parts.spec.ring_count = COUNT(many) - 1;
	EXPECT(build_error(&parts), 0);
	begin("one more");
	parts.spec.ring_count = COUNT(many);
	EXPECT(build_error(&parts), -EINVAL);
}

int main(void)
{
	int32_t error;

	relay = mcr_relay_open(3, &error);
	need(relay != NULL, "a relay");
	test_limits();
	test_nothing();
	test_find(false);
	test_find(true);
	test_duplicates();
	test_many();
	test_origins();
	test_ports();
	test_ports_max();
	return finish();
}
