/*
 * c/flow_table.c: what frames become flows, which packets are kept for
 * TypeScript, that table and pool stay bounded, and that nothing beyond the
 * captured bytes is read: every frame lies in memory of exactly its size, so
 * AddressSanitizer sees the first byte too many.
 */
#define _GNU_SOURCE
#include "flow_table.h"

#include "check.h"
#include "frame.h"

#define SAP_PORT 9875

static struct mcr_flow_table *table;

static void open_with(uint32_t flows_max, uint16_t samples, uint16_t whole_port)
{
	const struct mcr_scan_options options = {
		.seed = 7, .flows_max = flows_max, .samples = samples, .whole_port = whole_port
	};
	int32_t error;

	if (table)
		mcr_flow_table_close(table);
	table = mcr_flow_table_open(&options, &error);
	need(table != NULL, "the table");
}

static void reopen(uint32_t flows_max)
{
	open_with(flows_max, 0, 0);
}

static void put16(uint8_t *bytes, unsigned int value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

/* A copy of exactly these bytes is heard. */
static void hear_bytes(const uint8_t *bytes, size_t captured, struct mcr_frame frame)
{
	uint8_t *copy = malloc(captured);

	if (captured)
		memcpy(copy, bytes, captured);
	frame.network = copy;
	frame.captured = captured;
	mcr_flow_table_hear(table, 0, &frame);
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

	hear_bytes(frame, length, (struct mcr_frame){ .protocol = ETH_P_IP, .received_ns = 5 });
}

static const struct mcr_scan_state *state(void)
{
	return mcr_flow_table_state(table);
}

static const struct mcr_scan_flow *flow(uint64_t index)
{
	static const struct mcr_scan_flow none;

	return index < state()->flow_count ? &mcr_flow_table_flows(table)[index] : &none;
}

static struct mcr_raw_packet kept(uint64_t index)
{
	struct mcr_raw_packet head = { 0 };

	if (index < state()->packet_count)
		memcpy(&head, mcr_flow_table_packets(table) + index * MCR_RAW_PACKET_BYTES,
		       sizeof(head));
	return head;
}

static const uint8_t *kept_bytes(uint64_t index)
{
	return mcr_flow_table_packets(table) + index * MCR_RAW_PACKET_BYTES +
	       sizeof(struct mcr_raw_packet);
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
	EXPECT(state()->flow_count, 2);
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
	static const struct mcr_frame places[] = {
		{ .protocol = ETH_P_IP },
		{ .protocol = ETH_P_IP, .vlan = 5 },
		{ .protocol = ETH_P_IP, .vlan = MCR_VLAN_OTHER | 5 },
		{ .protocol = ETH_P_IP, .packet_type = PACKET_OUTGOING },
	};
	size_t length = build_udp(frame, "239.1.1.1", 5001, (const uint8_t *)"x", 1);

	begin("VLAN, tag and direction tell flows apart");
	reopen(16);
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < COUNT(places); i++)
			hear_bytes(frame, length, places[i]);
	EXPECT(state()->flow_count, COUNT(places));
	for (size_t i = 0; i < COUNT(places); i++) {
		EXPECT(flow(i)->packets, 2);
		EXPECT(flow(i)->vlan, places[i].vlan);
		EXPECT(flow(i)->is_egress, places[i].packet_type == PACKET_OUTGOING);
	}
}

static void test_super_frame(void)
{
	static const uint8_t payload[2500];
	size_t length = build_udp(frame, "239.1.1.1", 5001, payload, sizeof(payload));

	begin("a super-frame is the datagrams it holds");
	reopen(16);
	/* Its beginning only was captured. */
	hear_bytes(frame, 500, (struct mcr_frame){ .protocol = ETH_P_IP, .segment_bytes = 1000 });
	EXPECT(flow(0)->packets, 3);
	EXPECT(flow(0)->bytes, 2500);
	EXPECT(flow(0)->bytes_min, 500);
	EXPECT(flow(0)->bytes_max, 1000);
	begin("a frame of which the beginning was captured");
	hear_bytes(frame, 100, (struct mcr_frame){ .protocol = ETH_P_IP });
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
	EXPECT(state()->flow_count, 2);
	EXPECT(state()->flows_refused, 3);
	EXPECT(flow(0)->packets, 2);

	begin("as many flows as fit");
	reopen(MCR_SCAN_FLOWS_MAX);
	for (uint32_t i = 0; i < MCR_SCAN_FLOWS_MAX + 5; i++)
		hear_udp("239.1.1.1", (uint16_t)i, (const uint8_t *)"x", 1);
	EXPECT(state()->flow_count, MCR_SCAN_FLOWS_MAX);
	EXPECT(state()->flows_refused, 5);
}

