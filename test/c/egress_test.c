/*
 * c/egress.c on lo: the socket's options, and that each datagram is sent once
 * or counted once, whatever the kernel answers.
 */
#define _GNU_SOURCE
#include "relay.h"
#include "send.h"

#include <netinet/in.h>

#include "check.h"

static bool network_is_own;
static struct mcr_relay *relay;
static struct mcr_worker *worker;
static struct mcr_egress_counters *sent; /* of egress slot 0 */

static const struct mcr_egress_options usual = { .ifindex = LOOPBACK_IFINDEX,
						 .ttl = 9,
						 .dscp = 46 };

/* -- the socket --------------------------------------------------------------- */

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* What the far end sees of one datagram: TTL, TOS, the port it came from. */
struct seen {
	int ttl, tos;
	uint16_t port;
};

static struct seen send_and_see(int fd)
{
	const int on = 1;
	uint16_t port;
	int receiver = receiver_open(&port);
	struct sockaddr_in to = loopback(port), from;
	char control[256], payload[16];
	struct iovec iov = { payload, sizeof(payload) };
	struct msghdr message = { .msg_name = &from,
				  .msg_namelen = sizeof(from),
				  .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct pollfd ready = { .fd = receiver, .events = POLLIN };
	struct seen seen = { 0 };

	setsockopt(receiver, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on));
	setsockopt(receiver, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on));
	EXPECT(sendto(fd, "mcr!", 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
	EXPECT(poll(&ready, 1, 1000), 1);
	EXPECT(recvmsg(receiver, &message, 0), 4);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_type == IP_TTL)
			memcpy(&seen.ttl, CMSG_DATA(c), sizeof(int));
		if (c->cmsg_type == IP_TOS)
			seen.tos = *CMSG_DATA(c);
	}
	seen.port = ntohs(from.sin_port);
	close(receiver);
	return seen;
}

static int ip_option(int fd, int option)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	getsockopt(fd, IPPROTO_IP, option, &value, &bytes);
	return value;
}

static void test_options(void)
{
	int fd = mcr_egress_open(&usual);
	struct seen first, second;

	begin("TTL and DSCP, as they arrive");
	need(fd >= 0, "an egress socket");
	first = send_and_see(fd);
	EXPECT(first.ttl, 9);
	EXPECT(first.tos, 46 << 2);
	EXPECT(ip_option(fd, IP_MULTICAST_TTL), 9);
	EXPECT(ip_option(fd, IP_MULTICAST_LOOP), 0);
	begin("one ephemeral port from the first datagram on");
	second = send_and_see(fd);
	EXPECT_TRUE(first.port != 0);
	EXPECT(second.port, first.port);
	EXPECT(mcr_egress_port(fd), first.port);
	mcr_close(fd);
	begin("the port of a closed socket");
	EXPECT(mcr_egress_port(fd), -EBADF);
}

static void test_source_port(void)
{
	struct mcr_egress_options options = usual;
	uint16_t port;
	int first, second;

	close(receiver_open(&port)); /* a port that is free now */
	options.source_port = port;
	options.source = htonl(INADDR_LOOPBACK);
	begin("two egresses send from one given port");
	first = mcr_egress_open(&options);
	second = mcr_egress_open(&options);
	EXPECT_TRUE(first >= 0);
	EXPECT_TRUE(second >= 0);
	EXPECT(send_and_see(first).port, port);
	EXPECT(send_and_see(second).port, port);
	mcr_close(first);
	mcr_close(second);
}

