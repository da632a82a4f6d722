/*
 * c/ring.c on a live kernel: rings by block and by frame on lo, a worker that
 * empties them, and a socket that counts. What goes to 127.0.0.2 is captured
 * and relayed to a receiver on 127.0.0.1.
 */
#define _GNU_SOURCE
#include "relay.h"

#include <linux/if_ether.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "accounts.h"
#include "check.h"
#include "frame.h"

#define INGRESS 0x7f000002u /* 127.0.0.2 */
#define INGRESS_PORT 5001
#define BLOCK_BYTES (1u << 20)
#define ETHERNET_BYTES 14
#define VLAN_BYTES 4
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static struct mcr_relay *relay;
static struct mcr_worker *worker;
static int receiver, sender, injector, egress;
static uint16_t receiver_port;
static int32_t epoch;

struct shape {
	const char *name;
	struct mcr_ring_options options;
};

static const struct shape shapes[] = {
	{ "by block", { .block_bytes = BLOCK_BYTES, .block_count = 8 } },
	{ "by block, three of them", { .block_bytes = BLOCK_BYTES, .block_count = 3 } },
	{ "by block, enough to pause between full ones",
	  { .block_bytes = 128u << 10, .block_count = 64 } },
	{ "by frame", { .receive_bytes = 8u << 20 } },
	{ "by frame, little room", { .receive_bytes = 1u << 20 } },
	{ "by frame, asleep in between", { .receive_bytes = 8u << 20, .sleep_us = 50 } },
};

static struct mcr_ring *open_ring(struct mcr_ring_options options, int32_t *error)
{
	struct mcr_ring *ring;

	options.ifindex = LOOPBACK_IFINDEX;
	options.retire_ms = 1;
	if (options.fanout_id == 0)
		options.fanout_id = MCR_FANOUT_NEW;
	mcr_rings_open(&options, 1, &ring, error);
	return ring;
}

/* The ring, admitting the ingress, in the table that the worker uses; its counters at zero. */
static struct mcr_ring *start(const char *name, const struct shape *shape)
{
	static struct mcr_table *old;
	const struct mcr_address_range range = { INGRESS, INGRESS };
	struct mcr_match_spec match = { .port = INGRESS_PORT };
	const struct mcr_flow_spec flow = { .action_count = 1 };
	struct mcr_action_spec action = { .port = receiver_port };
	const struct mcr_egress_spec target = { .fd = egress, .segment_bytes_max = 65507 };
	struct mcr_ring_spec port = { 0 };
	const struct mcr_table_spec spec = { .rings = &port,
					     .matches = &match,
					     .flows = &flow,
					     .actions = &action,
					     .egresses = &target,
					     .ring_count = 1,
					     .match_count = 1,
					     .flow_count = 1,
					     .action_count = 1,
					     .egress_count = 1,
					     .epoch = (uint32_t)++epoch };
	struct mcr_table *table;
	int32_t error;

	begin("%s: %s", shape->name, name);
	map_address(match.address, "127.0.0.2");
	map_address(action.address, "127.0.0.1");
	port.ring = open_ring(shape->options, &error);
	need(port.ring != NULL, "a ring");
	EXPECT(mcr_ring_filter(port.ring, &range, 1), 0);
	memset(worker->counters, 0, sizeof(*worker->counters));
	memset(worker->interfaces, 0, sizeof(*worker->interfaces));
	memset(worker->rules, 0, sizeof(*worker->rules));
	memset(worker->egresses, 0, sizeof(*worker->egresses));
	table = mcr_table_build(relay, &spec, &error);
	need(table != NULL, "a table");
	mcr_relay_publish(relay, table);
	EXPECT(mcr_worker_run(relay, 0, 0), 0);
	mcr_table_free(old);
	old = table;
	return port.ring;
}

