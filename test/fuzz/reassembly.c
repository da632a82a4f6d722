/*
 * Fuzzes c/reassembly.c: fragments with lying fields, clock steps, floods and releases, one after
 * the other, into it and into the model of test/c/reassembly_model.h. After each the two must have
 * the same counters, the identity of mcr.h must hold, and what is whole must be the same bytes.
 * Each fragment lies in memory of exactly its size, for AddressSanitizer.
 *
 *   input:    | step | step | ...
 *   fragment: | flags | key | offset | length |   with LIES: | where | what | where | what |
 *   other:    | OTHER, and which | how much |
 */
#include "../c/accounts.h"
#include "frame.h"
#include "fuzz.h"

/* The model is not what is fuzzed; the C test has it under the sanitizers. */
#define UNSANITIZED __attribute__((no_sanitize("coverage", "address", "undefined")))
#pragma clang attribute push(UNSANITIZED, apply_to = function)
#include "../c/reassembly_model.h"
#pragma clang attribute pop

enum {
	MORE = 1,
	LIES = 2,
	MEND_CHECKSUM = 4, /* of what lies */
	FAR = 8, /* the offset counts in 256 bytes, not in 8 */
	LONG = 16, /* so does the length */
	ODD = 32, /* of the length is one byte missing */
	OPTIONS = 64,
	OTHER = 128,
};

/* The other steps, by their first byte less OTHER: up to this. Floods cost most, so they are rare. */
enum {
	CLOCK = 40,
	RELEASE = 80,
	EXPIRE = 110,
	FLUSH = 123,
	FLOOD_OF_SOURCE = 126,
	FLOOD_OF_SOURCES = 127,
};

/* More would take most of the time. */
#define FLOODS_MAX 1
#define FLOOD_STEP 5u /* 255 of it are more datagrams than may wait */

/* Where a lie is about what the ring says: behind the 20 bytes of a header. */
#define CAPTURED_AT 20
#define WIRE_AT 21

static struct model model;
static struct mcr_interface_counters counters[MODEL_INTERFACES];
static struct mcr_reassembly *reassembly;
static int64_t now_ns;
static uint32_t salt;
static unsigned int floods;
static const uint8_t *next, *end;

static uint8_t take_byte(void)
{
	return next < end ? *next++ : 0;
}

static void compare(void)
{
	require(model_agrees(&model, counters));
	for (size_t i = 0; i < MODEL_INTERFACES; i++)
		require(counters[i].packets == accounted(&counters[i]));
	require(reassembly->whole_bytes == model.whole_bytes);
	require(reassembly->deadline_ns ==
		(model.waiting_count ? model.waiting[0]->first_ns + MCR_REASSEMBLY_WAIT_NS :
				       INT64_MAX));
}

static void give(const uint8_t *packet, size_t captured, size_t wire_bytes, uint8_t key)
{
	uint8_t *copy = malloc(captured);
	struct mcr_fragment fragment = { .ip = copy,
					 .captured = captured,
					 .wire_bytes = wire_bytes,
					 .interface = key & 1,
					 .vlan = key >> 1 & 1 };
	struct mcr_assembled assembled;
	bool whole;

	require(copy != NULL);
	memcpy(copy, packet, captured);
	mcr_reassembly_expire(reassembly, now_ns);
	whole = mcr_reassembly_take(reassembly, &fragment, now_ns, &assembled);
	require(whole == model_take(&model, &fragment, now_ns));
	free(copy);
	if (whole)
		require(model_made(&model, assembled.ip, assembled.bytes));
	compare();
}

