/*
 * c/igmp.h and c/query.c: what is a query, of which version and from whom, and
 * what a ring on lo hears of what is sent there. Every packet of the table lies
 * in memory of exactly its size, for AddressSanitizer.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "check.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <time.h>

#include "igmp.h"

#define HEADER_BYTES 24 /* with router alert, as every query has it */
#define FLOOD 4000 /* several times what the ring holds */

static void put_checksum(uint8_t *bytes, size_t count, size_t at)
{
	uint16_t sum;

	memset(bytes + at, 0, 2);
	sum = (uint16_t)~mcr_fold(mcr_sum(bytes, count, 0));
	memcpy(bytes + at, &sum, 2);
}

/* An IPv4 packet from 10.0.0.1 to 224.0.0.1, with both checksums; its length. */
static size_t build(uint8_t *packet, uint8_t protocol, const uint8_t *message, size_t bytes)
{
	static const uint8_t header[HEADER_BYTES] = {
		0x46, 0xc0, 0, 0, 0, 0, 0x40, 0, 1, 0, 0, 0, 10, 0, 0, 1, 224, 0, 0, 1, 0x94, 4
	};
	uint8_t *body = packet + HEADER_BYTES;

	memcpy(packet, header, sizeof(header));
	packet[3] = (uint8_t)(HEADER_BYTES + bytes);
	packet[9] = protocol;
	put_checksum(packet, HEADER_BYTES, 10);
	memcpy(body, message, bytes);
	put_checksum(body, bytes, 2);
	return HEADER_BYTES + bytes;
}

/* The version that a copy of exactly these bytes is of; 0: no query, and nothing was written. */
static uint8_t version_of(const uint8_t *packet, size_t length)
{
	struct mcr_query query = { .version = 99 };
	uint8_t *copy = malloc(length);
	bool is_query;

	memcpy(copy, packet, length);
	is_query = mcr_igmp_query_read(copy, length, &query);
	free(copy);
	EXPECT(query.source[15], is_query);
	EXPECT_TRUE(is_query || query.version == 99);
	return is_query ? query.version : 0;
}

static void test_versions(void)
{
	static const struct {
		const char *name;
		uint8_t message[24];
		size_t bytes;
		uint8_t version;
	} rows[] = {
		{ "version 1", { 0x11 }, 8, 1 },
		{ "version 2", { 0x11, 100 }, 8, 2 },
		{ "version 2, of one group", { 0x11, 10, 0, 0, 239, 1, 1, 1 }, 8, 2 },
		{ "version 3", { 0x11, 100, [8] = 2, 125 }, 12, 3 },
		{ "version 3 that wants an answer at once", { 0x11, 0 }, 12, 3 },
		{ "version 3, of two sources", { 0x11, 10, [4] = 239, [11] = 2 }, 20, 3 },
		{ "version 3, of more sources than it holds", { 0x11, 10, [11] = 3 }, 20, 0 },
		{ "of a length that no version has", { 0x11, 100 }, 11, 0 },
		{ "a report", { 0x16, 0, 0, 0, 239, 1, 1, 1 }, 8, 0 },
		{ "a report of version 3", { 0x22, 0 }, 16, 0 },
	};
	uint8_t packet[128];

	for (size_t i = 0; i < COUNT(rows); i++) {
		begin("%s", rows[i].name);
		EXPECT(version_of(packet,
				  build(packet, IPPROTO_IGMP, rows[i].message, rows[i].bytes)),
		       rows[i].version);
	}
}

static void test_damaged(void)
{
	static const uint8_t query[12] = { 0x11, 100 };
	uint8_t packet[128];
	size_t length = build(packet, IPPROTO_IGMP, query, sizeof(query));

	for (size_t at = 0; at < length; at++) {
		begin("byte %zu is another one", at);
		packet[at] ^= 0x10;
		EXPECT(version_of(packet, length), 0);
		packet[at] ^= 0x10;
	}
	for (size_t bytes = 1; bytes < length; bytes++) {
		begin("only %zu bytes are there", bytes);
		EXPECT(version_of(packet, bytes), 0);
	}
	begin("padded, as Ethernet pads");
	memset(packet + length, 0xff, 20);
	EXPECT(version_of(packet, length + 20), 3);
	begin("a fragment");
	packet[6] = 0x20;
	put_checksum(packet, HEADER_BYTES, 10);
	EXPECT(version_of(packet, length), 0);
	begin("UDP that looks like one");
	EXPECT(version_of(packet, build(packet, IPPROTO_UDP, query, sizeof(query))), 0);
}

