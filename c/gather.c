/*
 * From one captured frame to the batch: parse, match, count. No system call but
 * where a batch is full and goes out early. Every frame ends in the batch or in
 * one counter: mcr.h.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <string.h>

#include "frame.h"
#include "latency.h"

/* -- one frame --------------------------------------------------------------- */

static void count_refused(struct mcr_interface_counters *counters, enum mcr_verdict verdict,
			  const struct mcr_frame *frame)
{
	const uint32_t packets = mcr_dropped_count(frame->network, frame->captured,
						   frame->wire_bytes, frame->segment_bytes);

	MCR_COUNT(counters->packets, packets);
	switch (verdict) {
	case MCR_FRAME_FRAGMENT: /* of a super-frame: the kernel cuts none so */
		MCR_COUNT(counters->fragment_malformed, packets);
		break;
	case MCR_FRAME_TRUNCATED:
		MCR_COUNT(counters->truncated, packets);
		break;
	case MCR_FRAME_BAD_CHECKSUM:
		MCR_COUNT(counters->bad_checksum, packets);
		break;
	case MCR_FRAME_OK:
	case MCR_FRAME_MALFORMED:
		MCR_COUNT(counters->malformed, packets);
		break;
	}
}

/* Not for this host, or of a network that no rule is for: whatever it holds. */
static void count_foreign(struct mcr_interface_counters *counters, const struct mcr_frame *frame)
{
	const uint32_t packets = mcr_dropped_count(frame->network, frame->captured,
						   frame->wire_bytes, frame->segment_bytes);

	MCR_COUNT(counters->packets, packets);
	if (frame->packet_type == PACKET_OTHERHOST)
		MCR_COUNT(counters->other_host, packets);
	else
		MCR_COUNT(counters->tagged, packets);
}

static void list_append(const struct mcr_table *table, struct mcr_worker *worker,
			struct mcr_scratch *scratch, uint32_t flow, const struct mcr_packet *packet)
{
	struct mcr_packet_list *list = &scratch->lists[flow];
	uint32_t index;

	if (worker->packet_count == MCR_BATCH_PACKETS_MAX)
		mcr_batch_send(table, worker, scratch);
	index = worker->packet_count++;
	worker->packets[index] = *packet;
	if (list->first == MCR_NONE) {
		list->first = index;
		scratch->touched[scratch->touched_count++] = flow;
	} else {
		worker->packets[list->last].next = index;
	}
	list->last = index;
}

static void sample_add(struct mcr_worker *worker, uint32_t rule, uint64_t received_ns)
{
	if (worker->sample_count == MCR_SAMPLES_MAX)
		return; /* still due, so a packet of a later batch is taken */
	worker->samples[worker->sample_count++] =
		(struct mcr_sample){ .received_ns = received_ns, .rule = rule };
	__atomic_store_n(&worker->rules[rule].sampled_ns, received_ns, __ATOMIC_RELAXED);
}

/*
 * A packet that the rule would take, and that mcr has sent before: it came back, over a network
 * that joins an egress and an ingress, or round by other relays. Not inlined: it is rare.
 */
static __attribute__((noinline)) void count_looped(struct mcr_worker *worker, uint32_t interface,
						   uint32_t rule, uint32_t egress, uint32_t packets)
{
	MCR_COUNT(worker->interfaces[interface].looped, packets);
	MCR_COUNT(worker->rules[rule].looped, packets);
	if (egress != MCR_NONE)
		MCR_COUNT(worker->egresses[egress].returned_packets, packets);
}

/* The number of the relay that its packets leave with: hop.h. 0: they have come back too often. */
static __attribute__((noinline)) uint8_t hop_take(struct mcr_worker *worker, uint32_t interface,
						  const struct mcr_frame *frame,
						  const struct mcr_datagram *datagram,
						  uint32_t segments)
{
	const struct mcr_hop_frame hop = { .key = { .link_source = frame->link_source,
						    .source = mcr_ipv4(datagram->source),
						    .destination = mcr_ipv4(datagram->destination),
						    .interface = interface,
						    .source_port = datagram->source_port,
						    .port = datagram->port },
					   .segments = segments,
					   .identification = datagram->identification,
					   .is_atomic = datagram->is_atomic };
	bool is_looped;
	uint8_t number = mcr_hops_take(&worker->hops, &hop, frame->received_ns, &is_looped);

	return is_looped ? 0 : number;
}

