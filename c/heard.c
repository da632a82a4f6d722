/*
 * Flows, members, queriers and announcements out of frames. Every byte comes
 * from the network and every table is bounded: what finds no room is counted.
 */
#include "heard.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "igmp.h"
#include "measure/payload.h"
#include "rtp.h"

#define NONE UINT32_MAX
#define TS_PACKET_BYTES 188
#define TS_SYNC 0x47

/* -- bounded tables ------------------------------------------------------------ */

/* All that tells two entries apart, without padding: it is hashed and compared whole. */
struct key {
	uint8_t group[16];
	uint8_t source[16];
	uint32_t interface;
	uint16_t vlan;
	uint16_t number; /* port, or what else the table tells apart */
	uint64_t direction; /* 1: this host sends it, which is another flow */
};
_Static_assert(sizeof(struct key) == 48, "no padding");

struct table {
	uint64_t seed;
	struct key *keys;
	uint32_t *slots; /* index into keys, plus one; 0: free */
	uint32_t mask;
	uint32_t max;
	uint64_t *count; /* in the state that TypeScript reads */
	uint64_t *refused;
};

static uint64_t key_hash(const struct key *key, uint64_t seed)
{
	uint64_t words[6], hash;

	memcpy(words, key, sizeof(words));
	hash = mcr_mix_seeded(words[0], words[1], seed);
	hash = mcr_mix_seeded(hash ^ words[2], words[3], seed);
	return mcr_mix_seeded(hash ^ words[4], words[5], seed);
}

static int table_open(struct table *table, uint64_t seed, uint32_t max, uint64_t *count,
		      uint64_t *refused)
{
	uint32_t slots = 2;

	while (slots < max * 2)
		slots *= 2;
	*table = (struct table){
		.seed = seed, .mask = slots - 1, .max = max, .count = count, .refused = refused
	};
	table->keys = calloc(max, sizeof(*table->keys));
	table->slots = calloc(slots, sizeof(*table->slots));
	return table->keys && table->slots ? 0 : -ENOMEM;
}

/* The entry of this key, a new one if need be; NONE when the table is full. */
static uint32_t table_take(struct table *table, const struct key *key)
{
	uint32_t slot = (uint32_t)key_hash(key, table->seed);

	for (;; slot++) {
		uint32_t *index = &table->slots[slot & table->mask];

		if (*index == 0) {
			if (*table->count == table->max)
				break;
			table->keys[*table->count] = *key;
			*index = (uint32_t)++ * table->count;
			return *index - 1;
		}
		if (memcmp(&table->keys[*index - 1], key, sizeof(*key)) == 0)
			return *index - 1;
	}
	++*table->refused;
	return NONE;
}

/* -- the state ----------------------------------------------------------------- */

/* What a flow may become; nobody else's business. */
struct suspicion {
	struct mcr_rtp rtp;
	bool has_rtp;
};

struct mcr_heard {
	struct mcr_scan_state state;
	struct table flow_table, member_table, announcement_table;
	struct mcr_scan_flow *flows;
	struct suspicion *suspicions; /* one for each flow */
	struct mcr_scan_member *members;
	uint8_t *announcements; /* MCR_SCAN_ANNOUNCEMENT_BYTES each */
};

struct mcr_heard *mcr_heard_open(uint32_t flows_max, uint64_t seed, int32_t *error)
{
	struct mcr_heard *heard;

	*error = -EINVAL;
	if (flows_max == 0 || flows_max > MCR_SCAN_FLOWS_MAX)
		return NULL;
	*error = -ENOMEM;
	heard = calloc(1, sizeof(*heard));
	if (!heard)
		return NULL;
	/* Large and zeroed: pages that nothing needs are never touched. */
	heard->flows = calloc(flows_max, sizeof(*heard->flows));
	heard->suspicions = calloc(flows_max, sizeof(*heard->suspicions));
	heard->members = calloc(MCR_SCAN_MEMBERS_MAX, sizeof(*heard->members));
	heard->announcements = calloc(MCR_SCAN_ANNOUNCEMENTS_MAX, MCR_SCAN_ANNOUNCEMENT_BYTES);
	*error = heard->flows && heard->suspicions && heard->members && heard->announcements ?
			 0 :
			 -ENOMEM;
	if (!*error)
		*error = table_open(&heard->flow_table, seed, flows_max, &heard->state.flow_count,
				    &heard->state.flows_refused);
	if (!*error)
		*error = table_open(&heard->member_table, seed, MCR_SCAN_MEMBERS_MAX,
				    &heard->state.member_count, &heard->state.members_refused);
	if (!*error)
		*error = table_open(&heard->announcement_table, seed, MCR_SCAN_ANNOUNCEMENTS_MAX,
				    &heard->state.announcement_count,
				    &heard->state.announcements_refused);
	if (!*error)
		return heard;
	mcr_heard_close(heard);
	return NULL;
}

