/*
 * The hot loop: frame -> parse -> match -> batch -> send. One worker, one call;
 * no allocation, and a system call only to sleep, to take frames one by one,
 * and per message batch.
 */
#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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

static void read_gather(const struct mcr_table *table, struct mcr_worker *worker,
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

		read_gather(table, worker, scratch, interface, read, &frame);
	}
}

void mcr_batch_send(const struct mcr_table *table, struct mcr_worker *worker,
		    struct mcr_scratch *scratch)
{
	for (uint32_t i = 0; i < scratch->touched_count; i++) {
		mcr_flow_send(table, worker, scratch, scratch->touched[i]);
		scratch->lists[scratch->touched[i]].first = MCR_NONE;
	}
	mcr_links_flush(worker);
	mcr_reassembly_release(worker->reassembly);
	if (__builtin_expect(worker->sample_count > 0, 0))
		mcr_samples_count(worker);
	scratch->touched_count = 0;
	worker->packet_count = 0;
	worker->sample_count = 0;
}

static bool block_gather(const struct mcr_table *table, struct mcr_worker *worker,
			 struct mcr_scratch *scratch, const struct mcr_port *port)
{
	struct mcr_ring *ring = port->ring;
	const struct tpacket_block_desc *block = mcr_ring_take(ring);

	if (!block)
		return false;
	if (!(block->hdr.bh1.block_status & TP_STATUS_BLK_TMO) && worker->pause_ns < ring->pause_ns)
		worker->pause_ns = ring->pause_ns;
	mcr_block_gather(table, worker, scratch, port->interface,
			 mcr_block_read(block, ring->block_bytes, ring->has_offload));
	MCR_COUNT(worker->counters->blocks, 1);
	return true;
}

/* Once in a batch: the messages hold what was taken until it is sent. */
static bool queue_gather(const struct mcr_table *table, struct mcr_worker *worker,
			 struct mcr_scratch *scratch, const struct mcr_port *port)
{
	struct mcr_interface_counters *counters = &worker->interfaces[port->interface];
	struct mcr_ring *ring = port->ring;
	uint64_t undescribed = ring->undescribed;
	uint32_t count;

	if (ring->is_held || ring->is_empty)
		return false;
	count = mcr_queue_take(ring);
	if (__builtin_expect(ring->undescribed != undescribed, 0))
		MCR_COUNT(counters->undescribed, ring->undescribed - undescribed);
	for (uint32_t i = 0; i < count; i++) {
		struct mcr_frame frame;
		enum mcr_read read = mcr_queue_frame(ring, i, &frame);

		read_gather(table, worker, scratch, port->interface, read, &frame);
	}
	MCR_COUNT(worker->counters->blocks, count);
	return count > 0;
}

static bool port_gather(const struct mcr_table *table, struct mcr_worker *worker,
			struct mcr_scratch *scratch, const struct mcr_port *port)
{
	bool found = port->ring->messages ? queue_gather(table, worker, scratch, port) :
					    block_gather(table, worker, scratch, port);

	worker->block_count += found;
	return found;
}

/* One block of every port in turn, so that a busy interface starves no other. */
static void ports_gather(const struct mcr_table *table, struct mcr_worker *worker,
			 struct mcr_scratch *scratch, const struct mcr_port *ports,
			 uint32_t port_count)
{
	bool found = true;

	while (found) {
		found = false;
		for (uint32_t i = 0; i < port_count; i++) {
			if (worker->block_count == MCR_BATCH_BLOCKS_MAX)
				return;
			found |= port_gather(table, worker, scratch, &ports[i]);
		}
	}
}

/* A queue that the batch before has emptied is not asked again before the worker has slept. */
static void ports_look_again(const struct mcr_port *ports, uint32_t port_count)
{
	for (uint32_t i = 0; i < port_count; i++)
		ports[i].ring->is_empty = false;
}

static void blocks_release(struct mcr_worker *worker, const struct mcr_port *ports,
			   uint32_t port_count)
{
	for (uint32_t i = 0; i < port_count; i++)
		mcr_ring_release(ports[i].ring);
	worker->block_count = 0;
}

/* -- the worker ------------------------------------------------------------------ */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static int sleep_until_ready(struct mcr_worker *worker, const struct mcr_port *ports,
			     uint32_t port_count, int64_t timeout_ns)
{
	struct pollfd fds[MCR_PORTS_MAX + 1];
	uint64_t count;
	int ready;

	for (uint32_t i = 0; i < port_count; i++)
		fds[i] = (struct pollfd){ .fd = ports[i].ring->fd, .events = POLLIN | POLLERR };
	fds[port_count] = (struct pollfd){ .fd = worker->event_fd, .events = POLLIN };
	ready = poll(fds, port_count + 1, (int)((timeout_ns + 999999) / 1000000));
	if (ready < 0)
		return -errno;
	if (ready == 0)
		return 0;
	MCR_COUNT(worker->counters->wakeups, 1);
	if (fds[port_count].revents && read(worker->event_fd, &count, sizeof(count)) < 0 &&
	    errno != EAGAIN)
		return -errno;
	for (uint32_t i = 0; i < port_count; i++) {
		int error;
		socklen_t bytes = sizeof(error);

		/* An error stays until it is read, and would end every sleep at once. */
		if (fds[i].revents & POLLERR && !ports[i].ring->messages)
			getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
	}
	return 0;
}

