/*
 * c/heard.c: what frames become flows of which kind, members, queriers and
 * announcements, that tables stay bounded, and that nothing beyond the
 * captured bytes is read: every frame lies in memory of exactly its size, so
 * AddressSanitizer sees the first byte too many.
 */
#define _GNU_SOURCE
#include "heard.h"

#include <linux/if_ether.h>

#include "check.h"
#include "frame.h"

#define SAP_PORT 9875

static struct mcr_heard *heard;

static void reopen(uint32_t flows_max)
{
	int32_t error;

	if (heard)
		mcr_heard_close(heard);
	heard = mcr_heard_open(flows_max, 7, &error);
	need(heard != NULL, "the tables");
}

static void put16(uint8_t *bytes, unsigned int value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

/* A copy of exactly these bytes is heard. */
static void hear_bytes(const uint8_t *bytes, size_t captured, struct mcr_heard_frame frame)
{
	uint8_t *copy = malloc(captured);

	if (captured)
		memcpy(copy, bytes, captured);
	frame.network = copy;
	frame.captured = captured;
	mcr_hear_frame(heard, &frame);
	free(copy);
}

/* IPv4 from 10.0.0.sender to the group; the length of header and body. */
static size_t build_ipv4(uint8_t *frame, const char *group, uint8_t sender, uint8_t protocol,
			 const uint8_t *body, size_t body_bytes)
{
	uint16_t sum;

	memset(frame, 0, 20);
	frame[0] = 0x45;
	put16(frame + 2, (unsigned int)(20 + body_bytes));
	frame[8] = 4;
	frame[9] = protocol;
	memcpy(frame + 12, (uint8_t[]){ 10, 0, 0, sender }, 4);
	need(inet_pton(AF_INET, group, frame + 16) == 1, group);
	sum = (uint16_t)~mcr_fold(mcr_sum(frame, 20, 0));
	memcpy(frame + 10, &sum, 2);
	memcpy(frame + 20, body, body_bytes);
	return 20 + body_bytes;
}

static size_t build_udp(uint8_t *frame, const char *group, uint16_t port, const uint8_t *payload,
			size_t bytes)
{
	static uint8_t body[65536];

	put16(body, 4000);
	put16(body + 2, port);
	put16(body + 4, (unsigned int)(8 + bytes));
	put16(body + 6, 0);
	memcpy(body + 8, payload, bytes);
	return build_ipv4(frame, group, 1, IPPROTO_UDP, body, 8 + bytes);
}

static uint8_t frame[65536];

static void hear_udp(const char *group, uint16_t port, const uint8_t *payload, size_t bytes)
{
	size_t length = build_udp(frame, group, port, payload, bytes);

	hear_bytes(frame, length, (struct mcr_heard_frame){ .protocol = ETH_P_IP, .time_ns = 5 });
}

/* With the checksum that it must have. */
static void hear_igmp(uint8_t sender, const uint8_t *message, size_t bytes)
{
	size_t length = build_ipv4(frame, "224.0.0.22", sender, IPPROTO_IGMP, message, bytes);
	uint16_t sum = (uint16_t)~mcr_fold(mcr_sum(frame + 20, bytes, 0));

	memcpy(frame + 22, &sum, 2);
	hear_bytes(frame, length, (struct mcr_heard_frame){ .protocol = ETH_P_IP });
}

static const struct mcr_scan_flow *flow(uint64_t index)
{
	static const struct mcr_scan_flow none;

	return index < mcr_heard_state(heard)->flow_count ? &mcr_heard_flows(heard)[index] : &none;
}

static const struct mcr_scan_member *member(uint64_t index)
{
	static const struct mcr_scan_member none = { .kind = 0xff };

	return index < mcr_heard_state(heard)->member_count ? &mcr_heard_members(heard)[index] :
							      &none;
}

/* -- flows --------------------------------------------------------------------- */

static void test_counting(void)
{
	static const uint8_t payload[1000];
	uint8_t group[16];

	begin("two streams and their sizes");
	reopen(16);
	hear_udp("239.1.1.1", 5001, payload, 100);
	hear_udp("239.1.1.1", 5001, payload, 1000);
	hear_udp("239.1.1.1", 5002, payload, 0);
	EXPECT(mcr_heard_state(heard)->flow_count, 2);
	map_address(group, "239.1.1.1");
	EXPECT(memcmp(flow(0)->group, group, 16), 0);
	EXPECT(flow(0)->packets, 2);
	EXPECT(flow(0)->bytes, 1100);
	EXPECT(flow(0)->bytes_min, 100);
	EXPECT(flow(0)->bytes_max, 1000);
	EXPECT(flow(0)->first_ns, 5);
	EXPECT(flow(1)->packets, 1);
	EXPECT(flow(1)->bytes_max, 0);
}

static void test_keys(void)
{
	static const struct mcr_heard_frame places[] = {
		{ .protocol = ETH_P_IP },
		{ .protocol = ETH_P_IP, .vlan = 5 },
		{ .protocol = ETH_P_IP, .interface = 1 },
		{ .protocol = ETH_P_IP, .is_egress = true },
	};
	size_t length = build_udp(frame, "239.1.1.1", 5001, (const uint8_t *)"x", 1);

	begin("interface, VLAN and direction tell flows apart");
	reopen(16);
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < COUNT(places); i++)
			hear_bytes(frame, length, places[i]);
	EXPECT(mcr_heard_state(heard)->flow_count, COUNT(places));
	for (size_t i = 0; i < COUNT(places); i++) {
		EXPECT(flow(i)->packets, 2);
		EXPECT(flow(i)->vlan, places[i].vlan);
		EXPECT(flow(i)->interface, places[i].interface);
		EXPECT(flow(i)->is_egress, places[i].is_egress);
	}
}

