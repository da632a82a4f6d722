/*
 * c/header.h and c/link.c. Headers are compared with sums that are computed
 * from the bytes alone; frames cross a veth pair into a network namespace of
 * their own, where a plain UDP socket that joined the group compares payloads
 * (and packet sockets the headers). Without the right to make namespaces only
 * the headers are tested.
 */
#define _GNU_SOURCE
#include "hop.h"
#include "relay.h"
#include "send.h"

#include <fcntl.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "check.h"

static struct mcr_relay *relay;
static struct mcr_worker *worker;
static struct mcr_egress_counters *sent; /* of egress slot 0 */

/* -- headers ------------------------------------------------------------------------ */

static const struct mcr_endpoints usual = { .mac = { 2, 0, 0, 0, 0, 1 }, .ttl = 8, .tos = 46 << 2 };

static struct mcr_endpoints endpoints(void)
{
	struct mcr_endpoints endpoints = usual;

	endpoints.source = inet_addr("10.9.0.77");
	endpoints.group = inet_addr("239.129.2.3");
	endpoints.source_port = htons(40001);
	endpoints.port = htons(6001);
	return endpoints;
}

static uint16_t pseudo_sum(const struct mcr_header *header)
{
	uint8_t pseudo[12] = { [9] = IPPROTO_UDP };

	memcpy(pseudo, &header->ip.saddr, 8);
	memcpy(pseudo + 10, &header->udp.len, 2);
	return mcr_fold(mcr_sum(pseudo, sizeof(pseudo), 0));
}

static void expect_sums(const struct mcr_header *header)
{
	EXPECT(mcr_fold(mcr_sum((const uint8_t *)&header->ip, 20, 0)), 0xffff);
	EXPECT(header->udp.check, pseudo_sum(header));
}

static void test_header(void)
{
	static const uint8_t group_mac[] = { 0x01, 0x00, 0x5e, 0x01, 0x02, 0x03 };
	const struct mcr_endpoints to = endpoints();
	struct mcr_template template;
	struct mcr_header header;

	begin("a header of one datagram");
	mcr_template_prepare(&template, &to);
	mcr_header_fill(&header, &template, (struct mcr_kept){ 0 },
			(struct mcr_message){ .payload_bytes = 1316 });
	EXPECT(memcmp(header.ethernet.h_dest, group_mac, 6), 0);
	EXPECT(memcmp(header.ethernet.h_source, usual.mac, 6), 0);
	EXPECT(ntohs(header.ethernet.h_proto), ETH_P_IP);
	EXPECT(ntohs(header.ip.tot_len), 1344);
	EXPECT(ntohs(header.udp.len), 1324);
	EXPECT(ntohs(header.ip.frag_off), IP_DF);
	EXPECT(header.ip.ttl, 8);
	EXPECT(header.ip.tos, 46 << 2);
	EXPECT(ntohs(header.udp.source), 40001);
	EXPECT(ntohs(header.udp.dest), 6001);
	EXPECT(header.offload.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	EXPECT(header.offload.gso_type, 0);
	EXPECT(header.offload.hdr_len, 42);
	EXPECT(header.offload.csum_start, 34);
	EXPECT(header.offload.csum_offset, 6);
	expect_sums(&header);

	begin("a header of a run");
	mcr_header_fill(&header, &template, (struct mcr_kept){ 0 },
			(struct mcr_message){ .payload_bytes = 64 * 1000, .segment_bytes = 1000 });
	EXPECT(header.offload.gso_type, 5);
	EXPECT(header.offload.gso_size, 1000);
	EXPECT(ntohs(header.ip.tot_len), 64028);
	expect_sums(&header);
}

/* What is kept stands where the template has 0, and is in the sums. */
static void test_kept(void)
{
	uint64_t state = 1;

	begin("kept fields, and sums for 10,000 random headers");
	for (int i = 0; i < 10000; i++) {
		struct mcr_endpoints to = endpoints();
		struct mcr_kept kept = { 0 };
		struct mcr_template template;
		struct mcr_header header;
		struct mcr_message message = { 0 };
		uint32_t keep = random32(&state);

		to.source = random32(&state);
		to.group = random32(&state);
		to.source_port = (uint16_t)random32(&state);
		if (keep & 1) {
			to.source = 0;
			kept.source = random32(&state);
		}
		if (keep & 2) {
			to.source_port = 0;
			kept.source_port = (uint16_t)random32(&state);
		}
		if (keep & 4) {
			to.ttl = 0;
			kept.ttl = (uint8_t)random32(&state);
		}
		if (keep & 8) {
			to.tos = 0;
			kept.tos = (uint8_t)random32(&state);
		}
		to.port = 0;
		mcr_template_prepare(&template, &to);
		message.port = (uint16_t)random32(&state);
		message.identification = (uint16_t)random32(&state);
		message.payload_bytes = random32(&state) % 65508;
		mcr_header_fill(&header, &template, kept, message);
		if (!EXPECT(header.ip.saddr, to.source | kept.source) ||
		    !EXPECT(header.udp.source, to.source_port | kept.source_port) ||
		    !EXPECT(header.ip.ttl, to.ttl | kept.ttl) ||
		    !EXPECT(header.ip.tos, to.tos | kept.tos) ||
		    !EXPECT(header.ip.id, message.identification) ||
		    !EXPECT(header.udp.dest, message.port))
			return;
		expect_sums(&header);
	}
}

/* -- a kernel that refuses ------------------------------------------------------------ */

static int refusal; /* errno for frames, as no driver at hand gives it; 0: none */
static bool refuses_runs_only;
static uint32_t frames_offered; /* calls that began with a frame which was refused */
static int64_t later_ns; /* the clock is so far ahead */

/* A frame begins with its header; all else is a datagram by a UDP socket. */
static bool is_refused(const struct msghdr *message)
{
	const struct mcr_header *header = message->msg_iov[0].iov_base;

	return refusal && message->msg_iovlen > 1 && message->msg_iov[0].iov_len == 52 &&
	       (header->offload.gso_size || !refuses_runs_only);
}

/* These stand in front of libc's. */
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	unsigned int taken = 0;

	while (taken < count && !is_refused(&messages[taken].msg_hdr))
		taken++;
	if (taken)
		return (int)syscall(SYS_sendmmsg, fd, messages, taken, flags);
	frames_offered++;
	errno = refusal;
	return -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (!is_refused(message))
		return syscall(SYS_sendmsg, fd, message, flags);
	frames_offered++;
	errno = refusal;
	return -1;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = (int)syscall(SYS_clock_gettime, clock, now);

	if (clock == CLOCK_MONOTONIC_COARSE) {
		now->tv_sec += (now->tv_nsec + later_ns) / 1000000000;
		now->tv_nsec = (now->tv_nsec + later_ns) % 1000000000;
	}
	return result;
}

