/*
 * c/forward.c from ring block to receiver: blocks are written here as the
 * kernel writes them (TPACKET_V3 with PACKET_VNET_HDR), a worker runs over
 * them, and sockets on 127.0.0.1 count and compare what arrives. After every
 * case the accounting of mcr.h must be exact and every block given back.
 *
 *   block: | block header | frame | frame | ...
 *   frame: | tpacket3_hdr | sockaddr_ll | vnet header | Ethernet | IPv4 | UDP | payload |
 *          0              48                          tp_mac 92  tp_net 106
 */
#define _GNU_SOURCE
#include "relay.h"

#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/time.h>

#include "accounts.h"
#include "check.h"
#include "frame.h"

#define BLOCK_BYTES (128u << 10)
#define BLOCK_COUNT 64u /* half of it may be held: MCR_BATCH_BLOCKS_MAX */
#define BLOCK_HEADER_BYTES 48u
#define LINK_AT 48u
#define MAC_AT 92u
#define NET_AT 106u

static bool network_is_own;
static struct mcr_relay *relay;
static struct mcr_worker *worker;

/* -- what is relayed ----------------------------------------------------------- */

/* A receiver, and how much of the stream has arrived there. */
static struct sink {
	int fd;
	uint16_t port;
	uint32_t position;
} sinks[2];

enum {
	TO_NOBODY = -1
};

/* Route i is flow i and rule i; its egresses count in slots 2i and 2i + 1. */
static const struct route {
	const char *group;
	uint16_t port; /* 0: any */
	uint16_t vlan;
	uint32_t interface;
	uint32_t segment_bytes_max;
	uint32_t egress_count;
	int sink[2];
	bool keeps_port;
} routes[] = {
	{ "239.1.1.1", 5001, 0, 0, 1472, 1, { 0 }, false },
	{ "239.1.1.2", 5002, 0, 0, 1472, 2, { 0, 1 }, false },
	{ "239.1.1.3", 5003, 0, 0, 1472, 2, { TO_NOBODY, 0 }, false },
	{ "239.1.1.4", 0, 0, 0, 1472, 1, { 0 }, true },
	{ "239.1.1.5", 5005, 7, 0, 1472, 1, { 0 }, false },
	{ "239.1.1.6", 5006, 0, 0, UINT32_MAX, 1, { 0 }, false },
	{ "239.1.1.7", 5007, 0, 0, 1472, 0, { 0 }, false },
	{ "239.1.1.1", 5001, 0, 1, 1472, 1, { 1 }, false },
};
enum {
	ONE,
	BOTH,
	UNAVAILABLE,
	ANY_PORT,
	TAGGED,
	NO_LIMIT,
	NO_EGRESS,
	SECOND_INTERFACE
};

static struct mcr_ring rings[2]; /* of interface 0 and 1 */

static struct mcr_table *build(uint32_t epoch, const int fds[2 * COUNT(routes)])
{
	struct mcr_match_spec matches[COUNT(routes)] = { 0 };
	struct mcr_flow_spec flows[COUNT(routes)] = { 0 };
	struct mcr_action_spec actions[2 * COUNT(routes)] = { 0 };
	struct mcr_egress_spec egresses[2 * COUNT(routes)] = { 0 };
	const struct mcr_ring_spec ports[] = { { .ring = &rings[0], .interface = 0 },
					       { .ring = &rings[1], .interface = 1 } };
	const struct mcr_table_spec spec = { .rings = ports,
					     .matches = matches,
					     .flows = flows,
					     .actions = actions,
					     .egresses = egresses,
					     .ring_count = 2,
					     .match_count = COUNT(routes),
					     .flow_count = COUNT(routes),
					     .action_count = COUNT(actions),
					     .egress_count = COUNT(egresses),
					     .epoch = epoch };
	struct mcr_table *table;
	int32_t error;

	for (uint32_t i = 0; i < COUNT(routes); i++) {
		const struct route *route = &routes[i];

		map_address(matches[i].address, route->group);
		matches[i].port = route->port;
		matches[i].vlan = route->vlan;
		matches[i].interface = route->interface;
		matches[i].flow = i;
		flows[i] = (struct mcr_flow_spec){ .rule = i,
						   .action_first = 2 * i,
						   .action_count = route->egress_count };
		for (uint32_t j = 2 * i; j < 2 * i + 2; j++) {
			int sink = route->sink[j % 2];

			map_address(actions[j].address, "127.0.0.1");
			actions[j].port = sink < 0 || route->keeps_port ? 0 : sinks[sink].port;
			actions[j].egress = j;
			egresses[j] = (struct mcr_egress_spec){ .fd = sink < 0 ? -1 : fds[j],
								.slot = j,
								.segment_bytes_max =
									route->segment_bytes_max };
		}
	}
	table = mcr_table_build(relay, &spec, &error);
	need(table != NULL, "a table");
	return table;
}

/* -- what the kernel writes ------------------------------------------------------ */

/* Where the next frame goes, by ring. */
static struct writer {
	uint32_t block;
	uint32_t offset; /* 0: the block is empty */
	struct tpacket3_hdr *last;
} writers[2];
static uint32_t stream_position; /* of the next payload byte */

