/*
 * c/reassembly.c fragment by fragment. Each lies in memory of exactly its size, goes to the
 * reassembly and to the model (reassembly_model.h), and after each one the two must have the same
 * counters, the identity of mcr.h must hold, and what is whole must be the same byte for byte.
 */
#define _GNU_SOURCE
#include "reassembly.h"

#include <sys/mman.h>

#include "accounts.h"
#include "check.h"
#include "reassembly_model.h"

#define SECOND 1000000000ll
#define PIECE_BYTES 1480u /* what an MTU of 1,500 leaves */
#define CHUNKS (MCR_REASSEMBLY_BYTES / MCR_REASSEMBLY_CHUNK_BYTES)

/* A fragment by its fields; what a case does not set is that of the usual stream. */
struct piece {
	uint32_t interface, vlan;
	uint32_t source; /* last three bytes of 10.x.x.x */
	uint32_t destination; /* last byte of 239.1.1.x */
	uint16_t id;
	uint8_t protocol; /* 0: UDP */
	uint8_t option_bytes;
	uint32_t from, bytes;
	bool more, keep_whole_flag;
	uint8_t salt; /* other bytes than those of the datagram */
};

static struct mcr_reassembly *reassembly;
static struct model model;
static struct mcr_interface_counters counters[MODEL_INTERFACES];
static int64_t now_ns;
static struct mcr_assembled whole; /* by the last fragment that made one so */
static uint64_t seed = 0x123456789abcdef;

/* Each case begins with an empty one. */
static void open_both(void)
{
	mcr_reassembly_close(reassembly);
	model_prepare(&model);
	model_expire(&model, INT64_MAX);
	model_release(&model);
	memset(model.counters, 0, sizeof(model.counters));
	memset(counters, 0, sizeof(counters));
	now_ns = 1000 * SECOND;
	reassembly = mcr_reassembly_open(counters, seed);
	need(reassembly != NULL, "mcr_reassembly_open");
}

static void compare(void)
{
	EXPECT_TRUE(model_agrees(&model, counters));
	for (size_t i = 0; i < MODEL_INTERFACES; i++)
		EXPECT(counters[i].packets, accounted(&counters[i]));
	EXPECT(reassembly->deadline_ns,
	       model.waiting_count ? model.waiting[0]->first_ns + MCR_REASSEMBLY_WAIT_NS :
				     INT64_MAX);
	EXPECT(reassembly->whole_bytes, model.whole_bytes);
}

static void take_both(const struct mcr_fragment *fragment, bool *is_whole)
{
	struct mcr_assembled assembled = { 0 };
	bool expected;

	mcr_reassembly_expire(reassembly, now_ns);
	expected = model_take(&model, fragment, now_ns);

	*is_whole = mcr_reassembly_take(reassembly, fragment, now_ns, &assembled);
	EXPECT(*is_whole, expected);
	if (*is_whole && expected) {
		EXPECT_TRUE(model_made(&model, assembled.ip, assembled.bytes));
		whole = assembled;
	}
	compare();
}

static uint8_t byte_at(const struct piece *piece, uint32_t position)
{
	return (uint8_t)(position * 7 + position / 251 + piece->id * 3 + piece->source +
			 piece->vlan + piece->interface * 17 + piece->salt);
}

static void checksum_put(uint8_t *ip)
{
	uint32_t header_bytes = (ip[0] & 15u) * 4, sum;

	ip[10] = ip[11] = 0;
	sum = 0xffff - model_sum(ip, header_bytes);
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
}

/* The packet in memory of exactly its size. */
static uint8_t *packet_make(const struct piece *piece, size_t *bytes)
{
	uint32_t header_bytes = 20u + piece->option_bytes;
	uint32_t total = header_bytes + piece->bytes;
	uint8_t *ip = calloc(1, total);

	need(ip != NULL, "memory");
	ip[0] = (uint8_t)(0x40 | header_bytes / 4);
	ip[1] = 0x88;
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[4] = (uint8_t)(piece->id >> 8);
	ip[5] = (uint8_t)piece->id;
	ip[6] = (uint8_t)(piece->from >> 11 | (piece->more ? 0x20 : 0) |
			  (piece->keep_whole_flag ? 0x40 : 0));
	ip[7] = (uint8_t)(piece->from >> 3);
	ip[8] = 7;
	ip[9] = piece->protocol ? piece->protocol : 17;
	ip[12] = 10;
	ip[13] = (uint8_t)(piece->source >> 16);
	ip[14] = (uint8_t)(piece->source >> 8);
	ip[15] = (uint8_t)piece->source;
	memcpy(ip + 16, (uint8_t[]){ 239, 1, 1, (uint8_t)piece->destination }, 4);
	memset(ip + 20, 1, piece->option_bytes); /* "no operation" */
	checksum_put(ip);
	for (uint32_t i = 0; i < piece->bytes; i++)
		ip[header_bytes + i] = byte_at(piece, piece->from + i);
	*bytes = total;
	return ip;
}