/* -- a veth pair -------------------------------------------------------------------- */

static struct mcr_interface near;
static int receiver, tap, plain_tap; /* at the far end; plain: without offload header */

__attribute__((format(printf, 1, 2))) static bool run(const char *format, ...)
{
	char command[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	return system(command) == 0;
}

/* In the namespace that is current: the group's receiver, and what sees every header. */
static void far_sockets_open(void)
{
	const struct sockaddr_in local = { .sin_family = AF_INET, .sin_port = htons(6001) };
	const struct sockaddr_ll all = { .sll_family = AF_PACKET,
					 .sll_protocol = htons(ETH_P_IP),
					 .sll_ifindex = (int)if_nametoindex("far") };
	const struct ip_mreqn group = { .imr_multiaddr.s_addr = inet_addr("239.10.1.1"),
					.imr_ifindex = all.sll_ifindex };
	const int buffer_bytes = 64 << 20, on = 1;

	receiver = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes));
	need(bind(receiver, (const struct sockaddr *)&local, sizeof(local)) == 0, "a receiver");
	need(setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)) == 0, "the "
											      "grou"
											      "p");
	tap = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_IP));
	need(bind(tap, (const struct sockaddr *)&all, sizeof(all)) == 0, "a tap");
	setsockopt(tap, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on));
	setsockopt(tap, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
	plain_tap = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_IP));
	setsockopt(plain_tap, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes));
	need(bind(plain_tap, (const struct sockaddr *)&all, sizeof(all)) == 0, "a plain tap");
	setsockopt(plain_tap, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
}

/* near is here, far in a namespace that lives as long as our sockets there. */
static bool veth_open(void)
{
	char path[64];
	int go[2], here = open("/proc/self/ns/net", O_RDONLY), there;
	char byte = 0;
	pid_t child;

	need(pipe(go) == 0, "a pipe");
	child = fork();
	if (child == 0) {
		byte = unshare(CLONE_NEWNET) == 0;
		need(write(go[1], &byte, 1) == 1, "a byte");
		pause();
		_exit(0);
	}
	need(read(go[0], &byte, 1) == 1, "a byte");
	if (!byte || !run("ip link add near type veth peer name far netns %d", (int)child)) {
		kill(child, SIGKILL);
		return false;
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)child);
	there = open(path, O_RDONLY);
	need(run("ip address add 10.9.0.1/24 dev near && ip link set near up"), "near");
	need(setns(there, CLONE_NEWNET) == 0, "the far end");
	kill(child, SIGKILL);
	need(run("ip address add 10.9.0.2/24 dev far && ip link set far up"), "far");
	need(run("ip route add default dev far"), "a route to every source");
	far_sockets_open();
	need(setns(here, CLONE_NEWNET) == 0, "the way back");
	/* Carrier comes with both ends up. */
	while (mcr_interface_read("near", &near) < 0 || !(near.flags & IFF_RUNNING))
		usleep(1000);
	EXPECT(near.type, ARPHRD_ETHER);
	close(here);
	close(there);
	return true;
}

/* -- sending ------------------------------------------------------------------------ */

/* Payloads that no other has: the number of the packet, again and again. */
static uint8_t numbered[600][1500];

static struct mcr_link *link_open(void)
{
	const struct mcr_link_options options = { .mac = near.mac, .ifindex = near.ifindex };
	struct mcr_link *link;
	int32_t error;

	link = mcr_link_open(relay, &options, &error);
	need(link != NULL, "a link");
	return link;
}

