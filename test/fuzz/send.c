/*
 * Fuzzes c/link.c and c/egress.c: random packets of a batch to random egresses,
 * through calls that refuse at random. Every descriptor is one end of a socket
 * pair, and what was sent is read at the other, in the order it was sent: its
 * headers are sound and say what the rule and the packet want, its payloads are
 * those of the packets, in order and none twice, and the counters are exact.
 *
 *   input: | egresses | flows, with their actions | batches of packets ... |
 *          | what the kernel answers, a byte a message, from the end backwards |
 */
#define _GNU_SOURCE
#include "fuzz.h"
#include "hop.h"
#include "relay.h"
#include "send.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINKS 2
#define EGRESSES 4
#define FLOWS 4
#define ACTIONS (2 * FLOWS)
#define BATCH_PACKETS 1200
#define BATCHES 3
#define MESSAGES (BATCH_PACKETS * ACTIONS)
#define BUFFER_BYTES (32 << 20)

/* -- the kernel, as far as the sending side sees it ---------------------------------- */

/* A descriptor of ours and who reads it; the packet sockets come first. */
struct pair {
	int fd, reader;
	int priority;
};

static struct pair pairs[LINKS + EGRESSES];
static uint32_t link_opening; /* which of the pairs socket(2) gives */

/* What was sent, in order, beside its bytes. */
struct trace {
	uint32_t pair;
	int priority;
	uint16_t segment_bytes; /* UDP_SEGMENT */
	struct sockaddr_in to;
};

static struct trace traces[MESSAGES];
static uint32_t trace_count;
static int64_t clock_ns = 1;

static const uint8_t *next, *end;

static uint8_t take(void)
{
	return next < end ? *next++ : 0;
}

/* 0, or the errno of the next message; in the end everything is taken. */
static int answer(void)
{
	static const int errors[] = { EAGAIN, ENOBUFS,	EINVAL,	      EMSGSIZE, EOPNOTSUPP, EIO,
				      ENOMEM, ENETDOWN, ECONNREFUSED, EINTR,	EPERM };
	uint8_t byte = next < end ? *--end : 0;

	return byte < 256 - 4 * sizeof(errors) / sizeof(errors[0]) ? 0 : errors[(255 - byte) / 4];
}

static uint32_t pair_of(int fd)
{
	uint32_t i = 0;

	while (i < LINKS + EGRESSES && pairs[i].fd != fd)
		i++;
	return i;
}

static void pair_open(struct pair *pair)
{
	const int bytes = BUFFER_BYTES;
	int ends[2];

	require(syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) == 0);
	syscall(SYS_setsockopt, ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	*pair = (struct pair){ .fd = ends[0], .reader = ends[1] };
}

/* The kernel's own rules: no datagram to port 0, and UDP_SEGMENT in the one control message. */
static int note(struct trace *trace, const struct msghdr *message)
{
	const struct cmsghdr *control = CMSG_FIRSTHDR(message);

	if (message->msg_name) {
		require(message->msg_namelen == sizeof(trace->to));
		memcpy(&trace->to, message->msg_name, sizeof(trace->to));
		if (trace->to.sin_port == 0)
			return EINVAL;
	}
	if (control)
		memcpy(&trace->segment_bytes, CMSG_DATA(control), sizeof(trace->segment_bytes));
	return 0;
}

static int send_one(int fd, const struct msghdr *message)
{
	struct msghdr bare = *message;
	struct trace trace = { .pair = pair_of(fd) };
	int error = answer();

	require(trace.pair < LINKS + EGRESSES && message->msg_iovlen > 0);
	require((trace.pair < LINKS) == !message->msg_name);
	trace.priority = pairs[trace.pair].priority;
	if (!error)
		error = note(&trace, message);
	bare.msg_name = NULL;
	bare.msg_namelen = 0;
	bare.msg_control = NULL;
	bare.msg_controllen = 0;
	if (!error && syscall(SYS_sendmsg, fd, &bare, MSG_DONTWAIT) < 0)
		error = errno;
	if (!error) {
		require(trace_count < MESSAGES);
		traces[trace_count++] = trace;
	}
	return error;
}

