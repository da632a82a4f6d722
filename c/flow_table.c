/*
 * Flows and their counters out of frames. Every byte comes from the network
 * and every table is bounded: what finds no room is counted.
 */
#include "flow_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "hash.h"
#include "raw_packet.h"

#define NONE UINT32_MAX
/* A sample that finds no room is no loss, a later packet is as good: the rest is for those that are. */
#define SAMPLES_MAX (MCR_SCAN_PACKETS_MAX * 3 / 4)

struct mcr_flow_table {
	struct mcr_scan_state state;
	struct mcr_scan_flow *flows;
	struct mcr_scan_wish *wishes; /* one for each flow */
	uint8_t *packets;
	uint32_t *slots; /* position of a flow, plus one; 0: free */
	uint32_t slot_mask;
	uint32_t flows_max;
	uint64_t seed;
	uint16_t samples;
	uint16_t whole_port;
};

struct mcr_flow_table *mcr_flow_table_open(const struct mcr_scan_options *options, int32_t *error)
{
	const uint32_t flows_max = options->flows_max;
	struct mcr_flow_table *table;
	uint32_t slots = 2;

	*error = -EINVAL;
	if (flows_max == 0 || flows_max > MCR_SCAN_FLOWS_MAX)
		return NULL;
	*error = -ENOMEM;
	table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	while (slots < flows_max * 2)
		slots *= 2;
	table->slot_mask = slots - 1;
	table->flows_max = flows_max;
	table->seed = options->seed;
	table->samples = options->samples;
	table->whole_port = options->whole_port;
	/* Large and zeroed: pages that nothing needs are never touched. */
	table->flows = calloc(flows_max, sizeof(*table->flows));
	table->wishes = calloc(flows_max, sizeof(*table->wishes));
	table->slots = calloc(slots, sizeof(*table->slots));
	table->packets = calloc(MCR_SCAN_PACKETS_MAX, MCR_RAW_PACKET_BYTES);
	*error = 0;
	if (table->flows && table->wishes && table->slots && table->packets)
		return table;
	mcr_flow_table_close(table);
	*error = -ENOMEM;
	return NULL;
}

void mcr_flow_table_close(struct mcr_flow_table *table)
{
	free(table->flows);
	free(table->wishes);
	free(table->slots);
	free(table->packets);
	free(table);
}

struct mcr_scan_state *mcr_flow_table_state(struct mcr_flow_table *table)
{
	return &table->state;
}

struct mcr_scan_flow *mcr_flow_table_flows(struct mcr_flow_table *table)
{
	return table->flows;
}

uint8_t *mcr_flow_table_packets(struct mcr_flow_table *table)
{
	return table->packets;
}

/* -- flows ------------------------------------------------------------------------ */

/* What tells two flows apart lies in front, without padding: it is hashed and compared whole. */
#define KEY_BYTES 48
_Static_assert(offsetof(struct mcr_scan_flow, packets) == KEY_BYTES, "no padding");

static uint64_t key_hash(const struct mcr_scan_flow *key, uint64_t seed)
{
	uint64_t words[KEY_BYTES / 8], hash;

	memcpy(words, key, sizeof(words));
	hash = mcr_mix_seeded(words[0], words[1], seed);
	hash = mcr_mix_seeded(hash ^ words[2], words[3], seed);
	return mcr_mix_seeded(hash ^ words[4], words[5], seed);
}

/* The flow of this key, a new one if need be; NONE when the table is full. */
static uint32_t flow_find(struct mcr_flow_table *table, const struct mcr_scan_flow *key)
{
	uint32_t slot = (uint32_t)key_hash(key, table->seed);

	for (;; slot++) {
		uint32_t *position = &table->slots[slot & table->slot_mask];
		uint32_t count = (uint32_t)table->state.flow_count;

		if (*position && memcmp(&table->flows[*position - 1], key, KEY_BYTES) == 0)
			return *position - 1;
		if (*position)
			continue;
		if (count == table->flows_max)
			return NONE;
		table->flows[count] = *key;
		table->wishes[count].packets = table->samples;
		table->state.flow_count++;
		*position = count + 1;
		return count;
	}
}

static void count_sizes(struct mcr_scan_flow *flow, uint32_t bytes, uint32_t segment_bytes)
{
	uint32_t datagrams = mcr_segment_count(bytes, segment_bytes);
	uint32_t largest = datagrams > 1 ? segment_bytes : bytes;
	uint32_t smallest = datagrams > 1 ? bytes - segment_bytes * (datagrams - 1) : bytes;

	if (flow->packets == 0 || smallest < flow->bytes_min)
		flow->bytes_min = smallest;
	if (largest > flow->bytes_max)
		flow->bytes_max = largest;
	flow->packets += datagrams;
	flow->bytes += bytes;
}

/* -- the pool ---------------------------------------------------------------------- */

static bool keep(struct mcr_flow_table *table, struct mcr_raw_packet head,
		 const struct mcr_frame *frame, uint64_t packets_max)
{
	uint64_t *count = &table->state.packet_count;

	if (*count >= packets_max)
		return false;
	mcr_raw_packet_keep(table->packets + *count * MCR_RAW_PACKET_BYTES, head, frame);
	++*count;
	return true;
}

static void keep_unread(struct mcr_flow_table *table, struct mcr_raw_packet head,
			const struct mcr_frame *frame)
{
	table->state.packets_refused += !keep(table, head, frame, MCR_SCAN_PACKETS_MAX);
}

static bool is_wished(const struct mcr_scan_wish *wish, const uint8_t *payload, size_t captured)
{
	if (wish->packets == 0)
		return false;
	if (!wish->mask)
		return true;
	for (size_t at = wish->offset; at + 4 <= captured; at += wish->step) {
		uint32_t word = (uint32_t)mcr_get16(payload + at) << 16 |
				mcr_get16(payload + at + 2);

		if ((word & wish->mask) == wish->word)
			return true;
	}
	return false;
}