static bool take(const struct piece *piece)
{
	struct mcr_fragment fragment = { .interface = piece->interface, .vlan = piece->vlan };
	uint8_t *ip = packet_make(piece, &fragment.captured);
	bool is_whole;

	fragment.ip = ip;
	fragment.wire_bytes = fragment.captured;
	take_both(&fragment, &is_whole);
	free(ip);
	return is_whole;
}

/* Piece i of a datagram that is cut at cut_bytes. */
static struct piece piece_of(const struct piece *datagram, uint32_t cut_bytes, uint32_t i)
{
	struct piece piece = *datagram;

	piece.from = i * cut_bytes;
	piece.more = piece.from + cut_bytes < datagram->bytes;
	piece.bytes = piece.more ? cut_bytes : datagram->bytes - piece.from;
	if (i)
		piece.option_bytes = 0;
	return piece;
}

/* What came out last is this datagram: header mended, every byte as it was sent. */
static void expect_whole(const struct piece *datagram)
{
	const uint8_t *ip = whole.ip;
	uint32_t header_bytes = 20u + datagram->option_bytes, wrong = 0;

	EXPECT(whole.bytes, header_bytes + datagram->bytes);
	EXPECT(ip[0], 0x40 | header_bytes / 4);
	EXPECT(ip[1], 0x88);
	EXPECT(ip[2] << 8 | ip[3], whole.bytes);
	EXPECT(ip[4] << 8 | ip[5], datagram->id);
	EXPECT(ip[6] << 8 | ip[7], 0);
	EXPECT(ip[8], 7);
	EXPECT(model_sum(ip, header_bytes), 0xffff);
	for (uint32_t i = 0; i < datagram->bytes; i++)
		wrong += ip[header_bytes + i] != byte_at(datagram, i);
	EXPECT(wrong, 0);
}

static uint32_t piece_count(uint32_t bytes, uint32_t cut_bytes)
{
	return (bytes + cut_bytes - 1) / cut_bytes;
}

/* Sends the pieces in this order; whole with the last one, not before. */
static void expect_order(const struct piece *datagram, uint32_t cut_bytes, const uint32_t *order)
{
	uint32_t count = piece_count(datagram->bytes, cut_bytes);

	for (uint32_t i = 0; i < count; i++) {
		struct piece piece = piece_of(datagram, cut_bytes, order ? order[i] : i);

		EXPECT(take(&piece), i + 1 == count);
	}
	expect_whole(datagram);
	mcr_reassembly_release(reassembly);
	model_release(&model);
}

static void shuffle(uint32_t *order, uint32_t count, uint64_t *state)
{
	for (uint32_t i = 0; i < count; i++)
		order[i] = i;
	for (uint32_t i = count; i > 1; i--) {
		uint32_t other = random32(state) % i, kept = order[i - 1];

		order[i - 1] = order[other];
		order[other] = kept;
	}
}

/* -- what is put together ---------------------------------------------------------- */

static void test_orders(void)
{
	static const uint32_t sizes[] = { 9, 16, 1481, 2048, 2049, 3008, 4096, 9000, 65515 };
	static const uint32_t cuts[] = { 8, 512, PIECE_BYTES, 2048, 4104, 32768 };
	static uint32_t order[8192];
	uint64_t state = 1;

	for (size_t s = 0; s < COUNT(sizes); s++) {
		for (size_t c = 0; c < COUNT(cuts); c++) {
			struct piece datagram = { .bytes = sizes[s], .id = (uint16_t)(s + c) };
			uint32_t count = piece_count(sizes[s], cuts[c]);

			if (count < 2)
				continue;
			begin("%u bytes in %u pieces: in order, reversed, shuffled", sizes[s],
			      count);
			open_both();
			expect_order(&datagram, cuts[c], NULL);
			for (uint32_t i = 0; i < count; i++)
				order[i] = count - 1 - i;
			expect_order(&datagram, cuts[c], order);
			for (int round = 0; round < 3; round++) {
				shuffle(order, count, &state);
				expect_order(&datagram, cuts[c], order);
			}
			EXPECT(counters[0].packets, 0);
		}
	}
}