/* These stand in front of libc's. */
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	require(count > 0 && count <= 1024 && flags == MSG_DONTWAIT); /* UIO_MAXIOV */
	for (unsigned int i = 0; i < count; i++) {
		int error = send_one(fd, &messages[i].msg_hdr);

		if (error && i > 0)
			return (int)i;
		if (error) {
			errno = error;
			return -1;
		}
	}
	return (int)count;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	int error = send_one(fd, message);

	require(flags == MSG_DONTWAIT);
	if (!error)
		return 1; /* nobody reads how much */
	errno = error;
	return -1;
}

int socket(int domain, int type, int protocol)
{
	if (domain != AF_PACKET)
		return (int)syscall(SYS_socket, domain, type, protocol);
	pair_open(&pairs[link_opening]);
	return pairs[link_opening].fd;
}

int bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
	return pair_of(fd) < LINKS ? 0 : (int)syscall(SYS_bind, fd, address, bytes);
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t bytes)
{
	const uint32_t pair = pair_of(fd);

	if (pair >= LINKS)
		return (int)syscall(SYS_setsockopt, fd, level, option, value, bytes);
	if (level == SOL_SOCKET && option == SO_PRIORITY)
		memcpy(&pairs[pair].priority, value, sizeof(int));
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (clock != CLOCK_MONOTONIC_COARSE)
		return (int)syscall(SYS_clock_gettime, clock, now);
	now->tv_sec = clock_ns / 1000000000;
	now->tv_nsec = clock_ns % 1000000000;
	return 0;
}

/* -- what is sent --------------------------------------------------------------------- */

static struct mcr_relay *relay;
static struct mcr_worker *worker;
static struct mcr_link *links[LINKS];
static uint32_t plain_ids[LINKS]; /* Identification of the last plain frame; MCR_NONE: none yet */

static struct mcr_egress_spec egresses[EGRESSES];
static struct mcr_flow_spec flows[FLOWS];
static struct mcr_action_spec actions[ACTIONS];
static uint32_t egress_count, flow_count, action_count;

/* Payloads overlap and differ: that of packet i begins 8 bytes behind that of i - 1. */
static uint8_t bytes[65536 + 8 * BATCH_PACKETS];

static const struct mcr_link_options link_options = { .mac = 0x010000000002, .ifindex = 1 };

static void links_open(void)
{
	int32_t error;

	for (uint32_t i = 0; i < LINKS; i++) {
		if (links[i] && mcr_link_refusal(links[i]) == 0)
			continue;
		if (links[i]) {
			mcr_link_close(links[i]);
			close(pairs[i].reader);
		}
		pairs[i].fd = -1;
		plain_ids[i] = MCR_NONE;
		link_opening = i;
		links[i] = mcr_link_open(relay, &link_options, &error);
		require(links[i] != NULL);
	}
}

static void open_all(void)
{
	uint64_t state = 1;
	int32_t error;

	for (size_t i = 0; i < sizeof(bytes); i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		bytes[i] = (uint8_t)(state >> 56);
	}
	for (uint32_t i = 0; i < LINKS + EGRESSES; i++)
		pairs[i].fd = -1;
	for (uint32_t i = 0; i < EGRESSES; i++)
		pair_open(&pairs[LINKS + i]);
	relay = mcr_relay_open(1, &error);
	require(relay != NULL);
	worker = &relay->workers[0];
}

static void take_egresses(void)
{
	static const uint32_t segment_bytes_max[] = { 1472, 1272, 8972, 0, 1, 65507, 65000, 100 };

	egress_count = 1 + take() % EGRESSES;
	for (uint32_t i = 0; i < egress_count; i++) {
		uint8_t byte = take();

		egresses[i] = (struct mcr_egress_spec){
			.link = byte & 3 ? links[byte & 1] : NULL,
			.fd = byte >> 4 ? pairs[LINKS + i].fd : -1,
			.slot = i,
			.segment_bytes_max = segment_bytes_max[take() % 8],
			.source = 0x01020304u * (i + 1),
			.source_port = (uint16_t)(take() % 3 * 7000),
			.ttl = take(),
			.dscp = take() & 63,
			.plain = byte >> 2 & 1,
		};
		if (egresses[i].link)
			egresses[i].keep = byte & 8 ? take() & 31 : 0;
	}
}

