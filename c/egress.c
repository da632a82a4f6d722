/*
 * Sending: one UDP socket per egress, shared by all workers; where the frame
 * path fits, it only keeps the source port and takes what does not (link.c).
 * Datagrams of one flow and equal size leave as one message with UDP_SEGMENT
 * (udp(7)), so that the walk through the network stack is paid once per run; of
 * an egress that is plain, one by one.
 */
#define _GNU_SOURCE
#include "send.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "option.h"

/* Packets handed to the kernel in one sendmmsg(2), at most UIO_MAXIOV. */
#define MESSAGES_MAX 512
#define SEND_BUFFER_BYTES (4 << 20)

union control {
	struct cmsghdr header;
	uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
};

struct mcr_sender {
	/* The packets of one flow, MESSAGES_MAX at a time. */
	uint32_t packet_count;
	struct iovec packets[MESSAGES_MAX];
	uint16_t ports[MESSAGES_MAX];
	/* The same as messages: packets one by one, or in runs. */
	uint32_t message_count;
	struct mmsghdr messages[MESSAGES_MAX];
	struct sockaddr_in names[MESSAGES_MAX];
	union control controls[MESSAGES_MAX];
};

struct mcr_sender *mcr_sender_open(void)
{
	return calloc(1, sizeof(struct mcr_sender));
}

void mcr_sender_close(struct mcr_sender *sender)
{
	free(sender);
}

/* -- the socket --------------------------------------------------------------- */

static int egress_setup(int fd, const struct mcr_egress_options *options)
{
	const struct ip_mreqn out = { .imr_ifindex = (int)options->ifindex };
	const struct sockaddr_in local = { .sin_family = AF_INET,
					   .sin_port = htons(options->source_port),
					   .sin_addr.s_addr = options->source };
	int error = mcr_set_option(fd, SOL_SOCKET, SO_BINDTOIFINDEX, (int)options->ifindex);

	/* Binding to an interface that does not exist succeeds; this says so, as EADDRNOTAVAIL. */
	if (!error && setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) < 0)
		error = errno == EADDRNOTAVAIL ? -ENODEV : -errno;
	if (!error)
		error = mcr_set_option(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	if (!error)
		error = mcr_set_option(fd, IPPROTO_IP, IP_MULTICAST_TTL, options->ttl);
	if (!error)
		error = mcr_set_option(fd, IPPROTO_IP, IP_TTL, options->ttl);
	if (!error)
		error = mcr_set_option(fd, IPPROTO_IP, IP_TOS, options->dscp << 2);
	/* Without it the kernel hides drops of a full device queue: ip(7). */
	if (!error)
		error = mcr_set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
	if (!error)
		error = mcr_set_option(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES);
	if (!error)
		error = mcr_set_option(fd, SOL_SOCKET, SO_RCVBUF, 0);
	if (!error)
		error = mcr_receive_nothing(fd);
	/* Several egresses may ask for one source port. */
	if (!error && options->source_port)
		error = mcr_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!error && bind(fd, (const struct sockaddr *)&local, sizeof(local)) < 0)
		error = -errno;
	return error;
}