static void test_every_order_of_four(void)
{
	struct piece datagram = { .bytes = 4 * 1024 - 3 };

	open_both();
	for (uint32_t n = 0; n < 256; n++) {
		const uint32_t order[] = { n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6 };
		uint32_t seen = 1u << order[0] | 1u << order[1] | 1u << order[2] | 1u << order[3];

		if (seen != 15)
			continue;
		begin("pieces %u %u %u %u", order[0], order[1], order[2], order[3]);
		expect_order(&datagram, 1024, order);
	}
	EXPECT(counters[0].packets, 0);
}

static void test_copies(void)
{
	struct piece datagram = { .bytes = 65515 };
	uint32_t count = piece_count(datagram.bytes, PIECE_BYTES);

	begin("a doubled fragment is dropped alone, and the first one's bytes stay");
	open_both();
	for (uint32_t i = 0; i < count; i++) {
		struct piece piece = piece_of(&datagram, PIECE_BYTES, count - 1 - i);

		EXPECT(take(&piece), i + 1 == count);
		piece.salt = 1;
		if (i + 1 < count)
			EXPECT(take(&piece), false);
	}
	expect_whole(&datagram);
	EXPECT(counters[0].fragment_overlap, count - 1);
	EXPECT(counters[0].packets, count - 1);

	begin("a copy may be a part of what came, or several fragments in one");
	open_both();
	take(&(struct piece){ .from = 0, .bytes = 800, .more = true });
	take(&(struct piece){ .from = 800, .bytes = 800, .more = true });
	take(&(struct piece){ .from = 400, .bytes = 800, .more = true });
	take(&(struct piece){ .from = 8, .bytes = 8, .more = true });
	EXPECT(counters[0].fragment_overlap, 2);
	EXPECT(take(&(struct piece){ .from = 1600, .bytes = 5 }), true);
	EXPECT(counters[0].packets, 2);

	begin("what comes again after the whole begins anew");
	EXPECT(take(&(struct piece){ .from = 1600, .bytes = 5 }), false);
	EXPECT(take(&(struct piece){ .from = 0, .bytes = 1600, .more = true }), true);
	expect_whole(&(struct piece){ .bytes = 1605 });
}

static void test_keys(void)
{
	static const struct piece datagrams[] = {
		{ .bytes = 3008 },
		{ .bytes = 3008, .interface = 1 },
		{ .bytes = 3008, .vlan = 1 },
		{ .bytes = 3008, .vlan = UINT32_MAX },
		{ .bytes = 3008, .protocol = 6 },
		{ .bytes = 3008, .source = 1 },
		{ .bytes = 3008, .source = 0x10000 },
		{ .bytes = 3008, .destination = 1 },
		{ .bytes = 3008, .id = 1 },
		{ .bytes = 3008, .id = 0x100 },
		{ .bytes = 3008, .interface = 3, .vlan = 1, .source = 1, .id = 1 },
	};
	const uint64_t seeds[] = { 0, 1, UINT64_MAX, 0x9e3779b97f4a7c15u };

	for (size_t s = 0; s < COUNT(seeds); s++) {
		begin("datagrams that differ in one thing at the same time, seed %zu", s);
		seed = seeds[s];
		open_both();
		for (uint32_t i = 0; i < 3; i++) {
			for (size_t d = 0; d < COUNT(datagrams); d++) {
				struct piece piece = piece_of(&datagrams[d], PIECE_BYTES, i);

				EXPECT(take(&piece), i == 2);
				if (i == 2)
					expect_whole(&datagrams[d]);
			}
		}
		EXPECT(counters[0].packets + counters[1].packets + counters[3].packets, 0);
	}
}

static void test_headers(void)
{
	struct piece datagram = { .bytes = 3008, .option_bytes = 40 };
	uint32_t order[] = { 2, 0, 1 };

	begin("options of the first fragment stay, those of others do not");
	open_both();
	expect_order(&datagram, PIECE_BYTES, NULL);
	expect_order(&datagram, PIECE_BYTES, order);
	take(&(struct piece){ .bytes = 8, .more = true });
	EXPECT(take(&(struct piece){ .from = 8, .bytes = 8, .option_bytes = 8 }), true);
	expect_whole(&(struct piece){ .bytes = 16 });

	begin("\"do not fragment\" on a fragment is no reason to drop it, and is not in the whole");
	datagram = (struct piece){ .bytes = 3008, .keep_whole_flag = true };
	expect_order(&datagram, PIECE_BYTES, NULL);

	begin("the longest packet has 65,535 bytes, with the first fragment's options");
	datagram = (struct piece){ .bytes = 65475, .option_bytes = 40 };
	expect_order(&datagram, PIECE_BYTES, NULL);
	EXPECT(whole.bytes, 65535);
	EXPECT(counters[0].packets, 0);

	begin("a last fragment too far for the options that have come is malformed");
	take(&(struct piece){ .bytes = 65472, .option_bytes = 40, .more = true });
	EXPECT(take(&(struct piece){ .from = 65472, .bytes = 4 }), false);
	EXPECT(counters[0].fragment_malformed, 1);
	EXPECT(take(&(struct piece){ .from = 65472, .bytes = 3 }), true);

	begin("options too long for the last fragment that has come are malformed");
	take(&(struct piece){ .from = 65472, .bytes = 43 });
	EXPECT(take(&(struct piece){ .bytes = 65472, .option_bytes = 4, .more = true }), false);
	EXPECT(counters[0].fragment_malformed, 2);
	EXPECT(take(&(struct piece){ .bytes = 65472, .more = true }), true);
	EXPECT(counters[0].packets, 2);
}