static struct mcr_egress_spec usual_egress(struct mcr_link *link, int fd)
{
	return (struct mcr_egress_spec){ .link = link,
					 .fd = fd,
					 .segment_bytes_max = 1472,
					 .source = inet_addr("10.9.0.77"),
					 .source_port = 40001,
					 .ttl = 8,
					 .dscp = 46 };
}

static struct mcr_table *build_for(struct mcr_egress_spec egress)
{
	const struct mcr_flow_spec flow = { .action_count = 1 };
	struct mcr_action_spec action = { .port = 6001 };
	const struct mcr_table_spec spec = { .flows = &flow,
					     .actions = &action,
					     .egresses = &egress,
					     .flow_count = 1,
					     .action_count = 1,
					     .egress_count = 1,
					     .epoch = 1 };
	struct mcr_table *table;
	int32_t error;

	map_address(action.address, "239.10.1.1");
	table = mcr_table_build(relay, &spec, &error);
	need(table != NULL, "a table");
	memset(sent, 0, sizeof(*sent));
	memset(worker->counters, 0, sizeof(*worker->counters));
	return table;
}

static struct mcr_table *build(struct mcr_link *link, int fd, uint32_t mtu, uint32_t keep)
{
	struct mcr_egress_spec egress = usual_egress(link, fd);

	egress.segment_bytes_max = mtu - 28;
	egress.keep = (uint16_t)keep;
	return build_for(egress);
}

/* One packet more of flow 0, as the parser would append it. */
static void queue_as(struct mcr_table *table, struct mcr_packet packet)
{
	struct mcr_scratch *scratch = &table->scratch[0];
	struct mcr_packet_list *list = &scratch->lists[0];
	uint32_t index = worker->packet_count++;

	packet.next = MCR_NONE;
	packet.hop = packet.hop ? packet.hop : 1; /* forward.c has it always */
	worker->packets[index] = packet;
	if (list->first == MCR_NONE) {
		*list = (struct mcr_packet_list){ .first = index };
		scratch->touched[scratch->touched_count++] = 0;
	} else {
		worker->packets[list->last].next = index;
	}
	list->last = index;
}

static void queue(struct mcr_table *table, uint32_t number, uint32_t bytes)
{
	queue_as(table, (struct mcr_packet){ .payload = numbered[number], .bytes = bytes });
}

static void send_queue(struct mcr_table *table)
{
	mcr_batch_send(table, worker, &table->scratch[0]);
	EXPECT(worker->packet_count, 0);
	EXPECT_TRUE(worker->queues == NULL);
}

/* The next datagrams at the far end are these, whole and in order. */
static void arrive(uint32_t first, uint32_t end, ssize_t bytes)
{
	static uint8_t got[65536];

	for (uint32_t i = first; i < end; i++)
		if (!EXPECT(receive(receiver, got, sizeof(got), 1000), bytes) ||
		    !EXPECT(memcmp(got, numbered[i], (size_t)bytes), 0))
			return;
}

static void nothing_more(void)
{
	uint8_t byte;

	EXPECT(receive(receiver, &byte, 1, 0), -1);
}

/* What the tap has seen since the last call: the last header, and how many frames. */
static uint32_t seen(struct mcr_header *last)
{
	static uint8_t frame[65600];
	uint32_t count = 0;

	while (recv(tap, frame, sizeof(frame), 0) > 0) {
		memcpy(last, frame, sizeof(*last));
		count++;
	}
	return count;
}

