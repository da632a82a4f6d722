/*
 * Fuzzes c/ring.h and c/forward.c from ring memory to batch, with a real table
 * and no socket: the egresses are unavailable, so packets end in a counter.
 *
 *   input: | frames | flags | payload bytes, 2 | cut at, 2 | incomplete | edit, 3 | edit, 3 | ...
 *   edit:  | place in the block, 2 | value |
 *
 * The block is filled as the kernel would fill it, over what lay there a lap
 * ago: whole frames of another stream, none of which may be relayed again. Then
 * it is edited: inputs get past the checks of headers from the start, and every
 * field can lie. It ends where its memory does, so that AddressSanitizer sees
 * each byte read behind it. RTP goes on from input to input, or its streams
 * would hardly ever be recognised.
 */
#define _GNU_SOURCE
#include "../c/accounts.h"
#include "fuzz.h"
#include "relay.h"

#include <arpa/inet.h>

#define BLOCK_HEADER_BYTES 48u
#define LINK_AT 48u
#define MAC_AT 92u
#define NET_AT 106u
#define FRAMES_MAX 8u
#define EDITS_AT 7u
/* In bytes the long frame needs the most. */
_Static_assert(FRAMES_MAX *(NET_AT + 28 + 1472 + 8) < 65507, "a long frame needs the most");
/* What a frame of the lap before holds, from its first byte to its last. */
#define STALE_BYTE 0xee

enum {
	MEND_CHECKSUMS = 1, /* of the IPv4 headers, after the edits */
	LONG = 2, /* one frame, as long as an IP datagram can be */
	FRAGMENTS = 4, /* of one datagram, in order */
	IS_RTP = 8, /* every datagram, with numbers in a row */
};

static struct mcr_relay *relay;
static struct mcr_worker *worker;
static struct mcr_table *table;

/* Flow 0: 239.1.1.1:5001; flow 1: the same group, any port; flow 2: VLAN 7. */
static void table_open(void)
{
	struct mcr_match_spec matches[] = { { .port = 5001, .flow = 0 },
					    { .port = 0, .flow = 1 },
					    { .port = 5001, .vlan = 7, .flow = 2 } };
	const struct mcr_flow_spec flows[] = { { .rule = 0, .action_count = 1 },
					       { .rule = 1, .action_count = 2 },
					       { .rule = 2, .action_count = 0 } };
	struct mcr_action_spec actions[] = { { .port = 6001, .egress = 0 }, { .egress = 1 } };
	const struct mcr_egress_spec egresses[] = { { .fd = -1, .slot = 0 },
						    { .fd = -1, .slot = 1 } };
	const struct mcr_table_spec spec = { .matches = matches,
					     .flows = flows,
					     .actions = actions,
					     .egresses = egresses,
					     .match_count = 3,
					     .flow_count = 3,
					     .action_count = 2,
					     .egress_count = 2,
					     .epoch = 1 };
	static const uint8_t group[16] = { [10] = 0xff, [11] = 0xff, 239, 1, 1, 1 };
	int32_t error;

	for (int i = 0; i < 3; i++)
		memcpy(matches[i].address, group, sizeof(group));
	for (int i = 0; i < 2; i++)
		memcpy(actions[i].address, group, sizeof(group));
	relay = mcr_relay_open(1, &error);
	require(relay != NULL);
	worker = &relay->workers[0];
	table = mcr_table_build(relay, &spec, &error);
	require(table != NULL);
}

static uint32_t frame_bytes(uint32_t payload_bytes)
{
	return (NET_AT + 28 + payload_bytes + 7) / 8 * 8;
}

static uint32_t get16_le(const uint8_t *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8;
}

/* What one input says. */
struct plan {
	uint32_t frame_count, payload_bytes, cut;
	uint8_t flags, incomplete;
	const uint8_t *edits;
	size_t edit_bytes;
};

