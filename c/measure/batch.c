/*
 * One batch of test traffic: filled in the order of turns, then offered to the
 * kernel until it has taken all of it, over as many calls as that takes.
 */
#define _GNU_SOURCE
#include "batch.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>

#include "endpoint.h"
#include "option.h"
#include "clock.h"

/* The device queue is full (ENOBUFS): nothing tells when it has room again. */
#define QUEUE_PAUSE_NS 50000
/* So often in a row one message is refused before that is the end. */
#define ERRORS_MAX 3

/* -- opening ------------------------------------------------------------------ */

static int copy_streams(struct mcr_batch *batch)
{
	for (uint32_t i = 0; i < batch->options.stream_count; i++) {
		int error = mcr_stream_address(&batch->destinations[i], &batch->options.streams[i]);

		if (error)
			return error;
	}
	return 0;
}

static void copy_body(struct mcr_batch *batch)
{
	const struct mcr_generator_options *options = &batch->options;
	uint32_t bytes = options->payload_bytes - MCR_PAYLOAD_HEADER_BYTES;

	for (uint32_t i = 0; options->body_bytes && i < bytes; i++)
		batch->body[i] = options->body[i % options->body_bytes];
	batch->body_hash = mcr_hash(batch->body, bytes);
}

static void set_segment_bytes(struct mcr_batch *batch, uint16_t bytes)
{
	struct cmsghdr *segment = (struct cmsghdr *)batch->segment_control;

	*segment = (struct cmsghdr){ .cmsg_level = SOL_UDP,
				     .cmsg_type = UDP_SEGMENT,
				     .cmsg_len = CMSG_LEN(sizeof(bytes)) };
	memcpy(CMSG_DATA(segment), &bytes, sizeof(bytes));
}

int mcr_batch_open(struct mcr_batch *batch, const struct mcr_generator_options *options)
{
	const int on = 1;
	int error;

	batch->options = *options;
	batch->counters =
		calloc(1, sizeof(*batch->counters) + options->stream_count * sizeof(uint64_t));
	batch->destinations = calloc(options->stream_count, sizeof(*batch->destinations));
	batch->body = calloc(1, options->payload_bytes);
	if (!batch->counters || !batch->destinations || !batch->body)
		return -ENOMEM;
	batch->sent_by_stream = (uint64_t *)(batch->counters + 1);
	error = copy_streams(batch);
	copy_body(batch);
	/* The caller's; they are not touched again. */
	batch->options.streams = NULL;
	batch->options.body = NULL;
	set_segment_bytes(batch, (uint16_t)options->payload_bytes);
	/* A receiver on this host shall see it too, as with any other sender. */
	if (!error && setsockopt(options->fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on, sizeof(on)) < 0)
		error = -errno;
	return error;
}

void mcr_batch_close(struct mcr_batch *batch)
{
	free(batch->counters);
	free(batch->destinations);
	free(batch->body);
}

/* -- filling ------------------------------------------------------------------- */

/* Packets of the stream whose turn it is. */
static uint32_t turn_length(const struct mcr_batch *batch)
{
	const struct mcr_generator_options *options = &batch->options;
	uint64_t left = options->count - batch->sequence;

	return options->count && left < options->burst ? (uint32_t)left : options->burst;
}

bool mcr_batch_is_finished(const struct mcr_batch *batch)
{
	return batch->options.count && batch->sequence >= batch->options.count;
}

static void add_message(struct mcr_batch *batch, uint32_t first, uint32_t packets)
{
	uint32_t index = batch->message_count++;
	bool is_segmented = packets > 1;

	batch->message_streams[index] = batch->stream;
	batch->messages[index].msg_hdr = (struct msghdr){
		.msg_name = &batch->destinations[batch->stream],
		.msg_namelen = sizeof(batch->destinations[0]),
		.msg_iov = batch->vectors[first],
		.msg_iovlen = 2 * packets,
		.msg_control = is_segmented ? batch->segment_control : NULL,
		.msg_controllen = is_segmented ? sizeof(batch->segment_control) : 0,
	};
}

