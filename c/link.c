/*
 * The frame path: one packet socket and one queue for each (worker, interface).
 * What the flows of a batch send out of an interface is queued as messages, a
 * run of equal size as one super-frame, and leaves in one sendmmsg(2):
 *
 *   queue:   message | message | ...
 *   message: header (header.h) -> payload -> payload ...   one iovec each,
 *            the payloads still lying in ring memory
 *
 * Nothing stays queued behind a batch. The socket has no PACKET_QDISC_BYPASS:
 * with it, super-frames vanish on devices that cannot cut them.
 *
 * What the kernel refuses tells of runs, of frames, or of neither. A run: no
 * runs for MCR_RUN_RETRY_NS, but only if its first datagram alone is taken. A
 * single frame: no frames by this link, which links.ts then opens anew; unless
 * it was too large, which is a matter of that frame and of the MTU just now.
 */
#define _GNU_SOURCE
#include "send.h"

#include <errno.h>
#include <linux/pkt_sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "option.h"
#include "relay.h"

/* Sent when it holds so much, at the latest; below UIO_MAXIOV. */
#define MESSAGES_MAX 512
#define IOVECS_MAX 2048
/* A burst of several ms; what a device's queue takes is up to the device. */
#define SEND_BUFFER_BYTES (16 << 20)

/* What a message is, beside its bytes. */
struct entry {
	const struct mcr_egress_spec *egress;
	uint32_t packets;
	uint32_t bytes; /* UDP payload */
};

struct mcr_queue {
	struct mcr_queue *next; /* of the worker's queues that hold something */
	int fd;
	int32_t refusal; /* of a frame: errno; written by the worker, read by anyone */
	int64_t runs_refused_until_ns;
	int priority; /* SO_PRIORITY: of the next message, and of all that are queued */
	uint16_t identification; /* of the next plain frame */
	bool is_listed; /* among the worker's queues */
	uint32_t message_count;
	uint32_t iovec_count;
	struct mmsghdr messages[MESSAGES_MAX];
	struct entry entries[MESSAGES_MAX];
	struct iovec iovecs[IOVECS_MAX];
	struct mcr_header headers[MESSAGES_MAX];
} __attribute__((aligned(MCR_CACHE_LINE)));

struct mcr_link {
	uint8_t mac[ETH_ALEN];
	uint32_t queue_count; /* opened */
	size_t bytes;
	struct mcr_queue queues[]; /* by worker */
};

/* -- the sockets ---------------------------------------------------------------- */

