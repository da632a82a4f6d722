/*
 * The counting side of the instruments: payload, sequence window, RTP, MPEG-TS
 * and latency buckets, with input that is short, spoilt or hostile.
 */
#include "measure/stream.h"
#include "measure/payload.h"

#include <stdio.h>
#include <stdlib.h>

#define CLOCK 7

static struct mcr_latency_counters latency;
static struct mcr_stream_counters counters;
static struct mcr_pid pids[MCR_PIDS];
static uint64_t bits[MCR_SEQUENCE_WINDOW / 64];
static struct mcr_stream stream;
static int failures;

static void start(void)
{
	memset(&latency, 0, sizeof(latency));
	memset(&counters, 0, sizeof(counters));
	memset(pids, 0, sizeof(pids));
	stream = (struct mcr_stream){ .counters = &counters,
				      .transport.pids = pids,
				      .sequence.bits = bits };
}

static void expect(const char *what, uint64_t found, uint64_t wanted)
{
	if (found == wanted)
		return;
	printf("%s: %llu instead of %llu\n", what, (unsigned long long)found,
	       (unsigned long long)wanted);
	failures++;
}

/* In memory of its exact size, so that the sanitizer sees a byte too far. */
static void count(const uint8_t *bytes, size_t length)
{
	uint8_t *exact = malloc(length ? length : 1);

	memcpy(exact, bytes, length);
	mcr_stream_count(&stream, exact, length, CLOCK, 2000, &latency);
	free(exact);
}

static void expect_faults(const char *what, uint64_t lost, uint64_t duplicated, uint64_t reordered,
			  uint64_t corrupt)
{
	char text[128];
	const struct {
		const char *name;
		uint64_t found, wanted;
	} rows[] = { { "lost", counters.lost, lost },
		     { "duplicated", counters.duplicated, duplicated },
		     { "reordered", counters.reordered, reordered },
		     { "corrupt", counters.corrupt, corrupt } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(text, sizeof(text), "%s: %s", what, rows[i].name);
		expect(text, rows[i].found, rows[i].wanted);
	}
}

/* -- our own payload ---------------------------------------------------------- */

static void count_mcr(uint32_t id, uint64_t sequence, uint64_t sent_ns)
{
	const struct mcr_payload payload = {
		.stream = id, .sequence = sequence, .sent_ns = sent_ns, .clock = CLOCK
	};
	uint8_t bytes[100] = { 0 };

	mcr_payload_write(bytes, &payload, mcr_hash(bytes + 36, sizeof(bytes) - 36));
	count(bytes, sizeof(bytes));
}

static void test_every_flipped_bit_is_corrupt(void)
{
	const struct mcr_payload written = { .stream = 1, .sequence = 2, .sent_ns = 3, .clock = 4 };
	uint8_t bytes[97] = { 0 };
	struct mcr_payload read;

	mcr_payload_write(bytes, &written, mcr_hash(bytes + 36, sizeof(bytes) - 36));
	expect("intact", mcr_payload_read(bytes, sizeof(bytes), &read), MCR_PAYLOAD_INTACT);
	expect("sequence", read.sequence, 2);
	for (size_t bit = 32; bit < 8 * sizeof(bytes); bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		expect("flipped bit", mcr_payload_read(bytes, sizeof(bytes), &read),
		       MCR_PAYLOAD_CORRUPT);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t length = 36; length < sizeof(bytes); length++)
		expect("cut short", mcr_payload_read(bytes, length, &read), MCR_PAYLOAD_CORRUPT);
	for (size_t length = 0; length < 36; length++)
		expect("no header", mcr_payload_read(bytes, length, &read), MCR_PAYLOAD_FOREIGN);
}

static void test_sequence(void)
{
	const uint64_t numbers[] = { 5, 4, 6, 9, 9, 7, 5, 10 };

	start();
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		count_mcr(3, numbers[i], 100);
	expect_faults("4 to 10 without 8", 1, 2, 2, 0);
	count_mcr(4, 11, 100);
	expect("of another stream", counters.foreign, 1);
	count_mcr(3, 0, 200);
	count_mcr(3, 1, 200);
	expect("began anew", counters.restarts, 1);
	expect_faults("what was lost before stays lost", 1, 2, 2, 0);
	expect("latency", latency.count, 10);
}