int32_t mcr_egress_open(const struct mcr_egress_options *options)
{
	int fd, error;

	if (options->ifindex == 0) /* would send wherever the routes say */
		return -ENODEV;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	error = egress_setup(fd, options);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

int32_t mcr_egress_port(int32_t fd)
{
	struct sockaddr_in local;
	socklen_t bytes = sizeof(local);

	if (getsockname(fd, (struct sockaddr *)&local, &bytes) < 0)
		return -errno;
	return ntohs(local.sin_port);
}

/* -- messages ----------------------------------------------------------------- */

/* How many packets from first on make one message; segment_bytes_max 0: one. */
static uint32_t run_length(const struct mcr_sender *sender, uint32_t first,
			   uint32_t segment_bytes_max)
{
	size_t segment_bytes = sender->packets[first].iov_len, total = segment_bytes;
	uint32_t end = first + 1;

	if (segment_bytes == 0 || segment_bytes > segment_bytes_max)
		return 1;
	while (end < sender->packet_count && end - first < MCR_RUN_PACKETS_MAX) {
		size_t bytes = sender->packets[end].iov_len;

		if (bytes == 0 || bytes > segment_bytes || total + bytes > MCR_RUN_BYTES_MAX ||
		    sender->ports[end] != sender->ports[first])
			break;
		total += bytes;
		end++;
		if (bytes < segment_bytes) /* only the last may be shorter */
			break;
	}
	return end - first;
}

static void set_segment_bytes(struct msghdr *message, union control *control, uint16_t bytes)
{
	message->msg_control = control;
	message->msg_controllen = sizeof(*control);
	control->header.cmsg_level = SOL_UDP;
	control->header.cmsg_type = UDP_SEGMENT;
	control->header.cmsg_len = CMSG_LEN(sizeof(bytes));
	memcpy(CMSG_DATA(&control->header), &bytes, sizeof(bytes));
}

static void fill_messages(struct mcr_sender *sender, uint32_t segment_bytes_max)
{
	uint32_t first = 0;

	sender->message_count = 0;
	while (first < sender->packet_count) {
		uint32_t index = sender->message_count++;
		uint32_t length = run_length(sender, first, segment_bytes_max);
		struct msghdr *message = &sender->messages[index].msg_hdr;

		*message = (struct msghdr){ .msg_name = &sender->names[index],
					    .msg_namelen = sizeof(sender->names[index]),
					    .msg_iov = &sender->packets[first],
					    .msg_iovlen = length };
		if (length > 1)
			set_segment_bytes(message, &sender->controls[index],
					  (uint16_t)sender->packets[first].iov_len);
		first += length;
	}
}

/* The same messages to another destination. */
static void address_messages(struct mcr_sender *sender, const struct sockaddr_in *to)
{
	for (uint32_t i = 0; i < sender->message_count; i++) {
		const struct iovec *first = sender->messages[i].msg_hdr.msg_iov;

		sender->names[i] = *to;
		if (to->sin_port == 0)
			sender->names[i].sin_port = htons(sender->ports[first - sender->packets]);
	}
}

/* -- sending ------------------------------------------------------------------- */

static uint64_t message_bytes(const struct msghdr *message)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		bytes += message->msg_iov[i].iov_len;
	return bytes;
}

static void count_sent(struct mcr_worker *worker, struct mcr_egress_counters *counters,
		       const struct msghdr *message)
{
	MCR_COUNT(counters->sent_packets, message->msg_iovlen);
	MCR_COUNT(counters->sent_bytes, message_bytes(message));
	if (message->msg_iovlen > 1) {
		MCR_COUNT(worker->counters->runs, 1);
		MCR_COUNT(worker->counters->run_packets, message->msg_iovlen);
	}
}

/*
 * Sends messages[first..end), each exactly once or into one drop counter.
 * An error that belongs to the socket may be the ICMP answer to an earlier
 * datagram (ip(7), IP_RECVERR): reporting it clears it, so each message gets a
 * second try. EINVAL is none: port 0. Returns the index where a run was
 * refused, or end.
 */
static uint32_t send_messages(struct mcr_worker *worker, int fd,
			      struct mcr_egress_counters *counters, struct mmsghdr *messages,
			      uint32_t first, uint32_t end)
{
	uint32_t tried = MCR_NONE;

	while (first < end) {
		int sent = sendmmsg(fd, &messages[first], end - first, MSG_DONTWAIT);
		int error = errno;

		MCR_COUNT(worker->counters->sends, 1);
		if (sent > 0) {
			for (uint32_t last = first + (uint32_t)sent; first < last; first++)
				count_sent(worker, counters, &messages[first].msg_hdr);
			continue;
		}
		if (error == EINTR)
			continue;
		if (messages[first].msg_hdr.msg_iovlen > 1 && mcr_refuses_run(error))
			return first;
		mcr_set_last_error(counters, error);
		if (!mcr_is_full(error) && error != EINVAL && tried != first) {
			tried = first;
			continue;
		}
		mcr_count_dropped(counters, messages[first].msg_hdr.msg_iovlen, error);
		first++;
	}
	return end;
}