/*
 * The RTP that arrived for the rule, whatever becomes of it: every datagram of the frame, health.h.
 * Not inlined: frame_gather would run out of registers, for packets that are no RTP as well.
 */
static __attribute__((noinline)) void health_count(struct mcr_worker *worker,
						   const struct mcr_flow *flow,
						   const struct mcr_datagram *datagram,
						   const struct mcr_frame *frame)
{
	struct mcr_rule_counters *rule = &worker->rules[flow->rule];
	struct mcr_health_key key = { .group = mcr_ipv4(datagram->destination),
				      .source = mcr_ipv4(datagram->source),
				      .rule = flow->rule_number,
				      .port = datagram->port };
	struct mcr_health_stream *stream = NULL;
	const uint8_t *payload = datagram->payload;
	uint32_t bytes, left = datagram->payload_bytes;
	uint64_t packets = 0, missing = 0, reordered = 0, duplicate = 0;

	for (; left > 0; left -= bytes, payload += bytes) {
		enum mcr_health_verdict verdict;
		struct mcr_rtp rtp;

		bytes = frame->segment_bytes && left > frame->segment_bytes ? frame->segment_bytes :
									      left;
		if (!mcr_rtp_read(payload, bytes, &rtp) || mcr_rtcp_is(payload, bytes, bytes))
			continue;
		if (!stream || rtp.ssrc != key.ssrc) {
			key.ssrc = rtp.ssrc;
			stream = mcr_health_find(&worker->health, &key, frame->received_ns);
		}
		verdict = mcr_health_take(stream, rtp.sequence, &missing);
		packets += verdict != MCR_HEALTH_PROBATIONAL;
		reordered += verdict == MCR_HEALTH_LATE;
		duplicate += verdict == MCR_HEALTH_DUPLICATE;
	}
	if (packets)
		MCR_COUNT(rule->rtp_packets, packets);
	if (missing)
		MCR_COUNT(rule->rtp_missing, missing);
	if (reordered)
		MCR_COUNT(rule->rtp_reordered, reordered);
	if (duplicate)
		MCR_COUNT(rule->rtp_duplicate, duplicate);
}

/*
 * One fragment. True where its datagram is whole now, and frame and datagram are that. What has
 * become whole lies in the worker's memory until the batch is sent.
 */
static __attribute__((noinline)) bool fragment_take(const struct mcr_table *table,
						    struct mcr_worker *worker,
						    struct mcr_scratch *scratch, uint32_t interface,
						    struct mcr_frame *frame)
{
	const struct mcr_fragment fragment = { .ip = frame->network,
					       .captured = frame->captured,
					       .wire_bytes = frame->wire_bytes,
					       .interface = interface,
					       .vlan = frame->vlan };
	struct mcr_assembled whole;

	/* The batch has room for the datagram as well, so that it is not sent between this and its packet. */
	if (worker->packet_count == MCR_BATCH_PACKETS_MAX ||
	    !mcr_reassembly_has_room(worker->reassembly))
		mcr_batch_send(table, worker, scratch);
	if (!mcr_reassembly_take(worker->reassembly, &fragment, worker->began_ns, &whole))
		return false;
	frame->network = whole.ip;
	frame->captured = frame->wire_bytes = whole.bytes;
	frame->checksum_known = false; /* the kernel has not seen it whole */
	return true;
}

