/*
 * c/health.h and c/health.c through c/forward.c: frames as the kernel writes them into a block, RTP
 * inside, and what the rule has counted of it afterwards. Every case has a rule of its own.
 */
#define _GNU_SOURCE
#include "relay.h"

#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include "check.h"
#include "frame.h"

#define MAC_AT 92u
#define NET_AT 106u
#define FRAME_BYTES 4096u
#define SEGMENTS_MAX 16u
#define PAYLOAD_BYTES 172u /* G.711, 20 ms */
#define PROBATION MCR_HEALTH_PROBATION
#define WINDOW MCR_HEALTH_WINDOW
#define GROUP 0xef010101u /* 239.1.1.1 */
#define SOURCE 0x0a000001u
#define SSRC 0xcafef00du
#define SECOND 1000000000ull

static struct mcr_relay *relay;
static struct mcr_worker *worker;
static struct mcr_table *table;
static uint64_t now_ns;

/* What is sent next; SSRC from SOURCE to GROUP unless a case says otherwise. */
static uint32_t ssrc, source, group;

/* -- the relay ---------------------------------------------------------------- */

/* One rule for 239.1.1.1 and 239.1.1.2, with no egress: what becomes of a packet is not asked. */
static struct mcr_table *build(uint32_t epoch)
{
	const struct mcr_flow_spec flow = { 0 };
	struct mcr_match_spec matches[2] = { { .port = 5001 }, { .port = 5001 } };
	const struct mcr_table_spec spec = { .matches = matches,
					     .flows = &flow,
					     .match_count = COUNT(matches),
					     .flow_count = 1,
					     .epoch = epoch };
	struct mcr_table *built;
	int32_t error;

	map_address(matches[0].address, "239.1.1.1");
	map_address(matches[1].address, "239.1.1.2");
	built = mcr_table_build(relay, &spec, &error);
	need(built != NULL, "a table");
	return built;
}

static void reload(void)
{
	static uint32_t epoch;

	mcr_table_free(table);
	table = build(++epoch);
}

static void start(const char *name)
{
	begin("%s", name);
	now_ns += SECOND; /* streams of the cases before have been silent longer than any of this */
	EXPECT(mcr_rule_counters_reset(relay, 0), 0);
	reload();
	ssrc = SSRC;
	source = SOURCE;
	group = GROUP;
}

static void counted(uint64_t packets, uint64_t missing, uint64_t reordered, uint64_t duplicate)
{
	EXPECT(worker->rules[0].rtp_packets, packets);
	EXPECT(worker->rules[0].rtp_missing, missing);
	EXPECT(worker->rules[0].rtp_reordered, reordered);
	EXPECT(worker->rules[0].rtp_duplicate, duplicate);
}

/* -- what arrives --------------------------------------------------------------- */