int32_t mcr_flow_table_wish(struct mcr_flow_table *table, const struct mcr_scan_wish *wishes,
			    uint32_t wish_count)
{
	for (uint32_t i = 0; i < wish_count; i++)
		if (wishes[i].flow >= table->state.flow_count || wishes[i].step < 4)
			return -EINVAL;
	for (uint32_t i = 0; i < wish_count; i++)
		table->wishes[wishes[i].flow] = wishes[i];
	return 0;
}

void mcr_flow_table_release(struct mcr_flow_table *table)
{
	table->state.packet_count = 0;
}

/* -- one packet --------------------------------------------------------------------- */

/* What the fixed headers say; the bodies are all that was captured behind them. */
struct heard {
	const struct mcr_frame *frame;
	struct mcr_scan_flow key;
	const uint8_t *body;
	size_t captured;
	size_t bytes; /* as the header says; a little less or more where it lies */
	uint8_t protocol; /* of the body */
	bool is_continued; /* a fragment that does not say which flow it is of */
};

static void hear_udp(struct mcr_flow_table *table, struct heard *heard)
{
	const struct mcr_frame *frame = heard->frame;
	const uint8_t *udp = heard->body, *payload = udp + MCR_UDP_HEADER_BYTES;
	struct mcr_scan_flow *flow;
	struct mcr_raw_packet head;
	size_t udp_bytes, captured;
	uint32_t position;

	udp_bytes = heard->captured >= MCR_UDP_HEADER_BYTES ? mcr_get16(udp + 4) : 0;
	/* The kernel leaves the length of a larger super-frame to the IP header. */
	if (udp_bytes < MCR_UDP_HEADER_BYTES ||
	    (udp_bytes > heard->bytes && !frame->segment_bytes)) {
		table->state.malformed++;
		return;
	}
	heard->key.port = mcr_get16(udp + 2);
	position = flow_find(table, &heard->key);
	if (position == NONE) {
		table->state.flows_refused++;
		return;
	}
	flow = &table->flows[position];
	if (flow->packets == 0)
		flow->first_ns = frame->received_ns;
	flow->last_ns = frame->received_ns;
	count_sizes(flow, (uint32_t)(udp_bytes - MCR_UDP_HEADER_BYTES), frame->segment_bytes);

	head = (struct mcr_raw_packet){ .flow = position,
					.interface = heard->key.interface,
					.payload_bytes = (uint32_t)udp_bytes - MCR_UDP_HEADER_BYTES,
					.payload = (uint16_t)(payload - frame->network) };
	if (frame->segment_bytes && head.payload_bytes > frame->segment_bytes)
		head.payload_bytes = frame->segment_bytes;
	captured = heard->captured - MCR_UDP_HEADER_BYTES;
	if (flow->port == table->whole_port)
		keep_unread(table, head, frame);
	else if (is_wished(&table->wishes[position], payload, captured) &&
		 keep(table, head, frame, SAMPLES_MAX))
		table->wishes[position].packets--;
}

static bool read_ipv4(struct heard *heard)
{
	const uint8_t *ip = heard->frame->network;
	const size_t header_bytes = mcr_ipv4_header_bytes(ip, heard->frame->captured);
	uint64_t mapped[2];

	if (!header_bytes || (ip[16] & 0xf0) != 0xe0)
		return false;
	mcr_map_ipv4(mapped, ip + 12);
	memcpy(heard->key.source, mapped, 16);
	mcr_map_ipv4(mapped, ip + 16);
	memcpy(heard->key.group, mapped, 16);
	heard->protocol = ip[9];
	heard->is_continued = mcr_get16(ip + 6) & 0x1fff;
	heard->body = ip + header_bytes;
	heard->captured = heard->frame->captured - header_bytes;
	heard->bytes = mcr_get16(ip + 2) - header_bytes;
	/* Padding of a short frame is no part of it. */
	if (heard->captured > heard->bytes)
		heard->captured = heard->bytes;
	/* A first fragment's UDP header counts the whole datagram. */
	if (mcr_get16(ip + 6) & 0x2000)
		heard->bytes = UINT16_MAX;
	return true;
}

static bool read_ipv6(struct heard *heard)
{
	const uint8_t *ip = heard->frame->network;

	if (heard->frame->captured < 40 || ip[0] >> 4 != 6 || ip[24] != 0xff)
		return false;
	memcpy(heard->key.source, ip + 8, 16);
	memcpy(heard->key.group, ip + 24, 16);
	heard->protocol = ip[6];
	heard->body = ip + 40;
	heard->captured = heard->frame->captured - 40;
	heard->bytes = mcr_get16(ip + 4);
	if (heard->captured > heard->bytes)
		heard->captured = heard->bytes;
	return true;
}

void mcr_flow_table_hear(struct mcr_flow_table *table, uint32_t interface,
			 const struct mcr_frame *frame)
{
	struct heard heard = { .frame = frame,
			       .key = { .interface = interface,
					.vlan = frame->vlan,
					.is_egress = frame->packet_type == PACKET_OUTGOING } };
	const struct mcr_raw_packet head = { .flow = MCR_RAW_OTHER, .interface = interface };

	table->state.frames++;
	if (!(frame->protocol == ETH_P_IP   ? read_ipv4(&heard) :
	      frame->protocol == ETH_P_IPV6 ? read_ipv6(&heard) :
					      false))
		table->state.malformed++;
	else if (heard.is_continued)
		return;
	else if (heard.protocol == IPPROTO_UDP)
		hear_udp(table, &heard);
	else
		keep_unread(table, head, frame);
}
