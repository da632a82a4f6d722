/*
 * c/frame.h: what parses, what is refused and as what, and that nothing beyond
 * the captured bytes is read: every frame lies in memory of exactly its size,
 * so AddressSanitizer sees the first byte too many.
 */
#define _GNU_SOURCE
#include "frame.h"

#include "check.h"

/* 10.0.0.1:4000 -> 239.1.1.1:5001, "mcr!" */
static const uint8_t good[] = {
	0x45, 0x00, 0x00, 0x20, /* version 4, IHL 5 | TOS | total length 32 */
	0x12, 0x34, 0x00, 0x00, /* identification | flags and fragment offset */
	0x04, 0x11, 0x00, 0x00, /* TTL 4 | UDP | header checksum, see mend() */
	0x0a, 0x00, 0x00, 0x01, /* source */
	0xef, 0x01, 0x01, 0x01, /* destination */
	0x0f, 0xa0, 0x13, 0x89, /* port 4000 -> 5001 */
	0x00, 0x0c, 0x00, 0x00, /* UDP length 12 | UDP checksum, see mend() */
	'm',  'c',  'r',  '!',
};

/* Offsets in it. */
enum {
	AT_IP_VERSION_IHL = 0,
	AT_IP_TOTAL_LENGTH = 2,
	AT_IP_FRAGMENT = 6,
	AT_IP_PROTOCOL = 9,
	AT_IP_CHECKSUM = 10,
	AT_IP_SOURCE = 12,
	AT_UDP_LENGTH = 24, /* behind an IPv4 header without options */
	AT_UDP_CHECKSUM = 26,
	AT_PAYLOAD = 28
};