static void write_rtp(uint8_t *payload, const struct plan *plan)
{
	static uint16_t sequence;
	uint32_t segment_bytes = plan->cut ? plan->cut : plan->payload_bytes;

	for (uint32_t at = 0; at + MCR_RTP_HEADER_BYTES <= plan->payload_bytes;
	     at += segment_bytes) {
		if (segment_bytes < MCR_RTP_HEADER_BYTES)
			break;
		payload[at] = 0x80;
		payload[at + 2] = (uint8_t)(sequence >> 8);
		payload[at + 3] = (uint8_t)sequence++;
	}
}

static void write_datagram(uint8_t *base, const struct plan *plan, uint32_t index, uint8_t fill)
{
	const uint16_t total = htons((uint16_t)(28 + plan->payload_bytes));
	const uint16_t udp = htons((uint16_t)(8 + plan->payload_bytes));
	const uint8_t ip[28] = { 0x45, [8] = 4, 17, [12] = 10, 0,    0,	   1,	239,
				 1,    1,	1,  0x0f,      0xa0, 0x13, 0x89 };
	const struct sockaddr_ll link = { .sll_protocol = htons(ETH_P_IP) };
	const struct virtio_net_hdr offload = { .gso_type = plan->cut ? VIRTIO_NET_HDR_GSO_UDP_L4 :
									0,
						.gso_size = (uint16_t)plan->cut };

	memcpy(base + LINK_AT, &link, sizeof(link));
	memcpy(base + MAC_AT - sizeof(offload), &offload, sizeof(offload));
	memcpy(base + NET_AT, ip, sizeof(ip));
	memcpy(base + NET_AT + 2, &total, 2);
	memcpy(base + NET_AT + 24, &udp, 2);
	memset(base + NET_AT + 28, fill, plan->payload_bytes);
	if (plan->flags & FRAGMENTS) {
		const uint32_t units = (8 + plan->payload_bytes) / 8;
		const uint16_t flags =
			htons((uint16_t)((index + 1 < plan->frame_count ? 0x2000 : 0) |
					 (index * units & 0x1fff)));

		memcpy(base + NET_AT + 6, &flags, 2);
	}
	if (plan->flags & IS_RTP && fill != STALE_BYTE)
		write_rtp(base + NET_AT + 28, plan);
}

/* As the kernel does: of a frame that it cannot describe only the way to the next. */
static void write_frame(uint8_t *base, const struct plan *plan, uint32_t index, uint8_t fill,
			bool is_complete)
{
	struct tpacket3_hdr *header = (void *)base;

	header->tp_next_offset = index + 1 == plan->frame_count ? 0 :
								  frame_bytes(plan->payload_bytes);
	header->tp_status = 0;
	if (!is_complete)
		return;
	*header = (struct tpacket3_hdr){ .tp_next_offset = header->tp_next_offset,
					 .tp_status = TP_STATUS_USER,
					 .tp_snaplen = NET_AT - MAC_AT + 28 + plan->payload_bytes,
					 .tp_len = NET_AT - MAC_AT + 28 + plan->payload_bytes,
					 .tp_mac = MAC_AT,
					 .tp_net = NET_AT };
	write_datagram(base, plan, index, fill);
}

/* Reads what would be sent, then counts it: the batch is consistent. */
static void finish_batch(bool is_edited)
{
	volatile uint8_t sum = 0;

	require(worker->packet_count <= MCR_BATCH_PACKETS_MAX);
	for (uint32_t i = 0; i < worker->packet_count; i++) {
		const struct mcr_packet *packet = &worker->packets[i];

		for (uint32_t j = 0; j < packet->bytes; j++)
			sum = (uint8_t)(sum + packet->payload[j]);
		/* Not by an edit, which may complete what the kernel has not. */
		require(is_edited || packet->bytes == 0 || packet->payload[0] != STALE_BYTE);
	}
	mcr_batch_send(table, worker, &table->scratch[0]);
	require(worker->packet_count == 0);
}