static void test_super_frame(void)
{
	static const uint8_t payload[2500];
	size_t length = build_udp(frame, "239.1.1.1", 5001, payload, sizeof(payload));

	begin("a super-frame is the datagrams it holds");
	reopen(16);
	/* Its beginning only was captured. */
	hear_bytes(frame, 500,
		   (struct mcr_heard_frame){ .protocol = ETH_P_IP, .segment_bytes = 1000 });
	EXPECT(flow(0)->packets, 3);
	EXPECT(flow(0)->bytes, 2500);
	EXPECT(flow(0)->bytes_min, 500);
	EXPECT(flow(0)->bytes_max, 1000);
	begin("a frame of which the beginning was captured");
	hear_bytes(frame, 100, (struct mcr_heard_frame){ .protocol = ETH_P_IP });
	EXPECT(flow(0)->packets, 4);
	EXPECT(flow(0)->bytes, 5000);
	EXPECT(length, 2528);
}

static void test_bounds(void)
{
	begin("a full table counts what it refuses, and goes on with what it has");
	reopen(2);
	for (uint16_t port = 1; port <= 5; port++)
		hear_udp("239.1.1.1", port, (const uint8_t *)"x", 1);
	hear_udp("239.1.1.1", 1, (const uint8_t *)"x", 1);
	EXPECT(mcr_heard_state(heard)->flow_count, 2);
	EXPECT(mcr_heard_state(heard)->flows_refused, 3);
	EXPECT(flow(0)->packets, 2);

	begin("as many flows as fit");
	reopen(MCR_SCAN_FLOWS_MAX);
	for (uint32_t i = 0; i < MCR_SCAN_FLOWS_MAX + 5; i++)
		hear_udp("239.1.1.1", (uint16_t)i, (const uint8_t *)"x", 1);
	EXPECT(mcr_heard_state(heard)->flow_count, MCR_SCAN_FLOWS_MAX);
	EXPECT(mcr_heard_state(heard)->flows_refused, 5);
}

/* -- kinds ----------------------------------------------------------------------- */

static void write_rtp(uint8_t bytes[172], uint16_t sequence, uint8_t payload_type, uint32_t ssrc)
{
	memset(bytes, 0x47, 172);
	bytes[0] = 0x80;
	bytes[1] = payload_type;
	put16(bytes + 2, sequence);
	put16(bytes + 8, ssrc >> 16);
	put16(bytes + 10, ssrc & 0xffff);
}