void mcr_heard_close(struct mcr_heard *heard)
{
	struct table *tables[] = { &heard->flow_table, &heard->member_table,
				   &heard->announcement_table };

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		free(tables[i]->keys);
		free(tables[i]->slots);
	}
	free(heard->flows);
	free(heard->suspicions);
	free(heard->members);
	free(heard->announcements);
	free(heard);
}

struct mcr_scan_state *mcr_heard_state(struct mcr_heard *heard)
{
	return &heard->state;
}

struct mcr_scan_flow *mcr_heard_flows(struct mcr_heard *heard)
{
	return heard->flows;
}

struct mcr_scan_member *mcr_heard_members(struct mcr_heard *heard)
{
	return heard->members;
}

uint8_t *mcr_heard_announcements(struct mcr_heard *heard)
{
	return heard->announcements;
}

/* -- one packet ----------------------------------------------------------------- */

/* What the network header says; body is all that was captured behind it. */
struct packet {
	const struct mcr_heard_frame *frame;
	uint8_t group[16];
	uint8_t source[16];
	uint8_t protocol; /* of the body */
	const uint8_t *body;
	size_t captured;
	size_t bytes; /* as the header says; a little less or more where it lies */
};

static struct key key_of(const struct packet *packet, uint16_t number)
{
	struct key key = { .interface = packet->frame->interface,
			   .vlan = packet->frame->vlan,
			   .number = number };

