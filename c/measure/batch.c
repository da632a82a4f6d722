/*
 * One batch of test traffic: filled in the order of turns, then offered to the
 * kernel until it has taken all of it, over as many calls as that takes.
 */
#define _GNU_SOURCE
#include "generator.h"

#include <poll.h>

/* The device queue is full (ENOBUFS): nothing tells when it has room again. */
#define QUEUE_PAUSE_NS 50000
/* So often in a row one message is refused before that is the end. */
#define ERRORS_MAX 3

/* Packets of the stream whose turn it is. */
static uint32_t turn_length(const struct mcr_generator *generator)
{
	const struct mcr_generator_options *options = &generator->options;
	uint64_t left = options->count - generator->sequence;

	return options->count && left < options->burst ? (uint32_t)left : options->burst;
}

bool mcr_batch_finished(const struct mcr_generator *generator)
{
	return generator->options.count && generator->sequence >= generator->options.count;
}

static void add_message(struct mcr_generator *generator, uint32_t first, uint32_t packets)
{
	uint32_t index = generator->message_count++;
	bool is_segmented = packets > 1;

	generator->message_streams[index] = generator->stream;
	generator->messages[index].msg_hdr = (struct msghdr){
		.msg_name = &generator->destinations[generator->stream],
		.msg_namelen = sizeof(generator->destinations[0]),
		.msg_iov = generator->vectors[first],
		.msg_iovlen = 2 * packets,
		.msg_control = is_segmented ? generator->segment_control : NULL,
		.msg_controllen = is_segmented ? sizeof(generator->segment_control) : 0,
	};
}

static void add_packet(struct mcr_generator *generator, uint64_t sequence, uint64_t sent_ns)
{
	const struct mcr_generator_options *options = &generator->options;
	const struct mcr_payload payload = { .stream = generator->stream,
					     .sequence = sequence,
					     .sent_ns = sent_ns,
					     .clock = options->clock };
	uint32_t index = generator->packet_count++;

	mcr_payload_write(generator->headers[index], &payload, generator->body_hash);
	generator->vectors[index][0] =
		(struct iovec){ generator->headers[index], MCR_PAYLOAD_HEADER_BYTES };
	generator->vectors[index][1] =
		(struct iovec){ generator->body,
				options->payload_bytes - MCR_PAYLOAD_HEADER_BYTES };
}

static void add_turn(struct mcr_generator *generator, uint64_t sent_ns)
{
	uint32_t length = turn_length(generator), segments = generator->options.segments;

	for (uint32_t i = 0; i < length; i++) {
		if (i % segments == 0)
			add_message(generator, generator->packet_count,
				    length - i < segments ? length - i : segments);
		add_packet(generator, generator->sequence + i, sent_ns);
	}
	if (++generator->stream == generator->options.stream_count) {
		generator->stream = 0;
		generator->sequence += length;
	}
}

void mcr_batch_fill(struct mcr_generator *generator, uint64_t sent_ns)
{
	generator->message_next = 0;
	generator->message_count = 0;
	generator->packet_count = 0;
	for (uint32_t turn = 0; turn < generator->batch_turns && !mcr_batch_finished(generator);
	     turn++)
		add_turn(generator, sent_ns);
	if (generator->counters->first_ns == 0)
		generator->counters->first_ns = sent_ns;
	generator->counters->last_ns = sent_ns;
	generator->counters->last_packets = generator->packet_count;
	generator->due_packets += generator->packet_count;
}

static void count_sent(struct mcr_generator *generator, uint32_t messages)
{
	for (uint32_t end = generator->message_next + messages; generator->message_next < end;
	     generator->message_next++) {
		uint32_t index = generator->message_next;
		uint64_t packets = generator->messages[index].msg_hdr.msg_iovlen / 2;

		generator->counters->sent_packets += packets;
		generator->sent_by_stream[generator->message_streams[index]] += packets;
	}
	generator->errors_in_a_row = 0;
}

static void wait_for_room(const struct mcr_generator *generator, int error)
{
	struct pollfd room = { .fd = generator->options.fd, .events = POLLOUT };

	if (error == EAGAIN)
		poll(&room, 1, 10);
	else
		sleep_until(now_ns() + QUEUE_PAUSE_NS);
}

/*
 * A socket reports an ICMP answer to an earlier datagram once (ip(7),
 * IP_RECVERR), instead of sending; an error that stays is another matter.
 */
int mcr_batch_offer(struct mcr_generator *generator, uint64_t end_ns)
{
	struct mcr_generator_counters *counters = generator->counters;

	while (generator->message_next < generator->message_count) {
		int sent = sendmmsg(generator->options.fd,
				    &generator->messages[generator->message_next],
				    generator->message_count - generator->message_next,
				    MSG_DONTWAIT);
		int error = errno;

		if (sent > 0) {
			count_sent(generator, (uint32_t)sent);
			continue;
		}
		if (error == EINTR)
			return 0;
		if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) {
			counters->retries++;
			wait_for_room(generator, error);
		} else {
			counters->errors++;
			if (error != ECONNREFUSED && ++generator->errors_in_a_row == ERRORS_MAX)
				return -error;
		}
		if (now_ns() >= end_ns)
			return 0;
	}
	counters->end_ns = now_ns();
	return 0;
}