/* -- packets for TypeScript --------------------------------------------------------- */

static void test_samples(void)
{
	uint8_t payload[3000] = { 'm', 'c', 'r', '1' };

	begin("the first packets of each flow are kept");
	open_with(16, 2, 0);
	for (int i = 0; i < 3; i++)
		hear_udp("239.1.1.1", 5001, payload, 100);
	hear_udp("239.1.1.1", 5002, payload, sizeof(payload));
	EXPECT(state()->packet_count, 3);
	EXPECT(kept(0).flow, 0);
	EXPECT(kept(0).payload, 28);
	EXPECT(kept(0).payload_bytes, 100);
	EXPECT(kept(0).captured, 128);
	EXPECT(kept(0).time_ns, 5);
	EXPECT(memcmp(kept_bytes(0) + 28, payload, 100), 0);
	EXPECT(kept(2).flow, 1);
	EXPECT(kept(2).payload_bytes, sizeof(payload));
	EXPECT(kept(2).captured, MCR_RAW_CAPTURED_MAX);

	begin("of a super-frame the first datagram");
	hear_bytes(frame, build_udp(frame, "239.1.1.1", 5003, payload, 2500),
		   (struct mcr_frame){ .protocol = ETH_P_IP, .segment_bytes = 1000 });
	EXPECT(kept(3).payload_bytes, 1000);

	begin("what was read makes room");
	mcr_flow_table_release(table);
	EXPECT(state()->packet_count, 0);

	begin("samples leave room for others, and are kept of a later packet");
	open_with(MCR_SCAN_FLOWS_MAX, 1, SAP_PORT);
	for (uint16_t port = 1; port <= 2 * MCR_SCAN_PACKETS_MAX; port++)
		hear_udp("239.1.1.1", port, payload, 10);
	EXPECT(state()->packet_count, MCR_SCAN_PACKETS_MAX * 3 / 4);
	EXPECT(state()->packets_refused, 0);
	mcr_flow_table_release(table);
	hear_udp("239.1.1.1", 2 * MCR_SCAN_PACKETS_MAX, payload, 10);
	EXPECT(kept(0).flow, 2 * MCR_SCAN_PACKETS_MAX - 1);

	begin("of one port all packets, as far as there is room");
	open_with(16, 1, SAP_PORT);
	for (int i = 0; i < MCR_SCAN_PACKETS_MAX + 3; i++)
		hear_udp("239.1.1.1", SAP_PORT, payload, 10);
	EXPECT(state()->packet_count, MCR_SCAN_PACKETS_MAX);
	EXPECT(state()->packets_refused, 3);
	EXPECT(flow(0)->packets, MCR_SCAN_PACKETS_MAX + 3);
}