static void end(struct mcr_ring *ring)
{
	const struct mcr_interface_counters *c = worker->interfaces;
	uint8_t byte;

	EXPECT(receive(receiver, &byte, 1, 0), -1);
	EXPECT(ring->blocks_held, 0);
	EXPECT(accounted(c), c->packets);
	EXPECT(worker->egresses->sent_packets, c->matched);
	mcr_ring_close(ring);
}

static void send_one(uint32_t bytes, uint8_t value)
{
	static uint8_t payload[65535];

	memset(payload, value, bytes);
	need(send(sender, payload, bytes, 0) == (ssize_t)bytes, "sending");
}

/* The next datagram has this length, and every byte this value. */
static bool arrives(uint32_t bytes, uint8_t value)
{
	static uint8_t got[65536];
	uint32_t wrong = 0;

	if (!EXPECT(receive(receiver, got, sizeof(got), 1000), bytes))
		return false;
	for (uint32_t i = 0; i < bytes; i++)
		wrong += got[i] != value;
	return EXPECT(wrong, 0);
}

/* Runs the worker until it has seen so many datagrams. */
static void forward(uint64_t packets)
{
	for (int i = 0; i < 2000 && worker->interfaces->packets < packets; i++)
		EXPECT(mcr_worker_run(relay, 0, 2), 0);
	EXPECT(worker->interfaces->packets, packets);
}

static void test_present(const struct shape *shape)
{
	struct mcr_ring *ring =
		start("every page of its blocks is there before the first packet", shape);
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *present = calloc(ring->map_bytes / page, 1);
	size_t missing = 0;

	need(!ring->map || (present && mincore(ring->map, ring->map_bytes, present) == 0), "mincor"
											   "e");
	for (size_t i = 0; i < ring->map_bytes / page; i++)
		missing += !(present[i] & 1);
	EXPECT(missing, 0);
	free(present);
	end(ring);
}

/* -- what arrives -------------------------------------------------------------------- */

static void test_sizes(const struct shape *shape)
{
	static const uint32_t sizes[] = { 0, 1, 46, 1316, 1472, 1473, 9000, 65506, 65507 };
	struct mcr_ring *ring = start("datagrams of every size, whole", shape);

	for (size_t i = 0; i < COUNT(sizes); i++) {
		send_one(sizes[i], (uint8_t)(i + 1));
		forward(i + 1);
		arrives(sizes[i], (uint8_t)(i + 1));
	}
	EXPECT(worker->interfaces->truncated, 0);
	end(ring);
}

static void send_run(uint32_t bytes, int segment_bytes, uint8_t value)
{
	const int none = 0;

	need(setsockopt(sender, SOL_UDP, UDP_SEGMENT, &segment_bytes, sizeof(int)) == 0, "UDP_"
											 "SEGMENT");
	send_one(bytes, value);
	setsockopt(sender, SOL_UDP, UDP_SEGMENT, &none, sizeof(none));
}

static void test_super_frames(const struct shape *shape)
{
	static const struct {
		int segment;
		uint32_t bytes;
	} rows[] = { { 1000, 64000 }, { 1472, 65000 }, { 1316, 13160 }, { 100, 6350 } };
	struct mcr_ring *ring = start("super-frames of a local sender, cut and whole", shape);
	uint64_t packets = 0;

	for (size_t i = 0; i < COUNT(rows); i++) {
		uint32_t left = rows[i].bytes;

		send_run(rows[i].bytes, rows[i].segment, (uint8_t)i);
		packets +=
			(rows[i].bytes + (uint32_t)rows[i].segment - 1) / (uint32_t)rows[i].segment;
		forward(packets);
		for (; left > 0;
		     left -= left < (uint32_t)rows[i].segment ? left : (uint32_t)rows[i].segment)
			if (!arrives(left < (uint32_t)rows[i].segment ? left :
									(uint32_t)rows[i].segment,
				     (uint8_t)i))
				break;
	}
	EXPECT(worker->interfaces->truncated, 0);
	end(ring);
}

