/*
 * The observer: flows told apart and counted, frames that lie, and a look at
 * real packets on lo.
 */
#define _GNU_SOURCE
#include "check.h"

#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <time.h>

#include "../../c/relay.h"

#define BLOCK_BYTES 4096u
#define HEADER_BYTES (TPACKET_ALIGN(sizeof(struct tpacket3_hdr)) + sizeof(struct sockaddr_ll))
#define MAC_OFFSET 96u /* room for the virtio header in front */

static _Alignas(16) uint8_t block[BLOCK_BYTES];
static struct mcr_observer *observer;

static const struct mcr_observer_totals *totals(void)
{
	return mcr_observer_totals(observer);
}

static const struct mcr_seen_flow *flow(size_t index)
{
	return (const struct mcr_seen_flow *)mcr_observer_flows(observer) + index;
}

static struct tpacket3_hdr *frame_at(size_t offset)
{
	return (void *)(block + offset);
}

/* What a packet says of itself, and what the ring says of it. */
struct packet {
	const char *source, *destination;
	uint16_t port, vlan;
	uint8_t protocol, igmp_type;
	uint16_t payload_bytes;
	uint16_t segment_bytes;
	uint16_t fragment;
	bool is_outer_lie; /* a total length beyond the wire's */
};

/* One frame alone in the block. */
static void put(const struct packet *packet)
{
	struct tpacket_block_desc *head = (void *)block;
	size_t at = sizeof(*head);
	struct tpacket3_hdr *frame;
	struct virtio_net_hdr offload = { .gso_type = packet->segment_bytes ? 5 : 0,
					  .gso_size = packet->segment_bytes };
	uint32_t header_bytes = 20 + (packet->protocol == IPPROTO_UDP ? 8 : 0);
	uint32_t total = header_bytes + packet->payload_bytes;
	uint8_t *ip;

	memset(block, 0, sizeof(block));
	at = (at + 15) & ~(size_t)15;
	head->hdr.bh1.num_pkts = 1;
	head->hdr.bh1.offset_to_first_pkt = (uint32_t)at;
	frame = frame_at(at);
	frame->tp_mac = MAC_OFFSET;
	frame->tp_net = MAC_OFFSET + 14;
	frame->tp_len = 14 + total;
	frame->tp_snaplen = frame->tp_len < 200 ? frame->tp_len : 200;
	frame->tp_sec = 7;
	if (packet->vlan) {
		frame->tp_status = TP_STATUS_VLAN_VALID;
		frame->hv1.tp_vlan_tci = packet->vlan | 0x6000;
	}
	memcpy(block + at + MAC_OFFSET - sizeof(offload), &offload, sizeof(offload));
	ip = block + at + frame->tp_net;
	ip[0] = 0x45;
	total += packet->is_outer_lie;
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[6] = (uint8_t)(packet->fragment >> 8);
	ip[7] = (uint8_t)packet->fragment;
	ip[8] = 16;
	ip[9] = packet->protocol;
	inet_pton(AF_INET, packet->source, ip + 12);
	inet_pton(AF_INET, packet->destination, ip + 16);
	if (packet->protocol == IPPROTO_UDP) {
		ip[22] = (uint8_t)(packet->port >> 8);
		ip[23] = (uint8_t)packet->port;
		ip[28] = 0xab;
	} else {
		ip[20] = packet->igmp_type;
	}
}

static void count(const struct packet *packet)
{
	put(packet);
	mcr_observer_block(observer, (const void *)block, BLOCK_BYTES);
}

static const struct packet usual = { .source = "10.0.0.1",
				     .destination = "239.1.1.1",
				     .port = 5001,
				     .protocol = IPPROTO_UDP,
				     .payload_bytes = 100 };