/* Payloads are pieces of one long stream, so every loss, copy or swap shows. */
static uint8_t stream_byte(uint32_t position)
{
	return (uint8_t)((position + 1) * 2654435761u >> 24);
}

struct frame {
	uint32_t route;
	uint32_t payload_bytes;
	uint16_t gso_bytes; /* 0: one datagram */
	uint16_t port; /* 0: the route's */
	uint16_t tag; /* VLAN, in the metadata */
	uint16_t tpid; /* of the tag; 0: 802.1Q */
	uint16_t fragment; /* flags and offset of the IPv4 header */
	uint16_t protocol; /* EtherType; 0: IPv4 */
	bool bad_checksum;
	bool stale; /* counted by the kernel, and never completed */
	uint8_t packet_type;
};

static struct tpacket_block_desc *block_of(uint32_t ring)
{
	return (void *)(rings[ring].map + (size_t)writers[ring].block * BLOCK_BYTES);
}

static void hand_over(uint32_t ring)
{
	struct tpacket_block_desc *block = block_of(ring);

	if (writers[ring].offset == 0)
		return;
	need(block->hdr.bh1.block_status == TP_STATUS_KERNEL, "a free block");
	__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_USER, __ATOMIC_RELEASE);
	writers[ring].block = (writers[ring].block + 1) % BLOCK_COUNT;
	writers[ring].offset = 0;
}