static void test_wishes(void)
{
	struct mcr_scan_wish wish = {
		.packets = 1, .offset = 12, .step = 188, .word = 0x47400000, .mask = 0xff5fff00
	};
	uint8_t payload[12 + 3 * 188] = { 0x80 };

	begin("a packet with a word at one of the steps is kept, and no other");
	reopen(16);
	hear_udp("239.1.1.1", 5001, payload, sizeof(payload));
	EXPECT(mcr_flow_table_wish(table, &wish, 1), 0);
	memcpy(payload + 12 + 100, (uint8_t[]){ 0x47, 0x40, 0, 0x10 }, 4);
	hear_udp("239.1.1.1", 5001, payload, sizeof(payload));
	EXPECT(state()->packet_count, 0);
	memcpy(payload + 12 + 2 * 188, (uint8_t[]){ 0x47, 0x60, 0, 0x10 }, 4);
	hear_udp("239.1.1.1", 5001, payload, 12 + 2 * 188 + 3);
	EXPECT(state()->packet_count, 0);
	hear_udp("239.1.1.1", 5001, payload, sizeof(payload));
	EXPECT(state()->packet_count, 1);
	begin("a wish is met as often as it says");
	hear_udp("239.1.1.1", 5001, payload, sizeof(payload));
	EXPECT(state()->packet_count, 1);
	begin("a wish of a flow that is not there, and of no step");
	wish.flow = 1;
	EXPECT(mcr_flow_table_wish(table, &wish, 1), -EINVAL);
	wish = (struct mcr_scan_wish){ .packets = 1 };
	EXPECT(mcr_flow_table_wish(table, &wish, 1), -EINVAL);
	begin("an offset beyond every packet");
	wish.step = 4;
	wish.offset = UINT32_MAX;
	wish.mask = 1;
	EXPECT(mcr_flow_table_wish(table, &wish, 1), 0);
	hear_udp("239.1.1.1", 5001, payload, sizeof(payload));
	EXPECT(state()->packet_count, 1);
}

/* IPv6 from fe80::1 to ff02::16 with this next header. */
static size_t build_ipv6(uint8_t *packet, uint8_t next, const uint8_t *body, size_t bytes)
{
	memset(packet, 0, 40);
	packet[0] = 0x60;
	packet[6] = next;
	put16(packet + 4, (unsigned int)bytes);
	inet_pton(AF_INET6, "fe80::1", packet + 8);
	inet_pton(AF_INET6, "ff02::16", packet + 24);
	memcpy(packet + 40, body, bytes);
	return 40 + bytes;
}

static void test_unread(void)
{
	const struct mcr_frame ipv4 = { .protocol = ETH_P_IP, .packet_type = PACKET_OUTGOING };
	const struct mcr_frame ipv6 = { .protocol = ETH_P_IPV6, .vlan = 7 };
	uint8_t udp[20] = { 0, 1, 0x13, 0x89, 0, 20 };
	size_t length;

	begin("IGMP, ICMPv6 and more headers are kept as they came");
	reopen(16);
	length = build_ipv4(frame, "224.0.0.22", 9, IPPROTO_IGMP, udp, 8);
	hear_bytes(frame, length, ipv4);
	EXPECT(memcmp(kept_bytes(0), frame, length), 0);
	hear_bytes(frame, build_ipv6(frame, IPPROTO_ICMPV6, udp, 8), ipv6);
	hear_bytes(frame, build_ipv6(frame, IPPROTO_HOPOPTS, udp, 20), ipv6);
	EXPECT(state()->packet_count, 3);
	EXPECT(state()->flow_count, 0);
	EXPECT(kept(0).flow, MCR_RAW_OTHER);
	EXPECT(kept(0).is_egress, 1);
	EXPECT(kept(0).captured, length);
	EXPECT(kept(1).vlan, 7);
	EXPECT(kept(2).captured, 60);

	begin("UDP behind IPv6 itself is a flow");
	hear_bytes(frame, build_ipv6(frame, IPPROTO_UDP, udp, sizeof(udp)), ipv6);
	EXPECT(state()->packet_count, 3);
	EXPECT(flow(0)->port, 5001);
	EXPECT(flow(0)->bytes, 12);
	EXPECT(flow(0)->group[0], 0xff);

	begin("a flood of them");
	length = build_ipv4(frame, "224.0.0.22", 9, IPPROTO_IGMP, udp, 8);
	for (int i = 0; i < MCR_SCAN_PACKETS_MAX; i++)
		hear_bytes(frame, length, ipv4);
	EXPECT(state()->packet_count, MCR_SCAN_PACKETS_MAX);
	EXPECT(state()->packets_refused, 3);
	begin("a fragment that is not the first one is passed over");
	put16(frame + 6, 1);
	put16(frame + 10, 0);
	length = (size_t)state()->packets_refused;
	uint16_t sum = (uint16_t)~mcr_fold(mcr_sum(frame, 20, 0));
	memcpy(frame + 10, &sum, 2);
	hear_bytes(frame, 28, ipv4);
	EXPECT(state()->packets_refused, length);
	EXPECT(state()->malformed, 0);
}

