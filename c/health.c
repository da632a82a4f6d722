/*
 * What seldom happens to an RTP stream: it is new, or a packet is not the next one.
 */
#include "health.h"

/* -- which stream ------------------------------------------------------------- */

/* For how long, and of equal ones first what is least known. A clock may go back. */
static uint64_t silence(const struct mcr_health_stream *stream, uint32_t ticks)
{
	int32_t silent = (int32_t)(ticks - stream->seen_ticks);

	return (uint64_t)(silent < 0 ? 0 : silent) << 8 | (UINT8_MAX - stream->known);
}

struct mcr_health_stream *mcr_health_search(struct mcr_health *health,
					    const struct mcr_health_key *key, uint32_t first,
					    uint32_t ticks)
{
	struct mcr_health_stream *place = NULL;

	for (uint32_t i = 0; i < MCR_HEALTH_PROBES; i++) {
		struct mcr_health_stream *stream = &health->streams[(first + i) & health->mask];

		if (mcr_health_is(stream, key)) {
			stream->seen_ticks = ticks;
			return stream;
		}
		if (stream->key.group == 0) {
			place = stream;
			break;
		}
		if (!place || silence(stream, ticks) > silence(place, ticks))
			place = stream;
	}
	*place = (struct mcr_health_stream){ .key = *key, .seen_ticks = ticks };
	return place;
}

/* -- which packet ------------------------------------------------------------- */

static void start(struct mcr_health_stream *stream, uint16_t sequence, uint8_t known)
{
	stream->highest = sequence;
	stream->came = UINT64_MAX;
	stream->known = known;
}

static void prove(struct mcr_health_stream *stream, uint16_t sequence)
{
	if ((uint16_t)(stream->highest - sequence) < stream->known)
		return; /* a copy */
	if ((uint16_t)(sequence - stream->highest) == 1)
		start(stream, sequence, stream->known + 1);
	else
		start(stream, sequence, 1);
}

/* Counts what leaves the window and has not come. */
static void advance(struct mcr_health_stream *stream, uint32_t steps, uint64_t *missing)
{
	const uint32_t passed = steps > MCR_HEALTH_WINDOW ? steps - MCR_HEALTH_WINDOW : 0;

	stream->highest = (uint16_t)(stream->highest + steps);
	stream->known = stream->known + steps < MCR_HEALTH_WINDOW ?
				(uint8_t)(stream->known + steps) :
				MCR_HEALTH_WINDOW;
	*missing += passed;
	for (steps -= passed; steps > 0; steps--) {
		*missing += !(stream->came >> 63);
		stream->came <<= 1;
	}
	stream->came |= 1;
}

static enum mcr_health_verdict look_behind(struct mcr_health_stream *stream, uint32_t steps)
{
	const uint64_t bit = UINT64_C(1) << steps;

	if (steps >= stream->known)
		return MCR_HEALTH_STRAY; /* sent before the stream was known */
	if (stream->came & bit)
		return MCR_HEALTH_DUPLICATE;
	stream->came |= bit;
	return MCR_HEALTH_LATE;
}

enum mcr_health_verdict mcr_health_judge(struct mcr_health_stream *stream, uint16_t sequence,
					 uint64_t *missing)
{
	const uint16_t ahead = (uint16_t)(sequence - stream->highest);
	const uint16_t behind = (uint16_t)(stream->highest - sequence);

	if (stream->known < MCR_HEALTH_PROBATION) {
		prove(stream, sequence);
		return MCR_HEALTH_PROBATIONAL;
	}
	if (behind < MCR_HEALTH_WINDOW)
		return look_behind(stream, behind);
	if (ahead < MCR_RTP_DISTANCE_MAX) {
		advance(stream, ahead, missing);
		return MCR_HEALTH_NEXT;
	}
	if ((uint16_t)(sequence - stream->last) == 1) {
		start(stream, sequence, 2);
		return MCR_HEALTH_PROBATIONAL;
	}
	return MCR_HEALTH_STRAY;
}