static void put16(uint8_t *bytes, uint32_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

static void write_ip(uint8_t *ip, const struct frame *frame)
{
	const struct route *route = &routes[frame->route];
	const uint8_t header[28] = { 0x45, 0, 0, 0,  0, 0, 0, 0,	   4,
				     17,   0, 0, 10, 0, 0, 1, [20] = 0x0f, 0xa0 };
	uint16_t sum;

	memcpy(ip, header, sizeof(header));
	put16(ip + 2, 28 + frame->payload_bytes);
	put16(ip + 6, frame->fragment);
	inet_pton(AF_INET, route->group, ip + 16);
	put16(ip + 22, frame->port ? frame->port : route->port);
	put16(ip + 24, 8 + frame->payload_bytes);
	put16(ip + 26, frame->bad_checksum ? 0x1234 : 0); /* 0: none */
	sum = (uint16_t)~mcr_fold(mcr_sum(ip, 20, 0));
	memcpy(ip + 10, &sum, 2);
	for (uint32_t i = 0; i < frame->payload_bytes; i++)
		ip[28 + i] = stream_byte(stream_position++);
}

static struct tpacket3_hdr *put(struct frame frame)
{
	const uint32_t ring = routes[frame.route].interface;
	const uint32_t captured = NET_AT - MAC_AT + 28 + frame.payload_bytes;
	const uint32_t bytes = (MAC_AT + captured + 7) / 8 * 8;
	struct writer *writer = &writers[ring];
	const struct virtio_net_hdr offload = { .gso_type = frame.gso_bytes ?
								    VIRTIO_NET_HDR_GSO_UDP_L4 :
								    0,
						.gso_size = frame.gso_bytes };
	struct sockaddr_ll link = { .sll_family = AF_PACKET,
				    .sll_pkttype = frame.packet_type,
				    .sll_protocol =
					    htons(frame.protocol ? frame.protocol : ETH_P_IP) };
	struct tpacket_block_desc *block;
	struct tpacket3_hdr *header;

	if (writer->offset + bytes > BLOCK_BYTES)
		hand_over(ring);
	block = block_of(ring);
	if (writer->offset == 0) {
		memset(&block->hdr.bh1, 0, sizeof(block->hdr.bh1));
		block->hdr.bh1.offset_to_first_pkt = writer->offset = BLOCK_HEADER_BYTES;
	} else {
		writer->last->tp_next_offset =
			(uint32_t)((uint8_t *)block + writer->offset - (uint8_t *)writer->last);
	}
	header = (void *)((uint8_t *)block + writer->offset);
	memset(header, 0, MAC_AT);
	header->tp_sec = 1700000000;
	header->tp_nsec = 5;
	header->tp_snaplen = header->tp_len = captured;
	header->tp_mac = MAC_AT;
	header->tp_net = NET_AT;
	header->tp_status = frame.stale ? 0 : TP_STATUS_USER;
	if (frame.tag || frame.tpid) {
		header->tp_status |= TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
		header->hv1.tp_vlan_tci = 5u << 13 | frame.tag; /* priority 5 */
		header->hv1.tp_vlan_tpid = frame.tpid ? frame.tpid : ETH_P_8021Q;
	}
	memcpy((uint8_t *)header + LINK_AT, &link, sizeof(link));
	memcpy((uint8_t *)header + MAC_AT - sizeof(offload), &offload, sizeof(offload));
	write_ip((uint8_t *)header + NET_AT, &frame);
	block->hdr.bh1.num_pkts++;
	writer->last = header;
	writer->offset += bytes;
	return header;
}

static void put_many(uint32_t count, struct frame frame)
{
	while (count-- > 0)
		put(frame);
}

/* -- what must come of it --------------------------------------------------------- */

#define egress_of(route, index) (&worker->egresses[2 * (route) + (index)])

static void start(const char *name)
{
	begin("%s", name);
	memset(worker->counters, 0, sizeof(*worker->counters));
	memset(worker->interfaces, 0, 2 * sizeof(*worker->interfaces));
	memset(worker->rules, 0, COUNT(routes) * sizeof(*worker->rules));
	memset(worker->egresses, 0, 2 * COUNT(routes) * sizeof(*worker->egresses));
	memset(worker->latencies, 0, COUNT(routes) * sizeof(*worker->latencies));
	stream_position = sinks[0].position = sinks[1].position = 0;
}

/* One batch over all that was put. */
static void forward(void)
{
	hand_over(0);
	hand_over(1);
	EXPECT(mcr_worker_run(relay, 0, 0), 0);
}

/* The next datagrams at the sink are these bytes of the stream each. */
static void arrives(uint32_t sink, uint32_t count, uint32_t bytes)
{
	static uint8_t got[65536];

	while (count-- > 0) {
		uint32_t wrong = 0;

		if (!EXPECT(receive(sinks[sink].fd, got, sizeof(got), 1000), bytes))
			return;
		for (uint32_t i = 0; i < bytes; i++)
			wrong += got[i] != stream_byte(sinks[sink].position++);
		if (!EXPECT(wrong, 0))
			return;
	}
}

static void expect_accounts(void)
{
	uint64_t matched = 0, packets = 0;

	for (uint32_t i = 0; i < 2; i++) {
		const struct mcr_interface_counters *c = &worker->interfaces[i];

		matched += c->matched;
		EXPECT(accounted(c), c->packets);
	}
	for (uint32_t i = 0; i < COUNT(routes); i++) {
		packets += worker->rules[i].packets;
		for (uint32_t j = 0; j < routes[i].egress_count; j++) {
			const struct mcr_egress_counters *c = egress_of(i, j);

			EXPECT(c->sent_packets + c->full_packets + c->error_packets +
				       c->unavailable_packets,
			       worker->rules[i].packets);
			if (c->sent_packets == worker->rules[i].packets)
				EXPECT(c->sent_bytes, worker->rules[i].bytes);
		}
	}
	EXPECT(packets, matched);
}

/* Nothing more arrives, nothing is held, every packet is accounted for. */
static void end(void)
{
	uint8_t byte;

	for (uint32_t i = 0; i < 2; i++) {
		EXPECT(receive(sinks[i].fd, &byte, 1, 0), -1);
		for (uint32_t j = 0; j < BLOCK_COUNT; j++)
			EXPECT(((struct tpacket_block_desc *)(rings[i].map + j * BLOCK_BYTES))
				       ->hdr.bh1.block_status,
			       TP_STATUS_KERNEL);
	}
	EXPECT(worker->packet_count, 0);
	EXPECT(worker->block_count, 0);
	expect_accounts();
}

/* -- payloads ------------------------------------------------------------------- */

static void test_payloads(void)
{
	start("nothing to do");
	forward();
	EXPECT(worker->counters->sends, 0);
	end();

	start("one datagram");
	put((struct frame){ ONE, .payload_bytes = 1024 });
	forward();
	arrives(0, 1, 1024);
	EXPECT(worker->interfaces[0].packets, 1);
	EXPECT(worker->interfaces[0].bytes, 1024);
	EXPECT(worker->rules[ONE].last_ns, 1700000000000000005);
	EXPECT(worker->counters->blocks, 1);
	EXPECT(worker->counters->runs, 0);
	end();

	start("an empty datagram, alone and among others");
	put_many(2, (struct frame){ ONE, .payload_bytes = 0 });
	put_many(2, (struct frame){ ONE, .payload_bytes = 10 });
	put((struct frame){ ONE, .payload_bytes = 0 });
	put((struct frame){ ONE, .payload_bytes = 10 });
	forward();
	arrives(0, 2, 0);
	arrives(0, 2, 10);
	arrives(0, 1, 0);
	arrives(0, 1, 10);
	end();

	start("the largest datagram, larger than a segment");
	put_many(2, (struct frame){ ONE, .payload_bytes = 65507 });
	forward();
	arrives(0, 2, 65507);
	EXPECT(worker->counters->runs, 0);
	end();

	start("200 datagrams of growing size, in order");
	for (uint32_t i = 0; i < 200; i++)
		put((struct frame){ ONE, .payload_bytes = i });
	forward();
	for (uint32_t i = 0; i < 200; i++)
		arrives(0, 1, i);
	end();

	start("no egress at all");
	put_many(3, (struct frame){ NO_EGRESS, .payload_bytes = 10 });
	forward();
	EXPECT(worker->rules[NO_EGRESS].packets, 3);
	end();
}

/* -- runs ------------------------------------------------------------------------- */

static void test_runs(void)
{
	static const struct {
		const char *name;
		uint32_t count, bytes; /* so many of one size, then ... */
		uint32_t then_count, then_bytes;
		uint32_t runs, run_packets;
	} rows[] = {
		{ "equal sizes leave as one run", 10, 100, 0, 0, 1, 10 },
		{ "the last of a run may be shorter", 10, 100, 1, 40, 1, 11 },
		{ "only the last of a run may be shorter", 10, 100, 2, 40, 1, 11 },
		{ "after a shorter one a run starts anew", 10, 100, 3, 40, 2, 13 },
		{ "a longer one starts a run", 10, 100, 5, 101, 2, 15 },
		{ "an empty one is not in a run", 10, 100, 1, 0, 1, 10 },
		{ "64 datagrams to a run", 65, 100, 0, 0, 1, 64 },
		{ "129 datagrams are two runs and one", 129, 100, 0, 0, 2, 128 },
		{ "65,000 bytes to a run", 64, 1023, 0, 0, 1, 63 },
		{ "the largest segment", 2, 1472, 0, 0, 1, 2 },
		{ "beyond the largest segment no run", 2, 1473, 0, 0, 0, 0 },
		{ "more than one sendmmsg takes", 600, 1473, 0, 0, 0, 0 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		start(rows[i].name);
		if (rows[i].count > 200 && !network_is_own)
			continue; /* the receive buffer is too small */
		put_many(rows[i].count, (struct frame){ ONE, .payload_bytes = rows[i].bytes });
		put_many(rows[i].then_count,
			 (struct frame){ ONE, .payload_bytes = rows[i].then_bytes });
		forward();
		arrives(0, rows[i].count, rows[i].bytes);
		arrives(0, rows[i].then_count, rows[i].then_bytes);
		EXPECT(worker->counters->runs, rows[i].runs);
		EXPECT(worker->counters->run_packets, rows[i].run_packets);
		end();
	}

	start("a segment limit beyond every datagram");
	put_many(3, (struct frame){ NO_LIMIT, .payload_bytes = 2000 });
	forward();
	arrives(0, 3, 2000);
	EXPECT(worker->counters->run_packets, 3);
	end();
}

static void test_super_frames(void)
{
	static const struct {
		uint32_t bytes;
		uint16_t cut;
		uint32_t whole, rest; /* datagrams of the full size, bytes of the last */
	} rows[] = {
		{ 950, 100, 9, 50 },	 { 1000, 100, 10, 0 },	 { 100, 100, 1, 0 },
		{ 99, 100, 0, 99 },	 { 64000, 1000, 64, 0 }, { 65507, 1472, 44, 739 },
		{ 3000, 2000, 1, 1000 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		start("a super-frame");
		snprintf(case_name, sizeof(case_name), "a super-frame of %u bytes cut at %u",
			 rows[i].bytes, rows[i].cut);
		put((struct frame){ ONE, .payload_bytes = rows[i].bytes,
				    .gso_bytes = rows[i].cut });
		forward();
		arrives(0, rows[i].whole, rows[i].cut);
		arrives(0, rows[i].rest > 0, rows[i].rest);
		EXPECT(worker->interfaces[0].packets, rows[i].whole + (rows[i].rest > 0));
		EXPECT(worker->interfaces[0].bytes, rows[i].bytes);
		end();
	}

	start("an empty super-frame is one datagram");
	put((struct frame){ ONE, .payload_bytes = 0, .gso_bytes = 100 });
	forward();
	arrives(0, 1, 0);
	end();

	start("a super-frame that no rule wants counts as what it holds");
	put((struct frame){ ONE, .payload_bytes = 950, .gso_bytes = 100, .port = 4999 });
	forward();
	EXPECT(worker->interfaces[0].no_match, 10);
	end();
}

static void test_large_batches(void)
{
	const uint32_t count = MCR_BATCH_PACKETS_MAX + 1000;

	if (!network_is_own) {
		skip("no large receive buffer", "bursts larger than a batch are not tested");
		return;
	}
	start("more datagrams than a batch holds");
	put_many(count, (struct frame){ ONE, .payload_bytes = 8 });
	forward();
	arrives(0, count, 8);
	EXPECT(worker->interfaces[0].matched, count);
	end();

	start("a super-frame of more datagrams than a batch holds");
	put((struct frame){ ONE, .payload_bytes = count, .gso_bytes = 1 });
	forward();
	arrives(0, count, 1);
	EXPECT(worker->interfaces[0].matched, count);
	end();

	start("more blocks than are held at once take two batches");
	for (uint32_t i = 0; i < MCR_BATCH_BLOCKS_MAX + 3; i++) {
		put((struct frame){ ONE, .payload_bytes = 100 });
		hand_over(0);
	}
	forward();
	EXPECT(worker->counters->blocks, MCR_BATCH_BLOCKS_MAX);
	forward();
	EXPECT(worker->counters->blocks, MCR_BATCH_BLOCKS_MAX + 3);
	arrives(0, MCR_BATCH_BLOCKS_MAX + 3, 100);
	end();
}

/* -- where it goes ---------------------------------------------------------------- */

static void test_routes(void)
{
	start("two egresses each get all");
	put_many(100, (struct frame){ BOTH, .payload_bytes = 200 });
	put((struct frame){ BOTH, .payload_bytes = 1 });
	forward();
	for (uint32_t i = 0; i < 2; i++) {
		arrives(i, 100, 200);
		arrives(i, 1, 1);
		EXPECT(egress_of(BOTH, i)->sent_packets, 101);
		EXPECT(egress_of(BOTH, i)->sent_bytes, 20001);
	}
	end();

	start("an egress that is unavailable is counted, the other gets all");
	put_many(20, (struct frame){ UNAVAILABLE, .payload_bytes = 200 });
	forward();
	arrives(0, 20, 200);
	EXPECT(egress_of(UNAVAILABLE, 0)->unavailable_packets, 20);
	EXPECT(egress_of(UNAVAILABLE, 1)->sent_packets, 20);
	end();

	start("a rule of any port keeps each datagram's own port");
	for (uint32_t i = 0; i < 6; i++)
		put((struct frame){ ANY_PORT, .payload_bytes = 50, .port = sinks[i / 3].port });
	forward();
	arrives(0, 3, 50);
	sinks[1].position = 150;
	arrives(1, 3, 50);
	EXPECT(worker->counters->runs, 2);
	end();

	start("flows that are mixed keep their own order");
	for (uint32_t i = 0; i < 50; i++) {
		put((struct frame){ ONE, .payload_bytes = 4 });
		put((struct frame){ SECOND_INTERFACE, .payload_bytes = 4 });
	}
	forward();
	for (uint32_t i = 0; i < 50; i++) {
		sinks[0].position = 8 * i;
		arrives(0, 1, 4);
		sinks[1].position = 8 * i + 4;
		arrives(1, 1, 4);
	}
	EXPECT(worker->interfaces[0].matched, 50);
	EXPECT(worker->interfaces[1].matched, 50);
	EXPECT(worker->counters->blocks, 2);
	end();
}

/* -- what is refused ---------------------------------------------------------------- */

static void test_verdicts(void)
{
	static const struct {
		const char *name;
		struct frame frame;
		size_t counter; /* of mcr_interface_counters */
	} rows[] = {
#define COUNTER(name) offsetof(struct mcr_interface_counters, name)
		{ "a port that no rule names",
		  { ONE, .payload_bytes = 10, .port = 4999 },
		  COUNTER(no_match) },
		{ "tagged, and the rule is for untagged",
		  { ONE, .payload_bytes = 10, .tag = 7 },
		  COUNTER(tagged) },
		{ "untagged, and the rule is for a VLAN",
		  { TAGGED, .payload_bytes = 10 },
		  COUNTER(no_match) },
		{ "tagged for another VLAN",
		  { TAGGED, .payload_bytes = 10, .tag = 8 },
		  COUNTER(tagged) },
		{ "its VLAN", { TAGGED, .payload_bytes = 10, .tag = 7 }, COUNTER(matched) },
		{ "an 802.1ad tag of the same id",
		  { TAGGED, .payload_bytes = 10, .tag = 7, .tpid = ETH_P_8021AD },
		  COUNTER(tagged) },
		{ "an 802.1ad priority tag",
		  { ONE, .payload_bytes = 10, .tpid = ETH_P_8021AD },
		  COUNTER(tagged) },
		{ "sent to the MAC address of another host",
		  { ONE, .payload_bytes = 10, .packet_type = PACKET_OTHERHOST },
		  COUNTER(other_host) },
		{ "a fragment",
		  { ONE, .payload_bytes = 10, .fragment = 0x2000 },
		  COUNTER(fragment_malformed) },
		{ "a bad checksum",
		  { ONE, .payload_bytes = 10, .bad_checksum = true },
		  COUNTER(bad_checksum) },
		{ "not IPv4",
		  { ONE, .payload_bytes = 10, .protocol = ETH_P_IPV6 },
		  COUNTER(malformed) },
#undef COUNTER
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		bool matches = rows[i].counter == offsetof(struct mcr_interface_counters, matched);
		uint64_t count;

		start(rows[i].name);
		put(rows[i].frame);
		put((struct frame){ ONE, .payload_bytes = 10 }); /* the next is not harmed */
		forward();
		sinks[0].position = matches ? 0 : 10;
		if (!matches) {
			arrives(0, 1, 10);
		} else { /* two flows: the sink gets both */
			arrives(0, 2, 10);
		}
		memcpy(&count, (uint8_t *)&worker->interfaces[0] + rows[i].counter, sizeof(count));
		EXPECT(count, matches ? 2 : 1);
		EXPECT(worker->interfaces[0].packets, 2);
		end();
	}

	start("a checksum that a device completes later");
	put((struct frame){ ONE, .payload_bytes = 10, .bad_checksum = true })->tp_status |=
		TP_STATUS_CSUMNOTREADY;
	put((struct frame){ ONE, .payload_bytes = 10, .bad_checksum = true })->tp_status |=
		TP_STATUS_CSUM_VALID;
	forward();
	arrives(0, 2, 10);
	end();

	start("a frame that the kernel has not completed is not read");
	put((struct frame){ ONE, .payload_bytes = 10 });
	put((struct frame){ ONE, .payload_bytes = 10, .stale = true });
	put((struct frame){ ONE, .payload_bytes = 10 });
	forward();
	arrives(0, 1, 10);
	sinks[0].position = 20;
	arrives(0, 1, 10);
	EXPECT(worker->interfaces[0].undescribed, 1);
	EXPECT(worker->interfaces[0].packets, 2);
	end();

	start("a priority tag is no VLAN");
	put((struct frame){ ONE, .payload_bytes = 10 })->tp_status |= TP_STATUS_VLAN_VALID;
	forward();
	arrives(0, 1, 10);
	end();
}

/* Two fragments of one datagram: 24 bytes, and 16 more. Its UDP header speaks of the first only. */
static void test_fragments(void)
{
	const struct frame first = { ONE, .payload_bytes = 16, .fragment = 0x2000 };
	const struct frame last = { ONE, .payload_bytes = 8, .fragment = 24 / 8 };

	start("a datagram in fragments is one packet");
	put(first);
	put(last);
	forward();
	arrives(0, 1, 16);
	EXPECT(worker->interfaces[0].packets, 1);
	end();

	start("the rest of a datagram is not late while it lies in the ring unread");
	put(first);
	forward();
	put(last);
	usleep(2100000); /* the host stands still */
	forward();
	arrives(0, 1, 16);
	EXPECT(worker->interfaces[0].fragment_late, 0);
	end();

	start("the rest of a datagram that never came is late");
	put(first);
	forward();
	usleep(2100000);
	forward();
	EXPECT(worker->interfaces[0].fragment_late, 1);
	EXPECT(worker->interfaces[0].packets, 1);
	end();
}

/* Header fields that the kernel never writes so; three frames, the middle one lies. */
static void test_lies(void)
{
	const uint32_t captured = 14 + 28 + 10;
	const struct {
		const char *name;
		size_t at, bytes; /* field of tpacket3_hdr */
		uint32_t value;
		uint32_t malformed, truncated;
	} rows[] = {
#define FIELD(name) offsetof(struct tpacket3_hdr, name), sizeof(((struct tpacket3_hdr *)0)->name)
		{ "tp_mac 0", FIELD(tp_mac), 0, 1, 0 },
		{ "tp_mac before the vnet header", FIELD(tp_mac), 9, 1, 0 },
		{ "tp_mac behind tp_net", FIELD(tp_mac), NET_AT + 1, 1, 0 },
		{ "tp_mac 65535", FIELD(tp_mac), 65535, 1, 0 },
		{ "tp_net 0", FIELD(tp_net), 0, 1, 0 },
		{ "tp_net off by one", FIELD(tp_net), NET_AT + 1, 1, 0 },
		{ "tp_net at the end", FIELD(tp_net), MAC_AT + captured, 1, 0 },
		{ "tp_net behind the end", FIELD(tp_net), MAC_AT + captured + 1, 1, 0 },
		{ "tp_net 65535", FIELD(tp_net), 65535, 1, 0 },
		{ "tp_snaplen 0", FIELD(tp_snaplen), 0, 1, 0 },
		{ "tp_snaplen less than the link header", FIELD(tp_snaplen), 13, 1, 0 },
		{ "tp_snaplen of the link header only", FIELD(tp_snaplen), 14, 0, 1 },
		{ "tp_snaplen one byte short", FIELD(tp_snaplen), captured - 1, 0, 1 },
		{ "tp_snaplen beyond tp_len", FIELD(tp_snaplen), captured + 1, 1, 0 },
		{ "tp_snaplen beyond the block", FIELD(tp_snaplen), BLOCK_BYTES, 1, 0 },
		{ "tp_snaplen 2^32 - 1", FIELD(tp_snaplen), UINT32_MAX, 1, 0 },
		{ "tp_len 0", FIELD(tp_len), 0, 1, 0 },
		{ "tp_len one byte short", FIELD(tp_len), captured - 1, 1, 0 },
#undef FIELD
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		start(rows[i].name);
		put((struct frame){ ONE, .payload_bytes = 10 });
		memcpy((uint8_t *)put((struct frame){ ONE, .payload_bytes = 10 }) + rows[i].at,
		       &rows[i].value, rows[i].bytes);
		put((struct frame){ ONE, .payload_bytes = 10 });
		forward();
		arrives(0, 1, 10);
		sinks[0].position = 20;
		arrives(0, 1, 10);
		EXPECT(worker->interfaces[0].packets, 3);
		EXPECT(worker->interfaces[0].malformed, rows[i].malformed);
		EXPECT(worker->interfaces[0].truncated, rows[i].truncated);
		end();
	}
}

/* The vnet header would begin before the frame; all other fields agree. */
static void test_early_vnet_header(void)
{
	struct tpacket3_hdr *header;

	start("no room for the vnet header before tp_mac");
	header = put((struct frame){ ONE, .payload_bytes = 100 });
	header->tp_mac = sizeof(struct virtio_net_hdr) - 1;
	header->tp_len += 1000;
	forward();
	EXPECT(worker->interfaces[0].malformed, 1);
	end();
}

/* Where the chain of frames leads nowhere, the rest is counted and none is sent twice. */
static void test_broken_chains(void)
{
	static const uint32_t offsets[] = {
		0, 1, 67, BLOCK_BYTES - 67, BLOCK_BYTES, BLOCK_BYTES + 4, 0x7ffffffc, UINT32_MAX
	};

	for (size_t i = 0; i < COUNT(offsets); i++) {
		struct tpacket3_hdr *first;

		start("tp_next_offset lies");
		snprintf(case_name, sizeof(case_name), "tp_next_offset %u", offsets[i]);
		first = put((struct frame){ ONE, .payload_bytes = 10 });
		put_many(2, (struct frame){ ONE, .payload_bytes = 10 });
		first->tp_next_offset = offsets[i];
		forward();
		arrives(0, 1, 10);
		EXPECT(worker->interfaces[0].matched, 1);
		EXPECT(worker->interfaces[0].malformed, 2);
		end();

		if (offsets[i] < BLOCK_BYTES - 67 && offsets[i] % 4 == 0)
			continue; /* a place where a frame might be */
		start("offset_to_first_pkt lies");
		snprintf(case_name, sizeof(case_name), "offset_to_first_pkt %u", offsets[i]);
		put_many(3, (struct frame){ ONE, .payload_bytes = 10 });
		block_of(0)->hdr.bh1.offset_to_first_pkt = offsets[i];
		forward();
		EXPECT(worker->interfaces[0].malformed, 3);
		end();
	}

	start("num_pkts beyond the last frame");
	put_many(2, (struct frame){ ONE, .payload_bytes = 10 });
	block_of(0)->hdr.bh1.num_pkts = 1000;
	forward();
	arrives(0, 2, 10);
	EXPECT(worker->interfaces[0].malformed, 998);
	end();
}

/* -- the worker's life -------------------------------------------------------------- */

static void *run_long(void *result)
{
	*(int32_t *)result = mcr_worker_run(relay, 0, 10000);
	return NULL;
}

static void wake_ring(uint32_t ring)
{
	const uint64_t one = 1;

	need(write(rings[ring].fd, &one, sizeof(one)) == sizeof(one), "an eventfd");
}

static void quiet_ring(uint32_t ring)
{
	uint64_t count;

	need(read(rings[ring].fd, &count, sizeof(count)) == sizeof(count), "an eventfd");
}

/* Waits for a condition; false when the deadline has passed. */
static bool epoch_becomes(int32_t epoch)
{
	for (int ms = 0; ms < 2000; ms++, usleep(1000))
		if (mcr_relay_epoch_seen(relay) == epoch)
			return true;
	return false;
}

static void test_swap(const int fds[2 * COUNT(routes)], struct mcr_table *old)
{
	struct mcr_table *table = build(2, fds);
	int32_t result = -1;
	pthread_t thread;

	start("a sleeping worker takes up a new table, then a block, and goes on");
	need(pthread_create(&thread, NULL, run_long, &result) == 0, "a thread");
	mcr_relay_publish(relay, table);
	EXPECT_TRUE(epoch_becomes(2));
	mcr_table_free(old);
	put_many(5, (struct frame){ ONE, .payload_bytes = 100 });
	hand_over(0);
	wake_ring(0);
	arrives(0, 5, 100);
	quiet_ring(0);
	begin("stop ends a sleeping worker");
	mcr_relay_stop(relay);
	pthread_join(thread, NULL);
	EXPECT(result, 1);
	EXPECT_TRUE(worker->counters->wakeups > 0);
	end();
}

/* -- samples of the added latency -------------------------------------------------- */

/* A frame that the kernel has received so long ago. */
static void put_aged(struct frame frame, uint64_t age_ns)
{
	struct tpacket3_hdr *header = put(frame);
	struct timespec now;
	uint64_t ns;

	clock_gettime(CLOCK_REALTIME, &now);
	ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec - age_ns;
	header->tp_sec = (uint32_t)(ns / 1000000000);
	header->tp_nsec = (uint32_t)(ns % 1000000000);
}

static void test_samples(void)
{
	const struct mcr_added_latency_counters *one = &worker->latencies[ONE];
	const struct frame small = { ONE, .payload_bytes = 10 };

	start("the first packet is sampled, those right after it are not");
	for (uint32_t i = 0; i < 20; i++)
		put_aged(small, 5000000);
	forward();
	arrives(0, 20, 10);
	EXPECT(one->samples, 1);
	EXPECT_TRUE(one->max_ns >= 5000000 && one->max_ns < 1000000000);
	EXPECT_TRUE(one->sum_ns == one->max_ns);
	EXPECT(worker->sample_count, 0);
	end();

	start("a packet a second: each is sampled");
	for (uint32_t i = 0; i < 3; i++) {
		put_aged(small, (30 - i) * 1000000000ull);
		forward();
		arrives(0, 1, 10);
		EXPECT(one->samples, i + 1);
	}
	EXPECT(one->buckets[MCR_ADDED_LATENCY_BUCKETS - 1], 3);
	end();

	start("a packet from the future is sent, and tells nothing");
	put_aged(small, (uint64_t)-3600 * 1000000000ull);
	forward();
	arrives(0, 1, 10);
	EXPECT(one->samples, 0);
	end();

	start("no more than four of a batch, the others in the next one");
	put_aged((struct frame){ ONE, .payload_bytes = 10 }, 1000000);
	put_aged((struct frame){ BOTH, .payload_bytes = 10 }, 1000000);
	put_aged((struct frame){ ANY_PORT, .payload_bytes = 10, .port = sinks[0].port }, 1000000);
	put_aged((struct frame){ TAGGED, .payload_bytes = 10, .tag = 7 }, 1000000);
	put_aged((struct frame){ NO_LIMIT, .payload_bytes = 10 }, 1000000);
	forward();
	EXPECT(one->samples + worker->latencies[BOTH].samples +
		       worker->latencies[ANY_PORT].samples + worker->latencies[TAGGED].samples,
	       4);
	EXPECT(worker->latencies[NO_LIMIT].samples, 0);
	put_aged((struct frame){ NO_LIMIT, .payload_bytes = 10 }, 1000000);
	forward();
	EXPECT(worker->latencies[NO_LIMIT].samples, 1);
	for (uint8_t byte[16]; receive(sinks[0].fd, byte, sizeof(byte), 0) >= 0;)
		;
	for (uint8_t byte[16]; receive(sinks[1].fd, byte, sizeof(byte), 0) >= 0;)
		;
	end();

	start("time on batches is counted, and none where there is nothing to do");
	put(small);
	forward();
	arrives(0, 1, 10);
	EXPECT_TRUE(worker->counters->gather_ns > 0 && worker->counters->send_ns > 0);
	worker->counters->gather_ns = worker->counters->send_ns = 0;
	forward();
	EXPECT(worker->counters->gather_ns | worker->counters->send_ns, 0);
	end();
}

static void test_stop_drains(void)
{
	start("after a stop what is in the ring is still sent");
	for (uint32_t i = 0; i < MCR_BATCH_BLOCKS_MAX + 8; i++) {
		put((struct frame){ ONE, .payload_bytes = 100 });
		hand_over(0);
	}
	EXPECT(mcr_worker_run(relay, 0, 5000), 1);
	arrives(0, MCR_BATCH_BLOCKS_MAX + 8, 100);
	end();

	start("after a stop a used-up budget does not hide the rest");
	put((struct frame){ ONE, .payload_bytes = 100 });
	hand_over(0);
	EXPECT(mcr_worker_run(relay, 0, 0), 0);
	EXPECT(mcr_worker_run(relay, 0, 0), 1);
	arrives(0, 1, 100);
	end();
}

static void on_signal(int number)
{
	(void)number;
}

static int64_t now_ms(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return now.tv_sec * 1000ll + now.tv_usec / 1000;
}

static void test_budget(void)
{
	const struct itimerval soon = { .it_value.tv_usec = 20000 };
	const struct sigaction action = { .sa_handler = on_signal };
	int64_t before = now_ms();

	start("a budget is slept through, and then used up");
	EXPECT(mcr_worker_run(relay, 0, 50), 0);
	EXPECT_TRUE(now_ms() - before >= 49);
	EXPECT_TRUE(now_ms() - before < 2000);
	end();

	start("a signal ends the sleep");
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	before = now_ms();
	EXPECT(mcr_worker_run(relay, 0, 10000), 0);
	EXPECT_TRUE(now_ms() - before < 5000);
	end();
}

int main(void)
{
	const struct mcr_egress_options options = { .ifindex = LOOPBACK_IFINDEX, .ttl = 1 };
	int fds[2 * COUNT(routes)];
	struct mcr_table *table;
	int32_t error;

	network_is_own = own_network();
	relay = mcr_relay_open(1, &error);
	need(relay != NULL, "a relay");
	worker = &relay->workers[0];
	for (uint32_t i = 0; i < 2; i++) {
		sinks[i].fd = receiver_open(&sinks[i].port);
		rings[i] = (struct mcr_ring){ .fd = eventfd(0, EFD_NONBLOCK),
					      .block_bytes = BLOCK_BYTES,
					      .block_count = BLOCK_COUNT,
					      .has_offload = true,
					      .map = calloc(BLOCK_COUNT, BLOCK_BYTES) };
		need(rings[i].map != NULL, "a ring");
	}
	for (size_t i = 0; i < COUNT(fds); i++) {
		fds[i] = mcr_egress_open(&options);
		need(fds[i] >= 0, "an egress");
	}
	table = build(1, fds);
	mcr_relay_publish(relay, table);
	EXPECT(mcr_relay_epoch_seen(relay), 0);

	test_payloads();
	EXPECT(mcr_relay_epoch_seen(relay), 1);
	test_runs();
	test_super_frames();
	test_large_batches();
	test_routes();
	test_verdicts();
	test_fragments();
	test_lies();
	test_early_vnet_header();
	test_broken_chains();
	test_budget();
	test_samples();
	test_swap(fds, table);
	test_stop_drains();
	return finish();
}