/* Every action has a group of its own: by it a message is known. */
static void take_flows(void)
{
	flow_count = 1 + take() % FLOWS;
	action_count = 0;
	for (uint32_t i = 0; i < flow_count; i++) {
		uint8_t byte = take();

		flows[i] = (struct mcr_flow_spec){ .rule = i,
						   .action_first = action_count,
						   .action_count = byte % 3 };
		for (uint32_t j = 0; j < flows[i].action_count; j++, action_count++)
			actions[action_count] = (struct mcr_action_spec){
				.address = { [10] = 0xff, 0xff, 239, 1, 1, (uint8_t)action_count },
				.port = take() & 1 ? (uint16_t)(6000 + action_count) : 0,
				.egress = take() % egress_count,
			};
	}
}

static struct mcr_table *table_build(void)
{
	const struct mcr_table_spec spec = { .flows = flows,
					     .actions = actions,
					     .egresses = egresses,
					     .flow_count = flow_count,
					     .action_count = action_count,
					     .egress_count = egress_count,
					     .epoch = 1 };
	struct mcr_table *table;
	int32_t error;

	table = mcr_table_build(relay, &spec, &error);
	require(table != NULL);
	return table;
}

static uint32_t flow_packets[FLOWS]; /* of this batch */

static void append(struct mcr_scratch *scratch, uint32_t flow, struct mcr_packet packet)
{
	struct mcr_packet_list *list = &scratch->lists[flow];
	uint32_t index = worker->packet_count++;

	packet.payload = bytes + 8 * (size_t)index;
	packet.next = MCR_NONE;
	worker->packets[index] = packet;
	if (list->first == MCR_NONE) {
		*list = (struct mcr_packet_list){ .first = index };
		scratch->touched[scratch->touched_count++] = flow;
	} else {
		worker->packets[list->last].next = index;
	}
	list->last = index;
	flow_packets[flow]++;
}

/* Packets of a flow, alike but for the last's length. */
static void take_packets(struct mcr_scratch *scratch)
{
	static const uint32_t sizes[] = { 0,	1,    46,   100,  188,	1000,  1272,  1273,
					  1316, 1400, 1472, 1473, 8972, 30000, 65000, 65507 };
	static const uint16_t ports[] = { 5001, 5002, 0, 65535 };
	uint8_t kind = take(), size = take(), more = take();
	uint32_t count = kind & 0x80 ? 1 + more : 1 + more % 4, flow = kind % flow_count;
	struct mcr_packet packet = { .bytes = sizes[size & 15],
				     .port = ports[kind >> 2 & 3],
				     .source = 0x0a000001u + (kind >> 4 & 1),
				     .source_port = htons(kind & 0x20 ? 4001 : 0),
				     .hop = 1,
				     .ttl = 64 };

	if (packet.bytes > 1473 && count > 8) /* they say no more, and take their time */
		count = 8;
	if (kind & 0x40) {
		packet.ttl = take() & 3;
		packet.tos = take();
		packet.hop = (uint8_t)(1 + take() % 7);
	}
	for (; count > 0 && worker->packet_count < BATCH_PACKETS; count--) {
		if (count == 1 && packet.bytes > 0)
			packet.bytes -= size >> 4 & packet.bytes;
		append(scratch, flow, packet);
	}
}

/* -- what arrives ----------------------------------------------------------------------- */

/* How far the packets of an action's flow have been seen. */
static struct progress {
	uint32_t next; /* packet; MCR_NONE: all */
	uint64_t packets, frames, bytes;
} progress[ACTIONS];

static uint16_t pseudo_sum(const struct mcr_header *header)
{
	uint8_t pseudo[12] = { [9] = IPPROTO_UDP };

	memcpy(pseudo, &header->ip.saddr, 8);
	memcpy(pseudo + 10, &header->udp.len, 2);
	return mcr_fold(mcr_sum(pseudo, sizeof(pseudo), 0));
}