static void set_loopback(bool up)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	need(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "the interface up or down");
	close(fd);
}

/* The socket then has an error to tell, before it gives what it has queued. */
static void test_down(const struct shape *shape)
{
	static const uint32_t sizes[] = { 60000, 1400, 30000, 50000 };
	struct mcr_ring *ring =
		start("what lay in the ring when the interface went down is whole", shape);

	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < COUNT(sizes); i++)
			send_one(sizes[i], (uint8_t)(round * COUNT(sizes) + i));
		set_loopback(false);
		set_loopback(true);
		forward((round + 1) * COUNT(sizes));
		for (uint32_t i = 0; i < COUNT(sizes); i++)
			if (!arrives(sizes[i], (uint8_t)(round * COUNT(sizes) + i)))
				return;
	}
	EXPECT(worker->interfaces->truncated, 0);
	end(ring);
}

/* Several times round the ring, in bursts that it holds, should each frame find a block of its own. */
static void test_wrap(const struct shape *shape)
{
	struct mcr_ring *ring = start("three times round", shape);
	const uint32_t burst = ring->map && ring->block_count < 64 ? ring->block_count : 64;
	uint32_t sent = 0;

	while (sent < 3 * 64 * 5) {
		for (uint32_t i = 0; i < burst; i++)
			send_one(100, (uint8_t)(sent + i));
		forward(sent + burst);
		for (uint32_t i = 0; i < burst; i++)
			if (!arrives(100, (uint8_t)(sent + i)))
				return;
		sent += burst;
	}
	EXPECT(mcr_ring_drops(ring), 0);
	end(ring);
}

static void test_overflow(const struct shape *shape)
{
	struct mcr_ring *ring = start("what finds the ring full is counted", shape);
	const uint32_t sent = 4000; /* 5.6 MB by block, more than twice that by frame */
	uint64_t kept = 0;
	int64_t drops;

	for (uint32_t i = 0; i < sent; i++)
		send_one(1400, (uint8_t)i);
	for (int i = 0; i < 50; i++)
		EXPECT(mcr_worker_run(relay, 0, 1), 0);
	kept = worker->interfaces->packets;
	drops = mcr_ring_drops(ring);
	EXPECT(kept + (uint64_t)drops, sent);
	if (!ring->map && mcr_ring_receive_bytes(ring) < 2 << 20)
		EXPECT_TRUE(drops > 0);
	EXPECT(mcr_ring_drops(ring), 0);
	/* The first ones, in order, each once. */
	for (uint32_t i = 0; i < kept; i++)
		if (!arrives(1400, (uint8_t)i))
			break;
	end(ring);
}

/* Waits until so many frames lie in the ring or have found it full; returns how many lie there. */
static int64_t captured(struct mcr_ring *ring, int64_t frames)
{
	int64_t drops = mcr_ring_drops(ring);

	for (int i = 0; i < 2000 && mcr_ring_unread(ring) + drops < frames; i++) {
		usleep(1000);
		drops += mcr_ring_drops(ring);
	}
	EXPECT(mcr_ring_unread(ring) + drops, frames);
	return frames - drops;
}

