/*
 * Fuzzes what a scan makes of frames, c/heard.c: several frames into one set
 * of small tables, so that what an earlier frame left is met by a later one.
 * What a query ring makes of each, c/igmp.h, as well.
 * Each lies in memory of exactly its size, for AddressSanitizer.
 *
 *   input: | flags | length | frame ... | flags | length | frame ... |
 */
#include "fuzz.h"
#include "heard.h"
#include "igmp.h"

#include <linux/if_ether.h>

enum {
	IPV6 = 1,
	IS_EGRESS = 2,
	SUPER_FRAME = 4,
	MEND_CHECKSUM = 8,
	TAGGED = 16
};

#define FLOWS_MAX 8

static void hear(struct mcr_heard *heard, uint8_t flags, const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length);
	struct mcr_query query;
	struct mcr_heard_frame frame = {
		.network = copy,
		.captured = length,
		.segment_bytes = flags & SUPER_FRAME ? 100 : 0,
		.interface = flags >> 6,
		.protocol = flags & IPV6 ? ETH_P_IPV6 : ETH_P_IP,
		.vlan = flags & TAGGED ? 5 : 0,
		.is_egress = flags & IS_EGRESS,
		.time_ns = 1,
	};

	require(copy != NULL);
	memcpy(copy, bytes, length);
	if (flags & MEND_CHECKSUM)
		mend_checksum(copy, length);
	mcr_hear_frame(heard, &frame);
	if (mcr_igmp_query_read(copy, length, &query))
		require(query.version >= 1 && query.version <= 3);
	free(copy);
}

static void check(struct mcr_heard *heard)
{
	const struct mcr_scan_state *state = mcr_heard_state(heard);
	const struct mcr_scan_flow *flows = mcr_heard_flows(heard);

	require(state->flow_count <= FLOWS_MAX);
	require(state->member_count <= MCR_SCAN_MEMBERS_MAX);
	require(state->announcement_count <= MCR_SCAN_ANNOUNCEMENTS_MAX);
	for (uint64_t i = 0; i < state->flow_count; i++) {
		require(flows[i].packets > 0);
		require(flows[i].bytes_min <= flows[i].bytes_max);
		require(flows[i].kind <= MCR_SCAN_PTP);
	}
	for (uint64_t i = 0; i < state->announcement_count; i++) {
		struct mcr_scan_announcement head;

		memcpy(&head, mcr_heard_announcements(heard) + i * MCR_SCAN_ANNOUNCEMENT_BYTES,
		       sizeof(head));
		require(head.bytes <= MCR_SCAN_TEXT_BYTES);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	int32_t error;
	struct mcr_heard *heard = mcr_heard_open(FLOWS_MAX, 1, &error);

	require(heard != NULL);
	while (size >= 2) {
		size_t length = input[1] < size - 2 ? input[1] : size - 2;

		hear(heard, input[0], input + 2, length);
		input += 2 + length;
		size -= 2 + length;
	}
	check(heard);
	mcr_heard_close(heard);
	return 0;
}