static void add_packet(struct mcr_batch *batch, uint64_t sequence, uint64_t sent_ns)
{
	const struct mcr_generator_options *options = &batch->options;
	const struct mcr_payload payload = { .stream = batch->stream,
					     .sequence = sequence,
					     .sent_ns = sent_ns,
					     .clock = options->clock };
	uint32_t index = batch->packet_count++;

	mcr_payload_write(batch->headers[index], &payload, batch->body_hash);
	batch->vectors[index][0] =
		(struct iovec){ batch->headers[index], MCR_PAYLOAD_HEADER_BYTES };
	batch->vectors[index][1] =
		(struct iovec){ batch->body, options->payload_bytes - MCR_PAYLOAD_HEADER_BYTES };
}

static void add_turn(struct mcr_batch *batch, uint64_t sent_ns)
{
	uint32_t length = turn_length(batch), segments = batch->options.segments;

	for (uint32_t i = 0; i < length; i++) {
		if (i % segments == 0)
			add_message(batch, batch->packet_count,
				    length - i < segments ? length - i : segments);
		add_packet(batch, batch->sequence + i, sent_ns);
	}
	if (++batch->stream == batch->options.stream_count) {
		batch->stream = 0;
		batch->sequence += length;
	}
}

void mcr_batch_fill(struct mcr_batch *batch, uint32_t turns, uint64_t sent_ns)
{
	batch->message_next = 0;
	batch->message_count = 0;
	batch->packet_count = 0;
	for (uint32_t turn = 0; turn < turns && !mcr_batch_is_finished(batch); turn++)
		add_turn(batch, sent_ns);
	if (batch->counters->first_ns == 0)
		batch->counters->first_ns = sent_ns;
	batch->counters->last_ns = sent_ns;
	batch->counters->last_packets = batch->packet_count;
}

/* -- sending ------------------------------------------------------------------- */

static void count_sent(struct mcr_batch *batch, uint32_t messages)
{
	for (uint32_t end = batch->message_next + messages; batch->message_next < end;
	     batch->message_next++) {
		uint32_t index = batch->message_next;
		uint64_t packets = batch->messages[index].msg_hdr.msg_iovlen / 2;

		batch->counters->sent_packets += packets;
		batch->sent_by_stream[batch->message_streams[index]] += packets;
	}
	batch->errors_in_a_row = 0;
}

static void wait_for_room(const struct mcr_batch *batch, int error)
{
	struct pollfd room = { .fd = batch->options.fd, .events = POLLOUT };

	if (error == EAGAIN)
		poll(&room, 1, 10);
	else
		sleep_until(now_ns(CLOCK_MONOTONIC) + QUEUE_PAUSE_NS);
}

/*
 * A socket reports an ICMP answer to an earlier datagram once (ip(7),
 * IP_RECVERR), instead of sending; an error that stays is another matter.
 */
int mcr_batch_offer(struct mcr_batch *batch, uint64_t end_ns)
{
	struct mcr_generator_counters *counters = batch->counters;

	while (!mcr_batch_is_taken(batch)) {
		int sent = sendmmsg(batch->options.fd, &batch->messages[batch->message_next],
				    batch->message_count - batch->message_next, MSG_DONTWAIT);
		int error = errno;

		if (sent > 0) {
			count_sent(batch, (uint32_t)sent);
			continue;
		}
		if (error == EINTR)
			return 0;
		if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) {
			counters->retries++;
			wait_for_room(batch, error);
		} else {
			counters->errors++;
			if (error != ECONNREFUSED && ++batch->errors_in_a_row == ERRORS_MAX)
				return -error;
		}
		if (now_ns(CLOCK_MONOTONIC) >= end_ns)
			return 0;
	}
	counters->end_ns = now_ns(CLOCK_MONOTONIC);
	return 0;
}