/* -- what is refused --------------------------------------------------------------- */

static void test_malformed(void)
{
	enum {
		TRUNCATED,
		CHECKSUM,
		MALFORMED,
		FINE
	};
	static const struct {
		const char *name;
		int32_t captured, wire_bytes; /* more or less than the packet */
		struct { /* written over the header; at 0: nothing is */
			uint8_t at, value;
		} write[2];
		bool bad_checksum;
		int expected;
		struct piece piece;
	} cases[] = {
		{ .name = "as it should be", .expected = FINE },
		{ .name = "padding", .captured = 6, .wire_bytes = 6, .expected = FINE },
		{ .name = "captured in part", .captured = -1, .expected = TRUNCATED },
		{ .name = "19 bytes captured", .captured = -9, .expected = TRUNCATED },
		{ .name = "19 bytes on the wire",
		  .captured = -9,
		  .wire_bytes = -9,
		  .expected = MALFORMED },
		{ .name = "nothing captured", .captured = -28, .expected = TRUNCATED },
		{ .name = "nothing on the wire",
		  .captured = -28,
		  .wire_bytes = -28,
		  .expected = MALFORMED },
		{ .name = "longer than the wire", .wire_bytes = -1, .expected = MALFORMED },
		{ .name = "longer than the wire and what was captured",
		  .captured = -1,
		  .wire_bytes = -1,
		  .expected = MALFORMED },
		{ .name = "version 6", .write = { { 20, 0x65 } }, .expected = MALFORMED },
		{ .name = "header of 16", .write = { { 20, 0x44 } }, .expected = MALFORMED },
		{ .name = "header of the whole", .write = { { 20, 0x47 } }, .expected = MALFORMED },
		{ .name = "header beyond the whole",
		  .write = { { 20, 0x4f } },
		  .expected = MALFORMED },
		{ .name = "length 0", .write = { { 3, 0 } }, .expected = MALFORMED },
		{ .name = "length 19", .write = { { 3, 19 } }, .expected = MALFORMED },
		{ .name = "no payload", .write = { { 3, 20 } }, .expected = MALFORMED },
		{ .name = "header checksum", .bad_checksum = true, .expected = CHECKSUM },
		{ .name = "not of eights, more to come",
		  .write = { { 3, 27 } },
		  .expected = MALFORMED },
		{ .name = "no fragment", .write = { { 6, 0 } }, .expected = MALFORMED },
		{ .name = "no fragment, \"do not fragment\"",
		  .write = { { 6, 0x40 } },
		  .expected = MALFORMED },
		{ .name = "up to 65,536",
		  .piece = { .from = 65512, .bytes = 4 },
		  .expected = MALFORMED },
		{ .name = "up to 65,535", .piece = { .from = 65512, .bytes = 3 }, .expected = FINE },
		{ .name = "the last offset",
		  .write = { { 6, 0x1f }, { 7, 0xff } },
		  .expected = MALFORMED },
		{ .name = "middle up to 65,512",
		  .piece = { .from = 65504, .bytes = 8, .more = true },
		  .expected = FINE },
		{ .name = "middle up to 65,520",
		  .piece = { .from = 65512, .bytes = 8, .more = true },
		  .expected = MALFORMED },
		{ .name = "middle up to 65,488 with options",
		  .piece = { .from = 65480, .bytes = 8, .more = true, .option_bytes = 24 },
		  .expected = FINE },
		{ .name = "middle up to 65,488 with longer ones",
		  .piece = { .from = 65480, .bytes = 8, .more = true, .option_bytes = 28 },
		  .expected = MALFORMED },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct mcr_interface_counters *c = &counters[1];
		struct piece piece = cases[i].piece;
		struct mcr_fragment fragment = { .interface = 1 };
		size_t bytes;
		uint8_t *ip, *copy;
		bool is_whole;

		begin("a fragment with %s", cases[i].name);
		open_both();
		if (piece.bytes == 0)
			piece = (struct piece){ .bytes = 8, .more = true };
		ip = packet_make(&piece, &bytes);
		for (size_t w = 0; w < 2 && cases[i].write[w].at; w++)
			ip[cases[i].write[w].at % 20] = cases[i].write[w].value;
		if ((ip[0] & 15u) * 4 <= bytes)
			checksum_put(ip);
		ip[10] ^= cases[i].bad_checksum;
		fragment.captured = (size_t)((int32_t)bytes + cases[i].captured);
		fragment.wire_bytes = (size_t)((int32_t)bytes + cases[i].wire_bytes);
		copy = calloc(1, fragment.captured ? fragment.captured : 1);
		need(copy != NULL, "memory");
		memcpy(copy, ip, bytes < fragment.captured ? bytes : fragment.captured);
		fragment.ip = copy;
		take_both(&fragment, &is_whole);
		EXPECT(c->packets, cases[i].expected != FINE);
		EXPECT(c->truncated, cases[i].expected == TRUNCATED);
		EXPECT(c->bad_checksum, cases[i].expected == CHECKSUM);
		EXPECT(c->fragment_malformed, cases[i].expected == MALFORMED);
		EXPECT(model.waiting_count, cases[i].expected == FINE);
		free(copy);
		free(ip);
	}
}

