/*
 * What a received datagram is worth: recognises what a stream carries, checks
 * each datagram of it, and counts. Datagrams come from anybody: lengths first.
 */
#include "stream.h"

#include "payload.h"

/* Sequence numbers of 16 bits count on from here, so that one may go back. */
#define RTP_SEQUENCE_BASE (UINT64_C(1) << 32)
/* Further back is no reordering, but a sender that began anew. */
#define RTP_MISORDER_MAX 1000

static void count_latency(struct mcr_latency_counters *latency, uint64_t ns)
{
	uint32_t exponent = 0;

	if (latency->count == 0 || ns < latency->min_ns)
		latency->min_ns = ns;
	if (ns > latency->max_ns)
		latency->max_ns = ns;
	latency->count++;
	if (ns >= 64)
		exponent = 58 - (uint32_t)__builtin_clzll(ns);
	latency->buckets[32 * exponent + (uint32_t)(ns >> exponent)]++;
}

static void count_sequence(struct mcr_stream *stream, uint64_t number)
{
	switch (mcr_sequence_count(&stream->sequence, number)) {
	case MCR_SEQUENCE_NEXT:
		break;
	case MCR_SEQUENCE_LATE:
		stream->counters->reordered++;
		break;
	case MCR_SEQUENCE_DUPLICATE:
		stream->counters->duplicated++;
		break;
	}
	stream->counters->lost = mcr_sequence_lost(&stream->sequence);
}

static void restart(struct mcr_stream *stream)
{
	mcr_sequence_restart(&stream->sequence);
	stream->counters->restarts++;
}

/* -- our own payload ---------------------------------------------------------- */

/* A copy has the time of its original; only a new start is newer and counts less. */
static bool is_restart(const struct mcr_stream *stream, const struct mcr_payload *payload)
{
	return stream->sequence.is_started && payload->sequence <= stream->sequence.highest &&
	       payload->sent_ns > stream->sent_ns;
}

static void count_mcr(struct mcr_stream *stream, const uint8_t *bytes, size_t length,
		      uint64_t clock, uint64_t now_ns, struct mcr_latency_counters *latency)
{
	struct mcr_payload payload;

	if (mcr_payload_read(bytes, length, &payload) != MCR_PAYLOAD_INTACT) {
		stream->counters->corrupt++;
		return;
	}
	if (!stream->sequence.is_started && stream->counters->restarts == 0)
		stream->id = payload.stream;
	if (payload.stream != stream->id) {
		stream->counters->foreign++;
		return;
	}
	if (is_restart(stream, &payload))
		restart(stream);
	count_sequence(stream, payload.sequence);
	if (payload.sent_ns > stream->sent_ns || payload.sequence == stream->sequence.highest)
		stream->sent_ns = payload.sent_ns;
	if (payload.clock == clock && now_ns >= payload.sent_ns)
		count_latency(latency, now_ns - payload.sent_ns);
}

/* -- RTP ---------------------------------------------------------------------- */

static void count_rtp_sequence(struct mcr_stream *stream, uint16_t number)
{
	struct mcr_sequence *sequence = &stream->sequence;
	uint64_t extended = RTP_SEQUENCE_BASE + number;

	if (sequence->is_started)
		extended = sequence->highest +
			   (uint64_t)(int64_t)mcr_rtp_distance((uint16_t)sequence->highest, number);
	count_sequence(stream, extended);
}

/* Another source, or far back: only when the next one agrees is it a new start. */
static bool is_new_start(struct mcr_stream *stream, const struct mcr_rtp *rtp)
{
	bool agrees = stream->has_candidate && stream->candidate.ssrc == rtp->ssrc &&
		      mcr_rtp_distance(stream->candidate.sequence, rtp->sequence) == 1;

	stream->candidate = *rtp;
	stream->has_candidate = true;
	return agrees;
}

static void count_rtp(struct mcr_stream *stream, const uint8_t *bytes, size_t length)
{
	struct mcr_rtp rtp;
	bool is_odd;

	if (!mcr_rtp_read(bytes, length, &rtp)) {
		stream->counters->corrupt++;
		return;
	}
	is_odd = rtp.ssrc != stream->ssrc || mcr_rtp_distance((uint16_t)stream->sequence.highest,
							      rtp.sequence) < -RTP_MISORDER_MAX;
	if (!is_odd) {
		stream->has_candidate = false;
		count_rtp_sequence(stream, rtp.sequence);
	} else if (is_new_start(stream, &rtp)) {
		restart(stream);
		stream->counters->foreign--; /* the candidate was of this start */
		stream->ssrc = rtp.ssrc;
		stream->has_candidate = false;
		count_rtp_sequence(stream, (uint16_t)(rtp.sequence - 1));
		count_rtp_sequence(stream, rtp.sequence);
	} else {
		stream->counters->foreign++;
	}
}

/* One datagram in four looks like RTP by its version; two in step do not by chance. */
static bool becomes_rtp(struct mcr_stream *stream, const uint8_t *bytes, size_t length)
{
	struct mcr_rtp rtp, first = stream->candidate;
	bool had_candidate = stream->has_candidate;
	int steps;

	stream->has_candidate = mcr_rtp_read(bytes, length, &rtp);
	if (!stream->has_candidate)
		return false;
	stream->candidate = rtp;
	steps = mcr_rtp_distance(first.sequence, rtp.sequence);
	if (!had_candidate || first.ssrc != rtp.ssrc || steps > MCR_RTP_DISTANCE_MAX ||
	    steps < -MCR_RTP_DISTANCE_MAX)
		return false;
	stream->ssrc = rtp.ssrc;
	stream->has_candidate = false;
	count_rtp_sequence(stream, first.sequence);
	return true;
}

/* -- any datagram ------------------------------------------------------------- */

static void recognise(struct mcr_stream *stream, const uint8_t *bytes, size_t length)
{
	if (length >= MCR_PAYLOAD_HEADER_BYTES && memcmp(bytes, "mcr1", 4) == 0)
		stream->counters->kind = MCR_KIND_MCR;
	else if (mcr_transport_is(bytes, length))
		stream->counters->kind = MCR_KIND_TS;
	else if (becomes_rtp(stream, bytes, length))
		stream->counters->kind = MCR_KIND_RTP;
}

void mcr_stream_count(struct mcr_stream *stream, const uint8_t *bytes, size_t length,
		      uint64_t clock, uint64_t now_ns, struct mcr_latency_counters *latency)
{
	stream->counters->packets++;
	stream->counters->bytes += length;
	if (stream->counters->kind == MCR_KIND_UNKNOWN)
		recognise(stream, bytes, length);
	switch (stream->counters->kind) {
	case MCR_KIND_MCR:
		count_mcr(stream, bytes, length, clock, now_ns, latency);
		break;
	case MCR_KIND_RTP:
		count_rtp(stream, bytes, length);
		break;
	case MCR_KIND_TS:
		mcr_transport_count(&stream->transport, stream->counters, bytes, length);
		break;
	}
}