	memcpy(key.group, packet->group, 16);
	memcpy(key.source, packet->source, 16);
	return key;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* -- what a payload is ------------------------------------------------------------ */

struct payload {
	const uint8_t *bytes;
	size_t captured;
	size_t length; /* captured or more */
	uint16_t port;
};

/* As much of it as was captured consists of transport packets, ISO/IEC 13818-1. */
static bool is_ts(const uint8_t *bytes, size_t captured, size_t length)
{
	if (length == 0 || length % TS_PACKET_BYTES != 0 || captured == 0)
		return false;
	for (size_t at = 0; at < captured; at += TS_PACKET_BYTES)
		if (bytes[at] != TS_SYNC)
			return false;
	return true;
}

/*
 * Programs in a packet that begins a program association table, section
 * 2.4.4.3; 0 when it is none. Program 0 is the network's, and none.
 */
static uint16_t pat_programs(const uint8_t packet[TS_PACKET_BYTES])
{
	uint8_t adaptation = packet[3] >> 4 & 3;
	size_t at = 4, end;
	uint16_t programs = 0;

	if (((packet[1] & 0x1f) << 8 | packet[2]) != 0 || !(packet[1] & 0x40) || !(adaptation & 1))
		return 0;
	if (adaptation == 3)
		at += 1 + (size_t)packet[4];
	if (at >= TS_PACKET_BYTES)
		return 0;
	at += 1 + (size_t)packet[at]; /* pointer_field */
	if (at + 8 > TS_PACKET_BYTES || packet[at] != 0)
		return 0;
	/* Behind section_length; the last four bytes are the CRC. */
	end = at + 3 + (size_t)(mcr_get16(packet + at + 1) & 0xfff);
	if (end < at + 12)
		return 0;
	end = smaller(end - 4, TS_PACKET_BYTES);
	for (at += 8; at + 4 <= end; at += 4)
		programs += mcr_get16(packet + at) != 0;
	return programs;
}

static void find_programs(struct mcr_scan_flow *flow, const uint8_t *bytes, size_t captured)
{
	for (size_t at = 0; flow->programs == 0 && at + TS_PACKET_BYTES <= captured;
	     at += TS_PACKET_BYTES)
		flow->programs = pat_programs(bytes + at);
}

static bool is_rtcp(const struct payload *payload)
{
	return mcr_rtcp_is(payload->bytes, payload->captured, payload->length);
}

/* One datagram in four looks like RTP by its version; two of one SSRC in step do not by chance. */
static bool becomes_rtp(struct suspicion *suspicion, const struct payload *payload)
{
	struct suspicion before = *suspicion;
	int steps;

	suspicion->has_rtp = mcr_rtp_header_bytes(payload->bytes, payload->captured) > 0 &&
			     mcr_rtp_read(payload->bytes, payload->captured, &suspicion->rtp) &&
			     !is_rtcp(payload);
	if (!suspicion->has_rtp || !before.has_rtp || before.rtp.ssrc != suspicion->rtp.ssrc)
		return false;
	steps = mcr_rtp_distance(before.rtp.sequence, suspicion->rtp.sequence);
	return steps > 0 && steps <= MCR_RTP_DISTANCE_MAX;
}

/* Version 1 on the port of RFC 2974. */
static bool is_sap(const struct payload *payload)
{
	return payload->port == 9875 && payload->captured >= 8 && payload->bytes[0] >> 5 == 1;
}

static bool is_mdns(const struct payload *payload)
{
	return payload->port == 5353 && payload->captured >= 12; /* RFC 6762 */
}

/* IEEE 1588: event and general messages; the version, and the length of the message. */
static bool is_ptp(const struct payload *payload)
{
	return (payload->port == 319 || payload->port == 320) && payload->captured >= 34 &&
	       (payload->bytes[1] & 0x0f) >= 1 && (payload->bytes[1] & 0x0f) <= 2;
}

static uint8_t kind_of(struct suspicion *suspicion, const struct payload *payload)
{
	if (is_sap(payload))
		return MCR_SCAN_SAP;
	if (is_mdns(payload))
		return MCR_SCAN_MDNS;
	if (is_ptp(payload))
		return MCR_SCAN_PTP;
	if (payload->captured >= MCR_PAYLOAD_HEADER_BYTES && memcmp(payload->bytes, "mcr1", 4) == 0)
		return MCR_SCAN_MCR;
	if (is_ts(payload->bytes, payload->captured, payload->length))
		return MCR_SCAN_TS;
	if (becomes_rtp(suspicion, payload))
		return MCR_SCAN_RTP;
	return is_rtcp(payload) ? MCR_SCAN_RTCP : MCR_SCAN_UNKNOWN;
}

/* A transport stream also inside RTP, whatever its payload type says. */
static void look_inside(struct mcr_scan_flow *flow, const struct payload *payload)
{
	size_t header = 0;
	struct mcr_rtp rtp;

	if (flow->kind == MCR_SCAN_RTP) {
		header = mcr_rtp_header_bytes(payload->bytes, payload->captured);
		if (header == 0 || !mcr_rtp_read(payload->bytes, payload->captured, &rtp))
			return;
		flow->payload_type = payload->bytes[1] & 0x7f;
		flow->ssrc = rtp.ssrc;
	} else if (flow->kind != MCR_SCAN_TS) {
		return;
	}
	if (flow->programs == 0 &&
	    is_ts(payload->bytes + header, payload->captured - header, payload->length - header))
		find_programs(flow, payload->bytes + header, payload->captured - header);
}

/* -- flows and announcements --------------------------------------------------------- */

/* One sender announces many sessions in one flow; the hash tells them apart, RFC 2974 section 3. */
static void keep_announcement(struct mcr_heard *heard, const struct packet *packet,
			      const struct payload *payload)
{
	struct key key = key_of(packet, mcr_get16(payload->bytes + 2));
	uint32_t index = table_take(&heard->announcement_table, &key);
	struct mcr_scan_announcement head = { 0 };
	uint8_t *entry;

	if (index == NONE)
		return;
	entry = heard->announcements + (size_t)index * MCR_SCAN_ANNOUNCEMENT_BYTES;
	memcpy(head.source, packet->source, 16);
	head.last_ns = packet->frame->time_ns;
	head.interface = packet->frame->interface;
	head.bytes = (uint16_t)smaller(payload->captured, MCR_SCAN_TEXT_BYTES);
	head.vlan = packet->frame->vlan;
	memcpy(entry, &head, sizeof(head));
	memcpy(entry + sizeof(head), payload->bytes, head.bytes);
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

static void hear_udp(struct mcr_heard *heard, const struct packet *packet)
{
	const struct mcr_heard_frame *frame = packet->frame;
	const uint8_t *udp = packet->body;
	struct mcr_scan_flow *flow;
	struct payload payload;
	struct key key;
	size_t udp_bytes;
	uint32_t index;

	udp_bytes = packet->captured >= MCR_UDP_HEADER_BYTES ? mcr_get16(udp + 4) : 0;
	/* The kernel leaves the length of a larger super-frame to the IP header. */
	if (udp_bytes < MCR_UDP_HEADER_BYTES ||
	    (udp_bytes > packet->bytes && !frame->segment_bytes)) {
		heard->state.malformed++;
		return;
	}
	payload = (struct payload){
		.bytes = udp + MCR_UDP_HEADER_BYTES,
		.length = udp_bytes - MCR_UDP_HEADER_BYTES,
		.port = mcr_get16(udp + 2),
	};
	payload.captured = smaller(packet->captured - MCR_UDP_HEADER_BYTES, payload.length);
	key = key_of(packet, payload.port);
	key.direction = frame->is_egress;
	index = table_take(&heard->flow_table, &key);
	if (index == NONE)
		return;

	flow = &heard->flows[index];
	if (flow->packets == 0) {
		memcpy(flow->group, packet->group, 16);
		memcpy(flow->source, packet->source, 16);
		flow->interface = frame->interface;
		flow->vlan = frame->vlan;
		flow->port = payload.port;
		flow->is_egress = frame->is_egress;
		flow->first_ns = frame->time_ns;
	}
	flow->last_ns = frame->time_ns;
	count_sizes(flow, (uint32_t)payload.length, frame->segment_bytes);
	/* Of a super-frame the first datagram is looked at. */
	if (frame->segment_bytes) {
		payload.length = smaller(payload.length, frame->segment_bytes);
		payload.captured = smaller(payload.captured, payload.length);
	}
	if (flow->kind == MCR_SCAN_UNKNOWN || flow->kind == MCR_SCAN_RTCP)
		flow->kind = kind_of(&heard->suspicions[index], &payload);
	look_inside(flow, &payload);
	if (flow->kind == MCR_SCAN_SAP && is_sap(&payload))
		keep_announcement(heard, packet, &payload);
}

/* -- members and queriers: RFC 1112, 2236, 3376, 2710, 3810 ------------------------------ */

static void hear_member(struct mcr_heard *heard, const struct packet *packet,
			const uint8_t group[16], uint8_t kind, uint8_t version)
{
	struct packet named = *packet;
	struct mcr_scan_member *member;
	struct key key;
	uint32_t index;

	memcpy(named.group, group, 16);
	key = key_of(&named, kind == MCR_SCAN_QUERY);
	index = table_take(&heard->member_table, &key);
	if (index == NONE)
		return;
	member = &heard->members[index];
	memcpy(member->address, packet->source, 16);
	memcpy(member->group, group, 16);
	member->packets++;
	member->last_ns = packet->frame->time_ns;
	member->interface = packet->frame->interface;
	member->vlan = packet->frame->vlan;
	member->kind = kind;
	member->version = version;
	member->is_egress = packet->frame->is_egress;
}

/* Group records of version 3 (IGMP) and 2 (MLD); a group wanted from no source is left. */
static void hear_records(struct mcr_heard *heard, const struct packet *packet, size_t address_bytes,
			 uint8_t version)
{
	uint16_t left = mcr_get16(packet->body + 6);
	size_t at = 8;

	for (; left > 0 && at + 4 + address_bytes <= packet->captured; left--) {
		const uint8_t *record = packet->body + at;
		uint16_t sources = mcr_get16(record + 2);
		bool is_left = record[0] == 6 || ((record[0] == 1 || record[0] == 3) && !sources);
		uint8_t group[16] = { [10] = 0xff, [11] = 0xff };

		memcpy(group + 16 - address_bytes, record + 4, address_bytes);
		hear_member(heard, packet, group, is_left ? MCR_SCAN_LEAVE : MCR_SCAN_REPORT,
			    version);
		at += 4 + address_bytes * (1 + (size_t)sources) + (size_t)record[1] * 4;
	}
}

static void hear_igmp(struct mcr_heard *heard, const struct packet *packet)
{
	const uint8_t *igmp = packet->body;
	uint64_t group[2];
	uint8_t version;

	if (!mcr_igmp_is_intact(igmp, packet->captured, packet->bytes)) {
		heard->state.malformed++;
		return;
	}
	mcr_map_ipv4(group, igmp + 4);
	switch (igmp[0]) {
	case MCR_IGMP_QUERY:
		version = mcr_igmp_query_version(igmp, packet->captured, packet->bytes);
		if (version)
			hear_member(heard, packet, (const uint8_t *)group, MCR_SCAN_QUERY, version);
		else
			heard->state.malformed++;
		break;
	case 0x12:
		hear_member(heard, packet, (const uint8_t *)group, MCR_SCAN_REPORT, 1);
		break;
	case 0x16:
		hear_member(heard, packet, (const uint8_t *)group, MCR_SCAN_REPORT, 2);
		break;
	case 0x17:
		hear_member(heard, packet, (const uint8_t *)group, MCR_SCAN_LEAVE, 2);
		break;
	case 0x22:
		hear_records(heard, packet, 4, 3);
		break;
	}
}

/* ICMPv6 carries more than MLD: neighbours and routers are none of our business. */
static void hear_mld(struct mcr_heard *heard, const struct packet *packet)
{
	const uint8_t *mld = packet->body;

	if (packet->captured < 8 || (mld[0] != 143 && packet->captured < 24))
		return;
	switch (mld[0]) {
	case 130:
		hear_member(heard, packet, mld + 8, MCR_SCAN_QUERY, packet->bytes >= 28 ? 2 : 1);
		break;
	case 131:
		hear_member(heard, packet, mld + 8, MCR_SCAN_REPORT, 1);
		break;
	case 132:
		hear_member(heard, packet, mld + 8, MCR_SCAN_LEAVE, 1);
		break;
	case 143:
		hear_records(heard, packet, 16, 2);
		break;
	}
}

/* -- the network header ------------------------------------------------------------------- */

/* Only a first fragment says which flow it is of; the later ones are passed over. */
static bool read_ipv4(const struct mcr_heard_frame *frame, struct packet *packet)
{
	const uint8_t *ip = frame->network;
	const size_t header_bytes = mcr_ipv4_header_bytes(ip, frame->captured);
	uint64_t mapped[2];

	if (!header_bytes || (ip[16] & 0xf0) != 0xe0)
		return false;
	mcr_map_ipv4(mapped, ip + 12);
	memcpy(packet->source, mapped, 16);
	mcr_map_ipv4(mapped, ip + 16);
	memcpy(packet->group, mapped, 16);
	packet->protocol = mcr_get16(ip + 6) & 0x1fff ? IPPROTO_NONE : ip[9];
	packet->body = ip + header_bytes;
	packet->bytes = mcr_get16(ip + 2) - header_bytes;
	/* Padding of a short frame is no part of it. */
	packet->captured = smaller(frame->captured - header_bytes, packet->bytes);
	/* A fragment's UDP header counts the whole datagram. */
	if (mcr_get16(ip + 6) & 0x2000)
		packet->bytes = UINT16_MAX;
	return true;
}

static bool read_ipv6(const struct mcr_heard_frame *frame, struct packet *packet)
{
	const uint8_t *ip = frame->network;
	uint8_t next;

	if (frame->captured < 40 || ip[0] >> 4 != 6 || ip[24] != 0xff)
		return false;
	memcpy(packet->source, ip + 8, 16);
	memcpy(packet->group, ip + 24, 16);
	packet->body = ip + 40;
	packet->bytes = mcr_get16(ip + 4);
	packet->captured = smaller(frame->captured - 40, packet->bytes);
	next = ip[6];
	for (int headers = 0; headers < MCR_SCAN_EXTENSIONS_MAX; headers++) {
		size_t length;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT) {
			packet->protocol = next;
			return true;
		}
		if (packet->captured < 8)
			return false;
		length = next == IPPROTO_FRAGMENT ? 8 : ((size_t)packet->body[1] + 1) * 8;
		if (packet->captured < length)
			return false;
		if (next == IPPROTO_FRAGMENT && mcr_get16(packet->body + 2) & 0xfff8) {
			packet->protocol = IPPROTO_NONE;
			return true;
		}
		if (next == IPPROTO_FRAGMENT)
			packet->bytes = UINT16_MAX + length; /* as for IPv4 */
		next = packet->body[0];
		packet->body += length;
		packet->captured -= length;
		packet->bytes -= length;
	}
	return false;
}

void mcr_hear_frame(struct mcr_heard *heard, const struct mcr_heard_frame *frame)
{
	struct packet packet = { .frame = frame };
	bool is_good = false;

	heard->state.frames++;
	if (frame->protocol == ETH_P_IP)
		is_good = read_ipv4(frame, &packet);
	else if (frame->protocol == ETH_P_IPV6)
		is_good = read_ipv6(frame, &packet);
	if (!is_good) {
		heard->state.malformed++;
		return;
	}
	switch (packet.protocol) {
	case IPPROTO_UDP:
		hear_udp(heard, &packet);
		break;
	case IPPROTO_IGMP:
		hear_igmp(heard, &packet);
		break;
	case IPPROTO_ICMPV6:
		hear_mld(heard, &packet);
		break;
	}
}
