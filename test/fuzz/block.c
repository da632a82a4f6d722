/*
 * Fuzzes c/forward.c from ring memory to batch, with a real table and no
 * socket: the egresses are unavailable, so packets end in a counter. A block
 * (TPACKET_V3), or each slot (TPACKET_V2), lies in memory of exactly its size.
 *
 *   input: | frames | flags | payload bytes, 2 | cut at, 2 | edit, 3 | edit, 3 | ...
 *   edit:  | place in the block, 2 | value |
 *
 * Frames are written as the kernel would, then edited: inputs get past the
 * checks of headers from the start, and every field can lie. Slots are edited
 * as if they lay one behind the other. RTP goes on from input to input, or its
 * streams would hardly ever be recognised.
 */
#define _GNU_SOURCE
#include "../c/accounts.h"
#include "fuzz.h"
#include "relay.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#define BLOCK_HEADER_BYTES 48u
#define LINK_AT 48u
#define MAC_AT 92u
#define NET_AT 106u
#define FRAMES_MAX 4u
#define EDITS_AT 6u
#define GSO_UDP_L4 5

enum {
	MEND_CHECKSUMS = 1, /* of the IPv4 headers, after the edits */
	BY_FRAME = 2, /* slots, not a block */
	LONG = 4, /* slots whose frames lie in copies */
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

static void write_rtp(uint8_t *payload, uint32_t payload_bytes, uint32_t cut)
{
	static uint16_t sequence;
	uint32_t segment_bytes = cut ? cut : payload_bytes;

	for (uint32_t at = 0; at + MCR_RTP_HEADER_BYTES <= payload_bytes; at += segment_bytes) {
		if (segment_bytes < MCR_RTP_HEADER_BYTES)
			break;
		payload[at] = 0x80;
		payload[at + 2] = (uint8_t)(sequence >> 8);
		payload[at + 3] = (uint8_t)sequence++;
	}
}

/* Everything of a frame but its header, which the two kinds of ring write differently. */
static void write_datagram(uint8_t *base, size_t link_at, uint32_t payload_bytes, uint32_t cut,
			   bool is_rtp)
{
	const uint16_t total = htons((uint16_t)(28 + payload_bytes));
	const uint16_t udp = htons((uint16_t)(8 + payload_bytes));
	const uint8_t ip[28] = { 0x45, [8] = 4, 17, [12] = 10, 0,    0,	   1,	239,
				 1,    1,	1,  0x0f,      0xa0, 0x13, 0x89 };
	const struct sockaddr_ll link = { .sll_protocol = htons(ETH_P_IP) };
	const struct virtio_net_hdr offload = { .gso_type = cut ? GSO_UDP_L4 : 0,
						.gso_size = (uint16_t)cut };

	memcpy(base + link_at, &link, sizeof(link));
	memcpy(base + MAC_AT - sizeof(offload), &offload, sizeof(offload));
	memcpy(base + NET_AT, ip, sizeof(ip));
	memcpy(base + NET_AT + 2, &total, 2);
	memcpy(base + NET_AT + 24, &udp, 2);
	if (is_rtp)
		write_rtp(base + NET_AT + 28, payload_bytes, cut);
}

static void write_frame(uint8_t *base, uint32_t payload_bytes, uint32_t cut, bool is_rtp, bool last)
{
	const struct tpacket3_hdr header = { .tp_next_offset = last ? 0 :
								      frame_bytes(payload_bytes),
					     .tp_snaplen = NET_AT - MAC_AT + 28 + payload_bytes,
					     .tp_len = NET_AT - MAC_AT + 28 + payload_bytes,
					     .tp_mac = MAC_AT,
					     .tp_net = NET_AT };

	memcpy(base, &header, sizeof(header));
	write_datagram(base, LINK_AT, payload_bytes, cut, is_rtp);
}

static void write_slot(uint8_t *base, uint32_t payload_bytes, uint32_t cut, bool is_rtp)
{
	const struct tpacket2_hdr header = { .tp_status = TP_STATUS_USER,
					     .tp_snaplen = NET_AT - MAC_AT + 28 + payload_bytes,
					     .tp_len = NET_AT - MAC_AT + 28 + payload_bytes,
					     .tp_mac = MAC_AT,
					     .tp_net = NET_AT };

	memcpy(base, &header, sizeof(header));
	write_datagram(base, TPACKET_ALIGN(sizeof(header)), payload_bytes, cut, is_rtp);
}

/* Reads what would be sent, then counts it: the batch is consistent. */
static void finish_batch(void)
{
	volatile uint8_t sum = 0;

	require(worker->packet_count <= MCR_BATCH_PACKETS_MAX);
	for (uint32_t i = 0; i < worker->packet_count; i++)
		for (uint32_t j = 0; j < worker->packets[i].bytes; j++)
			sum = (uint8_t)(sum + worker->packets[i].payload[j]);
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

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

/* What one input says. */
struct plan {
	uint32_t frame_count, payload_bytes, cut;
	bool mends, is_long, is_rtp;
	const uint8_t *edits;
	size_t edit_bytes;
};

/* The edits of plan that fall into these bytes, which begin at `first` of all. */
static void edit(const struct plan *plan, uint8_t *bytes, size_t count, size_t first, size_t total)
{
	for (size_t at = 0; at + 3 <= plan->edit_bytes; at += 3) {
		size_t place = get16_le(plan->edits + at) % total;

		if (place >= first && place - first < count)
			bytes[place - first] = plan->edits[at + 2];
	}
}

static void gather_block(const struct plan *plan)
{
	const uint32_t stride = frame_bytes(plan->payload_bytes);
	const size_t block_bytes = BLOCK_HEADER_BYTES + plan->frame_count * (size_t)stride;
	uint8_t *memory = calloc(1, block_bytes);
	struct tpacket_block_desc *block = (void *)memory;

	require(memory != NULL);
	block->hdr.bh1.num_pkts = plan->frame_count;
	block->hdr.bh1.offset_to_first_pkt = BLOCK_HEADER_BYTES;
	for (uint32_t i = 0; i < plan->frame_count; i++)
		write_frame(memory + BLOCK_HEADER_BYTES + i * stride, plan->payload_bytes,
			    plan->cut, plan->is_rtp, i + 1 == plan->frame_count);
	edit(plan, memory, block_bytes, 0, block_bytes);
	for (uint32_t i = 0; i < plan->frame_count && plan->mends; i++)
		mend_checksum(memory + BLOCK_HEADER_BYTES + i * stride + NET_AT,
			      28 + plan->payload_bytes);
	block->hdr.bh1.num_pkts %= 256; /* more only takes time */

	mcr_block_gather(table, worker, &table->scratch[0], 0, block, block_bytes);
	finish_batch();
	free(memory);
}

/* As the kernel queues it beside the slot: from the offload header on. */
static struct mcr_copy copy_of(const uint8_t *slot, size_t slot_bytes)
{
	const size_t at = MAC_AT - sizeof(struct virtio_net_hdr);
	uint8_t *bytes = malloc(slot_bytes - at);

	require(bytes != NULL);
	memcpy(bytes, slot + at, slot_bytes - at);
	return (struct mcr_copy){ bytes, slot_bytes - at };
}

static void gather_slots(const struct plan *plan)
{
	const size_t slot_bytes = frame_bytes(plan->payload_bytes);
	uint8_t *slots[FRAMES_MAX];
	struct mcr_copy copies[FRAMES_MAX] = { 0 };

	for (uint32_t i = 0; i < plan->frame_count; i++) {
		slots[i] = calloc(1, slot_bytes);
		require(slots[i] != NULL);
		write_slot(slots[i], plan->payload_bytes, plan->cut, plan->is_rtp);
		edit(plan, slots[i], slot_bytes, i * slot_bytes, plan->frame_count * slot_bytes);
		if (plan->mends)
			mend_checksum(slots[i] + NET_AT, 28 + plan->payload_bytes);
		if (plan->is_long)
			copies[i] = copy_of(slots[i], slot_bytes);
		mcr_slot_gather(table, worker, &table->scratch[0], 0, (const void *)slots[i],
				slot_bytes, copies[i]);
	}
	finish_batch(); /* the payloads lie in the slots, or copies, until here */
	for (uint32_t i = 0; i < plan->frame_count; i++) {
		free((void *)(uintptr_t)copies[i].bytes);
		free(slots[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct plan plan;

	if (size < EDITS_AT)
		return 0;
	if (!relay)
		table_open();
	plan = (struct plan){ .frame_count = 1 + input[0] % FRAMES_MAX,
			      .payload_bytes = get16_le(input + 2) % 65508,
			      .cut = get16_le(input + 4),
			      .mends = input[1] & MEND_CHECKSUMS,
			      .is_long = input[1] & LONG,
			      .is_rtp = input[1] & IS_RTP,
			      .edits = input + EDITS_AT,
			      .edit_bytes = size - EDITS_AT };
	if (input[1] & BY_FRAME)
		gather_slots(&plan);
	else
		gather_block(&plan);
	require_accounts();
	return 0;
}