static void test_ends(void)
{
	const struct mcr_interface_counters *c = &counters[0];

	begin("another end than the known one is malformed, and the datagram goes on");
	open_both();
	take(&(struct piece){ .from = 1600, .bytes = 5 });
	take(&(struct piece){ .from = 1600, .bytes = 6 });
	take(&(struct piece){ .from = 1600, .bytes = 4 });
	take(&(struct piece){ .from = 800, .bytes = 8 });
	take(&(struct piece){ .from = 2000, .bytes = 8 });
	EXPECT(c->fragment_malformed, 4);
	begin("more beyond the known end is malformed");
	take(&(struct piece){ .from = 1600, .bytes = 8, .more = true });
	take(&(struct piece){ .from = 1608, .bytes = 8, .more = true });
	EXPECT(c->fragment_malformed, 6);
	EXPECT(take(&(struct piece){ .from = 0, .bytes = 1600, .more = true }), true);
	expect_whole(&(struct piece){ .bytes = 1605 });

	begin("an end before what has come is malformed");
	take(&(struct piece){ .from = 800, .bytes = 800, .more = true });
	take(&(struct piece){ .from = 792, .bytes = 8 });
	take(&(struct piece){ .from = 792, .bytes = 16 });
	EXPECT(c->fragment_malformed, 8);
	take(&(struct piece){ .from = 0, .bytes = 800, .more = true });
	EXPECT(take(&(struct piece){ .from = 1600, .bytes = 8 }), true);
	EXPECT(c->packets, 8);
}

static void test_overlaps(void)
{
	static const struct {
		uint32_t from, bytes;
		bool more;
	} cases[] = {
		{ 792, 16, true },   { 1592, 16, true },   { 792, 816, true },	{ 0, 3000, true },
		{ 792, 3000, true }, { 1592, 3000, true }, { 1592, 17, false },
	};
	const struct mcr_interface_counters *c = &counters[2];

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct piece datagram = { .interface = 2, .bytes = 3008 };

		begin("%u bytes at %u over 800 at 800 refuse the datagram", cases[i].bytes,
		      cases[i].from);
		open_both();
		take(&(struct piece){ .interface = 2, .from = 800, .bytes = 400, .more = true });
		take(&(struct piece){ .interface = 2, .from = 1200, .bytes = 400, .more = true });
		EXPECT(c->packets, 0);
		take(&(struct piece){ .interface = 2,
				      .from = cases[i].from,
				      .bytes = cases[i].bytes,
				      .more = cases[i].more });
		EXPECT(c->fragment_overlap, 3);
		EXPECT(c->packets, 3);
		EXPECT(model.waiting_count, 0);
		expect_order(&datagram, PIECE_BYTES, NULL);
		EXPECT(c->packets, 3);
	}
}

/* -- limits ------------------------------------------------------------------------ */

/* A lone fragment: n tells it apart by source, and by id. */
static void take_lone(uint32_t interface, uint32_t source, uint32_t n)
{
	take(&(struct piece){ .interface = interface,
			      .source = source,
			      .id = (uint16_t)n,
			      .bytes = 48,
			      .more = true });
}

static bool take_rest(uint32_t interface, uint32_t source, uint32_t n)
{
	bool is_whole = take(&(struct piece){ .interface = interface,
					      .source = source,
					      .id = (uint16_t)n,
					      .from = 48,
					      .bytes = 3 });

	mcr_reassembly_release(reassembly);
	model_release(&model);
	return is_whole;
}