static void test_rtp(void)
{
	uint8_t bytes[172];

	begin("one datagram is no RTP, two in step are, over the wrap of the sequence");
	reopen(16);
	write_rtp(bytes, 65535, 96, 0xcafe0001);
	hear_udp("239.1.1.1", 5004, bytes, sizeof(bytes));
	EXPECT(flow(0)->kind, MCR_SCAN_UNKNOWN);
	write_rtp(bytes, 0, 96, 0xcafe0001);
	hear_udp("239.1.1.1", 5004, bytes, sizeof(bytes));
	EXPECT(flow(0)->kind, MCR_SCAN_RTP);
	EXPECT(flow(0)->payload_type, 96);
	EXPECT(flow(0)->ssrc, 0xcafe0001);

	begin("two sources, a standstill, a leap: not RTP");
	reopen(16);
	for (uint16_t i = 0; i < 10; i++) {
		write_rtp(bytes, i, 96, i);
		hear_udp("239.1.1.1", 5004, bytes, sizeof(bytes));
		write_rtp(bytes, 7, 96, 1);
		hear_udp("239.1.1.2", 5004, bytes, sizeof(bytes));
		write_rtp(bytes, (uint16_t)(i * 5000), 96, 1);
		hear_udp("239.1.1.3", 5004, bytes, sizeof(bytes));
	}
	for (uint64_t i = 0; i < 3; i++)
		EXPECT(flow(i)->kind, MCR_SCAN_UNKNOWN);

	begin("RTCP");
	reopen(16);
	hear_udp("239.1.1.1", 5005, (uint8_t[28]){ 0x80, 200, 0, 6 }, 28);
	EXPECT(flow(0)->kind, MCR_SCAN_RTCP);
	begin("a length beyond the datagram is no RTCP");
	hear_udp("239.1.1.2", 5005, (uint8_t[28]){ 0x80, 200, 0, 7 }, 28);
	EXPECT(flow(1)->kind, MCR_SCAN_UNKNOWN);
}

/* A PAT of these many programs, the first the network's, behind pointer bytes and an adaptation field. */
static void write_pat(uint8_t packet[188], uint8_t programs, uint8_t pointer, uint8_t adaptation)
{
	size_t at = 4;

	memset(packet, 0xff, 188);
	memcpy(packet, (uint8_t[]){ 0x47, 0x40, 0, adaptation ? 0x30 : 0x10 }, 4);
	if (adaptation) {
		packet[at] = adaptation;
		at += 1 + (size_t)adaptation;
	}
	packet[at] = pointer;
	at += 1 + (size_t)pointer;
	packet[at] = 0;
	put16(packet + at + 1, 0xb000u | (9 + 4u * programs));
	for (uint8_t i = 0; i < programs; i++)
		put16(packet + at + 8 + 4 * (size_t)i, i);
}

static void test_ts(void)
{
	static const struct {
		uint8_t programs, pointer, adaptation;
		uint16_t found;
	} rows[] = { { 2, 0, 0, 1 }, { 4, 0, 0, 3 },  { 4, 20, 0, 3 },
		     { 4, 0, 7, 3 }, { 4, 20, 7, 3 }, { 1, 0, 0, 0 } };
	uint8_t bytes[12 + 7 * 188];

	for (size_t i = 0; i < COUNT(rows); i++) {
		begin("MPEG-TS, %u entries, pointer %u, adaptation %u", rows[i].programs,
		      rows[i].pointer, rows[i].adaptation);
		reopen(16);
		memset(bytes, 0x47, sizeof(bytes));
		write_pat(bytes + 3 * 188, rows[i].programs, rows[i].pointer, rows[i].adaptation);
		hear_udp("239.1.1.1", 1234, bytes, 7 * 188);
		EXPECT(flow(0)->kind, MCR_SCAN_TS);
		EXPECT(flow(0)->programs, rows[i].found);
	}
	begin("MPEG-TS inside RTP");
	reopen(16);
	for (uint16_t sequence = 0; sequence < 2; sequence++) {
		write_rtp(bytes, sequence, 33, 1);
		memset(bytes + 12, 0x47, sizeof(bytes) - 12);
		write_pat(bytes + 12, 3, 0, 0);
		hear_udp("239.1.1.1", 5004, bytes, sizeof(bytes));
	}
	EXPECT(flow(0)->kind, MCR_SCAN_RTP);
	EXPECT(flow(0)->payload_type, 33);
	EXPECT(flow(0)->programs, 2);
	begin("a table whose lengths lie");
	for (unsigned int value = 0; value < 256; value++) {
		reopen(16);
		memset(bytes, 0x47, sizeof(bytes));
		write_pat(bytes, 4, 0, 0);
		bytes[4] = (uint8_t)value; /* pointer_field */
		put16(bytes + 6, 0xb000u | value * 16);
		hear_udp("239.1.1.1", 1234, bytes, 188);
		EXPECT(flow(0)->kind, MCR_SCAN_TS);
	}
}