static void frame_gather(const struct mcr_table *table, struct mcr_worker *worker,
			 struct mcr_scratch *scratch, uint32_t interface,
			 const struct mcr_frame *frame)
{
	struct mcr_interface_counters *counters = &worker->interfaces[interface];
	struct mcr_key key = { .vlan = frame->vlan, .interface = interface };
	struct mcr_rule_counters *rule;
	struct mcr_frame whole;
	struct mcr_datagram datagram;
	struct mcr_packet packet;
	enum mcr_verdict verdict = MCR_FRAME_MALFORMED;
	uint32_t segments, flow, egress = MCR_NONE;
	uint8_t hop = 0;
	bool is_sampled;

	if (__builtin_expect(frame->packet_type == PACKET_OTHERHOST ||
				     (frame->vlan && !table->any_vlan),
			     0)) {
		count_foreign(counters, frame);
		return;
	}
	if (frame->protocol == ETH_P_IP)
		verdict = mcr_frame_parse(frame->network, frame->captured, frame->wire_bytes,
					  frame->checksum_known, &datagram);
	if (__builtin_expect(verdict == MCR_FRAME_FRAGMENT && !frame->segment_bytes, 0)) {
		whole = *frame;
		if (!fragment_take(table, worker, scratch, interface, &whole))
			return;
		frame = &whole;
		verdict = mcr_frame_parse(frame->network, frame->captured, frame->wire_bytes, false,
					  &datagram);
	}
	if (verdict != MCR_FRAME_OK) {
		count_refused(counters, verdict, frame);
		return;
	}

	segments = mcr_segment_count(datagram.payload_bytes, frame->segment_bytes);
	MCR_COUNT(counters->packets, segments);
	key.address[0] = datagram.destination[0];
	key.address[1] = datagram.destination[1];
	key.port = datagram.port;
	flow = mcr_table_find(table, &key, datagram.source);
	if (flow == MCR_NONE) {
		if (frame->vlan)
			MCR_COUNT(counters->tagged, segments);
		else
			MCR_COUNT(counters->no_match, segments);
		return;
	}

	if (!mcr_table_returned(table, mcr_ipv4(datagram.source), datagram.source_port,
				table->flows[flow].rule, &egress))
		hop = mcr_hops_idle(&worker->hops, datagram.is_atomic, datagram.identification) ?
			      1 :
			      hop_take(worker, interface, frame, &datagram, segments);
	if (__builtin_expect(hop == 0, 0)) {
		count_looped(worker, interface, table->flows[flow].rule, egress, segments);
		return;
	}

	MCR_COUNT(counters->matched, segments);
	MCR_COUNT(counters->bytes, datagram.payload_bytes);
	rule = &worker->rules[table->flows[flow].rule];
	MCR_COUNT(rule->packets, segments);
	MCR_COUNT(rule->bytes, datagram.payload_bytes);
	__atomic_store_n(&rule->last_ns, frame->received_ns, __ATOMIC_RELAXED);
	is_sampled = mcr_sample_is_due(rule, segments, frame->received_ns);
	if (table->counts_health &&
	    (segments > 1 || mcr_rtp_may_be(datagram.payload, datagram.payload_bytes)))
		health_count(worker, &table->flows[flow], &datagram, frame);

	packet = (struct mcr_packet){ .payload = datagram.payload,
				      .bytes = frame->segment_bytes,
				      .next = MCR_NONE,
				      .source = mcr_ipv4(datagram.source),
				      .source_port = datagram.source_port,
				      .port = datagram.port,
				      .ttl = datagram.ttl,
				      .tos = datagram.tos,
				      .hop = hop };
	for (; segments > 1; segments--) {
		list_append(table, worker, scratch, flow, &packet);
		packet.payload += packet.bytes;
		datagram.payload_bytes -= packet.bytes;
	}
	packet.bytes = datagram.payload_bytes;
	list_append(table, worker, scratch, flow, &packet);
	/* Only now: a batch that was full has been sent before. */
	if (__builtin_expect(is_sampled, 0))
		sample_add(worker, table->flows[flow].rule, frame->received_ns);
}

/* -- one batch ----------------------------------------------------------------- */

void mcr_gather(const struct mcr_table *table, struct mcr_worker *worker,
		struct mcr_scratch *scratch, uint32_t interface, enum mcr_read read,
		const struct mcr_frame *frame)
{
	struct mcr_interface_counters *counters = &worker->interfaces[interface];

	switch (read) {
	case MCR_READ_FRAME:
		frame_gather(table, worker, scratch, interface, frame);
		break;
	case MCR_READ_UNDESCRIBED: /* among the kernel's drops */
		MCR_COUNT(counters->undescribed, 1);
		break;
	case MCR_READ_MALFORMED:
		MCR_COUNT(counters->packets, 1);
		MCR_COUNT(counters->malformed, 1);
		break;
	}
}

void mcr_block_gather(const struct mcr_table *table, struct mcr_worker *worker,
		      struct mcr_scratch *scratch, uint32_t interface,
		      struct mcr_block_reader reader)
{
	struct mcr_frame frame;

	while (reader.left > 0) {
		enum mcr_read read = mcr_block_next(&reader, &frame);

		mcr_gather(table, worker, scratch, interface, read, &frame);
	}
}