/* Until the worker has sent it, whatever the kernel has put into the ring lies in it. */
static void test_unread(const struct shape *shape)
{
	struct mcr_ring *ring = start("what lies in the ring unread is known", shape);
	struct tpacket_block_desc *last =
		(void *)(ring->map + (size_t)(ring->block_count - 1) * ring->block_bytes);
	const uint32_t burst = ring->block_count < 60 ? ring->block_count : 60;
	int64_t kept;

	if (!ring->map) {
		end(ring);
		return;
	}
	EXPECT(mcr_ring_unread(ring), 0);
	for (uint32_t round = 1; round <= 5; round++) {
		for (uint32_t i = 0; i < burst; i++)
			send_one(1400, (uint8_t)i);
		EXPECT(captured(ring, burst), burst);
		usleep(5000); /* its blocks are handed over: that changes nothing */
		EXPECT(mcr_ring_unread(ring), burst);
		forward(round * burst);
		EXPECT(mcr_ring_unread(ring), 0);
		for (uint32_t i = 0; i < burst; i++)
			if (!arrives(1400, (uint8_t)i))
				return;
	}
	for (uint32_t i = 0; i < 4000; i++)
		send_one(1400, (uint8_t)i);
	kept = captured(ring, 4000);
	forward(5 * burst + (uint64_t)kept);
	EXPECT(mcr_ring_unread(ring), 0);
	for (uint32_t i = 0; i < kept; i++)
		if (!arrives(1400, (uint8_t)i))
			break;

	/* More than can lie in a block is not believed. */
	last->hdr.bh1.num_pkts = UINT32_MAX;
	EXPECT(mcr_ring_unread(ring), ring->block_bytes / MCR_FRAME_HEADER_BYTES);
	last->hdr.bh1.num_pkts = 0;
	end(ring);
}

/* By frame it is only known that there are some, until nobody reads them any more. */
static void test_discard(const struct shape *shape)
{
	struct mcr_ring *ring = start("what nobody will read is counted", shape);

	EXPECT(mcr_ring_unread(ring), 0);
	for (uint8_t i = 0; i < 5; i++)
		send_one(1400, i);
	forward(5);
	EXPECT(mcr_ring_unread(ring), 0);
	for (uint8_t i = 0; i < 5; i++)
		arrives(1400, i);
	for (uint8_t i = 0; i < 7; i++)
		send_one(1400, i);
	if (ring->map)
		captured(ring, 7);
	EXPECT_TRUE(mcr_ring_unread(ring) > 0);
	EXPECT(mcr_ring_discard(ring), 7);
	end(ring);
}

/* -- frames that are not as they should be --------------------------------------------- */

/* What goes to INGRESS as an Ethernet frame, after `tag_bytes` of VLAN tag. */
static void inject(const uint8_t tag[VLAN_BYTES], uint32_t ip_bytes, uint32_t total_length)
{
	uint8_t frame[1514] = { 0 };
	uint8_t *ip = frame + 2 * 6 + (tag ? VLAN_BYTES : 0) + 2;
	const uint8_t header[28] = { 0x45,
				     0,
				     (uint8_t)(total_length >> 8),
				     (uint8_t)total_length,
				     0,
				     0,
				     0,
				     0,
				     4,
				     17,
				     0,
				     0,
				     127,
				     0,
				     0,
				     1,
				     127,
				     0,
				     0,
				     2,
				     0x0f,
				     0xa0,
				     INGRESS_PORT >> 8,
				     INGRESS_PORT & 0xff,
				     0,
				     18 };
	uint16_t sum;

	if (tag)
		memcpy(frame + 12, tag, VLAN_BYTES);
	ip[-2] = 0x08;
	memcpy(ip, header, sizeof(header));
	sum = (uint16_t)~mcr_fold(mcr_sum(ip, 20, 0));
	memcpy(ip + 10, &sum, 2);
	memset(ip + 28, 7, 10);
	need(write(injector, frame, (size_t)(ip - frame) + ip_bytes) > 0, "an injected frame");
}

static void test_odd_frames(const struct shape *shape)
{
	static const uint8_t tagged[] = { 0x81, 0, 0x60, 7 }, priority[] = { 0x81, 0, 0x60, 0 };
	struct mcr_ring *ring =
		start("another VLAN's frame is not relayed, a VLAN 0 one is", shape);

	inject(tagged, 38, 38);
	inject(priority, 38, 38);
	inject(NULL, 38, 38);
	forward(3);
	EXPECT(worker->interfaces->tagged, 1);
	EXPECT(worker->interfaces->matched, 2);
	arrives(10, 7);
	arrives(10, 7);
	end(ring);

	ring = start("runts and lengths that lie", shape);
	inject(NULL, 20, 38); /* cut behind the IP header */
	inject(NULL, 27, 38); /* ... and within the UDP header */
	inject(NULL, 37, 38); /* ... and within the payload */
	inject(NULL, 38, 21); /* IP length below that of the headers */
	inject(NULL, 38, 38);
	forward(5);
	EXPECT(worker->interfaces->malformed + worker->interfaces->truncated, 4);
	EXPECT(worker->interfaces->matched, 1);
	arrives(10, 7);
	end(ring);
}