static void test_well_known(void)
{
	static const struct {
		uint16_t port;
		uint8_t first, second;
		uint8_t kind;
	} rows[] = {
		{ SAP_PORT, 0x20, 0, MCR_SCAN_SAP }, { SAP_PORT, 0x40, 0, MCR_SCAN_UNKNOWN },
		{ 5353, 0, 0, MCR_SCAN_MDNS },	     { 319, 0, 2, MCR_SCAN_PTP },
		{ 320, 0x0b, 0x12, MCR_SCAN_PTP },   { 320, 0, 0, MCR_SCAN_UNKNOWN },
		{ 5001, 'm', 'c', MCR_SCAN_MCR },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		uint8_t bytes[44] = { rows[i].first, rows[i].second, 'r', '1' };

		begin("port %u, first byte 0x%02x", rows[i].port, rows[i].first);
		reopen(16);
		hear_udp("239.1.1.1", rows[i].port, bytes, sizeof(bytes));
		EXPECT(flow(0)->kind, rows[i].kind);
	}
}

static void test_announcements(void)
{
	static uint8_t bytes[3000] = { 0x20, 0, 0x12, 0x34, 10, 0, 0, 1, 'v', '=', '0' };
	struct mcr_scan_announcement head;

	begin("announcements are told apart by their hash, and the newest text stays");
	reopen(16);
	hear_udp("224.2.127.254", SAP_PORT, bytes, 100);
	bytes[11] = '!';
	hear_udp("224.2.127.254", SAP_PORT, bytes, 90);
	bytes[3] = 0x35;
	hear_udp("224.2.127.254", SAP_PORT, bytes, sizeof(bytes));
	EXPECT(mcr_heard_state(heard)->announcement_count, 2);
	memcpy(&head, mcr_heard_announcements(heard), sizeof(head));
	EXPECT(head.bytes, 90);
	EXPECT(mcr_heard_announcements(heard)[sizeof(head) + 11], '!');
	memcpy(&head, mcr_heard_announcements(heard) + MCR_SCAN_ANNOUNCEMENT_BYTES, sizeof(head));
	EXPECT(head.bytes, MCR_SCAN_TEXT_BYTES);

	begin("more announcements than there is room for");
	reopen(16);
	for (unsigned int i = 0; i < MCR_SCAN_ANNOUNCEMENTS_MAX + 3; i++) {
		put16(bytes + 2, i);
		hear_udp("224.2.127.254", SAP_PORT, bytes, 100);
	}
	EXPECT(mcr_heard_state(heard)->announcement_count, MCR_SCAN_ANNOUNCEMENTS_MAX);
	EXPECT(mcr_heard_state(heard)->announcements_refused, 3);
}

/* -- members and queriers ------------------------------------------------------------ */