/* RFC 1071 by the letter: 16-bit words in network order, end-around carry. */
static uint16_t naive_sum(const uint8_t *bytes, size_t count, uint32_t sum)
{
	for (size_t i = 0; i < count; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void put16(uint8_t *bytes, unsigned int value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

/* Both checksums right, as far as the lengths lie inside the frame. */
static void mend(uint8_t *frame, size_t bytes)
{
	size_t header_bytes = (frame[AT_IP_VERSION_IHL] & 0x0fu) * 4;
	uint8_t *udp = frame + header_bytes;
	uint32_t udp_bytes;

	if (header_bytes < 20 || header_bytes + 8 > bytes)
		return;
	put16(frame + AT_IP_CHECKSUM, 0);
	put16(frame + AT_IP_CHECKSUM, (uint16_t)~naive_sum(frame, header_bytes, 0));
	udp_bytes = mcr_get16(udp + 4);
	put16(udp + 6, 0);
	if (header_bytes + udp_bytes <= bytes)
		put16(udp + 6,
		      (uint16_t)~naive_sum(udp, udp_bytes,
					   naive_sum(frame + AT_IP_SOURCE, 8, 17 + udp_bytes)));
}

/* A copy of exactly these bytes is parsed. */
static enum mcr_verdict parse(const uint8_t *frame, size_t captured, size_t wire_bytes,
			      bool checksum_known, struct mcr_datagram *datagram)
{
	uint8_t *copy = malloc(captured);
	enum mcr_verdict verdict;

	if (captured)
		memcpy(copy, frame, captured);
	verdict = mcr_frame_parse(copy, captured, wire_bytes, checksum_known, datagram);
	if (verdict == MCR_FRAME_OK &&
	    (datagram->payload < copy ||
	     datagram->payload + datagram->payload_bytes > copy + captured))
		EXPECT(0, 1); /* the payload lies outside of the frame */
	free(copy);
	return verdict;
}

enum when {
	AS_IS,
	MENDED
}; /* checksums mended after the edit, or not */

struct row {
	const char *name;
	size_t at; /* this 16-bit word of the good frame ... */
	unsigned int value; /* ... becomes this */
	enum when when;
	enum mcr_verdict verdict;
};

static const struct row edits[] = {
	{ "good", AT_IP_TOTAL_LENGTH, 32, MENDED, MCR_FRAME_OK },
	{ "don't fragment is no fragment", AT_IP_FRAGMENT, 0x4000, MENDED, MCR_FRAME_OK },
	{ "more fragments", AT_IP_FRAGMENT, 0x2000, MENDED, MCR_FRAME_FRAGMENT },
	{ "last fragment, smallest offset", AT_IP_FRAGMENT, 0x0001, MENDED, MCR_FRAME_FRAGMENT },
	{ "last fragment, largest offset", AT_IP_FRAGMENT, 0x1fff, MENDED, MCR_FRAME_FRAGMENT },
	{ "IHL 4", AT_IP_VERSION_IHL, 0x4400, MENDED, MCR_FRAME_MALFORMED },
	{ "IHL 0", AT_IP_VERSION_IHL, 0x4000, MENDED, MCR_FRAME_MALFORMED },
	{ "IHL 7, no room for the UDP header", AT_IP_VERSION_IHL, 0x4700, AS_IS,
	  MCR_FRAME_MALFORMED },
	{ "version 6", AT_IP_VERSION_IHL, 0x6500, MENDED, MCR_FRAME_MALFORMED },
	{ "TCP", AT_IP_PROTOCOL - 1, 0x0406, MENDED, MCR_FRAME_MALFORMED },
	{ "total length below the headers", AT_IP_TOTAL_LENGTH, 27, MENDED, MCR_FRAME_MALFORMED },
	{ "total length 0", AT_IP_TOTAL_LENGTH, 0, MENDED, MCR_FRAME_MALFORMED },
	{ "total length beyond the wire", AT_IP_TOTAL_LENGTH, 33, MENDED, MCR_FRAME_MALFORMED },
	{ "total length 65535", AT_IP_TOTAL_LENGTH, 65535, MENDED, MCR_FRAME_MALFORMED },
	{ "total length cuts the datagram", AT_IP_TOTAL_LENGTH, 31, MENDED, MCR_FRAME_MALFORMED },
	{ "UDP length 7", AT_UDP_LENGTH, 7, MENDED, MCR_FRAME_MALFORMED },
	{ "UDP length 0", AT_UDP_LENGTH, 0, MENDED, MCR_FRAME_MALFORMED },
	{ "UDP length beyond IP's", AT_UDP_LENGTH, 13, MENDED, MCR_FRAME_MALFORMED },
	{ "UDP length 65535", AT_UDP_LENGTH, 65535, MENDED, MCR_FRAME_MALFORMED },
	{ "UDP length below IP's", AT_UDP_LENGTH, 11, MENDED, MCR_FRAME_OK },
	{ "bad IP checksum", AT_IP_CHECKSUM, 0x1234, AS_IS, MCR_FRAME_BAD_CHECKSUM },
	{ "IP checksum 0", AT_IP_CHECKSUM, 0, AS_IS, MCR_FRAME_BAD_CHECKSUM },
	{ "bad UDP checksum", AT_UDP_CHECKSUM, 0x1234, AS_IS, MCR_FRAME_BAD_CHECKSUM },
	{ "UDP checksum 0: none", AT_UDP_CHECKSUM, 0, AS_IS, MCR_FRAME_OK },
	{ "changed payload", AT_PAYLOAD, 0x6d64, AS_IS, MCR_FRAME_BAD_CHECKSUM },
};

static void test_edits(void)
{
	for (size_t i = 0; i < COUNT(edits); i++) {
		const struct row *row = &edits[i];
		struct mcr_datagram datagram;
		uint8_t frame[sizeof(good)];

		begin("%s", row->name);
		memcpy(frame, good, sizeof(good));
		mend(frame, sizeof(frame));
		put16(frame + row->at, row->value);
		if (row->when == MENDED)
			mend(frame, sizeof(frame));
		EXPECT(parse(frame, sizeof(frame), sizeof(frame), false, &datagram), row->verdict);
	}
}

static void test_fields(void)
{
	static const uint8_t mapped_source[16] = { [10] = 0xff, [11] = 0xff, 10, 0, 0, 1 };
	static const uint8_t mapped_group[16] = { [10] = 0xff, [11] = 0xff, 239, 1, 1, 1 };
	struct mcr_datagram datagram;
	uint8_t frame[sizeof(good)];

	begin("the fields of the good datagram");
	memcpy(frame, good, sizeof(good));
	mend(frame, sizeof(frame));
	EXPECT(mcr_frame_parse(frame, sizeof(frame), sizeof(frame), false, &datagram),
	       MCR_FRAME_OK);
	EXPECT(memcmp(datagram.source, mapped_source, 16), 0);
	EXPECT(memcmp(datagram.destination, mapped_group, 16), 0);
	EXPECT(datagram.port, 5001);
	EXPECT(datagram.payload - frame, AT_PAYLOAD);
	EXPECT(datagram.payload_bytes, 4);
}

/* The checksum of a sender that left it to a device: the pseudo header only. */
static void test_partial_checksum(void)
{
	struct mcr_datagram datagram;
	uint8_t frame[sizeof(good)];

	memcpy(frame, good, sizeof(good));
	mend(frame, sizeof(frame));
	put16(frame + AT_UDP_CHECKSUM, naive_sum(frame + AT_IP_SOURCE, 8, 17 + 12));
	begin("partial checksum, and the kernel says so");
	EXPECT(parse(frame, sizeof(frame), sizeof(frame), true, &datagram), MCR_FRAME_OK);
	begin("partial checksum, and nobody says so");
	EXPECT(parse(frame, sizeof(frame), sizeof(frame), false, &datagram),
	       MCR_FRAME_BAD_CHECKSUM);
	begin("a checksum known to be good excuses no bad IP header");
	put16(frame + AT_IP_CHECKSUM, 0x1234);
	EXPECT(parse(frame, sizeof(frame), sizeof(frame), true, &datagram), MCR_FRAME_BAD_CHECKSUM);
}

/* IPv4 header of ihl words, payload of these many bytes 1, 2, 3 ...; its length. */
static size_t build(uint8_t *frame, unsigned int ihl, size_t payload_bytes)
{
	size_t header_bytes = ihl * 4, total_bytes = header_bytes + 8 + payload_bytes;

	memcpy(frame, good, 20);
	memset(frame + 20, 1, header_bytes - 20); /* options: no operation */
	memcpy(frame + header_bytes, good + 20, 8);
	for (size_t i = 0; i < payload_bytes; i++)
		frame[header_bytes + 8 + i] = (uint8_t)(i + 1);
	frame[AT_IP_VERSION_IHL] = (uint8_t)(0x40 | ihl);
	put16(frame + AT_IP_TOTAL_LENGTH, (unsigned int)total_bytes);
	put16(frame + header_bytes + 4, (unsigned int)(8 + payload_bytes));
	mend(frame, total_bytes);
	return total_bytes;
}

static void test_sizes(void)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 7, 8, 9, 1023, 1024, 1472, 65535 - 60 - 8 };
	static uint8_t frame[65535 + 64];

	for (unsigned int ihl = 5; ihl <= 15; ihl++) {
		for (size_t i = 0; i < COUNT(sizes); i++) {
			size_t bytes = build(frame, ihl, sizes[i]);
			struct mcr_datagram datagram = { 0 };

			begin("IHL %u, payload %zu", ihl, sizes[i]);
			EXPECT(parse(frame, bytes, bytes, false, &datagram), MCR_FRAME_OK);
			EXPECT(datagram.payload_bytes, sizes[i]);
			begin("IHL %u, payload %zu, padding behind", ihl, sizes[i]);
			memset(frame + bytes, 0xee, 18);
			EXPECT(parse(frame, bytes + 18, bytes + 18, false, &datagram),
			       MCR_FRAME_OK);
			EXPECT(datagram.payload_bytes, sizes[i]);
			begin("IHL %u, payload %zu, last byte flipped", ihl, sizes[i]);
			frame[bytes - 1] ^= 0x01;
			EXPECT(parse(frame, bytes, bytes, false, &datagram),
			       MCR_FRAME_BAD_CHECKSUM);
		}
	}
}

static void test_prefixes(void)
{
	struct mcr_datagram datagram;
	uint8_t frame[128];

	for (unsigned int ihl = 5; ihl <= 15; ihl += 5) {
		size_t bytes = build(frame, ihl, 11);

		for (size_t captured = 0; captured < bytes; captured++) {
			begin("IHL %u, %zu of %zu bytes captured", ihl, captured, bytes);
			EXPECT(parse(frame, captured, bytes, false, &datagram),
			       MCR_FRAME_TRUNCATED);
			begin("IHL %u, a runt of %zu bytes", ihl, captured);
			EXPECT(parse(frame, captured, captured, false, &datagram),
			       MCR_FRAME_MALFORMED);
		}
	}
}

/* No expectation but that nothing is read beyond the frame: parse() and ASan. */
static void test_damage(void)
{
	struct mcr_datagram datagram;
	uint64_t random = 1;
	uint8_t frame[128];

	begin("100,000 damaged frames");
	for (int i = 0; i < 100000; i++) {
		size_t bytes = build(frame, 5 + random32(&random) % 11, random32(&random) % 32);
		size_t captured = random32(&random) % 4 ? bytes : random32(&random) % bytes;

		for (uint32_t edit = random32(&random) % 4; edit > 0; edit--)
			frame[random32(&random) % bytes] = (uint8_t)random32(&random);
		if (random32(&random) % 2)
			mend(frame, bytes);
		parse(frame, captured, bytes, random32(&random) % 2, &datagram);
	}
}

static void test_segment_count(void)
{
	static const uint32_t rows[][3] = {
		/* payload, segment, datagrams */
		{ 0, 0, 1 },	     { 1000, 0, 1 },	  { 0, 100, 1 },       { 99, 100, 1 },
		{ 100, 100, 1 },     { 101, 100, 2 },	  { 200, 100, 2 },     { 201, 100, 3 },
		{ 65507, 1, 65507 }, { 65507, 65507, 1 }, { 65507, 65535, 1 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		begin("payload %u cut at %u", rows[i][0], rows[i][1]);
		EXPECT(mcr_segment_count(rows[i][0], rows[i][1]), rows[i][2]);
	}
}

static void test_sum(void)
{
	uint8_t bytes[1501];
	uint64_t random = 2;

	for (size_t count = 0; count <= sizeof(bytes); count++) {
		/* Every fourth buffer is all ones, where each addition carries. */
		for (size_t i = 0; i < count; i++)
			bytes[i] = count % 4 ? (uint8_t)random32(&random) : 0xff;
		begin("sum of %zu bytes", count);
		EXPECT(ntohs(mcr_fold(mcr_sum(bytes, count, 0))), naive_sum(bytes, count, 0));
		begin("sum of %zu bytes in two parts", count);
		size_t first = count / 2 & ~(size_t)1;
		uint64_t sum = mcr_sum(bytes, first, 0);

		EXPECT(ntohs(mcr_fold(mcr_sum(bytes + first, count - first, sum))),
		       naive_sum(bytes, count, 0));
	}
}

int main(void)
{
	test_edits();
	test_fields();
	test_partial_checksum();
	test_sizes();
	test_prefixes();
	test_damage();
	test_segment_count();
	test_sum();
	return finish();
}