static void test_receives_nothing(void)
{
	int fd = mcr_egress_open(&usual);
	struct sockaddr_in to = loopback((uint16_t)mcr_egress_port(fd));
	int sender = socket(AF_INET, SOCK_DGRAM, 0);
	char byte;

	begin("what is sent to an egress socket is not queued there");
	EXPECT(sendto(sender, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
	EXPECT(receive(fd, &byte, 1, 20), -1);
	close(sender);
	mcr_close(fd);
}

static void test_refusals(void)
{
	struct mcr_egress_options options = usual;

	begin("no such interface");
	options.ifindex = 1 << 30;
	EXPECT(mcr_egress_open(&options), -ENODEV);
	begin("a source address of another host");
	options = usual;
	options.source = inet_addr("192.0.2.1");
	EXPECT(mcr_egress_open(&options), -EADDRNOTAVAIL);
}

/* -- sending ------------------------------------------------------------------ */

/* Flow 0 goes to the first port, flow 1 to the second, both out of slot 0. */
static struct mcr_table *build(int fd, uint16_t first, uint16_t second)
{
	const struct mcr_egress_spec egress = { .fd = fd, .segment_bytes_max = 1472 };
	const struct mcr_flow_spec flows[] = { { .action_first = 0, .action_count = 1 },
					       { .action_first = 1, .action_count = 1 } };
	struct mcr_action_spec actions[] = { { .port = first }, { .port = second } };
	const struct mcr_table_spec spec = { .flows = flows,
					     .actions = actions,
					     .egresses = &egress,
					     .flow_count = 2,
					     .action_count = 2,
					     .egress_count = 1,
					     .epoch = 1 };
	struct mcr_table *table;
	int32_t error;

	map_address(actions[0].address, "127.0.0.1");
	map_address(actions[1].address, "127.0.0.1");
	table = mcr_table_build(relay, &spec, &error);
	need(table != NULL, "a table");
	memset(sent, 0, sizeof(*sent));
	memset(worker->counters, 0, sizeof(*worker->counters));
	return table;
}

/* One packet more of the flow, as the parser would append it. */
static void queue_at(struct mcr_table *table, uint32_t flow, uint16_t port, const uint8_t *payload,
		     uint32_t bytes)
{
	struct mcr_scratch *scratch = &table->scratch[0];
	struct mcr_packet_list *list = &scratch->lists[flow];
	uint32_t index = worker->packet_count++;

	worker->packets[index] = (struct mcr_packet){
		.payload = payload, .bytes = bytes, .port = port, .next = MCR_NONE
	};
	if (list->first == MCR_NONE) {
		list->first = index;
		scratch->touched[scratch->touched_count++] = flow;
	} else {
		worker->packets[list->last].next = index;
	}
	list->last = index;
}

static void queue(struct mcr_table *table, uint32_t flow, const uint8_t *payload, uint32_t bytes)
{
	queue_at(table, flow, 0, payload, bytes);
}

static void send_queue(struct mcr_table *table)
{
	mcr_batch_send(table, worker, &table->scratch[0]);
	EXPECT(worker->packet_count, 0);
}

/*
 * The ICMP answer to a datagram for a closed port is reported by the next
 * call on the socket, which sends nothing then.
 */
static void test_icmp_error(void)
{
	uint16_t open_port, closed_port;
	int receiver, fd = mcr_egress_open(&usual);
	struct mcr_table *table;
	uint8_t payload[4], got[16];

	close(receiver_open(&closed_port));
	receiver = receiver_open(&open_port);
	table = build(fd, closed_port, open_port);
	begin("an ICMP error of one destination loses no datagram to another");
	for (uint8_t i = 0; i < 20; i++) {
		memset(payload, i, sizeof(payload));
		queue(table, 0, payload, sizeof(payload));
		queue(table, 1, payload, sizeof(payload));
		send_queue(table);
		EXPECT(receive(receiver, got, sizeof(got), 1000), 4);
		EXPECT(got[0], i);
	}
	EXPECT(sent->sent_packets, 40);
	EXPECT(sent->error_packets, 0);
	EXPECT(sent->last_errno, ECONNREFUSED);
	mcr_table_free(table);
	mcr_close(fd);
	close(receiver);
}

/* Payloads that no other has: the number of the packet, again and again. */
static uint8_t numbered[64][1472];

static void expect_numbered(int receiver, uint32_t first, uint32_t end, ssize_t bytes)
{
	uint8_t got[2048];

	for (uint32_t i = first; i < end; i++) {
		EXPECT(receive(receiver, got, sizeof(got), 1000), bytes);
		EXPECT(memcmp(got, numbered[i], (size_t)bytes), 0);
	}
}

/* The kernel refuses segments that do not fit the MTU: udp(7), UDP_SEGMENT. */
static void test_refused_run(void)
{
	uint16_t port;
	int receiver, fd;
	struct mcr_table *table;
	uint8_t byte;

	if (!network_is_own || !loopback_set_mtu(1000)) {
		skip("the MTU of lo cannot be lowered", "refused runs are not tested");
		return;
	}
	receiver = receiver_open(&port);
	fd = mcr_egress_open(&usual);
	table = build(fd, port, port);
	begin("a refused run leaves as single datagrams, in order");
	for (uint32_t i = 0; i < 3; i++) /* a run of 900 fits, and goes */
		queue(table, 0, numbered[i], 900);
	for (uint32_t i = 3; i < 13; i++)
		queue(table, 0, numbered[i], 1200);
	send_queue(table);
	expect_numbered(receiver, 0, 3, 900);
	expect_numbered(receiver, 3, 13, 1200);
	EXPECT(receive(receiver, &byte, 1, 0), -1);
	EXPECT(sent->sent_packets, 13);
	EXPECT(sent->error_packets, 0);
	EXPECT(sent->last_errno, 0);
	EXPECT(worker->counters->run_packets, 3);
	EXPECT_TRUE(table->scratch[0].runs_refused_until_ns[0] > mcr_coarse_ns());

	begin("for a while no run is tried");
	worker->counters->sends = 0;
	for (uint32_t i = 0; i < 10; i++)
		queue(table, 0, numbered[i], 1200);
	send_queue(table);
	expect_numbered(receiver, 0, 10, 1200);
	EXPECT(worker->counters->sends, 1);
	EXPECT(sent->sent_packets, 23);

	begin("then one is: what was refused for the MTU goes when that is back");
	EXPECT_TRUE(loopback_set_mtu(65536));
	table->scratch[0].runs_refused_until_ns[0] = mcr_coarse_ns();
	for (uint32_t i = 0; i < 10; i++)
		queue(table, 0, numbered[i], 1200);
	send_queue(table);
	expect_numbered(receiver, 0, 10, 1200);
	EXPECT(worker->counters->run_packets, 13);
	EXPECT(table->scratch[0].runs_refused_until_ns[0], 0);
	mcr_table_free(table);
	mcr_close(fd);
	close(receiver);
}

/* A rule that takes every port, and a sender to port 0: no socket sends there. */
static void test_port_zero(void)
{
	uint16_t port;
	int receiver = receiver_open(&port), fd = mcr_egress_open(&usual);
	struct mcr_table *table = build(fd, 0, 0);

	for (int round = 0; round < 2; round++) {
		begin("datagrams to port 0 are counted, and those to other ports go on as runs, %d",
		      round);
		memset(sent, 0, sizeof(*sent));
		memset(worker->counters, 0, sizeof(*worker->counters));
		for (uint32_t i = 0; i < 10; i++)
			queue_at(table, 0, 0, numbered[i], 100);
		for (uint32_t i = 0; i < 10; i++)
			queue_at(table, 0, port, numbered[i], 100);
		queue_at(table, 0, 0, numbered[0], 101);
		for (uint32_t i = 10; i < 20; i++)
			queue_at(table, 0, port, numbered[i], 100);
		send_queue(table);
		expect_numbered(receiver, 0, 20, 100);
		EXPECT(sent->sent_packets, 20);
		EXPECT(sent->error_packets, 11);
		EXPECT(sent->last_errno, EINVAL);
		EXPECT(worker->counters->runs, 2);
		EXPECT(worker->counters->run_packets, 20);
	}
	mcr_table_free(table);
	mcr_close(fd);
	close(receiver);
}

static void test_too_large(void)
{
	static uint8_t large[65508]; /* one byte more than UDP takes */
	uint16_t port;
	int receiver = receiver_open(&port), fd = mcr_egress_open(&usual);
	struct mcr_table *table = build(fd, port, port);

	begin("a datagram that the kernel refuses is counted, the others go");
	queue(table, 0, numbered[0], 100);
	queue(table, 0, large, sizeof(large));
	queue(table, 0, numbered[1], 100);
	send_queue(table);
	expect_numbered(receiver, 0, 2, 100);
	EXPECT(sent->sent_packets, 2);
	EXPECT(sent->sent_bytes, 200);
	EXPECT(sent->error_packets, 1);
	EXPECT(sent->last_errno, EMSGSIZE);
	mcr_table_free(table);
	mcr_close(fd);
	close(receiver);
}

/* A socket that fails for good: every datagram is counted once, none twice. */
static void test_broken_socket(void)
{
	int fd = mcr_egress_open(&usual);
	struct mcr_table *table = build(fd, 9, 9);

	mcr_close(fd);
	begin("a broken socket drops and counts everything");
	for (uint32_t i = 0; i < 7; i++)
		queue(table, 0, numbered[i], 100);
	queue(table, 1, numbered[0], 0);
	send_queue(table);
	EXPECT(sent->sent_packets, 0);
	EXPECT(sent->error_packets, 8);
	EXPECT(sent->last_errno, EBADF);
	mcr_table_free(table);
}

int main(void)
{
	int32_t error;

	network_is_own = own_network();
	relay = mcr_relay_open(1, &error);
	need(relay != NULL, "a relay");
	worker = &relay->workers[0];
	sent = &worker->egresses[0];
	for (size_t i = 0; i < COUNT(numbered); i++)
		memset(numbered[i], (int)i, sizeof(numbered[i]));
	test_options();
	test_source_port();
	test_receives_nothing();
	test_refusals();
	test_icmp_error();
	test_refused_run();
	test_port_zero();
	test_too_large();
	test_broken_socket();
	return finish();
}