static void test_igmp(void)
{
	static const struct {
		const char *name;
		uint8_t message[20];
		size_t bytes;
		uint8_t kind, version;
	} rows[] = {
		{ "query v1", { 0x11 }, 8, MCR_SCAN_QUERY, 1 },
		{ "query v2", { 0x11, 100 }, 8, MCR_SCAN_QUERY, 2 },
		{ "query v3", { 0x11, 100 }, 12, MCR_SCAN_QUERY, 3 },
		{ "report v1", { 0x12, 0, 0, 0, 239, 1, 1, 1 }, 8, MCR_SCAN_REPORT, 1 },
		{ "report v2", { 0x16, 0, 0, 0, 239, 1, 1, 1 }, 8, MCR_SCAN_REPORT, 2 },
		{ "leave v2", { 0x17, 0, 0, 0, 239, 1, 1, 1 }, 8, MCR_SCAN_LEAVE, 2 },
		{ "report v3, exclude nobody",
		  { 0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 1, 1 },
		  16,
		  MCR_SCAN_REPORT,
		  3 },
		{ "report v3, include one source",
		  { 0x22, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 239, 1, 1, 1, 10, 0, 0, 9 },
		  20,
		  MCR_SCAN_REPORT,
		  3 },
		{ "report v3, include nobody",
		  { 0x22, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 239, 1, 1, 1 },
		  16,
		  MCR_SCAN_LEAVE,
		  3 },
	};
	size_t length;

	for (size_t i = 0; i < COUNT(rows); i++) {
		begin("IGMP %s", rows[i].name);
		reopen(16);
		hear_igmp(9, rows[i].message, rows[i].bytes);
		EXPECT(mcr_heard_state(heard)->member_count, 1);
		EXPECT(member(0)->kind, rows[i].kind);
		EXPECT(member(0)->version, rows[i].version);
		EXPECT(member(0)->address[15], 9);
		EXPECT(member(0)->group[12], rows[i].kind == MCR_SCAN_QUERY ? 0 : 239);
	}

	begin("who leaves is the member that it was; who asks is another");
	reopen(16);
	hear_igmp(9, rows[4].message, 8);
	hear_igmp(9, rows[5].message, 8);
	hear_igmp(8, rows[5].message, 8);
	hear_igmp(9, (uint8_t[]){ 0x11, 100, 0, 0, 239, 1, 1, 1 }, 8);
	EXPECT(mcr_heard_state(heard)->member_count, 3);
	EXPECT(member(0)->kind, MCR_SCAN_LEAVE);
	EXPECT(member(0)->packets, 2);
	EXPECT(member(2)->kind, MCR_SCAN_QUERY);

	begin("a report of more records than it holds");
	reopen(16);
	hear_igmp(9, (uint8_t[]){ 0x22, 0, 0, 0, 0, 0, 0xff, 0xff, 4, 0, 0xff, 0xff, 239, 1, 1, 1 },
		  16);
	EXPECT(mcr_heard_state(heard)->member_count, 1);
	begin("a message of seven bytes");
	hear_igmp(9, (uint8_t[7]){ 0x16 }, 7);
	EXPECT(mcr_heard_state(heard)->member_count, 1);
	EXPECT(mcr_heard_state(heard)->malformed, 1);
	begin("a query of a length that no version has");
	hear_igmp(9, (uint8_t[10]){ 0x11, 100 }, 10);
	EXPECT(mcr_heard_state(heard)->member_count, 1);
	EXPECT(mcr_heard_state(heard)->malformed, 2);
	begin("a message whose checksum is wrong");
	length = build_ipv4(frame, "224.0.0.1", 9, IPPROTO_IGMP, rows[1].message, rows[1].bytes);
	hear_bytes(frame, length, (struct mcr_heard_frame){ .protocol = ETH_P_IP });
	EXPECT(mcr_heard_state(heard)->member_count, 1);
	EXPECT(mcr_heard_state(heard)->malformed, 3);
}

/* IPv6 from fe80::1 to ff02::16, hop-by-hop with router alert, ICMPv6. */
static size_t build_mld(uint8_t *packet, const uint8_t *message, size_t bytes)
{
	static const uint8_t alert[] = { 58, 0, 5, 2, 0, 0, 1, 0 };

	memset(packet, 0, 40);
	packet[0] = 0x60;
	put16(packet + 4, (unsigned int)(sizeof(alert) + bytes));
	inet_pton(AF_INET6, "fe80::1", packet + 8);
	inet_pton(AF_INET6, "ff02::16", packet + 24);
	memcpy(packet + 40, alert, sizeof(alert));
	memcpy(packet + 40 + sizeof(alert), message, bytes);
	return 40 + sizeof(alert) + bytes;
}

static void test_mld(void)
{
	static const struct {
		uint8_t type;
		size_t bytes;
		uint8_t kind, version;
	} rows[] = {
		{ 130, 24, MCR_SCAN_QUERY, 1 },
		{ 130, 28, MCR_SCAN_QUERY, 2 },
		{ 131, 24, MCR_SCAN_REPORT, 1 },
		{ 132, 24, MCR_SCAN_LEAVE, 1 },
	};
	uint8_t report[28] = { 143, [7] = 1, [8] = 4, [12] = 0xff, [13] = 0x1e, [27] = 1 };

	for (size_t i = 0; i < COUNT(rows); i++) {
		uint8_t message[28] = { rows[i].type, [8] = 0xff, [9] = 0x1e, [23] = 1 };
		size_t length = build_mld(frame, message, rows[i].bytes);

		begin("MLD type %u of %zu bytes", rows[i].type, rows[i].bytes);
		reopen(16);
		hear_bytes(frame, length, (struct mcr_heard_frame){ .protocol = ETH_P_IPV6 });
		EXPECT(mcr_heard_state(heard)->member_count, 1);
		EXPECT(member(0)->kind, rows[i].kind);
		EXPECT(member(0)->version, rows[i].version);
		EXPECT(member(0)->group[15], 1);
	}
	begin("MLDv2 report");
	reopen(16);
	hear_bytes(frame, build_mld(frame, report, sizeof(report)),
		   (struct mcr_heard_frame){ .protocol = ETH_P_IPV6 });
	EXPECT(member(0)->kind, MCR_SCAN_REPORT);
	EXPECT(member(0)->group[1], 0x1e);
	begin("a neighbour's solicitation is no member");
	reopen(16);
	report[0] = 135;
	hear_bytes(frame, build_mld(frame, report, sizeof(report)),
		   (struct mcr_heard_frame){ .protocol = ETH_P_IPV6 });
	EXPECT(mcr_heard_state(heard)->member_count, 0);
}