static void test_datagram_limit(void)
{
	uint32_t wholes = 0;

	for (uint32_t count = MCR_REASSEMBLY_DATAGRAMS - 1; count < MCR_REASSEMBLY_DATAGRAMS + 3;
	     count++) {
		uint32_t over = count > 1024 ? count - 1024 : 0;

		begin("%u datagrams wait", count);
		open_both();
		wholes = 0;
		for (uint32_t i = 0; i < count; i++)
			take_lone(i % 2, i, 1);
		EXPECT(counters[0].fragment_full, (over + 1) / 2);
		EXPECT(counters[1].fragment_full, over / 2);
		EXPECT(model.waiting_count, count - over);
		/* From the newest: what gives way to the rest of a lost one is the oldest. */
		for (uint32_t i = count; i-- > 0;)
			wholes += take_rest(i % 2, i, 1);
		EXPECT(wholes, count - over);
	}
}

static void test_source_limit(void)
{
	for (uint32_t count = 63; count < 68; count++) {
		uint32_t over = count > 64 ? count - 64 : 0, wholes = 0;

		begin("%u datagrams of one source wait", count);
		open_both();
		for (uint32_t i = 0; i < count; i++) {
			take_lone(0, 7, i);
			take_lone(1, 7, i); /* the same address, but not the same source */
			if (i < 60)
				take_lone(0, 8, i);
		}
		EXPECT(counters[0].fragment_full, over);
		EXPECT(counters[1].fragment_full, over);
		for (uint32_t i = count; i-- > 0;) {
			wholes += take_rest(0, 7, i);
			wholes += take_rest(1, 7, i);
			if (i < 60)
				EXPECT_TRUE(take_rest(0, 8, i));
		}
		EXPECT(wholes, 2 * (count - over));
	}
	begin("at both limits the oldest of the source gives way, not the oldest of all");
	open_both();
	for (uint32_t i = 0; i < MCR_REASSEMBLY_DATAGRAMS - 64; i++)
		take_lone(0, 100 + i, 1);
	for (uint32_t i = 0; i < 64; i++)
		take_lone(1, 7, i);
	take_lone(1, 7, 64);
	EXPECT(counters[0].fragment_full, 0);
	EXPECT(counters[1].fragment_full, 1);
	EXPECT_TRUE(take_rest(0, 100, 1));
	EXPECT_TRUE(take_rest(1, 7, 1));
}

static void test_memory_limit(void)
{
	const uint32_t pieces = CHUNKS / 32; /* of 64 KiB each */

	begin("all memory is used to its last chunk");
	open_both();
	for (uint32_t i = 0; i < pieces - 1; i++) {
		struct piece datagram = { .source = i, .bytes = 65504 };
		struct piece half = piece_of(&datagram, 32768, 0);

		take(&half);
		half = piece_of(&datagram, 32768, 1);
		half.more = true;
		take(&half);
	}
	for (uint32_t i = 0; i < 32; i++)
		take(&(struct piece){ .source = 999,
				      .from = 4096 * (i % 16),
				      .bytes = 8,
				      .more = true,
				      .id = (uint16_t)(1 + i / 16) });
	EXPECT(counters[0].packets, 0);
	EXPECT(model.chunk_count, CHUNKS);
	begin("bytes in a chunk that is there need no other");
	take(&(struct piece){ .source = 999, .from = 8, .bytes = 2040, .more = true, .id = 1 });
	EXPECT(counters[0].packets, 0);
	begin("one chunk more, and the oldest datagram gives way with all its fragments");
	take(&(struct piece){ .source = 999, .from = 2048, .bytes = 8, .more = true, .id = 1 });
	EXPECT(counters[0].fragment_full, 2);
	EXPECT(counters[0].packets, 2);
	EXPECT(model.chunk_count, CHUNKS - 31);

	begin("small fragments fill it by their chunks, not by their bytes");
	open_both();
	for (uint32_t i = 0; i < CHUNKS + 3; i++)
		take(&(struct piece){
			.source = i / 4, .from = i % 4 * 16000, .bytes = 8, .more = true });
	EXPECT(counters[0].fragment_full, 4);
	EXPECT(model.chunk_count, CHUNKS - 1);

	begin("a datagram does not give way to its own fragment: the next oldest does");
	open_both();
	take(&(struct piece){ .bytes = 2048, .more = true });
	for (uint32_t i = 1; i < pieces; i++)
		take(&(struct piece){ .source = i, .bytes = 65504, .more = true });
	take(&(struct piece){ .source = 99, .bytes = 31 * 2048, .more = true });
	EXPECT(model.chunk_count, CHUNKS);
	EXPECT(counters[0].packets, 0);
	EXPECT(take(&(struct piece){ .from = 2048, .bytes = 63467 }), true);
	expect_whole(&(struct piece){ .bytes = 65515 });
	EXPECT(counters[0].fragment_full, 1);
	EXPECT_TRUE(take(&(struct piece){ .source = 2, .from = 65504, .bytes = 3 }));
}