static void test_far_jumps(void)
{
	start();
	count_mcr(0, 0, 100);
	count_mcr(0, MCR_SEQUENCE_WINDOW * 3, 100);
	expect_faults("a gap above the window", MCR_SEQUENCE_WINDOW * 3 - 1, 0, 0, 0);
	count_mcr(0, 1, 100);
	expect_faults("older than the window", MCR_SEQUENCE_WINDOW * 3 - 2, 0, 1, 0);
	count_mcr(0, UINT64_MAX, 100);
	count_mcr(0, UINT64_MAX, 100);
	expect("at the end of all numbers", counters.duplicated, 1);
}

/* -- RTP, MPEG-TS --------------------------------------------------------------- */

static void count_rtp(uint16_t sequence, uint32_t source)
{
	uint8_t bytes[20] = { 0x80, 33, (uint8_t)(sequence >> 8), (uint8_t)sequence };

	bytes[11] = (uint8_t)source;
	count(bytes, sizeof(bytes));
}

static void test_rtp(void)
{
	const uint16_t numbers[] = { 65533, 65534, 1, 65535, 1, 3 };

	start();
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		count_rtp(numbers[i], 9);
	expect("rtp is recognised", counters.kind, MCR_KIND_RTP);
	expect_faults("across the wrap, without 0 and 2", 2, 1, 1, 0);
	count_rtp(40000, 8);
	count_rtp(40001, 8);
	expect("a new source", counters.restarts, 1);
	expect("none foreign after all", counters.foreign, 0);
	expect_faults("a new source loses nothing", 2, 1, 1, 0);
	count((const uint8_t[]){ 0x80 }, 1);
	expect("a stump", counters.corrupt, 1);
}

static void test_noise_stays_unknown(void)
{
	uint8_t bytes[64];

	start();
	srand(1);
	for (int i = 0; i < 5000; i++) {
		for (size_t at = 0; at < sizeof(bytes); at++)
			bytes[at] = (uint8_t)rand();
		count(bytes, (size_t)rand() % sizeof(bytes));
	}
	expect("noise", counters.kind, MCR_KIND_UNKNOWN);
	expect("noise is counted", counters.packets, 5000);
}

static void count_ts(uint16_t pid, uint8_t flags, uint8_t adaptation)
{
	uint8_t bytes[188] = { 0x47, (uint8_t)(pid >> 8), (uint8_t)pid, flags };

	if (adaptation) {
		bytes[4] = 1;
		bytes[5] = adaptation;
	}
	bytes[10] = (uint8_t)counters.packets; /* no two alike */
	count(bytes, sizeof(bytes));
}

static void test_ts(void)
{
	start();
	count_ts(256, 0x1e, 0);
	count_ts(256, 0x1f, 0);
	count_ts(257, 0x13, 0);
	count_ts(256, 0x10, 0);
	expect("ts is recognised", counters.kind, MCR_KIND_TS);
	expect_faults("across the wrap", 0, 0, 0, 0);
	count_ts(256, 0x20, 0); /* no payload: does not count on */
	count_ts(0x1fff, 0x17, 0); /* stuffing */
	count_ts(256, 0x10, 0); /* the same once more is allowed */
	expect_faults("adaptation only, stuffing, repetition", 0, 0, 0, 0);
	count_ts(256, 0x13, 0);
	expect_faults("1 and 2 are missing", 2, 0, 0, 0);
	count_ts(256, 0x11, 0);
	expect_faults("1 came late", 1, 0, 1, 0);
	count_ts(256, 0x39, 0x80);
	expect_faults("an announced jump", 1, 0, 1, 0);
	count((const uint8_t[189]){ 0x47 }, 189);
	expect_faults("not a multiple of 188", 1, 0, 1, 1);
}

static void test_latency_buckets(void)
{
	start();
	/* now is 2000: 1000 ns are in bucket 32 * 4 + (1000 >> 4). */
	count_mcr(0, 0, 1000);
	expect("bucket of 1000 ns", latency.buckets[32 * 4 + 62], 1);
	count_mcr(0, 1, 1);
	expect("bucket of 1999 ns", latency.buckets[32 * 5 + 62], 1);
	count_mcr(0, 2, 1990);
	expect("bucket of 10 ns", latency.buckets[10], 1);
	count_mcr(0, 3, 3000);
	expect("from the future", latency.count, 3);
}

int main(void)
{
	test_every_flipped_bit_is_corrupt();
	test_sequence();
	test_far_jumps();
	test_rtp();
	test_noise_stays_unknown();
	test_ts();
	test_latency_buckets();
	return failures > 0;
}