/* -- asleep and awake -------------------------------------------------------------------- */

static void *run_long(void *result)
{
	*(int32_t *)result = mcr_worker_run(relay, 0, 400);
	return NULL;
}

static void test_waiting(const struct shape *shape)
{
	struct mcr_ring *ring = start("each datagram is relayed while the worker waits", shape);
	int32_t result = -1;
	pthread_t thread;

	need(pthread_create(&thread, NULL, run_long, &result) == 0, "a thread");
	for (uint8_t i = 0; i < 20; i++) {
		send_one(100, i);
		if (!arrives(100, i))
			break;
		usleep(i < 10 ? 100 : 5000); /* within its naps, and beyond them */
	}
	pthread_join(thread, NULL);
	EXPECT(result, 0);
	EXPECT_TRUE(worker->counters->wakeups > 0);
	end(ring);
}

/* -- shapes and fanouts --------------------------------------------------------------------- */

static void test_refused(void)
{
	static const struct shape rows[] = {
		{ "neither by block nor by frame", { .block_count = 8 } },
		{ "both by block and by frame",
		  { .block_bytes = BLOCK_BYTES, .block_count = 8, .receive_bytes = 8u << 20 } },
		{ "no blocks", { .block_bytes = BLOCK_BYTES } },
		{ "no frame fits", { .block_bytes = 1024, .block_count = 8 } },
		{ "blocks beyond counting",
		  { .block_bytes = 1u << 30, .block_count = UINT32_MAX } },
		{ "a fanout that there is not",
		  { .block_bytes = BLOCK_BYTES, .block_count = 1, .fanout = MCR_FANOUT_COUNT } },
		{ "a fanout group out of range",
		  { .block_bytes = BLOCK_BYTES, .block_count = 1, .fanout_id = 65536 } },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		int32_t error = 0;

		begin("refused: %s", rows[i].name);
		EXPECT_TRUE(open_ring(rows[i].options, &error) == NULL);
		EXPECT(error, -EINVAL);
	}
}

static void test_fanouts(void)
{
	static const uint32_t types[] = { PACKET_FANOUT_CBPF, PACKET_FANOUT_HASH,
					  PACKET_FANOUT_CBPF, PACKET_FANOUT_CBPF,
					  PACKET_FANOUT_CPU };

	for (uint32_t mode = 0; mode < MCR_FANOUT_COUNT; mode++) {
		struct mcr_ring_options options = shapes[mode % COUNT(shapes)].options;
		struct mcr_ring *rings[8] = { NULL };

		begin("fanout %u", mode);
		options.fanout = mode;
		for (size_t i = 0; i < COUNT(rings); i++) {
			uint32_t joined = 0;
			socklen_t bytes = sizeof(joined);
			int32_t error;

			if (i > 0)
				options.fanout_id = (uint32_t)mcr_ring_fanout_id(rings[0]);
			rings[i] = open_ring(options, &error);
			need(rings[i] != NULL, "a ring of the group");
			getsockopt(rings[i]->fd, SOL_PACKET, PACKET_FANOUT, &joined, &bytes);
			EXPECT(joined >> 16 & 0xff, types[mode]);
			EXPECT_TRUE(!(joined >> 16 & PACKET_FANOUT_FLAG_DEFRAG));
			EXPECT(rings[i]->fanout_id, rings[0]->fanout_id);
		}
		for (size_t i = 0; i < COUNT(rings); i++)
			mcr_ring_close(rings[i]);
	}
}

