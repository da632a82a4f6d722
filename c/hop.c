/*
 * Rows of marked frames, and what is concluded from them: hop.h.
 */
#define _GNU_SOURCE
#include "hop.h"

#include <stddef.h>

/* About a millisecond; 32 bits of it are 52 days. */
#define TICK_SHIFT 20
/* A row without a frame for so long, about 1 s, gives its place to whoever comes. */
#define SILENT_TICKS 1000u
/*
 * Beginnings that a frame costs that is marked and not sound. The first piece of a super-frame may be
 * lost, so it does not end a row; but where low bits are chance, few are beginnings and half are not
 * sound.
 */
#define UNSOUND_COST 1u
/* Beyond MCR_HOP_ROW, for those: a row that is known stays so. */
#define FRAMES_MAX (MCR_HOP_ROW + 64)

static uint32_t ticks_of(uint64_t received_ns)
{
	return (uint32_t)(received_ns >> TICK_SHIFT);
}

/* Its place in the set, or MCR_HOP_WAYS. */
static uint32_t way_find(const struct mcr_hops *hops, uint32_t set, const struct mcr_hop_key *key,
			 uint32_t tag)
{
	uint32_t way = 0;

	while (way < MCR_HOP_WAYS &&
	       (hops->table->tags[set][way] != tag ||
		memcmp(&hops->table->rows[set][way].key, key, sizeof(*key)) != 0))
		way++;
	return way;
}

/* The place that is worth least; MCR_HOP_WAYS when all belong to known rows that go on. */
static uint32_t way_for_new(const struct mcr_hops *hops, uint32_t set, uint32_t ticks)
{
	uint32_t least = MCR_HOP_ROW + 1, found = MCR_HOP_WAYS;

	for (uint32_t way = 0; way < MCR_HOP_WAYS; way++) {
		const struct mcr_hop_row *row = &hops->table->rows[set][way];
		uint32_t worth = row->frames;

		if (hops->table->tags[set][way] == 0)
			return way;
		if (ticks - row->seen_ticks >= SILENT_TICKS)
			worth = 0;
		if (worth < least) {
			least = worth;
			found = way;
		}
	}
	return found;
}

/*
 * As mcr sends them: a message begins at 0, and its pieces have its number and count up. Some of
 * them may be lost: a loop fills what it runs through.
 */
static bool is_sound(const struct mcr_hop_frame *frame, const struct mcr_hop_row *row,
		     uint8_t number)
{
	const uint32_t low = frame->identification & MCR_HOP_LOW_MASK;

	return low == 0 ||
	       (frame->segments == 1 && row && low > row->last && number == row->number_last);
}

/* The row without so much; false: nothing is left of it. */
static bool row_discount(struct mcr_hop_row *row)
{
	row->frames = row->frames > UNSOUND_COST ? (uint16_t)(row->frames - UNSOUND_COST) : 0;

	return row->frames > 0;
}

/* It has had the highest number, and two others. */
static bool is_loop(const struct mcr_hop_row *row)
{
	const uint32_t others = row->numbers & ((1u << MCR_HOP_MAX) - 1);

	return row->numbers >> MCR_HOP_MAX && others & (others - 1);
}

/* One more frame of a known row; true: it has come back. */
static bool is_returned(struct mcr_hop_row *row, uint8_t number, uint64_t received_ns)
{
	if (row->is_suspected && received_ns - row->many_ns > MCR_HOP_CALM_NS) {
		row->is_suspected = false;
		row->numbers = (uint8_t)(1u << number);
	}
	if (!row->is_suspected && is_loop(row)) {
		row->is_suspected = true;
		row->many_ns = received_ns;
	}
	if (!row->is_suspected || number < MCR_HOP_MANY)
		return false;
	row->many_ns = received_ns;
	return true;
}

uint8_t mcr_hops_judge(struct mcr_hops *hops, const struct mcr_hop_frame *frame, uint64_t hash,
		       uint64_t received_ns, bool *is_looped)
{
	const uint8_t number = frame->is_atomic ? mcr_hop_number(frame->identification) : 0;
	const uint32_t set = hash & (MCR_HOP_SETS - 1), ticks = ticks_of(received_ns);
	uint32_t way = way_find(hops, set, &frame->key, mcr_hop_tag(hash));
	struct mcr_hop_row *row = way < MCR_HOP_WAYS ? &hops->table->rows[set][way] : NULL;
	const bool sound = number && is_sound(frame, row, number);
	const bool begins = number && (frame->identification & MCR_HOP_LOW_MASK) == 0;

	if (!sound && (!row || !number || !row_discount(row))) {
		if (row) {
			hops->table->tags[set][way] = 0;
			hops->row_count--;
		}
		return 1;
	}
	if (!row) {
		way = way_for_new(hops, set, ticks);
		if (way == MCR_HOP_WAYS)
			return 1;
		row = &hops->table->rows[set][way];
		*row = (struct mcr_hop_row){ .key = frame->key };
		hops->row_count += hops->table->tags[set][way] == 0;
		hops->table->tags[set][way] = mcr_hop_tag(hash);
	}
	row->seen_ticks = ticks;
	/* Behind a super-frame a message begins. */
	row->last = frame->segments > 1 ? MCR_HOP_LOW_MASK :
					  frame->identification & MCR_HOP_LOW_MASK;
	row->number_last = number;
	if (begins) {
		row->numbers |= (uint8_t)(1u << number);
		row->frames += row->frames < FRAMES_MAX;
	}
	if (row->frames <= MCR_HOP_ROW)
		return 1;
	*is_looped = is_returned(row, number, received_ns);
	return (uint8_t)(number < MCR_HOP_MAX ? number + 1 : MCR_HOP_MAX);
}