/* -- damage ---------------------------------------------------------------------------- */

static void test_refused(void)
{
	size_t length = build_udp(frame, "239.1.1.1", 5001, (const uint8_t *)"mcr!", 4);

	reopen(16);
	for (size_t captured = 0; captured < 28; captured++) {
		begin("%zu of %zu bytes captured", captured, length);
		hear_bytes(frame, captured, (struct mcr_frame){ .protocol = ETH_P_IP });
		EXPECT(state()->flow_count, 0);
		EXPECT(state()->malformed, captured + 1);
	}
	begin("a UDP length beyond the packet");
	put16(frame + 24, 13);
	hear_bytes(frame, length, (struct mcr_frame){ .protocol = ETH_P_IP });
	EXPECT(state()->flow_count, 0);
	begin("a wrong header checksum");
	build_udp(frame, "239.1.1.1", 5001, (const uint8_t *)"mcr!", 4);
	frame[10] ^= 1;
	hear_bytes(frame, length, (struct mcr_frame){ .protocol = ETH_P_IP });
	EXPECT(state()->flow_count, 0);
	begin("unicast");
	build_udp(frame, "10.0.0.2", 5001, (const uint8_t *)"mcr!", 4);
	hear_bytes(frame, length, (struct mcr_frame){ .protocol = ETH_P_IP });
	EXPECT(state()->flow_count, 0);
}

/* No expectation but that nothing is read beyond the frame: hear_bytes() and ASan. */
static void test_damage(void)
{
	struct mcr_scan_wish wish = { .packets = UINT32_MAX, .step = 4, .word = 1, .mask = 0xff };
	uint64_t random = 1;

	begin("100,000 damaged frames");
	open_with(64, 4, SAP_PORT);
	for (int i = 0; i < 100000; i++) {
		uint8_t body[64];
		size_t length, captured;
		uint16_t protocol = random32(&random) % 2 ? ETH_P_IP : ETH_P_IPV6;

		for (size_t at = 0; at < sizeof(body); at++)
			body[at] = (uint8_t)random32(&random);
		length = protocol == ETH_P_IPV6 ?
				 build_ipv6(frame, random32(&random) % 2 ? IPPROTO_UDP : 0, body,
					    random32(&random) % 64) :
				 build_udp(frame, "239.1.1.1",
					   (uint16_t)(random32(&random) % 2 ? SAP_PORT : 5004),
					   body, random32(&random) % 64);
		captured = random32(&random) % 4 ? length : random32(&random) % length;
		if (protocol == ETH_P_IPV6 && random32(&random) % 2)
			frame[random32(&random) % length] = (uint8_t)random32(&random);
		hear_bytes(frame, captured, (struct mcr_frame){ .protocol = protocol });
		if (state()->flow_count && random32(&random) % 8 == 0) {
			wish.flow = random32(&random) % (uint32_t)state()->flow_count;
			wish.offset = random32(&random) % 64;
			mcr_flow_table_wish(table, &wish, 1);
			mcr_flow_table_release(table);
		}
	}
}

static void test_open(void)
{
	int32_t error;

	begin("tables of no flows, and of too many");
	EXPECT_TRUE(mcr_flow_table_open(&(struct mcr_scan_options){ 0 }, &error) == NULL);
	EXPECT(error, -EINVAL);
	EXPECT_TRUE(mcr_flow_table_open(
			    &(struct mcr_scan_options){ .flows_max = MCR_SCAN_FLOWS_MAX + 1 },
			    &error) == NULL);
	EXPECT(error, -EINVAL);
}

int main(void)
{
	test_open();
	test_counting();
	test_keys();
	test_super_frame();
	test_bounds();
	test_samples();
	test_wishes();
	test_unread();
	test_refused();
	test_damage();
	mcr_flow_table_close(table);
	return finish();
}