/* Between the three fragments of each datagram of a good stream come lone ones of others. */
static void test_floods(void)
{
	for (int many = 0; many < 2; many++) {
		uint32_t wholes = 0, lone = 0;

		begin("6,000 lone fragments of %s keep no datagram of a stream out",
		      many ? "6,000 sources" : "one source");
		open_both();
		for (uint32_t d = 0; d < 500; d++) {
			struct piece datagram = { .bytes = 3008,
						  .source = 0xffff,
						  .id = (uint16_t)d };

			for (uint32_t i = 0; i < 3; i++) {
				struct piece piece = piece_of(&datagram, PIECE_BYTES, i);

				for (uint32_t n = 0; n < 4; n++, lone++)
					take_lone(0, many ? lone : 1, lone);
				wholes += take(&piece);
			}
			expect_whole(&datagram);
			mcr_reassembly_release(reassembly);
			model_release(&model);
			now_ns += 100000;
		}
		EXPECT(wholes, 500);
		EXPECT(lone, 6000);
		EXPECT(counters[0].fragment_full, 6000 - (many ? 1024 : 64) + (many ? 1 : 0));
		mcr_reassembly_flush(reassembly);
		model_expire(&model, INT64_MAX);
		compare();
		EXPECT(counters[0].packets, 6000);
	}
}

/* -- time, room, memory ------------------------------------------------------------ */

static void expire(void)
{
	mcr_reassembly_expire(reassembly, now_ns);
	model_expire(&model, now_ns);
	compare();
}

static void test_expiry(void)
{
	struct piece first = { .bytes = 16, .more = true };
	struct piece last = { .from = 16, .bytes = 3 };

	begin("the rest may come until 2 s after the first, whichever that was");
	open_both();
	take(&last);
	now_ns += 2 * SECOND - 1;
	expire();
	EXPECT(take(&first), true);
	begin("at 2 s it is late, also without a look at the clock before");
	take(&last);
	now_ns += 2 * SECOND;
	EXPECT(take(&first), false);
	EXPECT(counters[0].fragment_late, 1);
	EXPECT(counters[0].packets, 1);
	begin("what came after the expiry has 2 s of its own");
	now_ns += 2 * SECOND - 1;
	EXPECT(take(&last), true);

	begin("later fragments do not make the wait longer");
	take(&first);
	now_ns += SECOND;
	take(&(struct piece){ .from = 24, .bytes = 8, .more = true });
	now_ns += SECOND;
	expire();
	EXPECT(counters[0].fragment_late, 3);

	begin("each interface counts its own, the oldest first");
	open_both();
	for (uint32_t i = 0; i < 200; i++) {
		take_lone(i % MODEL_INTERFACES, i, 1);
		now_ns += SECOND / 100;
	}
	EXPECT(counters[0].packets, 0);
	expire();
	EXPECT(counters[0].fragment_late, 1);
	EXPECT(counters[1].fragment_late, 0);
	now_ns += SECOND;
	expire();
	EXPECT(counters[0].fragment_late, 26);
	EXPECT(counters[3].fragment_late, 25);
	now_ns += SECOND;
	expire();
	EXPECT(counters[3].fragment_late, 50);
	EXPECT(reassembly->deadline_ns, INT64_MAX);

	begin("a refused fragment still lets what is late go");
	take_lone(0, 1, 1);
	now_ns += 2 * SECOND;
	take(&(struct piece){ .interface = 1, .bytes = 7, .more = true });
	EXPECT(counters[0].fragment_late, 51);

	begin("at the end everything that waits is late");
	take_lone(2, 1, 1);
	take(&(struct piece){ .interface = 2, .source = 1, .id = 1, .from = 80, .bytes = 1 });
	take_lone(3, 1, 1);
	mcr_reassembly_flush(reassembly);
	model_expire(&model, INT64_MAX);
	compare();
	EXPECT(counters[2].fragment_late, 52);
	EXPECT(counters[3].fragment_late, 51);
	mcr_reassembly_flush(reassembly);
	compare();
}