static void put16(uint8_t *bytes, uint32_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

static void put32(uint8_t *bytes, uint32_t value)
{
	put16(bytes, value >> 16);
	put16(bytes + 2, value);
}

static void write_rtp(uint8_t *payload, uint32_t sequence)
{
	memset(payload, 0xd5, PAYLOAD_BYTES);
	payload[0] = 0x80; /* version 2 */
	payload[1] = 8; /* PCMA */
	put16(payload + 2, sequence);
	put32(payload + 8, ssrc);
}

/* segment_bytes 0: one datagram. */
static void gather(const uint8_t *payload, uint32_t payload_bytes, uint32_t segment_bytes)
{
	static _Alignas(16) uint8_t frame[FRAME_BYTES];
	const struct mcr_block_reader reader = {
		.block = frame, .bytes = sizeof(frame), .left = 1, .has_offload = true
	};
	const struct tpacket3_hdr header = { .tp_status = TP_STATUS_USER | TP_STATUS_CSUM_VALID,
					     .tp_snaplen = NET_AT - MAC_AT + 28 + payload_bytes,
					     .tp_len = NET_AT - MAC_AT + 28 + payload_bytes,
					     .tp_mac = MAC_AT,
					     .tp_net = NET_AT,
					     .tp_sec = (uint32_t)(now_ns / SECOND),
					     .tp_nsec = (uint32_t)(now_ns % SECOND) };
	const struct sockaddr_ll link = { .sll_protocol = htons(ETH_P_IP) };
	const struct virtio_net_hdr offload = { .gso_type = segment_bytes ?
								    VIRTIO_NET_HDR_GSO_UDP_L4 :
								    0,
						.gso_size = (uint16_t)segment_bytes };
	uint8_t *ip = frame + NET_AT;
	uint16_t sum;

	need(NET_AT + 28 + payload_bytes <= FRAME_BYTES, "room in the frame");
	memcpy(frame, &header, sizeof(header));
	memcpy(frame + TPACKET_ALIGN(sizeof(header)), &link, sizeof(link));
	memcpy(frame + MAC_AT - sizeof(offload), &offload, sizeof(offload));
	memset(ip, 0, 28);
	ip[0] = 0x45;
	put16(ip + 2, 28 + payload_bytes);
	ip[8] = 4;
	ip[9] = 17;
	put32(ip + 12, source);
	put32(ip + 16, group);
	put16(ip + 20, 4000);
	put16(ip + 22, 5001);
	put16(ip + 24, 8 + payload_bytes);
	sum = (uint16_t)~mcr_fold(mcr_sum(ip, 20, 0));
	memcpy(ip + 10, &sum, 2);
	memcpy(ip + 28, payload, payload_bytes);
	mcr_block_gather(table, worker, &table->scratch[0], 0, reader);
	mcr_batch_send(table, worker, &table->scratch[0]);
}

static void rtp(uint32_t sequence)
{
	uint8_t payload[PAYLOAD_BYTES];

	write_rtp(payload, sequence);
	gather(payload, sizeof(payload), 0);
}

static void rtp_row(uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		rtp(first + i);
}

/* -- probation -------------------------------------------------------------------- */

static void test_probation(void)
{
	uint8_t payload[PAYLOAD_BYTES];
	uint64_t random = 1;

	start("the packets that prove a stream are not counted, the next one is");
	rtp_row(100, PROBATION);
	counted(0, 0, 0, 0);
	rtp(100 + PROBATION);
	counted(1, 0, 0, 0);

	start("a gap begins it anew");
	rtp_row(100, PROBATION - 1);
	rtp_row(200, PROBATION);
	counted(0, 0, 0, 0);
	rtp(200 + PROBATION);
	counted(1, 0, 0, 0);

	start("so does a number that goes back");
	rtp_row(100, PROBATION - 1);
	rtp_row(90, PROBATION);
	counted(0, 0, 0, 0);

	start("a stream of which each packet comes twice is proven all the same");
	for (uint32_t i = 0; i < 2 * PROBATION; i++) {
		rtp(i);
		rtp(i > 2 ? i - 2 : i);
	}
	counted(2 * PROBATION + 1, 0, 0, PROBATION + 1);

	start("one number again and again proves nothing");
	for (uint32_t i = 0; i < 1000; i++)
		rtp(7);
	counted(0, 0, 0, 0);

	start("random payloads prove nothing");
	for (uint32_t i = 0; i < 200000; i++) {
		for (uint32_t at = 0; at < PAYLOAD_BYTES; at += 4)
			put32(payload + at, random32(&random));
		gather(payload, sizeof(payload), 0);
	}
	counted(0, 0, 0, 0);

	start("no payload of any other version is RTP");
	for (uint32_t version = 0; version < 4; version++)
		for (uint32_t i = 0; i < 100 && version != 2; i++) {
			write_rtp(payload, i);
			payload[0] = (uint8_t)(version << 6);
			gather(payload, sizeof(payload), 0);
		}
	counted(0, 0, 0, 0);

	start("nor what is shorter than the header");
	for (uint32_t i = 0; i < 100; i++) {
		write_rtp(payload, i);
		gather(payload, MCR_RTP_HEADER_BYTES - 1, 0);
		gather(payload, 0, 0);
	}
	counted(0, 0, 0, 0);
	EXPECT(worker->rules[0].packets, 200);

	start("RTCP on the same port does not disturb it");
	for (uint32_t i = 0; i < 3 * PROBATION; i++) {
		rtp(i);
		write_rtp(payload, 0);
		payload[1] = 201; /* receiver report, of this SSRC */
		put16(payload + 2, 7); /* 32 bytes */
		gather(payload, 32, 0);
	}
	counted(2 * PROBATION, 0, 0, 0);
}

/* -- counting ----------------------------------------------------------------------- */

static void test_counting(void)
{
	static const struct {
		const char *name;
		uint32_t first, count; /* after the probation */
		uint32_t then[4]; /* relative to the last one; ends with 0 */
		uint32_t rest;
		uint64_t missing, reordered, duplicate;
	} rows[] = {
		{ "nothing is wrong", 100, 50, { 0 }, 1000, 0, 0, 0 },
		{ "numbers wrap", 65000, 50, { 0 }, 1000, 0, 0, 0 },
		{ "a gap is missing once it has left the window",
		  100,
		  50,
		  { 4 },
		  WINDOW + 1,
		  3,
		  0,
		  0 },
		{ "not before", 100, 50, { 4 }, WINDOW - 4, 0, 0, 0 },
		{ "then one by one", 100, 50, { 4 }, WINDOW - 3, 1, 0, 0 },
		{ "a gap across the wrap", 65470, 50, { 11 }, 200, 10, 0, 0 },
		{ "a gap as wide as the window", 100, 50, { 65 }, 200, 64, 0, 0 },
		{ "a gap much wider, at once but for the window", 100, 50, { 1065 }, 0, 1001, 0, 0 },
		{ "and the rest later", 100, 50, { 1065 }, 200, 1064, 0, 0 },
		{ "the widest gap", 100, 50, { 2999 }, 200, 2998, 0, 0 },
		{ "two that are swapped", 100, 50, { 2, 1, 3 }, 200, 0, 1, 0 },
		{ "the last moment for a late one", 100, 50, { 64, 1 }, 200, 62, 1, 0 },
		{ "a late one across the wrap", 65478, 50, { 9, 8 }, 200, 7, 1, 0 },
		{ "too late: it is missing already", 100, 50, { 65, 1 }, 200, 64, 0, 0 },
		{ "a late one that comes twice", 100, 50, { 2, 1, 1 }, 200, 0, 1, 1 },
		{ "the newest twice", 100, 50, { 1, 1 }, 200, 0, 0, 1 },
		{ "the newest four times", 100, 50, { 1, 1, 1, 1 }, 200, 0, 0, 3 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		uint32_t last = rows[i].first + PROBATION + rows[i].count - 1, highest = last;
		uint64_t packets = rows[i].count + rows[i].rest;

		start(rows[i].name);
		rtp_row(rows[i].first, PROBATION + rows[i].count);
		for (size_t j = 0; j < COUNT(rows[i].then) && rows[i].then[j]; j++, packets++) {
			rtp(last + rows[i].then[j]);
			if (last + rows[i].then[j] > highest)
				highest = last + rows[i].then[j];
		}
		rtp_row(highest + 1, rows[i].rest);
		counted(packets, rows[i].missing, rows[i].reordered, rows[i].duplicate);
	}

	start("a copy of a packet that proved it is a duplicate, what was before that is nothing");
	rtp_row(100, PROBATION + 1);
	rtp(100);
	rtp(99);
	counted(3, 0, 0, 1);
	rtp_row(100 + PROBATION + 1, 200);
	counted(203, 0, 0, 1);
}

static void test_every_wrap(void)
{
	start("every hundredth missing, every seventieth late, over five wraps");
	rtp_row(0, PROBATION);
	for (uint32_t i = PROBATION; i < 5 * 65536; i++) {
		if (i % 100 == 0)
			continue;
		if (i % 70 == 1 && (i + 1) % 100) {
			rtp(i + 1);
			rtp(i++);
		} else {
			rtp(i);
		}
	}
	EXPECT_TRUE(worker->rules[0].rtp_reordered > 4000);
	EXPECT(worker->rules[0].rtp_missing, 5 * 65536 / 100);
	EXPECT(worker->rules[0].rtp_duplicate, 0);
}

static void test_restarts(void)
{
	static const struct {
		const char *name;
		uint32_t first, again;
	} rows[] = {
		{ "a sender that begins anew far ahead", 100, 20000 },
		{ "just too far ahead to be a loss", 100, 100 + PROBATION + 99 + 3000 },
		{ "far behind", 20000, 100 },
		{ "not so far behind", 1000, 1000 + PROBATION + 99 - 100 },
		{ "half the numbers away", 0, 32768 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		start(rows[i].name);
		rtp_row(rows[i].first, PROBATION + 100);
		counted(100, 0, 0, 0);
		/* The first one might be a stray. */
		rtp_row(rows[i].again, PROBATION);
		counted(101, 0, 0, 0);
		rtp_row(rows[i].again + PROBATION, 100);
		counted(201, 0, 0, 0);
	}

	start("what was open in the window then is never counted");
	rtp_row(100, PROBATION);
	rtp(100 + PROBATION + 10);
	rtp_row(20000, 1000);
	counted(1 + 1 + 1000 - PROBATION, 0, 0, 0);

	start("single strays are no restart");
	rtp_row(100, PROBATION);
	for (uint32_t i = 0; i < 300; i++) {
		rtp(100 + PROBATION + i);
		rtp(40000 + i); /* in a row among themselves, but not one after the other */
	}
	counted(600, 0, 0, 0);
}

/* -- which stream it is --------------------------------------------------------------- */

static void test_streams(void)
{
	start("two SSRCs in one group, each with its own numbers");
	for (uint32_t i = 0; i < 200; i++) {
		ssrc = SSRC;
		rtp(i);
		ssrc = SSRC + 1;
		rtp(30000 + 2 * (i / 100) + i); /* two are missing */
	}
	counted(400 - 2 * PROBATION, 2, 0, 0);

	start("two sources with one SSRC");
	for (uint32_t i = 0; i < 200; i++) {
		source = SOURCE;
		rtp(i);
		source = SOURCE + 1;
		rtp(i > 100 ? i + 1 : i);
	}
	counted(400 - 2 * PROBATION, 1, 0, 0);

	start("two groups with one SSRC from one source");
	for (uint32_t i = 0; i < 200; i++) {
		group = GROUP;
		rtp(i);
		group = GROUP + 1;
		rtp(i > 100 ? i + 5 : i);
	}
	counted(400 - 2 * PROBATION, 5, 0, 0);

	start("a reload leaves a rule's streams alone");
	rtp_row(100, PROBATION + 10);
	rtp(100 + PROBATION + 11);
	reload();
	rtp(100 + PROBATION + 10);
	rtp_row(100 + PROBATION + 12, 10);
	counted(22, 0, 1, 0);
	reload();
	rtp_row(100 + PROBATION + 23, 100);
	counted(122, 1, 1, 0);

	start("who gets the slot of a removed rule begins without its streams");
	rtp_row(100, PROBATION + 10);
	counted(10, 0, 0, 0);
	EXPECT(mcr_rule_counters_reset(relay, 0), 0);
	reload();
	rtp_row(100 + PROBATION + 500, PROBATION + 100);
	counted(100, 0, 0, 0);
}

/* A table of 8: each stream may lie anywhere in it. */
static void test_table_full(void)
{
	const uint32_t mask = worker->health.mask;

	worker->health.mask = MCR_HEALTH_PROBES - 1;
	memset(worker->health.streams, 0, MCR_HEALTH_PROBES * sizeof(*worker->health.streams));

	start("a full table holds as many streams as it has places");
	for (uint32_t i = 0; i < 100; i++)
		for (ssrc = 1; ssrc <= MCR_HEALTH_PROBES; ssrc++)
			rtp(i);
	counted(MCR_HEALTH_PROBES * (100 - PROBATION), 0, 0, 0);

	start("one more takes the place of that which has been silent longest");
	for (uint32_t i = 0; i < 100; i++)
		for (ssrc = 1; ssrc <= MCR_HEALTH_PROBES; ssrc++) {
			now_ns += SECOND / 100;
			if (ssrc != 3 || i < 50)
				rtp(i);
		}
	ssrc = 100;
	rtp_row(0, 100);
	counted((MCR_HEALTH_PROBES - 1) * (100 - PROBATION) + 50 - PROBATION + 100 - PROBATION, 0,
		0, 0);
	for (ssrc = 1; ssrc <= MCR_HEALTH_PROBES; ssrc++)
		if (ssrc != 3)
			rtp_row(100, 10);
	counted((MCR_HEALTH_PROBES - 1) * (110 - PROBATION) + 50 - PROBATION + 100 - PROBATION, 0,
		0, 0);

	start("what may be no stream at all goes before one that is");
	for (uint32_t i = 0; i < 1000; i++) {
		for (ssrc = 1; ssrc < MCR_HEALTH_PROBES; ssrc++)
			rtp(i);
		ssrc = 1000 + i;
		rtp(i);
	}
	counted((MCR_HEALTH_PROBES - 1) * (1000 - PROBATION), 0, 0, 0);

	start("a clock that is set back evicts nobody");
	for (uint32_t i = 0; i < 100; i++) {
		for (ssrc = 1; ssrc <= MCR_HEALTH_PROBES; ssrc++)
			rtp(i);
		now_ns -= 3600 * SECOND / 100;
	}
	counted(MCR_HEALTH_PROBES * (100 - PROBATION), 0, 0, 0);
	worker->health.mask = mask;
}

/* -- super-frames ------------------------------------------------------------------------ */

static void test_super_frames(void)
{
	uint8_t payload[SEGMENTS_MAX * PAYLOAD_BYTES];

	start("each datagram of a super-frame is looked at, the last and shorter one too");
	for (uint32_t i = 0; i < 10; i++) {
		for (uint32_t j = 0; j < SEGMENTS_MAX; j++)
			write_rtp(payload + j * PAYLOAD_BYTES, i * SEGMENTS_MAX + j);
		gather(payload, sizeof(payload) - 100, PAYLOAD_BYTES);
	}
	counted(10 * SEGMENTS_MAX - PROBATION, 0, 0, 0);
	EXPECT(worker->rules[0].packets, 10 * SEGMENTS_MAX);

	start("inside of one: a gap, a swap, a copy, another SSRC, and what is no RTP");
	rtp_row(0, PROBATION);
	for (uint32_t j = 0; j < SEGMENTS_MAX; j++)
		write_rtp(payload + j * PAYLOAD_BYTES, PROBATION + j);
	write_rtp(payload + 2 * PAYLOAD_BYTES, PROBATION + 3);
	write_rtp(payload + 3 * PAYLOAD_BYTES, PROBATION + 2);
	write_rtp(payload + 6 * PAYLOAD_BYTES, PROBATION + 5); /* for 6 */
	payload[0] = 0; /* 0 */
	ssrc++;
	write_rtp(payload + 9 * PAYLOAD_BYTES, 1234); /* for 9 */
	ssrc--;
	gather(payload, sizeof(payload), PAYLOAD_BYTES);
	counted(SEGMENTS_MAX - 2, 0, 1, 1);
	rtp_row(PROBATION + SEGMENTS_MAX, 100);
	counted(SEGMENTS_MAX - 2 + 100, 3, 1, 1);
}

/* -- where it cannot be told ---------------------------------------------------------------- */

static void test_split_flows(void)
{
	struct mcr_ring rings[2] = { { .fd = -1 }, { .fd = -1, .splits_flows = true } };
	struct mcr_ring_spec ports[2] = { { .ring = &rings[0] }, { .ring = &rings[1] } };
	struct mcr_table_spec spec = { .rings = ports, .epoch = 1 };
	int32_t error;

	for (uint32_t workers = 1; workers <= 2; workers++) {
		/* There is no close: a relay lives as long as its process. */
		static struct mcr_relay *relays[3];

		relays[workers] = mcr_relay_open(workers, &error);
		need(relays[workers] != NULL, "a relay");
		for (uint32_t count = 0; count <= 2; count++) {
			struct mcr_table *built;

			begin("%u workers, %u rings, of which the second splits flows", workers,
			      count);
			spec.ring_count = count;
			built = mcr_table_build(relays[workers], &spec, &error);
			need(built != NULL, "a table");
			EXPECT(built->counts_health, workers == 1 || count < 2);
			mcr_table_free(built);
		}
	}

	start("nothing is counted where a flow is spread over workers");
	table->counts_health = false;
	rtp_row(0, 100);
	counted(0, 0, 0, 0);
	EXPECT(worker->rules[0].packets, 100);
}

/* Of a hash that a sender can multiply by zero, all streams of that sender would share one place. */
static void test_hash(void)
{
	static const uint64_t seeds[] = { 0x243f6a8885a308d3, 0x13198a2e03707344,
					  0xa4093822299f31d0 };
	const struct mcr_health_key zero = { .rule = MCR_MIX_B >> 32 & 0xffff,
					     .ssrc = (uint32_t)MCR_MIX_B,
					     .port = MCR_MIX_B >> 48 };

	for (size_t i = 0; i < COUNT(seeds); i++) {
		uint8_t places[4096] = { 0 };
		uint32_t taken = 0;

		begin("a sender that knows the constants, seed %zu", i);
		for (uint32_t source = 0; source < COUNT(places); source++) {
			struct mcr_health_key key = zero;

			key.source = source;
			places[mcr_health_hash(&key, seeds[i]) % COUNT(places)] = 1;
		}
		for (size_t place = 0; place < COUNT(places); place++)
			taken += places[place];
		EXPECT_TRUE(taken > COUNT(places) / 2); /* 63 % at random */
	}
}

int main(void)
{
	int32_t error;

	relay = mcr_relay_open(1, &error);
	need(relay != NULL, "a relay");
	worker = &relay->workers[0];
	now_ns = 1700000000 * SECOND;
	test_hash();
	test_probation();
	test_counting();
	test_every_wrap();
	test_restarts();
	test_streams();
	test_table_full();
	test_super_frames();
	test_split_flows();
	return finish();
}