/* Opened in one call: one new group for all, and what fails costs the others nothing. */
static void test_together(void)
{
	const struct mcr_ring_options good = { .ifindex = LOOPBACK_IFINDEX,
					       .fanout_id = MCR_FANOUT_NEW,
					       .block_bytes = BLOCK_BYTES,
					       .block_count = 2,
					       .retire_ms = 1 };
	struct mcr_ring_options options[40]; /* more than there are threads */
	struct mcr_ring *rings[COUNT(options)];
	int32_t errors[COUNT(options)];

	begin("opened together");
	for (size_t i = 0; i < COUNT(options); i++)
		options[i] = good;
	options[COUNT(options) - 2].fanout = MCR_FANOUT_COUNT;
	options[COUNT(options) - 1].ifindex = INT32_MAX;
	mcr_rings_open(options, COUNT(options), rings, errors);
	for (size_t i = 0; i < COUNT(options) - 2; i++) {
		need(rings[i] != NULL, "a ring of the group");
		EXPECT(errors[i], 0);
		EXPECT(rings[i]->fanout_id, rings[0]->fanout_id);
	}
	EXPECT_TRUE(!rings[COUNT(options) - 2]);
	EXPECT(errors[COUNT(options) - 2], -EINVAL);
	EXPECT_TRUE(!rings[COUNT(options) - 1]);
	EXPECT(errors[COUNT(options) - 1], -ENODEV);
	for (size_t i = 0; i < COUNT(options); i++)
		mcr_ring_close(rings[i]);

	begin("none opened");
	mcr_rings_open(NULL, 0, NULL, NULL);
}

int main(void)
{
	const struct mcr_egress_options options = { .ifindex = LOOPBACK_IFINDEX, .ttl = 1 };
	const struct sockaddr_ll link = { .sll_family = AF_PACKET,
					  .sll_ifindex = LOOPBACK_IFINDEX };
	const struct sockaddr_in ingress = { .sin_family = AF_INET,
					     .sin_port = htons(INGRESS_PORT),
					     .sin_addr.s_addr = htonl(INGRESS) };
	int32_t error;
	cpu_set_t one;

	/* What a thread sends on two CPUs, loopback may deliver in another order. */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (!own_network() || mcr_ring_permitted()) {
		skip("no packet sockets in a namespace of our own", "rings are not tested");
		return 0;
	}
	relay = mcr_relay_open(1, &error);
	need(relay != NULL, "a relay");
	worker = &relay->workers[0];
	receiver = receiver_open(&receiver_port);
	egress = mcr_egress_open(&options);
	need(egress >= 0, "an egress");
	/* Somebody listens, so that no ICMP answer makes the sender fail. */
	sender = socket(AF_INET, SOCK_DGRAM, 0);
	need(bind(socket(AF_INET, SOCK_DGRAM, 0), (const void *)&ingress, sizeof(ingress)) == 0 &&
		     connect(sender, (const void *)&ingress, sizeof(ingress)) == 0,
	     "a sender");
	injector = socket(AF_PACKET, SOCK_RAW, 0);
	need(injector >= 0 && bind(injector, (const void *)&link, sizeof(link)) == 0, "an "
										      "injector");

	for (size_t i = 0; i < COUNT(shapes); i++) {
		test_present(&shapes[i]);
		test_sizes(&shapes[i]);
		test_super_frames(&shapes[i]);
		test_down(&shapes[i]);
		test_wrap(&shapes[i]);
		test_overflow(&shapes[i]);
		test_unread(&shapes[i]);
		test_discard(&shapes[i]);
		test_odd_frames(&shapes[i]);
		test_waiting(&shapes[i]);
	}
	test_refused();
	test_fanouts();
	test_together();
	return finish();
}