/* The datagrams of a message one by one. Returns whether the first was sent. */
static bool send_singly(struct mcr_worker *worker, int fd, struct mcr_egress_counters *counters,
			const struct mmsghdr *message)
{
	const uint64_t sent_before = counters->sent_packets;
	bool is_first_sent = false;

	for (size_t i = 0; i < message->msg_hdr.msg_iovlen; i++) {
		struct mmsghdr single = *message;

		single.msg_hdr.msg_iov += i;
		single.msg_hdr.msg_iovlen = 1;
		single.msg_hdr.msg_control = NULL;
		single.msg_hdr.msg_controllen = 0;
		send_messages(worker, fd, counters, &single, 0, 1);
		is_first_sent |= i == 0 && counters->sent_packets > sent_before;
	}
	return is_first_sent;
}

/* A refused run tells of runs only where its first datagram alone is taken: it may be for port 0. */
static void send_all(struct mcr_worker *worker, int fd, struct mcr_egress_counters *counters,
		     int64_t *runs_refused_until_ns)
{
	struct mcr_sender *sender = worker->sender;
	const uint32_t end = sender->message_count;
	uint32_t next = 0;

	while ((next = send_messages(worker, fd, counters, sender->messages, next, end)) < end) {
		if (!send_singly(worker, fd, counters, &sender->messages[next++]))
			continue;
		*runs_refused_until_ns = mcr_coarse_ns() + MCR_RUN_RETRY_NS;
		while (next < end)
			send_singly(worker, fd, counters, &sender->messages[next++]);
	}
}

static void send_to_egress(const struct mcr_table *table, struct mcr_worker *worker,
			   struct mcr_scratch *scratch, const struct mcr_action *action,
			   uint64_t *filled_for)
{
	const struct mcr_egress_spec *egress = &table->egresses[action->egress];
	struct mcr_egress_counters *counters = &worker->egresses[egress->slot];
	struct mcr_sender *sender = worker->sender;
	int64_t *runs_refused_until_ns = &scratch->runs_refused_until_ns[action->egress];
	uint32_t limit = egress->segment_bytes_max;

	if (egress->fd < 0) {
		MCR_COUNT(counters->unavailable_packets, sender->packet_count);
		return;
	}
	if (egress->plain || !mcr_takes_runs(runs_refused_until_ns))
		limit = 0;
	if (limit != *filled_for) { /* egresses of one MTU share the messages */
		fill_messages(sender, limit);
		*filled_for = limit;
	}
	address_messages(sender, &action->to);
	send_all(worker, egress->fd, counters, runs_refused_until_ns);
}

void mcr_flow_send_by_sockets(const struct mcr_table *table, struct mcr_worker *worker,
			      struct mcr_scratch *scratch, uint32_t flow)
{
	const struct mcr_flow *spec = &table->flows[flow];
	const struct mcr_action *actions = &table->actions[spec->action_first];
	struct mcr_sender *sender = worker->sender;
	uint32_t next = scratch->lists[flow].first;

	while (next != MCR_NONE) {
		uint64_t filled_for = UINT64_MAX; /* no limit yet */

		sender->packet_count = 0;
		while (next != MCR_NONE && sender->packet_count < MESSAGES_MAX) {
			const struct mcr_packet *packet = &worker->packets[next];
			uint32_t index = sender->packet_count++;

			/* sendmsg(2) takes a pointer to non-const and only reads. */
			sender->packets[index].iov_base = (void *)(uintptr_t)packet->payload;
			sender->packets[index].iov_len = packet->bytes;
			sender->ports[index] = packet->port;
			next = packet->next;
		}
		for (uint32_t i = 0; i < spec->action_count; i++)
			if (actions[i].template == MCR_NONE)
				send_to_egress(table, worker, scratch, &actions[i], &filled_for);
	}
}