/* Protocol 0 receives nothing. */
static int queue_open(struct mcr_queue *queue, uint32_t ifindex)
{
	const struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = (int)ifindex };
	int error;

	queue->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (queue->fd < 0)
		return -errno;
	error = mcr_set_option(queue->fd, SOL_PACKET, PACKET_VNET_HDR, 1);
	/* All egresses of the interface share it: beyond net.core.wmem_max where we may. */
	if (!error && mcr_set_option(queue->fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_BYTES))
		error = mcr_set_option(queue->fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES);
	if (!error && bind(queue->fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		error = -errno;
	return error;
}

struct mcr_link *mcr_link_open(const struct mcr_relay *relay,
			       const struct mcr_link_options *options, int32_t *error)
{
	const size_t bytes =
		sizeof(struct mcr_link) + relay->worker_count * sizeof(struct mcr_queue);
	/* Mapped: a page of a queue exists once it is used. */
	struct mcr_link *link =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (link == MAP_FAILED) {
		*error = -errno;
		return NULL;
	}
	link->bytes = bytes;
	memcpy(link->mac, &options->mac, sizeof(link->mac));
	*error = options->ifindex == 0 ? -ENODEV : 0;
	while (!*error && link->queue_count < relay->worker_count)
		*error = queue_open(&link->queues[link->queue_count++], options->ifindex);
	if (*error) {
		mcr_link_close(link);
		return NULL;
	}
	return link;
}

int32_t mcr_link_refusal(const struct mcr_link *link)
{
	int32_t refusal = 0;

	for (uint32_t i = 0; i < link->queue_count && !refusal; i++)
		refusal = __atomic_load_n(&link->queues[i].refusal, __ATOMIC_RELAXED);
	return refusal;
}

void mcr_link_close(struct mcr_link *link)
{
	for (uint32_t i = 0; i < link->queue_count; i++)
		if (link->queues[i].fd >= 0)
			close(link->queues[i].fd);
	munmap(link, link->bytes);
}

const uint8_t *mcr_link_mac(const struct mcr_link *link)
{
	return link->mac;
}

/* -- what does not go as it is ----------------------------------------------------- */

static bool is_run(const struct mcr_header *header)
{
	return header->offload.gso_size > 0;
}

/* One datagram of a message, by the socket of its egress. */
static int send_by_socket(int fd, struct sockaddr_in to, struct iovec payload)
{
	struct msghdr message = {
		.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &payload, .msg_iovlen = 1
	};

	if (sendmsg(fd, &message, MSG_DONTWAIT) >= 0)
		return 0;
	/* It may have been the ICMP answer to an earlier datagram: egress.c. */
	return mcr_is_full(errno) || sendmsg(fd, &message, MSG_DONTWAIT) < 0 ? errno : 0;
}

/* The datagram number of a message: its own Identification, as the kernel would give it. */
static int send_as_frame(int fd, const struct mcr_header *run, uint16_t number,
			 struct iovec payload)
{
	const uint16_t id = htons((uint16_t)(ntohs(run->ip.id) + number));
	const uint16_t ip_bytes = htons((uint16_t)(payload.iov_len + MCR_DATAGRAM_HEADER_BYTES));
	const uint16_t udp_bytes = htons((uint16_t)(payload.iov_len + sizeof(struct udphdr)));
	struct mcr_header header = *run;
	struct iovec iovecs[] = { { &header, sizeof(header) }, payload };
	struct msghdr message = { .msg_iov = iovecs, .msg_iovlen = 2 };

	header.offload.gso_type = 0;
	header.offload.gso_size = 0;
	/* RFC 1624: a field m becomes m'. */
	header.ip.check = (uint16_t)~mcr_fold((uint64_t)(uint16_t)~header.ip.check +
					      (uint16_t)~header.ip.tot_len + ip_bytes +
					      (uint16_t)~header.ip.id + id);
	header.ip.tot_len = ip_bytes;
	header.ip.id = id;
	header.udp.check =
		mcr_fold((uint64_t)header.udp.check + (uint16_t)~header.udp.len + udp_bytes);
	header.udp.len = udp_bytes;
	return sendmsg(fd, &message, MSG_DONTWAIT) < 0 ? errno : 0;
}

/* How sending one datagram of a message ended: 0 or an errno, and by which way. */
struct outcome {
	int error;
	bool is_frame;
};

/* As a frame; what the device does not take, by the socket of its egress, which cannot keep anything. */
static struct outcome send_datagram(struct mcr_queue *queue, const struct mcr_egress_spec *egress,
				    const struct mcr_header *header, uint16_t number,
				    struct iovec payload)
{
	struct outcome outcome = { .error = queue->refusal };

	if (!queue->refusal)
		outcome.error = send_as_frame(queue->fd, header, number, payload);
	if (mcr_refuses_frames(outcome.error))
		__atomic_store_n(&queue->refusal, outcome.error, __ATOMIC_RELAXED);
	outcome.is_frame = !queue->refusal && outcome.error != EMSGSIZE;
	if (!outcome.is_frame && !egress->keep)
		outcome.error =
			send_by_socket(egress->fd,
				       (struct sockaddr_in){ .sin_family = AF_INET,
							     .sin_port = header->udp.dest,
							     .sin_addr.s_addr = header->ip.daddr },
				       payload);
	return outcome;
}

/* The datagrams of a message one by one. Returns whether the first left as a frame. */
static bool send_singly(struct mcr_worker *worker, struct mcr_queue *queue, uint32_t index)
{
	const struct entry *entry = &queue->entries[index];
	const struct msghdr *message = &queue->messages[index].msg_hdr;
	const struct mcr_header *header = &queue->headers[index];
	struct mcr_egress_counters *counters = &worker->egresses[entry->egress->slot];
	bool is_first_frame = false;
	uint16_t number = 0;

	for (size_t i = 1; i < message->msg_iovlen; i++) {
		uint8_t *next = message->msg_iov[i].iov_base;
		size_t left = message->msg_iov[i].iov_len;

		do {
			struct iovec payload = { next, left };
			struct outcome outcome;

			if (is_run(header) && left > header->offload.gso_size)
				payload.iov_len = header->offload.gso_size;
			outcome = send_datagram(queue, entry->egress, header, number, payload);
			MCR_COUNT(worker->counters->sends, 1);
			if (outcome.error) {
				mcr_count_dropped(counters, 1, outcome.error);
			} else {
				MCR_COUNT(counters->sent_packets, 1);
				MCR_COUNT(counters->sent_bytes, payload.iov_len);
				MCR_COUNT(counters->frame_packets, outcome.is_frame);
				is_first_frame |= number == 0 && outcome.is_frame;
			}
			number++;
			next += payload.iov_len;
			left -= payload.iov_len;
		} while (left > 0);
	}
	return is_first_frame;
}

/* -- sending ------------------------------------------------------------------------ */

static void count_sent(struct mcr_worker *worker, const struct entry *entry)
{
	struct mcr_egress_counters *counters = &worker->egresses[entry->egress->slot];

	MCR_COUNT(counters->sent_packets, entry->packets);
	MCR_COUNT(counters->sent_bytes, entry->bytes);
	MCR_COUNT(counters->frame_packets, entry->packets);
	if (entry->packets > 1) {
		MCR_COUNT(worker->counters->runs, 1);
		MCR_COUNT(worker->counters->run_packets, entry->packets);
	}
}

/* Sends all messages, each exactly once or into one drop counter. */
static void queue_flush(struct mcr_worker *worker, struct mcr_queue *queue)
{
	uint32_t first = 0, tried = MCR_NONE;

	while (first < queue->message_count) {
		const struct entry *entry = &queue->entries[first];
		bool run = is_run(&queue->headers[first]);
		int sent, error;

		if (queue->refusal || (run && !mcr_takes_runs(&queue->runs_refused_until_ns))) {
			send_singly(worker, queue, first++);
			continue;
		}
		sent = sendmmsg(queue->fd, &queue->messages[first], queue->message_count - first,
				MSG_DONTWAIT);
		error = errno;
		MCR_COUNT(worker->counters->sends, 1);
		if (sent > 0) {
			for (uint32_t end = first + (uint32_t)sent; first < end; first++)
				count_sent(worker, &queue->entries[first]);
		} else if (error == EINTR) {
			continue;
		} else if (mcr_refuses_run(error) || error == ENXIO) {
			if (send_singly(worker, queue, first++) && run)
				queue->runs_refused_until_ns = mcr_coarse_ns() + MCR_RUN_RETRY_NS;
		} else if (!mcr_is_full(error) && tried != first) {
			tried = first; /* ENETDOWN of a moment ago is told once: packet(7) */
		} else {
			mcr_count_dropped(&worker->egresses[entry->egress->slot], entry->packets,
					  error);
			first++;
		}
	}
	queue->message_count = 0;
	queue->iovec_count = 0;
}

void mcr_links_flush(struct mcr_worker *worker)
{
	while (worker->queues) {
		struct mcr_queue *queue = worker->queues;

		worker->queues = queue->next;
		queue->is_listed = false;
		queue_flush(worker, queue);
	}
}

/* -- queueing ------------------------------------------------------------------------ */

static struct mcr_kept kept_of(const struct mcr_packet *packet, uint32_t keep)
{
	struct mcr_kept kept = { 0 };

	if (keep & MCR_KEEP_SOURCE)
		kept.source = packet->source;
	if (keep & MCR_KEEP_SOURCE_PORT)
		kept.source_port = packet->source_port;
	if (keep & MCR_KEEP_TTL)
		kept.ttl = packet->ttl;
	if (keep & MCR_KEEP_TTL_LESS_ONE) /* 0 in, 0 out: expired */
		kept.ttl = packet->ttl ? packet->ttl - 1 : 0;
	if (keep & MCR_KEEP_DSCP)
		kept.tos = packet->tos & 0xfc; /* without ECN, RFC 3168 */
	return kept;
}

/* Counts a packet that no frame can carry as its rule wants it. */
static bool is_dropped(const struct mcr_packet *packet, const struct mcr_egress_spec *egress,
		       struct mcr_egress_counters *counters)
{
	const uint32_t keep_ttl = egress->keep & (MCR_KEEP_TTL | MCR_KEEP_TTL_LESS_ONE);

	if (keep_ttl && kept_of(packet, egress->keep).ttl == 0) {
		MCR_COUNT(counters->expired_packets, 1);
		return true;
	}
	if (packet->bytes > egress->segment_bytes_max) {
		mcr_count_dropped(counters, 1, EMSGSIZE);
		return true;
	}
	return false;
}

static bool is_alike(const struct mcr_packet *a, const struct mcr_packet *b, uint32_t keep)
{
	return ((a->port ^ b->port) | (a->hop ^ b->hop)) == 0 &&
	       (!keep || (a->source == b->source && a->source_port == b->source_port &&
			  a->ttl == b->ttl && a->tos == b->tos));
}

/* The packet that begins a message, and how many bytes are in it so far. */
struct run {
	const struct mcr_packet *first;
	uint32_t packets;
	uint32_t bytes;
};

static bool run_takes(const struct run *run, const struct mcr_packet *packet, uint32_t keep)
{
	return packet->bytes > 0 && packet->bytes <= run->first->bytes &&
	       run->bytes + packet->bytes <= MCR_RUN_BYTES_MAX &&
	       is_alike(run->first, packet, keep);
}

static void iovec_add(struct mcr_queue *queue, struct msghdr *message,
		      const struct mcr_packet *packet)
{
	/* sendmsg(2) takes a pointer to non-const and only reads. */
	queue->iovecs[queue->iovec_count++] =
		(struct iovec){ .iov_base = (void *)(uintptr_t)packet->payload,
				.iov_len = packet->bytes };
	message->msg_iovlen++;
}

/* Room for one more message, however long. */
static void queue_reserve(struct mcr_worker *worker, struct mcr_queue *queue)
{
	if (!queue->is_listed) {
		queue->is_listed = true;
		queue->next = worker->queues;
		worker->queues = queue;
	}
	if (queue->message_count == MESSAGES_MAX ||
	    queue->iovec_count + 1 + MCR_RUN_PACKETS_MAX > IOVECS_MAX)
		queue_flush(worker, queue);
}

/* SO_PRIORITY as IP_TOS sets it at the kernel's own sockets: rt_tos2priority(), net/ipv4/route.c. */
static int priority_of(uint8_t tos)
{
	static const uint8_t priorities[] = { TC_PRIO_BESTEFFORT, TC_PRIO_BULK, TC_PRIO_INTERACTIVE,
					      TC_PRIO_INTERACTIVE_BULK };

	return priorities[tos >> 3 & 3];
}

/* What is queued leaves with the priority that it was queued for. */
static void queue_prioritize(struct mcr_worker *worker, struct mcr_queue *queue, int priority)
{
	queue_flush(worker, queue);
	mcr_set_option(queue->fd, SOL_SOCKET, SO_PRIORITY,
		       priority); /* at most 6: any process may */
	queue->priority = priority;
}

/* A datagram that fits no frame goes by the socket, which fragments; behind what is queued, in order. */
static __attribute__((noinline)) void send_large(struct mcr_worker *worker, struct mcr_queue *queue,
						 const struct mcr_egress_spec *egress,
						 const struct mcr_action *action,
						 const struct mcr_packet *packet)
{
	struct mcr_egress_counters *counters = &worker->egresses[egress->slot];
	/* sendmsg(2) takes a pointer to non-const and only reads. */
	const struct iovec payload = { .iov_base = (void *)(uintptr_t)packet->payload,
				       .iov_len = packet->bytes };
	struct sockaddr_in to = action->to;
	int error;

	queue_flush(worker, queue);
	if (to.sin_port == 0)
		to.sin_port = htons(packet->port);
	error = send_by_socket(egress->fd, to, payload);
	MCR_COUNT(worker->counters->sends, 1);
	if (error) {
		mcr_count_dropped(counters, 1, error);
		return;
	}
	MCR_COUNT(counters->sent_packets, 1);
	MCR_COUNT(counters->sent_bytes, packet->bytes);
}

void mcr_flow_queue(const struct mcr_table *table, struct mcr_worker *worker,
		    const struct mcr_packet_list *list, const struct mcr_action *action)
{
	const struct mcr_egress_spec *egress = &table->egresses[action->egress];
	const struct mcr_template *template = &table->templates[action->template];
	struct mcr_egress_counters *counters = &worker->egresses[egress->slot];
	struct mcr_queue *queue = &egress->link->queues[worker->index];
	const struct mcr_packet *packets = worker->packets;
	uint32_t next = list->first, packets_max = MCR_RUN_PACKETS_MAX;

	if (egress->plain || queue->refusal || !mcr_takes_runs(&queue->runs_refused_until_ns))
		packets_max = 1;
	while (next != MCR_NONE) {
		const struct mcr_packet *first = &packets[next];
		const struct mcr_kept kept = kept_of(first, egress->keep);
		const int priority = priority_of(template->header.ip.tos | kept.tos);
		struct run run = { .first = first, .packets = 1, .bytes = first->bytes };
		struct msghdr *message;
		uint32_t index;

		next = first->next;
		if (egress->keep && is_dropped(first, egress, counters))
			continue;
		if (__builtin_expect(first->bytes > egress->segment_bytes_max, 0)) {
			send_large(worker, queue, egress, action, first);
			continue;
		}
		queue_reserve(worker, queue);
		if (__builtin_expect(queue->priority != priority, 0))
			queue_prioritize(worker, queue, priority);
		index = queue->message_count++;
		message = &queue->messages[index].msg_hdr;
		message->msg_iov = &queue->iovecs[queue->iovec_count++];
		message->msg_iov->iov_base = &queue->headers[index];
		message->msg_iov->iov_len = sizeof(queue->headers[index]);
		message->msg_iovlen = 1;
		iovec_add(queue, message, first);
		while (next != MCR_NONE && run.packets < packets_max &&
		       run_takes(&run, &packets[next], egress->keep)) {
			const struct mcr_packet *packet = &packets[next];

			iovec_add(queue, message, packet);
			run.packets++;
			run.bytes += packet->bytes;
			next = packet->next;
			if (packet->bytes < first->bytes) /* only the last may be shorter */
				break;
		}
		mcr_header_fill(
			&queue->headers[index], template, kept,
			(struct mcr_message){
				.payload_bytes = run.bytes,
				.segment_bytes = run.packets > 1 ? (uint16_t)first->bytes : 0,
				.identification = egress->plain ? htons(queue->identification++) :
								  htons(mcr_hop_mark(first->hop)),
				.port = action->to.sin_port ? 0 : htons(first->port) });
		queue->entries[index] = (struct entry){ .egress = egress,
							.packets = run.packets,
							.bytes = run.bytes };
	}
}