/* mcr.h, "Accounting". */
static void require_accounts(void)
{
	const struct mcr_interface_counters *c = &worker->interfaces[0];
	const struct mcr_rule_counters *rules = worker->rules;

	require(c->packets == accounted(c));
	require(c->matched == rules[0].packets + rules[1].packets + rules[2].packets);
	require(worker->egresses[0].unavailable_packets == rules[0].packets + rules[1].packets);
	require(worker->egresses[1].unavailable_packets == rules[1].packets);
	for (int i = 0; i < 3; i++) {
		require(rules[i].rtp_packets <= rules[i].packets);
		require(rules[i].rtp_reordered + rules[i].rtp_duplicate <= rules[i].rtp_packets);
		/* A jump this long at most for each of them. */
		require(rules[i].rtp_missing <= rules[i].rtp_packets * MCR_RTP_DISTANCE_MAX);
	}
}

static void gather_block(const struct plan *plan, uint8_t *block, size_t block_bytes)
{
	const uint32_t stride = frame_bytes(plan->payload_bytes);
	struct tpacket_hdr_v1 *header = &((struct tpacket_block_desc *)(void *)block)->hdr.bh1;
	const uint64_t undescribed = worker->interfaces[0].undescribed;
	uint32_t incomplete = 0;

	for (uint32_t lap = 0; lap < 2; lap++)
		for (uint32_t i = 0; i < plan->frame_count; i++)
			write_frame(block + BLOCK_HEADER_BYTES + i * stride, plan, i,
				    lap ? 1 : STALE_BYTE, lap == 0 || !(plan->incomplete >> i & 1));
	header->num_pkts = plan->frame_count;
	header->offset_to_first_pkt = BLOCK_HEADER_BYTES;
	for (size_t at = 0; at + 3 <= plan->edit_bytes; at += 3)
		block[get16_le(plan->edits + at) % block_bytes] = plan->edits[at + 2];
	for (uint32_t i = 0; i < plan->frame_count; i++) {
		if (plan->flags & MEND_CHECKSUMS)
			mend_checksum(block + BLOCK_HEADER_BYTES + i * stride + NET_AT,
				      28 + plan->payload_bytes);
		incomplete += plan->incomplete >> i & 1;
	}
	header->num_pkts %= 256; /* more only takes time */

	mcr_block_gather(table, worker, &table->scratch[0], 0,
			 mcr_block_read(block, block_bytes, true));
	require(plan->edit_bytes >= 3 ||
		worker->interfaces[0].undescribed == undescribed + incomplete);
	finish_batch(plan->edit_bytes >= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	static uint8_t *memory;
	static size_t memory_bytes;
	struct plan plan;
	size_t block_bytes;

	if (size < EDITS_AT)
		return 0;
	if (!relay) {
		table_open();
		memory_bytes = BLOCK_HEADER_BYTES +
			       frame_bytes(65507); /* longer than FRAMES_MAX of the others */
		memory = calloc(1, memory_bytes);
		require(memory != NULL);
	}
	plan = (struct plan){ .frame_count = 1 + input[0] % FRAMES_MAX,
			      .payload_bytes = get16_le(input + 2) % 1473,
			      .cut = get16_le(input + 4),
			      .flags = input[1],
			      .incomplete = input[6],
			      .edits = input + EDITS_AT,
			      .edit_bytes = size - EDITS_AT };
	if (plan.flags & LONG) {
		plan.frame_count = 1;
		plan.payload_bytes = get16_le(input + 2) % 65508;
	}
	if (plan.flags & FRAGMENTS)
		plan.payload_bytes &= ~7u;
	block_bytes =
		BLOCK_HEADER_BYTES + plan.frame_count * (size_t)frame_bytes(plan.payload_bytes);
	gather_block(&plan, memory + memory_bytes - block_bytes, block_bytes);
	require_accounts();
	return 0;
}