static void test_room(void)
{
	struct piece first = { .bytes = 65512, .more = true }, last = { .from = 65512, .bytes = 3 };
	const uint8_t *wholes[16];

	begin("16 of the largest have room, and lie there until they are released");
	open_both();
	for (uint16_t i = 0; i < 16; i++) {
		EXPECT_TRUE(mcr_reassembly_has_room(reassembly));
		first.id = last.id = i;
		take(&first);
		EXPECT(take(&last), true);
		wholes[i] = whole.ip;
	}
	EXPECT_TRUE(!mcr_reassembly_has_room(reassembly));
	for (uint16_t i = 0; i < 16; i++) {
		whole = (struct mcr_assembled){ wholes[i], 65535 };
		expect_whole(&(struct piece){ .bytes = 65515, .id = i });
	}
	begin("without room the whole one is dropped as full");
	first.id = last.id = 16;
	take(&first);
	EXPECT(take(&last), false);
	EXPECT(counters[0].fragment_full, 2);
	EXPECT(counters[0].packets, 2);
	mcr_reassembly_release(reassembly);
	model_release(&model);
	EXPECT_TRUE(mcr_reassembly_has_room(reassembly));
	take(&first);
	EXPECT(take(&last), true);
}

static void test_idle_pages(void)
{
	unsigned char pages[4096];
	size_t bytes = MCR_REASSEMBLY_BYTES + MCR_REASSEMBLY_WHOLE_BYTES, resident = 0;
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);

	begin("an idle worker has no memory of it but the first page");
	open_both();
	need(bytes / page_bytes <= sizeof(pages) && mincore(reassembly, bytes, pages) == 0, "mincor"
											    "e");
	for (size_t i = 0; i < bytes / page_bytes; i++)
		resident += pages[i] & 1;
	EXPECT(resident, 1);
}

/* -- at random ----------------------------------------------------------------------- */

static uint32_t random_bytes(uint64_t *state)
{
	switch (random32(state) % 8) {
	case 0:
		return 8 * (1 + random32(state) % 400);
	case 1:
		return 1 + random32(state) % 64;
	default:
		return 8 * (1 + random32(state) % 4);
	}
}

/* Few keys and few offsets, so that they meet; many sources now and then. */
static void random_step(uint64_t *state, bool flood)
{
	uint32_t kind = random32(state) % 64;
	struct piece piece = {
		.interface = random32(state) % MODEL_INTERFACES,
		.vlan = random32(state) % 8 ? 0 : random32(state) % 3,
		.source = random32(state) % (flood && kind % 4 ? 600 : 2),
		.id = (uint16_t)(random32(state) % (flood ? 200 : 3)),
		.protocol = random32(state) % 16 ? 17 : 6,
		.option_bytes = random32(state) % 8 ? 0 : 4 * (random32(state) % 11),
		.bytes = random_bytes(state),
		.more = random32(state) % 4,
		.salt = (uint8_t)random32(state),
	};

	piece.from = piece.bytes > 32 && kind % 2 ? 8 * (random32(state) % 8192) :
						    8 * (random32(state) % 8);
	if (kind < 2 && (!flood || random32(state) % 32 == 0))
		now_ns += random32(state) % (SECOND / 2);
	else
		now_ns += random32(state) % 100000;
	if (kind == 2) {
		expire();
	} else if (kind == 3 || !mcr_reassembly_has_room(reassembly)) {
		mcr_reassembly_release(reassembly);
		model_release(&model);
	}
	take(&piece);
}

static void test_random(void)
{
	uint64_t state = 5;

	for (int round = 0; round < 6; round++) {
		bool flood = round % 3 == 2;
		unsigned int failures = failure_count;

		begin("at random, round %d", round);
		seed = (uint64_t)random32(&state) << 32 | random32(&state);
		open_both();
		for (int i = 0; i < (flood ? 20000 : 60000) && failure_count == failures; i++)
			random_step(&state, flood);
		for (size_t i = 0; i < MODEL_INTERFACES; i++) {
			EXPECT_TRUE(counters[i].fragment_overlap > 10);
			EXPECT_TRUE(counters[i].fragment_malformed > 100);
			EXPECT_TRUE(flood ? counters[i].fragment_full > 100 :
					    counters[i].fragment_late > 100);
		}
	}
}

int main(void)
{
	test_orders();
	test_every_order_of_four();
	test_copies();
	test_keys();
	seed = 0; /* the worst: all sources in one bucket */
	test_datagram_limit();
	test_source_limit();
	test_floods();
	seed = 0x123456789abcdef;
	test_headers();
	test_malformed();
	test_ends();
	test_overlaps();
	test_datagram_limit();
	test_source_limit();
	test_memory_limit();
	test_floods();
	test_expiry();
	test_room();
	test_idle_pages();
	test_random();
	mcr_reassembly_close(reassembly);
	model_close(&model);
	return finish();
}