static void test_flows(void)
{
	struct packet packet = usual;
	uint8_t address[16];

	observer = mcr_observer_alloc(4);
	need(observer != NULL, "an observer");
	begin("two packets of one flow");
	count(&packet);
	packet.payload_bytes = 40;
	count(&packet);
	EXPECT(totals()->flows, 1);
	EXPECT(flow(0)->packets, 2);
	EXPECT(flow(0)->bytes, 140);
	EXPECT(flow(0)->size_min, 40);
	EXPECT(flow(0)->size_max, 100);
	EXPECT(flow(0)->port, 5001);
	EXPECT(flow(0)->ttl, 16);
	EXPECT(flow(0)->last_ns, 7000000000);
	EXPECT(flow(0)->sample_bytes, MCR_SEEN_SAMPLE_BYTES);
	EXPECT(flow(0)->sample[0], 0xab);
	map_address(address, "10.0.0.1");
	EXPECT_TRUE(memcmp(flow(0)->source, address, 16) == 0);

	begin("another VLAN is another flow");
	packet.vlan = 5;
	count(&packet);
	EXPECT(totals()->flows, 2);
	EXPECT(flow(1)->vlan, 5);

	begin("a super-frame counts as what it holds");
	packet = usual;
	packet.port = 5002;
	packet.payload_bytes = 250;
	packet.segment_bytes = 100;
	count(&packet);
	EXPECT(flow(2)->packets, 3);
	EXPECT(flow(2)->bytes, 250);
	EXPECT(flow(2)->size_min, 50);
	EXPECT(flow(2)->size_max, 100);

	begin("an IGMP query is none of the UDP flows");
	packet = (struct packet){ .source = "10.0.0.9",
				  .destination = "224.0.0.1",
				  .protocol = IPPROTO_IGMP,
				  .igmp_type = 0x11,
				  .payload_bytes = 8 };
	count(&packet);
	EXPECT(flow(3)->kind, MCR_SEEN_QUERY);
	EXPECT(flow(3)->sample_bytes, 8);

	begin("beyond the table's size packets are counted, not told apart");
	packet = usual;
	packet.port = 5003;
	count(&packet);
	EXPECT(totals()->flows, 4);
	EXPECT(totals()->overflow, 1);
	begin("and known flows go on");
	count(&usual);
	EXPECT(flow(0)->packets, 3);
	EXPECT(totals()->malformed, 0);
	mcr_observer_close(observer);
}

static void test_refused(void)
{
	struct packet packet = usual;
	struct tpacket_block_desc *head = (void *)block;

	observer = mcr_observer_alloc(4);
	need(observer != NULL, "an observer");
	begin("a later fragment");
	packet.fragment = 100;
	count(&packet);
	EXPECT(totals()->fragments, 1);
	begin("the first fragment is the datagram");
	packet.fragment = 0x2000;
	count(&packet);
	EXPECT(totals()->flows, 1);
	begin("a total length beyond the frame");
	packet = usual;
	packet.is_outer_lie = true;
	count(&packet);
	EXPECT(totals()->malformed, 1);
	begin("an IGMP type that nobody knows");
	packet = (struct packet){ .source = "10.0.0.9",
				  .destination = "224.0.0.1",
				  .protocol = IPPROTO_IGMP,
				  .igmp_type = 0x99,
				  .payload_bytes = 8 };
	count(&packet);
	EXPECT(totals()->malformed, 2);
	begin("cut short at every byte");
	for (uint32_t bytes = 0; bytes < 14 + 28; bytes++) {
		put(&usual);
		frame_at(head->hdr.bh1.offset_to_first_pkt)->tp_snaplen = bytes;
		mcr_observer_block(observer, (const void *)block, BLOCK_BYTES);
	}
	EXPECT(totals()->malformed, 2 + 14 + 28);
	EXPECT(flow(0)->packets, 1);
	begin("offsets that lead out of the block");
	put(&usual);
	head->hdr.bh1.num_pkts = 1000;
	head->hdr.bh1.offset_to_first_pkt = BLOCK_BYTES - 8;
	mcr_observer_block(observer, (const void *)block, BLOCK_BYTES);
	put(&usual);
	head->hdr.bh1.num_pkts = 1000;
	frame_at(head->hdr.bh1.offset_to_first_pkt)->tp_next_offset = BLOCK_BYTES - 64;
	mcr_observer_block(observer, (const void *)block, BLOCK_BYTES);
	EXPECT(flow(0)->packets, 2);
	mcr_observer_close(observer);
}