static void test_runs(struct mcr_table *table)
{
	static const struct {
		uint32_t count, bytes, then_count, then_bytes;
		uint32_t runs, run_packets;
	} rows[] = {
		{ 1, 1316, 0, 0, 0, 0 },      { 10, 100, 0, 0, 1, 10 },	  { 10, 100, 1, 40, 1, 11 },
		{ 10, 100, 3, 40, 2, 13 },    { 10, 100, 5, 101, 2, 15 }, { 10, 100, 1, 0, 1, 10 },
		{ 65, 100, 0, 0, 1, 64 },     { 129, 100, 0, 0, 2, 128 }, { 64, 1023, 0, 0, 1, 63 },
		{ 512, 1472, 0, 0, 12, 512 }, { 2, 46, 0, 0, 1, 2 },	  { 3, 0, 0, 0, 0, 0 },
		{ 599, 1400, 0, 0, 13, 598 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		uint32_t total = rows[i].count + rows[i].then_count;

		begin("%u of %u bytes, then %u of %u", rows[i].count, rows[i].bytes,
		      rows[i].then_count, rows[i].then_bytes);
		memset(sent, 0, sizeof(*sent));
		memset(worker->counters, 0, sizeof(*worker->counters));
		for (uint32_t j = 0; j < total; j++)
			queue(table, j, j < rows[i].count ? rows[i].bytes : rows[i].then_bytes);
		send_queue(table);
		arrive(0, rows[i].count, rows[i].bytes);
		arrive(rows[i].count, total, rows[i].then_bytes);
		nothing_more();
		EXPECT(sent->sent_packets, total);
		EXPECT(sent->frame_packets, total);
		EXPECT(sent->sent_bytes, (uint64_t)rows[i].count * rows[i].bytes +
						 (uint64_t)rows[i].then_count * rows[i].then_bytes);
		EXPECT(worker->counters->runs, rows[i].runs);
		EXPECT(worker->counters->run_packets, rows[i].run_packets);
		EXPECT(worker->counters->sends, 1);
	}
}

static void test_singles(struct mcr_table *table)
{
	begin("more messages than one sendmmsg takes, in order");
	memset(sent, 0, sizeof(*sent));
	memset(worker->counters, 0, sizeof(*worker->counters));
	for (uint32_t i = 0; i < 600; i++) /* growing: no two in a run */
		queue(table, i, 100 + i);
	send_queue(table);
	for (uint32_t i = 0; i < 600; i++)
		arrive(i, i + 1, 100 + i);
	nothing_more();
	EXPECT(sent->frame_packets, 600);
	EXPECT(worker->counters->sends, 2);
}

static void test_wire(struct mcr_table *table)
{
	struct mcr_header header;

	begin("headers as the far end sees them");
	seen(&header);
	queue(table, 0, 1316);
	send_queue(table);
	arrive(0, 1, 1316);
	EXPECT(seen(&header), 1);
	EXPECT(memcmp(header.ethernet.h_source, &near.mac, 6), 0);
	EXPECT(header.ip.saddr, inet_addr("10.9.0.77"));
	EXPECT(header.ip.ttl, 8);
	EXPECT(header.ip.tos, 46 << 2);
	EXPECT(ntohs(header.udp.source), 40001);
	EXPECT(ntohs(header.ip.tot_len), 1344);
	EXPECT(ntohs(header.ip.id), MCR_HOP_SIGNATURE | 1 << MCR_HOP_SHIFT);
	expect_sums(&header);
}

/* A datagram beyond the MTU goes by the socket, in fragments; its neighbours stay frames, in order. */
static void test_too_large(struct mcr_table *table)
{
	begin("a payload that fits no frame goes by the socket, in order");
	memset(sent, 0, sizeof(*sent));
	queue(table, 0, 1472);
	send_queue(table);
	queue(table, 1, 1400);
	queue(table, 2, 1473);
	queue(table, 3, 1400);
	send_queue(table);
	arrive(0, 1, 1472);
	arrive(1, 2, 1400);
	arrive(2, 3, 1473);
	arrive(3, 4, 1400);
	nothing_more();
	EXPECT(sent->sent_packets, 4);
	EXPECT(sent->frame_packets, 3);
	EXPECT(sent->last_errno, 0);
}

static void test_keep(struct mcr_link *link, int fd)
{
	const struct mcr_packet packet = { .payload = numbered[0],
					   .bytes = 200,
					   .source = inet_addr("10.9.0.88"),
					   .source_port = htons(777),
					   .ttl = 5,
					   .tos = 0x2b };
	struct mcr_packet other = packet;
	struct mcr_table *table;
	struct mcr_header header;

	begin("source, source port, TTL less one and DSCP of the packet");
	table = build(link, fd, 1500,
		      MCR_KEEP_SOURCE | MCR_KEEP_SOURCE_PORT | MCR_KEEP_TTL_LESS_ONE |
			      MCR_KEEP_DSCP);
	seen(&header);
	queue_as(table, packet);
	queue_as(table, packet);
	other.source_port = htons(778); /* no part of that run */
	queue_as(table, other);
	send_queue(table);
	EXPECT(worker->counters->runs, 1);
	EXPECT(worker->counters->run_packets, 2);
	for (int i = 0; i < 3; i++)
		arrive(0, 1, 200);
	EXPECT(seen(&header), 2);
	EXPECT(header.ip.saddr, inet_addr("10.9.0.88"));
	EXPECT(ntohs(header.udp.source), 778);
	EXPECT(header.ip.ttl, 4);
	EXPECT(header.ip.tos, 0x28);
	expect_sums(&header);

	begin("a TTL that runs out, and what no frame carries, are counted");
	other.ttl = 1;
	queue_as(table, other);
	other.ttl = 0;
	queue_as(table, other);
	other = packet;
	other.bytes = 1473;
	queue_as(table, other);
	queue_as(table, packet);
	send_queue(table);
	arrive(0, 1, 200);
	nothing_more();
	EXPECT(sent->expired_packets, 2);
	EXPECT(sent->error_packets, 1);
	EXPECT(sent->last_errno, EMSGSIZE);
	EXPECT(sent->sent_packets, 4);
	mcr_table_free(table);

	begin("a TTL that is kept");
	table = build(link, fd, 1500, MCR_KEEP_TTL);
	seen(&header);
	queue_as(table, packet);
	send_queue(table);
	arrive(0, 1, 200);
	EXPECT(seen(&header), 1);
	EXPECT(header.ip.ttl, 5);
	EXPECT(header.ip.saddr, inet_addr("10.9.0.77"));
	EXPECT(ntohs(header.udp.source), 40001);
	mcr_table_free(table);
}

/* What the plain tap has seen since the last call: frames without their offload header. */
static uint32_t frames_seen(struct mcr_header *headers, uint32_t count_max)
{
	static uint8_t frame[65600];
	uint32_t count = 0;

	while (recv(plain_tap, frame, sizeof(frame), 0) > 0) {
		if (count < count_max) {
			memset(&headers[count], 0, sizeof(headers[count]));
			memcpy(&headers[count].ethernet, frame, MCR_HEADER_BYTES);
		}
		count++;
	}
	return count;
}

static struct mcr_header frames[600];

static void expect_frame(const struct mcr_header *frame, uint32_t bytes, uint32_t id)
{
	EXPECT(ntohs(frame->ip.tot_len), bytes + 28);
	EXPECT(ntohs(frame->udp.len), bytes + 8);
	EXPECT(ntohs(frame->ip.frag_off), IP_DF);
	EXPECT(ntohs(frame->ip.id), id);
	EXPECT(mcr_fold(mcr_sum((const uint8_t *)&frame->ip, 20, 0)), 0xffff);
}

static uint32_t mark_of(uint32_t hop)
{
	return MCR_HOP_SIGNATURE | hop << MCR_HOP_SHIFT;
}

static void queue_hop(struct mcr_table *table, uint32_t number, uint32_t bytes, uint8_t hop)
{
	queue_as(table,
		 (struct mcr_packet){ .payload = numbered[number], .bytes = bytes, .hop = hop });
}

static void test_hop_mark(struct mcr_table *table)
{
	static const uint8_t hops[] = { 1, 5, MCR_HOP_MAX };

	need(run("ethtool -K near tx-udp-segmentation off"), "no segmentation by the device");
	for (size_t i = 0; i < COUNT(hops); i++) {
		begin("hop %u on every segment that the kernel cuts, in order, with DF", hops[i]);
		frames_seen(frames, 0);
		for (uint32_t j = 0; j < 64; j++)
			queue_hop(table, j, j < 63 ? 1000 : 400, hops[i]);
		send_queue(table);
		arrive(0, 63, 1000);
		arrive(63, 64, 400);
		EXPECT(frames_seen(frames, 64), 64);
		for (uint32_t j = 0; j < 64; j++)
			expect_frame(&frames[j], j < 63 ? 1000 : 400, mark_of(hops[i]) + j);
	}
	need(run("ethtool -K near tx-udp-segmentation on"), "segmentation by the device");

	begin("packets of two hop numbers share no run");
	memset(worker->counters, 0, sizeof(*worker->counters));
	frames_seen(frames, 0);
	for (uint32_t j = 0; j < 4; j++)
		queue_hop(table, j, 500, j < 2 ? 2 : 3);
	send_queue(table);
	arrive(0, 4, 500);
	EXPECT(worker->counters->runs, 2);
	EXPECT(frames_seen(frames, 2), 2);
	EXPECT(ntohs(frames[0].ip.id), mark_of(2));
	EXPECT(ntohs(frames[1].ip.id), mark_of(3));
}

static void test_plain(struct mcr_link *link, int fd)
{
	struct mcr_egress_spec egress = usual_egress(link, fd);
	struct mcr_table *table = build_for(egress);
	uint16_t first;

	begin("a plain reader behind a veth sees a run as one frame");
	frames_seen(frames, 0);
	for (uint32_t i = 0; i < 8; i++)
		queue(table, i, 1316);
	send_queue(table);
	arrive(0, 8, 1316);
	EXPECT(frames_seen(frames, 1), 1);
	EXPECT(ntohs(frames[0].ip.tot_len), 8 * 1316 + 28);
	mcr_table_free(table);

	begin("a plain egress sends each datagram as a frame, counted up, without a hop mark");
	egress.plain = 1;
	table = build_for(egress);
	for (uint32_t i = 0; i < 600; i++)
		queue(table, i, 1316);
	send_queue(table);
	arrive(0, 600, 1316);
	nothing_more();
	EXPECT(frames_seen(frames, 600), 600);
	first = ntohs(frames[0].ip.id);
	for (uint32_t i = 0; i < 600; i++)
		expect_frame(&frames[i], 1316, (uint16_t)(first + i));
	EXPECT(worker->counters->runs, 0);
	EXPECT(sent->frame_packets, 600);
	mcr_table_free(table);

	begin("a plain egress by the socket as well: no runs, and no Identification twice in a "
	      "row");
	egress.link = NULL;
	table = build_for(egress);
	for (uint32_t i = 0; i < 100; i++)
		queue(table, i, 1316);
	send_queue(table);
	arrive(0, 100, 1316);
	EXPECT(frames_seen(frames, 100), 100);
	for (uint32_t i = 1; i < 100; i++)
		EXPECT_TRUE(frames[i].ip.id != frames[i - 1].ip.id);
	EXPECT(worker->counters->runs, 0);
	EXPECT(sent->sent_packets, 100);
	mcr_table_free(table);
}

/*
 * Three bands behind a bucket that is empty: what waits leaves by its priority.
 * 0 is best effort, 0x10 interactive, 0x28 bulk, 0x18 is interactive bulk, which
 * shares the band of best effort: tc-prio(8), "priomap".
 */
static void test_priority(int fd)
{
	static const uint8_t tos[] = { 0, 0x28, 0, 0x10, 0x28, 0x18, 0x10 };
	static const uint32_t order[] = { 0, 3, 6, 2, 5, 1, 4 };
	static const char *const ways[] = { "frames", "frames that keep DSCP", "sockets" };

	for (uint32_t way = 0; way < COUNT(ways); way++) {
		struct mcr_link *link = link_open();
		int fds[COUNT(tos)];

		begin("%s leave by the priority of their DSCP", ways[way]);
		if (!run("tc qdisc add dev near root handle 1: tbf rate 8kbit burst 2000 limit 1mb "
			 "&& "
			 "tc qdisc add dev near parent 1:1 handle 2: pfifo_fast")) {
			skip("no tbf or pfifo_fast queue here", "priorities are not tested");
			mcr_link_close(link);
			return;
		}
		for (uint32_t i = 0; i < COUNT(tos); i++) {
			const struct mcr_egress_options options = { .ifindex = near.ifindex,
								    .ttl = 8,
								    .dscp = tos[i] >> 2 };
			struct mcr_egress_spec egress = usual_egress(way < 2 ? link : NULL, fd);
			struct mcr_table *table;

			fds[i] = way == 2 ? mcr_egress_open(&options) : -1;
			egress.fd = way == 2 ? fds[i] : fd;
			egress.dscp = tos[i] >> 2;
			egress.keep = way == 1 ? MCR_KEEP_DSCP : 0;
			table = build_for(egress);
			queue_as(table, (struct mcr_packet){ .payload = numbered[i],
							     .bytes = 1400,
							     .tos = tos[i] });
			send_queue(table);
			EXPECT(sent->sent_packets, 1);
			mcr_table_free(table);
		}
		need(run("tc qdisc change dev near root handle 1: tbf rate 1gbit burst 20000 limit "
			 "1mb"),
		     "a fast queue");
		for (uint32_t i = 0; i < COUNT(tos); i++)
			arrive(order[i], order[i] + 1, 1400);
		need(run("tc qdisc delete dev near root"), "no queue");
		for (uint32_t i = 0; i < COUNT(tos); i++)
			if (fds[i] >= 0)
				mcr_close(fds[i]);
		mcr_link_close(link);
	}

	begin("messages of one priority leave in one call, and keep their order among others");
	{
		struct mcr_link *link = link_open();
		struct mcr_table *table = build(link, fd, 1500, MCR_KEEP_DSCP);

		for (uint32_t i = 0; i < 100; i++) /* growing: no two in a run */
			queue_as(table, (struct mcr_packet){ .payload = numbered[i],
							     .bytes = 100 + i,
							     .tos = i < 98 ? 0 : 0x10 });
		send_queue(table);
		for (uint32_t i = 0; i < 100; i++)
			arrive(i, i + 1, 100 + i);
		EXPECT(worker->counters->sends, 2);
		mcr_table_free(table);
		mcr_link_close(link);
	}
}

/* Lengths beyond the device's MTU, of which the table does not know yet. */
static void test_too_large_now(int fd)
{
	struct mcr_link *link = link_open();
	struct mcr_table *table = build(link, fd, 9000, 0);

	begin("a frame beyond the MTU goes by the socket, each datagram once, and tells nothing of "
	      "the device");
	need(run("ip link set near mtu 1000"), "an MTU");
	for (uint32_t i = 0; i < 10; i++) /* no run: growing */
		queue(table, i, 900 + 50 * i);
	send_queue(table);
	for (uint32_t i = 0; i < 10; i++)
		arrive(i, i + 1, 900 + 50 * i);
	nothing_more();
	EXPECT(mcr_link_refusal(link), 0);
	EXPECT(sent->sent_packets, 10);
	EXPECT_TRUE(sent->frame_packets < 10);
	EXPECT_TRUE(sent->frame_packets > 0);
	EXPECT(sent->error_packets, 0);
	mcr_table_free(table);

	begin("where something is kept, it is counted");
	table = build(link, fd, 9000, MCR_KEEP_DSCP);
	queue(table, 0, 800);
	queue(table, 1, 900);
	queue(table, 2, 1200);
	send_queue(table);
	arrive(0, 1, 800);
	arrive(1, 2, 900);
	nothing_more();
	EXPECT(mcr_link_refusal(link), 0);
	EXPECT(sent->frame_packets, 2);
	EXPECT(sent->error_packets, 1);
	EXPECT(sent->last_errno, EMSGSIZE);
	mcr_table_free(table);

	begin("with the MTU as it was, runs and frames go on at once");
	need(run("ip link set near mtu 1500"), "an MTU");
	table = build(link, fd, 1500, 0);
	for (uint32_t i = 0; i < 10; i++)
		queue(table, i, 1200);
	send_queue(table);
	arrive(0, 10, 1200);
	EXPECT(sent->frame_packets, 10);
	EXPECT(worker->counters->run_packets, 10);
	mcr_table_free(table);
	mcr_link_close(link);
}

static void test_refused_frame(int fd)
{
	struct mcr_link *link = link_open();
	struct mcr_table *table = build(link, fd, 1500, 0);

	begin("a device that refuses frames: all go by the socket, each datagram once");
	refusal = EOPNOTSUPP;
	EXPECT(mcr_link_refusal(link), 0);
	for (uint32_t i = 0; i < 10; i++)
		queue(table, i, 300);
	queue(table, 10, 400);
	send_queue(table);
	arrive(0, 10, 300);
	arrive(10, 11, 400);
	nothing_more();
	EXPECT(mcr_link_refusal(link), EOPNOTSUPP);
	EXPECT(sent->sent_packets, 11);
	EXPECT(sent->frame_packets, 0);
	frames_offered = 0;
	queue(table, 0, 300);
	send_queue(table);
	arrive(0, 1, 300);
	EXPECT(frames_offered, 0);
	mcr_table_free(table);

	begin("what it keeps can go by frames alone, and is counted");
	table = build(link, fd, 1500, MCR_KEEP_DSCP);
	queue(table, 0, 300);
	send_queue(table);
	nothing_more();
	EXPECT(sent->error_packets, 1);
	EXPECT(sent->last_errno, EOPNOTSUPP);
	refusal = 0;
	mcr_table_free(table);
	mcr_link_close(link);
}

static void test_refused_run(int fd)
{
	struct mcr_link *link = link_open();
	struct mcr_table *table = build(link, fd, 1500, 0);
	uint8_t joined[3 * 500];

	begin("a refused run leaves as single frames, with the Identifications of its segments");
	for (uint32_t i = 0; i < 3; i++)
		memcpy(joined + i * 500, numbered[i], 500);
	refusal = EINVAL;
	refuses_runs_only = true;
	frames_seen(frames, 0);
	for (uint32_t i = 0; i < 3; i++)
		queue_as(table, (struct mcr_packet){ .payload = joined + i * 500, .bytes = 500 });
	queue(table, 3, 200);
	send_queue(table);
	arrive(0, 3, 500);
	arrive(3, 4, 200);
	nothing_more();
	EXPECT(frames_seen(frames, 4), 4);
	for (uint32_t i = 0; i < 4; i++)
		expect_frame(&frames[i], i < 3 ? 500 : 200, mark_of(1) + i);
	EXPECT(sent->sent_packets, 4);
	EXPECT(sent->frame_packets, 4);
	EXPECT(mcr_link_refusal(link), 0);

	begin("no run is tried for a while");
	frames_offered = 0;
	for (int round = 0; round < 100; round++) {
		queue(table, 0, 200);
		queue(table, 1, 200);
		send_queue(table);
		arrive(0, 2, 200);
	}
	EXPECT(frames_offered, 0);

	begin("then one is, and again none where it is refused");
	later_ns += MCR_RUN_RETRY_NS;
	for (int round = 0; round < 100; round++) {
		queue(table, 0, 200);
		queue(table, 1, 200);
		send_queue(table);
		arrive(0, 2, 200);
	}
	EXPECT(frames_offered, 1);

	begin("and all where it is taken");
	later_ns += MCR_RUN_RETRY_NS;
	refusal = 0;
	worker->counters->run_packets = 0;
	queue(table, 0, 200);
	queue(table, 1, 200);
	send_queue(table);
	arrive(0, 2, 200);
	EXPECT(worker->counters->run_packets, 2);

	begin("a run whose first datagram is refused as well tells nothing of runs");
	refuses_runs_only = false;
	refusal = EMSGSIZE;
	queue(table, 0, 200);
	queue(table, 1, 200);
	send_queue(table);
	arrive(0, 2, 200);
	refusal = 0;
	worker->counters->run_packets = 0;
	queue(table, 0, 200);
	queue(table, 1, 200);
	send_queue(table);
	arrive(0, 2, 200);
	EXPECT(worker->counters->run_packets, 2);
	EXPECT(mcr_link_refusal(link), 0);
	mcr_table_free(table);
	mcr_link_close(link);
}

/* The datagrams at the far end, each whole; they are recognised by their first byte and length. */
static uint32_t arrived(uint32_t at_least)
{
	static uint8_t got[65536];
	uint32_t count = 0;
	ssize_t bytes;

	while ((bytes = receive(receiver, got, sizeof(got), count < at_least ? 2000 : 0)) >= 0) {
		uint32_t number = (uint32_t)bytes - 100;

		if (!EXPECT_TRUE(number < COUNT(numbered)) ||
		    !EXPECT(memcmp(got, numbered[number], (size_t)bytes), 0))
			break;
		count++;
	}
	return count;
}

/*
 * A queue so slow that what it holds stays there. ENOBUFS: it is full. EAGAIN:
 * it is not, but the socket may have no more on its way.
 */
static void test_full(int fd)
{
	struct mcr_link *link = link_open();
	struct mcr_table *table = build(link, fd, 1500, 0);
	uint8_t byte;

	if (!run("tc qdisc add dev near root tbf rate 8kbit burst 10000 limit 100000")) {
		skip("no tbf queue here", "a full egress is not tested");
		goto close;
	}
	begin("a device queue that is full: what it refuses is counted, what it took arrives");
	for (uint32_t i = 0; i < 600; i++) /* growing: no two in a run */
		queue(table, i, 100 + i);
	send_queue(table);
	EXPECT_TRUE(sent->sent_packets > 100);
	EXPECT_TRUE(sent->full_packets > 100);
	EXPECT(sent->sent_packets + sent->full_packets, 600);
	EXPECT(sent->frame_packets, sent->sent_packets);
	EXPECT(sent->error_packets, 0);
	EXPECT(sent->last_errno, ENOBUFS);
	need(run("tc qdisc change dev near root tbf rate 1gbit burst 100000 limit 100000"), "a "
											    "fast "
											    "queu"
											    "e");
	EXPECT(arrived((uint32_t)sent->sent_packets), sent->sent_packets);

	begin("runs that find it full are counted by datagram");
	need(run("tc qdisc replace dev near root tbf rate 8kbit burst 70000 limit 100000"), "a "
											    "slow "
											    "queu"
											    "e");
	memset(sent, 0, sizeof(*sent));
	for (uint32_t i = 0; i < 640; i++) /* runs of 64, one of which the queue holds */
		queue(table, 500, 600);
	send_queue(table);
	EXPECT_TRUE(sent->full_packets >= 64);
	EXPECT(sent->full_packets % 64, 0);
	EXPECT(sent->sent_packets + sent->full_packets, 640);
	EXPECT(sent->last_errno, ENOBUFS);
	need(run("tc qdisc change dev near root tbf rate 1gbit burst 70000 limit 100000"), "a fast "
											   "queue");
	EXPECT(arrived((uint32_t)sent->sent_packets), sent->sent_packets);

	begin("a socket that may send no more: counted the same");
	need(run("tc qdisc replace dev near root tbf rate 8kbit burst 10000 limit 1000mb"), "a "
											    "deep "
											    "queu"
											    "e");
	memset(sent, 0, sizeof(*sent));
	for (int round = 0; round < 200 && sent->full_packets == 0; round++) {
		for (uint32_t i = 0; i < 600; i++)
			queue(table, i, 1400 - i % 2);
		send_queue(table);
		EXPECT(sent->sent_packets + sent->full_packets, 600u * (uint32_t)(round + 1));
	}
	EXPECT_TRUE(sent->full_packets > 0);
	EXPECT(sent->error_packets, 0);
	EXPECT(sent->last_errno, EAGAIN);
	EXPECT(mcr_link_refusal(link), 0);
	need(run("tc qdisc delete dev near root"), "no queue");
	while (receive(receiver, &byte, 1, 0) >= 0) /* what came through in the meantime */
		;
close:
	mcr_table_free(table);
	mcr_link_close(link);
}

static void test_down(int fd)
{
	struct mcr_link *link = link_open();
	struct mcr_table *table = build(link, fd, 1500, 0);

	begin("an interface that is down: everything is counted, nothing twice");
	need(run("ip link set near down"), "near down");
	for (uint32_t i = 0; i < 70; i++)
		queue(table, i, 100);
	send_queue(table);
	EXPECT(sent->sent_packets, 0);
	EXPECT(sent->error_packets, 70);
	EXPECT(sent->last_errno, ENETDOWN);
	EXPECT(mcr_link_refusal(link), 0);

	begin("and up again: the same link sends");
	need(run("ip link set near up"), "near up");
	while (mcr_interface_read("near", &near) < 0 || !(near.flags & IFF_RUNNING))
		usleep(1000);
	memset(sent, 0, sizeof(*sent));
	queue(table, 0, 100);
	send_queue(table);
	arrive(0, 1, 100);
	EXPECT(sent->sent_packets, 1);

	begin("an interface that is gone");
	need(run("ip link delete near"), "near gone");
	for (uint32_t i = 0; i < 70; i++)
		queue(table, i, 100);
	send_queue(table);
	EXPECT(sent->error_packets, 70);
	EXPECT(sent->last_errno,
	       ENODEV); /* of the egress's socket, which is asked in the link's place */
	EXPECT(mcr_link_refusal(link), ENXIO);
	mcr_table_free(table);
	mcr_link_close(link);
}

static void test_refusals(void)
{
	struct mcr_link_options options = { .ifindex = 1 << 30 };
	int32_t error = 0;

	begin("no such interface");
	EXPECT_TRUE(mcr_link_open(relay, &options, &error) == NULL);
	EXPECT(error, -ENODEV);
	options.ifindex = 0;
	EXPECT_TRUE(mcr_link_open(relay, &options, &error) == NULL);
	EXPECT(error, -ENODEV);
}

static void test_sending(void)
{
	const struct mcr_egress_options options = { .ifindex = near.ifindex,
						    .source_port = 40001,
						    .ttl = 8 };
	int fd = mcr_egress_open(&options);
	struct mcr_link *link = link_open();
	struct mcr_table *table = build(link, fd, 1500, 0);

	need(fd >= 0, "an egress socket");
	test_runs(table);
	test_singles(table);
	test_wire(table);
	test_too_large(table);
	test_hop_mark(table);
	mcr_table_free(table);
	test_keep(link, fd);
	test_plain(link, fd);
	mcr_link_close(link);
	test_priority(fd);
	test_too_large_now(fd);
	test_refused_run(fd);
	test_refused_frame(fd);
	test_full(fd);
	test_down(fd);
	mcr_close(fd);
}

int main(void)
{
	int32_t error;

	setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", 1);
	test_header();
	test_kept();
	relay = mcr_relay_open(1, &error);
	need(relay != NULL, "a relay");
	worker = &relay->workers[0];
	sent = &worker->egresses[0];
	for (size_t i = 0; i < COUNT(numbered); i++)
		for (size_t j = 0; j < sizeof(numbered[i]); j++)
			numbered[i][j] = (uint8_t)(i * 7 + (i >> 8) + j);
	if (own_network()) {
		test_refusals();
		if (veth_open())
			test_sending();
		else
			skip("no veth pair here", "sending frames is not tested");
	}
	return finish();
}