/* Header and bytes that no other fragment has; returns the length. */
static size_t write_packet(uint8_t *packet, uint8_t flags, uint8_t key, uint32_t source,
			   uint32_t from, uint32_t bytes)
{
	uint32_t header_bytes = flags & OPTIONS ? 60 : 20, total = header_bytes + bytes;

	memset(packet, 0, header_bytes);
	packet[0] = (uint8_t)(0x40 | header_bytes / 4);
	packet[2] = (uint8_t)(total >> 8);
	packet[3] = (uint8_t)total;
	packet[5] = key >> 2 & 3;
	packet[6] = (uint8_t)((flags & MORE ? 0x20 : 0) | (from >> 11 & 0x1f));
	packet[7] = (uint8_t)(from >> 3);
	packet[9] = key & 16 ? 6 : 17;
	packet[12] = (uint8_t)(source >> 16);
	packet[13] = (uint8_t)(source >> 8);
	packet[14] = (uint8_t)source;
	packet[19] = key >> 7;
	salt = salt * 747796405u + 1;
	memset(packet + header_bytes, (int)(salt >> 24), bytes);
	for (uint32_t i = 0; i + 4 <= bytes; i += 128) {
		uint32_t mark = salt ^ i;

		memcpy(packet + header_bytes + i, &mark, sizeof(mark));
	}
	mend_checksum(packet, header_bytes);
	return total;
}

static void step_fragment(uint8_t flags)
{
	static uint8_t packet[66000];
	uint8_t key = take_byte();
	uint32_t from = take_byte() * (flags & FAR ? 256u : 8u);
	uint32_t bytes = take_byte() * (flags & LONG ? 256u : 8u);
	size_t captured, wire_bytes;

	if (flags & ODD && bytes)
		bytes--;
	captured = wire_bytes = write_packet(packet, flags, key, key >> 5 & 3, from, bytes);
	for (int i = 0; flags & LIES && i < 2; i++) {
		uint8_t where = take_byte() % (WIRE_AT + 1), what = take_byte();

		if (where == CAPTURED_AT)
			captured -= what < captured ? what : captured;
		else if (where == WIRE_AT)
			wire_bytes += what - 128u;
		else
			packet[where] ^= what;
	}
	if (flags & LIES && flags & MEND_CHECKSUM)
		mend_checksum(packet, sizeof(packet));
	if ((int64_t)wire_bytes < 0)
		wire_bytes = 0;
	give(packet, captured, wire_bytes, key);
}

/* Lone first fragments; the first source is one of those that other fragments have. */
static void flood(bool of_sources, uint8_t much)
{
	uint32_t count = of_sources ? much * FLOOD_STEP : much / 2;
	uint8_t packet[64];

	for (uint32_t i = 0; i < count; i++) {
		size_t bytes = write_packet(packet, MORE, 0, of_sources ? i : 0, 0, 8);

		packet[4] = (uint8_t)(i + 1);
		mend_checksum(packet, bytes);
		give(packet, bytes, bytes, 0);
	}
}

static void step_other(uint8_t kind)
{
	uint8_t much = take_byte();

	if (kind <= CLOCK) {
		now_ns += much * 20000000ll;
	} else if (kind <= RELEASE) {
		mcr_reassembly_release(reassembly);
		model_release(&model);
	} else if (kind <= EXPIRE) {
		mcr_reassembly_expire(reassembly, now_ns);
		model_expire(&model, now_ns);
	} else if (kind <= FLUSH) {
		mcr_reassembly_flush(reassembly);
		model_expire(&model, INT64_MAX);
	} else if (floods++ < FLOODS_MAX) {
		flood(kind == FLOOD_OF_SOURCES, much);
	}
	compare();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	reassembly = mcr_reassembly_open(counters, 0x9e3779b97f4a7c15u);
	require(reassembly != NULL);
	model_prepare(&model);
	memset(counters, 0, sizeof(counters));
	memset(model.counters, 0, sizeof(model.counters));
	model_release(&model);
	now_ns = 1;
	salt = 1;
	floods = 0;
	next = input;
	end = input + size;
	while (next < end) {
		uint8_t flags = take_byte();

		if (flags & OTHER)
			step_other(flags & 127);
		else
			step_fragment(flags);
	}
	mcr_reassembly_flush(reassembly);
	model_expire(&model, INT64_MAX);
	compare();
	require(model.waiting_count == 0);
	mcr_reassembly_close(reassembly);
	return 0;
}