/* Random bytes for a block: nothing but the sanitizers has an opinion. */
static void test_random(void)
{
	uint64_t state = 1;

	observer = mcr_observer_alloc(16);
	need(observer != NULL, "an observer");
	begin("blocks of random bytes");
	for (int round = 0; round < 20000; round++) {
		struct tpacket3_hdr *frame;
		struct tpacket_block_desc *head = (void *)block;

		put(&usual);
		frame = frame_at(head->hdr.bh1.offset_to_first_pkt);
		head->hdr.bh1.num_pkts = random32(&state) % 8;
		for (int i = 0; i < 6; i++)
			((uint8_t *)frame)[random32(&state) % 256] = (uint8_t)random32(&state);
		if (round % 2)
			frame->tp_next_offset = random32(&state) % BLOCK_BYTES;
		mcr_observer_block(observer, (const void *)block, BLOCK_BYTES);
	}
	EXPECT_TRUE(totals()->flows <= 16);
	mcr_observer_close(observer);
}

static void test_real(void)
{
	const struct mcr_observer_options options = { .ifindex = LOOPBACK_IFINDEX,
						      .destination_first = 0x7f000001,
						      .destination_last = 0x7f000001,
						      .flows_max = 16 };
	struct mcr_observer_options wrong = options;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint16_t port;
	int32_t error;
	int receiver, sender = socket(AF_INET, SOCK_DGRAM, 0);

	begin("options out of range");
	wrong.flows_max = 0;
	EXPECT_TRUE(mcr_observer_open(&wrong, &error) == NULL);
	EXPECT(error, -EINVAL);
	wrong = options;
	wrong.ifindex = 0;
	EXPECT_TRUE(mcr_observer_open(&wrong, &error) == NULL);
	EXPECT(error, -ENODEV);
	wrong.ifindex = 1 << 30;
	EXPECT_TRUE(mcr_observer_open(&wrong, &error) == NULL);
	if (error == -EPERM) {
		skip("no permission for packet sockets", "watching lo is not tested");
		return;
	}
	EXPECT(error, -ENODEV);

	begin("ten packets on lo");
	receiver = receiver_open(&port);
	observer = mcr_observer_open(&options, &error);
	need(observer != NULL, "an observer of lo");
	to.sin_port = htons(port);
	for (int i = 0; i < 10; i++)
		need(sendto(sender, "hello", 5, 0, (struct sockaddr *)&to, sizeof(to)) == 5, "to "
											     "sen"
											     "d");
	for (int tries = 0; tries < 500; tries++) {
		const struct timespec pause = { .tv_nsec = 10000000 };

		need(mcr_observer_read(observer) >= 0, "to read");
		if (totals()->flows > 0 && flow(0)->packets == 10)
			break;
		nanosleep(&pause, NULL);
	}
	EXPECT(totals()->flows, 1);
	EXPECT(flow(0)->packets, 10);
	EXPECT(flow(0)->bytes, 50);
	EXPECT(flow(0)->port, port);
	EXPECT(flow(0)->sample_bytes, 5);
	EXPECT_TRUE(memcmp(flow(0)->sample, "hello", 5) == 0);
	EXPECT(totals()->dropped, 0);
	mcr_observer_close(observer);
	close(sender);
	close(receiver);
}

int main(void)
{
	own_network();
	test_flows();
	test_refused();
	test_random();
	test_real();
	return finish();
}
