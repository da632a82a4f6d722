/*
 * Fuzzes c/stream.c and c/transport.c: datagrams of one stream, one after the
 * other, each in memory of exactly its size.
 *
 *   input:    | datagram | datagram | ...
 *   datagram: | flags | length, 2 | bytes ... |
 *
 * An mcr payload gets its check mended where the flags say so, and a transport
 * packet its sync bytes: else hardly an input would come behind them.
 */
#include "fuzz.h"
#include "measure/stream.h"
#include "measure/payload.h"

#define TS_PACKET_BYTES 188
#define CLOCK 7

enum {
	MEND_PAYLOAD = 1,
	MEND_TRANSPORT = 2,
};

static struct mcr_latency_counters latency;
static struct mcr_stream_counters counters;
static struct mcr_pid pids[MCR_PIDS];
static uint64_t bits[MCR_SEQUENCE_WINDOW / 64];

static void mend(uint8_t *bytes, size_t length, uint8_t flags)
{
	if (flags & MEND_PAYLOAD && length >= MCR_PAYLOAD_HEADER_BYTES) {
		memcpy(bytes, "mcr1", 4);
		mcr_store32(bytes + 32,
			    mcr_payload_check(bytes, mcr_hash(bytes + MCR_PAYLOAD_HEADER_BYTES,
							      length - MCR_PAYLOAD_HEADER_BYTES)));
	}
	for (size_t at = 0; flags & MEND_TRANSPORT && at < length; at += TS_PACKET_BYTES)
		bytes[at] = 0x47;
}

/* Each datagram is in at most one of the counters, so their sum stays below; nothing goes below zero. */
static void require_counts(uint64_t packets, uint64_t bytes)
{
	const struct mcr_stream_counters *c = &counters;
	uint64_t transport_packets = bytes / TS_PACKET_BYTES;

	require(c->packets == packets && c->bytes == bytes);
	require(c->duplicated <= packets && c->corrupt <= packets && c->foreign <= packets);
	require(c->duplicated + c->corrupt + c->foreign <= packets);
	require(c->reordered <= packets && c->restarts <= packets);
	require(latency.count <= packets);
	if (c->kind == MCR_KIND_TS)
		require(c->lost <= 15 * transport_packets);
	if (c->kind == MCR_KIND_UNKNOWN)
		require(c->lost + c->duplicated + c->reordered + c->corrupt == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct mcr_stream stream = { .counters = &counters,
				     .transport.pids = pids,
				     .sequence.bits = bits };
	uint64_t packets = 0, bytes = 0;

	memset(&latency, 0, sizeof(latency));
	memset(&counters, 0, sizeof(counters));
	memset(pids, 0, sizeof(pids));
	memset(bits, 0, sizeof(bits));
	while (size >= 3) {
		uint8_t flags = input[0];
		size_t length = input[1] | (size_t)input[2] << 8;
		uint8_t *datagram;

		input += 3;
		size -= 3;
		if (length > size)
			length = size;
		datagram = malloc(length ? length : 1);
		require(datagram != NULL);
		memcpy(datagram, input, length);
		mend(datagram, length, flags);
		mcr_stream_count(&stream, datagram, length, CLOCK, 1000 + packets, &latency);
		free(datagram);
		input += length;
		size -= length;
		bytes += length;
		require_counts(++packets, bytes);
	}
	return 0;
}
