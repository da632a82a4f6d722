/*
 * Not a test: the rule table answers what test/config/matcher.test.ts asks. Reads lines, an address in dotted
 * decimal or 0 for any source:
 *
 *   match ADDRESS SOURCE PORT INTERFACE FLOW
 *   packet ADDRESS SOURCE PORT VLAN INTERFACE     behind all matches; prints its flow, or -1
 */
#define _GNU_SOURCE
#include "relay.h"

#include "check.h"

enum {
	MATCHES_MAX = 1024
};

static struct mcr_relay *relay;
static struct mcr_match_spec matches[MATCHES_MAX];
static struct mcr_flow_spec flows[MATCHES_MAX];

static struct mcr_table *build(uint32_t match_count)
{
	const struct mcr_table_spec spec = { .matches = matches,
					     .flows = flows,
					     .match_count = match_count,
					     .flow_count = MATCHES_MAX,
					     .epoch = 1 };
	struct mcr_table *table;
	int32_t error;

	relay = mcr_relay_open(1, &error);
	need(relay != NULL, "a relay");
	table = mcr_table_build(relay, &spec, &error);
	need(table != NULL, "a table");
	return table;
}

static uint32_t find(const struct mcr_table *table, const char *group, const char *source,
		     uint16_t port, uint16_t vlan, uint32_t interface)
{
	struct mcr_key key = { .port = port, .vlan = vlan, .interface = interface };
	uint64_t from[2];
	uint8_t address[16];

	map_address(address, group);
	memcpy(key.address, address, 16);
	map_address(address, source);
	memcpy(from, address, 16);
	return mcr_table_find(table, &key, from);
}

int main(void)
{
	char line[128], group[16], source[16];
	unsigned int port, vlan, interface, flow;
	struct mcr_table *table = NULL;
	uint32_t count = 0;

	while (fgets(line, sizeof(line), stdin)) {
		begin("%s", line);
		if (sscanf(line, "match %15s %15s %u %u %u", group, source, &port, &interface,
			   &flow) == 5) {
			need(!table && count < MATCHES_MAX, "matches, then packets");
			matches[count] = (struct mcr_match_spec){ .port = (uint16_t)port,
								  .interface = interface,
								  .flow = flow };
			map_address(matches[count].address, group);
			if (strcmp(source, "0") != 0)
				map_address(matches[count].source, source);
			count++;
			continue;
		}
		need(sscanf(line, "packet %15s %15s %u %u %u", group, source, &port, &vlan,
			    &interface) == 5,
		     "a line");
		if (!table)
			table = build(count);
		printf("%d\n", (int32_t)find(table, group, source, (uint16_t)port, (uint16_t)vlan,
					     interface));
	}
	mcr_table_free(table);
	return 0;
}