/*
 * A ring by frame may be looked at again after a short sleep instead of a
 * wake-up for each packet. Only for so many sleeps in a row that find nothing:
 * an idle worker is woken. False: sleep until then.
 */
#define NAPS_MAX 32u
static bool nap(const struct mcr_port *ports, uint32_t port_count, uint32_t *naps)
{
	struct timespec duration = { 0 };

	if (port_count == 0 || ports[0].ring->sleep_us == 0 || *naps == NAPS_MAX)
		return false;
	*naps += 1;
	duration.tv_sec = ports[0].ring->sleep_us / 1000000;
	duration.tv_nsec = ports[0].ring->sleep_us % 1000000 * 1000;
	nanosleep(&duration, NULL);
	return true;
}

/*
 * Blocks that are full before their time would be taken one by one, with few
 * packets of one flow to make a run of. So after such a batch the next begins
 * only when the ring's pause is over: meanwhile more blocks fill, and the runs
 * grow with the rate.
 */
#define PAUSE_NS_MIN 50000 /* not worth a sleep */
static void pause_until(int64_t until_ns, int64_t *at_ns)
{
	const struct timespec until = { .tv_sec = until_ns / 1000000000,
					.tv_nsec = until_ns % 1000000000 };

	if (until_ns - *at_ns < PAUSE_NS_MIN)
		return;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	*at_ns = now_ns();
}

int32_t mcr_worker_pin(uint32_t worker, uint32_t cpu)
{
	char name[16];
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	snprintf(name, sizeof(name), "mcr-worker-%u", worker & 0xff);
	pthread_setname_np(pthread_self(), name);
	/* A sleep of 50 us shall not take 100: the default slack is 50 us, prctl(2). */
	prctl(PR_SET_TIMERSLACK, 1);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/*
 * Takes the time at the boundaries of a batch only: now_ns is when it begins,
 * and when it ends on return. True when there were blocks to empty.
 */
static bool batch_run(const struct mcr_table *table, struct mcr_worker *worker,
		      struct mcr_scratch *scratch, const struct mcr_port *ports,
		      uint32_t port_count, int64_t *at_ns)
{
	int64_t gathered_ns, sent_ns;

	worker->began_ns = *at_ns;
	ports_gather(table, worker, scratch, ports, port_count);
	if (worker->block_count == 0)
		return false;
	if (worker->block_count == MCR_BATCH_BLOCKS_MAX) /* more is waiting */
		worker->pause_ns = 0;
	gathered_ns = now_ns();
	mcr_batch_send(table, worker, scratch);
	blocks_release(worker, ports, port_count);
	sent_ns = now_ns();
	MCR_COUNT(worker->counters->gather_ns, gathered_ns - *at_ns);
	MCR_COUNT(worker->counters->send_ns, sent_ns - gathered_ns);
	*at_ns = sent_ns;
	return true;
}

int32_t mcr_worker_run(struct mcr_relay *relay, uint32_t index, int32_t budget_ms)
{
	int64_t at_ns = now_ns(); /* read anew after every sleep and every batch */
	const int64_t deadline_ns = at_ns + budget_ms * 1000000ll;
	struct mcr_worker *worker;
	uint32_t naps = NAPS_MAX; /* none before the first packet */
	bool busy = false;

	if (index >= relay->worker_count)
		return -EINVAL;
	worker = &relay->workers[index];
	for (;;) {
		/* Read before the rings are: what arrived before the stop is sent. */
		bool stopping = __atomic_load_n(&relay->stopping, __ATOMIC_ACQUIRE);
		/* Acquire pairs with mcr_relay_publish. */
		const struct mcr_table *table = __atomic_load_n(&relay->table, __ATOMIC_ACQUIRE);
		const struct mcr_port *ports = NULL;
		uint32_t port_count = 0;
		const int64_t began_ns = at_ns;
		int error;

		worker->pause_ns = 0;
		if (table) {
			/* Release: nothing of an older table is used after this. */
			__atomic_store_n(&worker->epoch_seen, table->epoch, __ATOMIC_RELEASE);
			ports = &table->ports[table->port_first[index]];
			port_count = table->port_first[index + 1] - table->port_first[index];
			if (!busy || stopping)
				ports_look_again(ports, port_count);
			busy = batch_run(table, worker, &table->scratch[index], ports, port_count,
					 &at_ns);
		}
		mcr_reassembly_expire(worker->reassembly, at_ns);
		if (busy)
			naps = 0;
		if (stopping && !busy) {
			mcr_reassembly_flush(worker->reassembly);
			return 1;
		}
		if (at_ns >= deadline_ns)
			return 0;
		if (busy) {
			pause_until(began_ns + worker->pause_ns, &at_ns);
			continue;
		}
		if (nap(ports, port_count, &naps)) {
			at_ns = now_ns();
			continue;
		}
		error = sleep_until_ready(worker, ports, port_count, deadline_ns - at_ns);
		if (error == -EINTR)
			return 0;
		if (error)
			return error;
		at_ns = now_ns();
	}
}
