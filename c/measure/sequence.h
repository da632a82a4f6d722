/*
 * Lost, duplicated and reordered, from sequence numbers. No system calls.
 *
 *       first .............. highest - WINDOW ......... highest
 *       | span: all that were sent | bitmap: which came |
 *
 * lost = span - distinct. A duplicate is exact within the window; older than
 * that, a packet is a late one as long as one is missing.
 */
#ifndef MCR_SEQUENCE_H
#define MCR_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* 0.65 s of 100,000 packets a second; 8 KB for each stream. */
#define MCR_SEQUENCE_WINDOW 65536

struct mcr_sequence {
	bool is_started;
	uint64_t first;
	uint64_t highest;
	uint64_t distinct;
	uint64_t lost_before; /* of earlier starts */
	uint64_t *bits; /* MCR_SEQUENCE_WINDOW of them */
};

enum mcr_sequence_result {
	MCR_SEQUENCE_NEXT,
	MCR_SEQUENCE_LATE,
	MCR_SEQUENCE_DUPLICATE
};

static inline bool mcr_sequence_get(const struct mcr_sequence *sequence, uint64_t number)
{
	return sequence->bits[number % MCR_SEQUENCE_WINDOW / 64] >> number % 64 & 1;
}

static inline void mcr_sequence_set(struct mcr_sequence *sequence, uint64_t number)
{
	sequence->bits[number % MCR_SEQUENCE_WINDOW / 64] |= UINT64_C(1) << number % 64;
}

static inline void mcr_sequence_clear(struct mcr_sequence *sequence, uint64_t number)
{
	sequence->bits[number % MCR_SEQUENCE_WINDOW / 64] &= ~(UINT64_C(1) << number % 64);
}

static inline uint64_t mcr_sequence_lost(const struct mcr_sequence *sequence)
{
	if (!sequence->is_started)
		return sequence->lost_before;
	return sequence->lost_before + (sequence->highest - sequence->first + 1) -
	       sequence->distinct;
}

/* The sender began anew: what was missing stays missing. */
static inline void mcr_sequence_restart(struct mcr_sequence *sequence)
{
	sequence->lost_before = mcr_sequence_lost(sequence);
	sequence->is_started = false;
}

static inline void mcr_sequence_start(struct mcr_sequence *sequence, uint64_t number)
{
	memset(sequence->bits, 0, MCR_SEQUENCE_WINDOW / 8);
	sequence->is_started = true;
	sequence->first = sequence->highest = number;
	sequence->distinct = 1;
	mcr_sequence_set(sequence, number);
}

static inline void mcr_sequence_advance(struct mcr_sequence *sequence, uint64_t number)
{
	if (number - sequence->highest >= MCR_SEQUENCE_WINDOW)
		memset(sequence->bits, 0, MCR_SEQUENCE_WINDOW / 8);
	else
		for (uint64_t i = sequence->highest + 1; i != number; i++)
			mcr_sequence_clear(sequence, i);
	sequence->highest = number;
	sequence->distinct++;
	mcr_sequence_set(sequence, number);
}

static inline enum mcr_sequence_result mcr_sequence_behind(struct mcr_sequence *sequence,
							   uint64_t number)
{
	bool is_in_window = sequence->highest - number < MCR_SEQUENCE_WINDOW;
	bool is_all_there = mcr_sequence_lost(sequence) == sequence->lost_before;

	if (number >= sequence->first) {
		if (is_in_window ? mcr_sequence_get(sequence, number) : is_all_there)
			return MCR_SEQUENCE_DUPLICATE;
	} else if (is_in_window) {
		/* The first one that came was not the first that was sent. */
		sequence->first = number;
	} else {
		return MCR_SEQUENCE_LATE;
	}
	if (is_in_window)
		mcr_sequence_set(sequence, number);
	sequence->distinct++;
	return MCR_SEQUENCE_LATE;
}

static inline enum mcr_sequence_result mcr_sequence_count(struct mcr_sequence *sequence,
							  uint64_t number)
{
	if (sequence->is_started && number <= sequence->highest)
		return mcr_sequence_behind(sequence, number);
	if (sequence->is_started)
		mcr_sequence_advance(sequence, number);
	else
		mcr_sequence_start(sequence, number);
	return MCR_SEQUENCE_NEXT;
}

#endif
