/*
 * Fuzzes what a scan makes of frames, c/flow_table.c: several frames into one
 * small table, so that what an earlier frame left is met by a later one. Each
 * frame is a wish of its flow as well, or where packets were read.
 * Each lies in memory of exactly its size, for AddressSanitizer.
 *
 *   input: | flags | length | frame ... | flags | length | frame ... |
 */
#include "fuzz.h"
#include "flow_table.h"

enum {
	IPV6 = 1,
	IS_EGRESS = 2,
	SUPER_FRAME = 4,
	MEND_CHECKSUM = 8,
	TAGGED = 16,
	RELEASE = 32
};

#define FLOWS_MAX 8

static void hear(struct mcr_flow_table *table, uint8_t flags, const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length);
	const struct mcr_scan_state *state = mcr_flow_table_state(table);
	const struct mcr_frame frame = {
		.network = copy,
		.captured = length,
		.segment_bytes = flags & SUPER_FRAME ? 100 : 0,
		.protocol = flags & IPV6 ? ETH_P_IPV6 : ETH_P_IP,
		.vlan = flags & TAGGED ? 5 : 0,
		.packet_type = flags & IS_EGRESS ? PACKET_OUTGOING : PACKET_HOST,
		.received_ns = 1,
	};
	struct mcr_scan_wish wish = { 0 };

	require(copy != NULL);
	memcpy(copy, bytes, length);
	if (flags & MEND_CHECKSUM)
		mend_checksum(copy, length);
	mcr_flow_table_hear(table, flags >> 6, &frame);
	free(copy);
	if (flags & RELEASE)
		mcr_flow_table_release(table);
	if (length < sizeof(wish))
		return;
	memcpy(&wish, bytes, sizeof(wish));
	wish.flow %= FLOWS_MAX;
	require((mcr_flow_table_wish(table, &wish, 1) == 0) ==
		(wish.flow < state->flow_count && wish.step >= 4));
}

static void check(struct mcr_flow_table *table)
{
	const struct mcr_scan_state *state = mcr_flow_table_state(table);
	const struct mcr_scan_flow *flows = mcr_flow_table_flows(table);

	require(state->flow_count <= FLOWS_MAX);
	require(state->packet_count <= MCR_SCAN_PACKETS_MAX);
	for (uint64_t i = 0; i < state->flow_count; i++) {
		require(flows[i].packets > 0);
		require(flows[i].bytes_min <= flows[i].bytes_max);
	}
	for (uint64_t i = 0; i < state->packet_count; i++) {
		struct mcr_raw_packet head;

		memcpy(&head, mcr_flow_table_packets(table) + i * MCR_RAW_PACKET_BYTES,
		       sizeof(head));
		require(head.captured <= MCR_RAW_CAPTURED_MAX);
		require(head.payload <= head.captured);
		require(head.flow == MCR_RAW_OTHER || head.flow < state->flow_count);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const struct mcr_scan_options options = {
		.seed = 1, .flows_max = FLOWS_MAX, .samples = 2, .whole_port = 0x1111
	};
	int32_t error;
	struct mcr_flow_table *table = mcr_flow_table_open(&options, &error);

	require(table != NULL);
	while (size >= 2) {
		size_t length = input[1] < size - 2 ? input[1] : size - 2;

		hear(table, input[0], input + 2, length);
		input += 2 + length;
		size -= 2 + length;
	}
	check(table);
	mcr_flow_table_close(table);
	return 0;
}