/* -- the ring --------------------------------------------------------------------- */

static void send_packet(uint8_t protocol, const uint8_t *message, size_t bytes)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_IP),
				  .sll_ifindex = LOOPBACK_IFINDEX,
				  .sll_halen = ETH_ALEN,
				  .sll_addr = { 0x01, 0x00, 0x5e, 0, 0, 1 } };
	int fd = socket(AF_PACKET, SOCK_DGRAM, 0);
	uint8_t packet[128];
	size_t length = build(packet, protocol, message, bytes);

	need(sendto(fd, packet, length, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)length,
	     "to send on lo");
	close(fd);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Reads until `count` came, or for two seconds: the ring hands over four times a second. */
static int32_t read_queries(struct mcr_ring *ring, struct mcr_query *newest, int32_t count)
{
	int32_t read = 0;

	for (int i = 0; i < 200 && read < count; i++) {
		read += mcr_query_ring_read(ring, newest);
		if (read < count)
			usleep(10000);
	}
	return read;
}

static void test_ring(struct mcr_ring *ring)
{
	static const uint8_t v2[8] = { 0x11, 100 }, v3[12] = { 0x11, 100 }, report[8] = { 0x16 };
	struct mcr_query newest = { 0 };
	uint64_t before_ns, after_ns;
	int32_t heard;

	begin("nothing was sent");
	EXPECT(mcr_query_ring_read(ring, &newest), 0);

	begin("a query among other packets");
	send_packet(IPPROTO_UDP, v2, sizeof(v2));
	send_packet(IPPROTO_IGMP, report, sizeof(report));
	before_ns = now_ns();
	send_packet(IPPROTO_IGMP, v2, sizeof(v2));
	after_ns = now_ns();
	EXPECT(read_queries(ring, &newest, 1), 1);
	EXPECT(newest.version, 2);
	EXPECT(memcmp(newest.source + 10, (uint8_t[]){ 0xff, 0xff, 10, 0, 0, 1 }, 6), 0);
	EXPECT_TRUE(newest.time_ns >= before_ns && newest.time_ns <= after_ns);

	begin("of several the newest");
	send_packet(IPPROTO_IGMP, v2, sizeof(v2));
	send_packet(IPPROTO_IGMP, v3, sizeof(v3));
	EXPECT(read_queries(ring, &newest, 2), 2);
	EXPECT(newest.version, 3);
	EXPECT(mcr_query_ring_read(ring, &newest), 0);

	begin("of a flood as many as the ring holds, and what comes later");
	for (int i = 0; i < FLOOD; i++)
		send_packet(IPPROTO_IGMP, v2, sizeof(v2));
	heard = FLOOD - (int32_t)mcr_ring_drops(ring);
	EXPECT_TRUE(heard > 0 && heard < FLOOD);
	EXPECT(read_queries(ring, &newest, heard), heard);
	send_packet(IPPROTO_IGMP, v3, sizeof(v3));
	EXPECT(read_queries(ring, &newest, 1), 1);
	EXPECT(newest.version, 3);
}

static void test_refused(void)
{
	static const uint32_t indexes[] = { 0, 1u << 30 };

	for (size_t i = 0; i < COUNT(indexes); i++) {
		int32_t error;

		begin("interface %u", indexes[i]);
		EXPECT_TRUE(mcr_query_ring_open(indexes[i], &error) == NULL);
		EXPECT(error, -ENODEV);
	}
}

int main(void)
{
	struct mcr_ring *ring;
	int32_t error;

	test_versions();
	test_damaged();
	if (!own_network())
		return finish();
	test_refused();
	begin("a ring on lo");
	ring = mcr_query_ring_open(LOOPBACK_IFINDEX, &error);
	need(ring != NULL, "a ring");
	test_ring(ring);
	mcr_ring_close(ring);
	return finish();
}
