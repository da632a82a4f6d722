/* c/query.c: what a ring on lo hears of what is sent there. */
#define _GNU_SOURCE
#include <unistd.h>

#include "check.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <time.h>

#include "raw_packet.h"

#include "frame.h"

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

static uint8_t packets[MCR_QUERIES_MAX * MCR_RAW_PACKET_BYTES];
static const uint8_t *newest_bytes;

/* How many came, and the newest of them. */
static int32_t read_once(struct mcr_ring *ring, struct mcr_raw_packet *newest)
{
	int32_t count = mcr_query_ring_read(ring, packets);
	const uint8_t *slot =
		packets + (size_t)((count - 1) % MCR_QUERIES_MAX) * MCR_RAW_PACKET_BYTES;

	if (count == 0)
		return 0;
	memcpy(newest, slot, sizeof(*newest));
	newest_bytes = slot + sizeof(*newest);
	return count;
}

/* The IGMP message of the newest one has so many bytes. */
static void expect_newest(const struct mcr_raw_packet *newest, size_t bytes)
{
	EXPECT(newest->captured, HEADER_BYTES + bytes);
	EXPECT(newest_bytes[HEADER_BYTES], 0x11);
	EXPECT(memcmp(newest_bytes + 12, (uint8_t[]){ 10, 0, 0, 1 }, 4), 0);
}

/* Reads until `count` came, or for two seconds: the ring hands over four times a second. */
static int32_t read_queries(struct mcr_ring *ring, struct mcr_raw_packet *newest, int32_t count)
{
	int32_t read = 0;

	for (int i = 0; i < 200 && read < count; i++) {
		read += read_once(ring, newest);
		if (read < count)
			usleep(10000);
	}
	return read;
}

static void test_ring(struct mcr_ring *ring)
{
	static const uint8_t v2[8] = { 0x11, 100 }, v3[12] = { 0x11, 100 }, report[8] = { 0x16 };
	struct mcr_raw_packet newest = { 0 };
	uint64_t before_ns, after_ns;
	int32_t heard;

	begin("nothing was sent");
	EXPECT(read_once(ring, &newest), 0);

	begin("a query among other packets");
	send_packet(IPPROTO_UDP, v2, sizeof(v2));
	send_packet(IPPROTO_IGMP, report, sizeof(report));
	before_ns = now_ns();
	send_packet(IPPROTO_IGMP, v2, sizeof(v2));
	after_ns = now_ns();
	EXPECT(read_queries(ring, &newest, 1), 1);
	expect_newest(&newest, sizeof(v2));
	EXPECT_TRUE(newest.time_ns >= before_ns && newest.time_ns <= after_ns);

	begin("of several the newest");
	send_packet(IPPROTO_IGMP, v2, sizeof(v2));
	send_packet(IPPROTO_IGMP, v3, sizeof(v3));
	EXPECT(read_queries(ring, &newest, 2), 2);
	expect_newest(&newest, sizeof(v3));
	EXPECT(read_once(ring, &newest), 0);

	begin("of a flood as many as the ring holds, and what comes later");
	for (int i = 0; i < FLOOD; i++)
		send_packet(IPPROTO_IGMP, v2, sizeof(v2));
	heard = FLOOD - (int32_t)mcr_ring_drops(ring);
	EXPECT_TRUE(heard > 0 && heard < FLOOD);
	EXPECT(read_queries(ring, &newest, heard), heard);
	send_packet(IPPROTO_IGMP, v3, sizeof(v3));
	EXPECT(read_queries(ring, &newest, 1), 1);
	expect_newest(&newest, sizeof(v3));
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