/* -- damage ---------------------------------------------------------------------------- */

static void test_refused(void)
{
	size_t length = build_udp(frame, "239.1.1.1", 5001, (const uint8_t *)"mcr!", 4);

	reopen(16);
	for (size_t captured = 0; captured < 28; captured++) {
		begin("%zu of %zu bytes captured", captured, length);
		hear_bytes(frame, captured, (struct mcr_heard_frame){ .protocol = ETH_P_IP });
		EXPECT(mcr_heard_state(heard)->flow_count, 0);
		EXPECT(mcr_heard_state(heard)->malformed, captured + 1);
	}
	begin("a UDP length beyond the packet");
	put16(frame + 24, 13);
	hear_bytes(frame, length, (struct mcr_heard_frame){ .protocol = ETH_P_IP });
	EXPECT(mcr_heard_state(heard)->flow_count, 0);
	begin("a wrong header checksum");
	build_udp(frame, "239.1.1.1", 5001, (const uint8_t *)"mcr!", 4);
	frame[10] ^= 1;
	hear_bytes(frame, length, (struct mcr_heard_frame){ .protocol = ETH_P_IP });
	EXPECT(mcr_heard_state(heard)->flow_count, 0);
	begin("unicast");
	build_udp(frame, "10.0.0.2", 5001, (const uint8_t *)"mcr!", 4);
	hear_bytes(frame, length, (struct mcr_heard_frame){ .protocol = ETH_P_IP });
	EXPECT(mcr_heard_state(heard)->flow_count, 0);
}

/* No expectation but that nothing is read beyond the frame: hear_bytes() and ASan. */
static void test_damage(void)
{
	uint64_t random = 1;

	begin("100,000 damaged frames");
	reopen(64);
	for (int i = 0; i < 100000; i++) {
		uint8_t body[64];
		size_t length, captured;
		uint16_t protocol = random32(&random) % 2 ? ETH_P_IP : ETH_P_IPV6;

		for (size_t at = 0; at < sizeof(body); at++)
			body[at] = (uint8_t)random32(&random);
		body[0] = (uint8_t[]){ 0x11, 0x22, 0x16, 143, 130, 0x80 }[random32(&random) % 6];
		length = protocol == ETH_P_IPV6 ?
				 build_mld(frame, body, random32(&random) % 64) :
			 random32(&random) % 2 ?
				 build_ipv4(frame, "239.1.1.1", 1, IPPROTO_IGMP, body,
					    random32(&random) % 64) :
				 build_udp(frame, "239.1.1.1",
					   (uint16_t)(random32(&random) % 2 ? SAP_PORT : 5004),
					   body, random32(&random) % 64);
		captured = random32(&random) % 4 ? length : random32(&random) % length;
		if (protocol == ETH_P_IPV6 && random32(&random) % 2)
			frame[random32(&random) % length] = (uint8_t)random32(&random);
		hear_bytes(frame, captured, (struct mcr_heard_frame){ .protocol = protocol });
	}
}

static void test_open(void)
{
	int32_t error;

	begin("tables of no flows, and of too many");
	EXPECT_TRUE(mcr_heard_open(0, 1, &error) == NULL);
	EXPECT(error, -EINVAL);
	EXPECT_TRUE(mcr_heard_open(MCR_SCAN_FLOWS_MAX + 1, 1, &error) == NULL);
	EXPECT(error, -EINVAL);
}

int main(void)
{
	test_open();
	test_counting();
	test_keys();
	test_super_frame();
	test_bounds();
	test_rtp();
	test_ts();
	test_well_known();
	test_announcements();
	test_igmp();
	test_mld();
	test_refused();
	test_damage();
	mcr_heard_close(heard);
	return finish();
}