/* Sound in itself, and as long as it says. */
static void require_sound(const struct mcr_header *header, size_t payload_bytes)
{
	const uint8_t *group = (const uint8_t *)&header->ip.daddr;
	const uint8_t to[] = { 0x01, 0x00, 0x5e, group[1] & 0x7f, group[2], group[3] };

	require(memcmp(header->ethernet.h_dest, to, 6) == 0);
	require(memcmp(header->ethernet.h_source, &link_options.mac, 6) == 0);
	require(header->ethernet.h_proto == htons(ETH_P_IP));
	require(header->ip.version == 4 && header->ip.ihl == 5);
	require(header->ip.protocol == IPPROTO_UDP && header->ip.frag_off == htons(IP_DF));
	require(ntohs(header->ip.tot_len) == payload_bytes + 28);
	require(ntohs(header->udp.len) == payload_bytes + 8);
	require(mcr_fold(mcr_sum((const uint8_t *)&header->ip, 20, 0)) == 0xffff);
	require(header->udp.check == pseudo_sum(header));
	require(header->offload.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM);
	require(header->offload.hdr_len == 42 && header->offload.csum_start == 34);
	require(header->offload.csum_offset == 6);
	require(header->offload.gso_type == (header->offload.gso_size ? 5 : 0));
}

static int priority_of(uint8_t tos)
{
	static const uint8_t ip_tos2prio[16] = { 0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4 };

	return ip_tos2prio[(tos & 0x1e) >> 1];
}

static uint8_t ttl_of(const struct mcr_egress_spec *egress, const struct mcr_packet *packet)
{
	if (egress->keep & MCR_KEEP_TTL_LESS_ONE)
		return packet->ttl ? packet->ttl - 1 : 0;
	return egress->keep & MCR_KEEP_TTL ? packet->ttl : egress->ttl;
}

/* The header is the one that this packet wants. */
static bool is_wanted(const struct mcr_header *header, const struct trace *trace,
		      const struct mcr_egress_spec *egress, const struct mcr_action_spec *action,
		      const struct mcr_packet *packet)
{
	const uint8_t tos = egress->keep & MCR_KEEP_DSCP ? packet->tos & 0xfc : egress->dscp << 2;
	const uint16_t id = ntohs(header->ip.id);

	return header->ip.saddr ==
		       (egress->keep & MCR_KEEP_SOURCE ? packet->source : egress->source) &&
	       header->udp.source == (egress->keep & MCR_KEEP_SOURCE_PORT ?
					      packet->source_port :
					      htons(egress->source_port)) &&
	       header->udp.dest == htons(action->port ? action->port : packet->port) &&
	       header->ip.ttl == ttl_of(egress, packet) && header->ip.tos == tos &&
	       trace->priority == priority_of(tos) &&
	       (egress->plain || (id & ~0x3f) == (0xb400 | packet->hop << 6));
}

/* The datagram is one of the packets that are still to come; those before it were dropped. */
static void require_next(uint32_t index, const struct trace *trace, const struct mcr_header *header,
			 const uint8_t *payload, size_t payload_bytes)
{
	const struct mcr_action_spec *action = &actions[index];
	const struct mcr_egress_spec *egress = &egresses[action->egress];
	struct progress *at = &progress[index];

	for (; at->next != MCR_NONE; at->next = worker->packets[at->next].next) {
		const struct mcr_packet *packet = &worker->packets[at->next];
		const uint16_t port = htons(action->port ? action->port : packet->port);

		if (packet->bytes == payload_bytes &&
		    memcmp(packet->payload, payload, payload_bytes) == 0 &&
		    (header ? is_wanted(header, trace, egress, action, packet) :
			      trace->to.sin_port == port))
			break;
	}
	require(at->next != MCR_NONE);
	at->next = worker->packets[at->next].next;
	at->packets++;
	at->frames += header != NULL;
	at->bytes += payload_bytes;
}

static void read_message(const struct trace *trace)
{
	static uint8_t buffer[70000];
	const struct mcr_egress_spec *egress;
	struct mcr_header header;
	const uint8_t *payload = buffer;
	const bool is_frame = trace->pair < LINKS;
	size_t segment_bytes = trace->segment_bytes, left, count = 0;
	uint32_t address = trace->to.sin_addr.s_addr, index;
	ssize_t length = recv(pairs[trace->pair].reader, buffer, sizeof(buffer), 0);

	require(length >= 0);
	left = (size_t)length;
	if (is_frame) {
		require(left >= sizeof(header));
		memcpy(&header, buffer, sizeof(header));
		payload += sizeof(header);
		left -= sizeof(header);
		require_sound(&header, left);
		segment_bytes = header.offload.gso_size;
		address = header.ip.daddr;
	}
	index = ntohl(address) & 0xff;
	require(ntohl(address) >> 8 == 0xef0101 && index < action_count);
	egress = &egresses[actions[index].egress];
	require(is_frame ? egress->link == links[trace->pair] :
			   egress->fd == pairs[trace->pair].fd && !egress->keep);
	require(!segment_bytes || (!egress->plain && left > segment_bytes && left <= 65000 &&
				   segment_bytes <= egress->segment_bytes_max));
	require(!is_frame || segment_bytes || left <= egress->segment_bytes_max);
	if (is_frame && segment_bytes)
		require((ntohs(header.ip.id) & 0x3f) == 0);
	if (is_frame && egress->plain) {
		require(header.ip.id != plain_ids[trace->pair]);
		plain_ids[trace->pair] = header.ip.id;
	}
	do {
		size_t bytes = segment_bytes && left > segment_bytes ? segment_bytes : left;

		require_next(index, trace, is_frame ? &header : NULL, payload, bytes);
		payload += bytes;
		left -= bytes;
		count++;
	} while (left > 0);
	require(count <= 64);
}

/* -- one batch --------------------------------------------------------------------------- */

static uint64_t expired_count(const struct mcr_egress_spec *egress, uint32_t first)
{
	uint64_t expired = 0;

	if (egress->fd < 0 || !(egress->keep & (MCR_KEEP_TTL | MCR_KEEP_TTL_LESS_ONE)))
		return 0;
	for (; first != MCR_NONE; first = worker->packets[first].next)
		expired += ttl_of(egress, &worker->packets[first]) == 0;
	return expired;
}

static void require_counted(const struct mcr_scratch *scratch, const uint32_t *firsts)
{
	for (uint32_t i = 0; i < egress_count; i++) {
		const struct mcr_egress_counters *counters = &worker->egresses[i];
		uint64_t packets = 0, sent = 0, frames = 0, sent_bytes = 0, expired = 0;

		for (uint32_t flow = 0; flow < flow_count; flow++)
			for (uint32_t j = 0; j < flows[flow].action_count; j++) {
				const uint32_t index = flows[flow].action_first + j;

				if (actions[index].egress != i)
					continue;
				packets += flow_packets[flow];
				expired += expired_count(&egresses[i], firsts[flow]);
				sent += progress[index].packets;
				frames += progress[index].frames;
				sent_bytes += progress[index].bytes;
			}
		require(counters->sent_packets == sent && counters->sent_bytes == sent_bytes);
		require(counters->frame_packets == frames && counters->expired_packets == expired);
		require(counters->unavailable_packets == (egresses[i].fd < 0 ? packets : 0));
		require(packets == sent + counters->full_packets + counters->error_packets +
					   counters->unavailable_packets + expired);
	}
	require(worker->packet_count == 0 && scratch->touched_count == 0 && !worker->queues);
}

static void batch(struct mcr_table *table)
{
	struct mcr_scratch *scratch = &table->scratch[0];
	uint32_t firsts[FLOWS], groups = take();

	memset(worker->egresses, 0, egress_count * sizeof(*worker->egresses));
	memset(flow_packets, 0, sizeof(flow_packets));
	trace_count = 0;
	clock_ns += (int64_t)take() << 25; /* up to 8.5 s */
	while (groups-- > 0 && next < end)
		take_packets(scratch);
	for (uint32_t i = 0; i < flow_count; i++) {
		firsts[i] = scratch->lists[i].first;
		for (uint32_t j = 0; j < flows[i].action_count; j++)
			progress[flows[i].action_first + j] =
				(struct progress){ .next = firsts[i] };
	}
	mcr_batch_send(table, worker, scratch);
	for (uint32_t i = 0; i < trace_count; i++)
		read_message(&traces[i]);
	require_counted(scratch, firsts);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct mcr_table *table;

	if (!relay)
		open_all();
	links_open();
	clock_ns += MCR_RUN_RETRY_NS; /* nothing is left of the input before */
	next = input;
	end = input + size;
	take_egresses();
	take_flows();
	table = table_build();
	for (uint32_t i = 0; i < BATCHES && next < end; i++)
		batch(table);
	mcr_table_free(table);
	return 0;
}
