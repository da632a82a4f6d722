/*
 * c/scan.c: a scan of lo, which both sends and receives what is sent there,
 * and the options that it refuses. What becomes of frames: flow_table_test.c.
 */
#define _GNU_SOURCE
#include "check.h"

#include "../../c/mcr.h"

#define PACKETS 10
#define PAYLOAD_BYTES 1000 /* more than an ingress_only scan captures of a packet */

static const uint32_t lo = LOOPBACK_IFINDEX;

static struct mcr_scan *open_scan(struct mcr_scan_options options, int32_t *error, uint32_t *failed)
{
	options.seed = 7;
	return mcr_scan_open(&options, failed, error);
}

static void test_refused(void)
{
	static const uint32_t indexes[] = { LOOPBACK_IFINDEX, 0, 1u << 30 };
	static const struct {
		const char *name;
		struct mcr_scan_options options;
		int32_t error;
		uint32_t failed;
	} rows[] = {
		{ "no interface", { indexes, 0, 0, 16, 0, 0, 0 }, -EINVAL, UINT32_MAX },
		{ "too many interfaces",
		  { indexes, 0, MCR_SCAN_INTERFACES_MAX + 1, 16, 0, 0, 0 },
		  -EINVAL,
		  UINT32_MAX },
		{ "no room for flows", { indexes, 0, 1, 0, 0, 0, 0 }, -EINVAL, UINT32_MAX },
		{ "any interface", { indexes, 0, 2, 16, 0, 0, 0 }, -ENODEV, 1 },
		{ "an interface that is not there", { indexes + 2, 0, 1, 16, 1, 0, 0 }, -ENODEV, 0 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		uint32_t failed;
		int32_t error;

		begin("%s", rows[i].name);
		EXPECT_TRUE(open_scan(rows[i].options, &error, &failed) == NULL);
		EXPECT(error, rows[i].error);
		EXPECT(failed, rows[i].failed);
	}
}

static void send_packets(void)
{
	static const uint8_t payload[PAYLOAD_BYTES];
	const struct ip_mreqn out = { .imr_ifindex = LOOPBACK_IFINDEX };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(5001) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, "239.1.1.1", &to.sin_addr);
	need(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) == 0, "to send on lo");
	for (int i = 0; i < PACKETS; i++)
		need(sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&to, sizeof(to)) ==
			     PAYLOAD_BYTES,
		     "to send");
	close(fd);
}

/* Runs until all flows together have so many packets. */
static void run_until(struct mcr_scan *scan, int32_t budget_ms, uint64_t packets)
{
	const struct mcr_scan_state *state = mcr_scan_state(scan);
	const struct mcr_scan_flow *flows = mcr_scan_flows(scan);

	for (int tries = 0; tries < 1000; tries++) {
		uint64_t heard = 0;

		need(mcr_scan_run(scan, budget_ms) == 0, "to run");
		for (uint64_t i = 0; i < state->flow_count; i++)
			heard += flows[i].packets;
		if (heard >= packets)
			return;
		poll(NULL, 0, budget_ms ? 0 : 10);
	}
	need(false, "to hear them all");
}

static void test_heard(bool ingress_only)
{
	const struct mcr_scan_flow *flows;
	struct mcr_scan *scan;
	uint64_t flow_count;
	uint32_t failed;
	int32_t error;

	begin("ten packets on lo, %s", ingress_only ? "ingress only" : "both directions");
	scan = open_scan((struct mcr_scan_options){ .ifindexes = &lo,
						    .interface_count = 1,
						    .flows_max = 16,
						    .ingress_only = ingress_only },
			 &error, &failed);
	if (!scan && error == -EPERM) {
		skip("no permission for packet sockets", "scanning lo is not tested");
		return;
	}
	need(scan != NULL, "a scan of lo");
	flows = mcr_scan_flows(scan);
	flow_count = ingress_only ? 1 : 2;
	send_packets();
	run_until(scan, ingress_only ? 0 : 20, flow_count * PACKETS);
	EXPECT(((const struct mcr_scan_state *)mcr_scan_state(scan))->flow_count, flow_count);
	for (uint64_t i = 0; i < flow_count; i++) {
		EXPECT(flows[i].packets, PACKETS);
		EXPECT(flows[i].bytes, PACKETS * PAYLOAD_BYTES);
		EXPECT(flows[i].port, 5001);
	}
	EXPECT(flows[0].is_egress + (flow_count == 2 ? flows[1].is_egress : 0), !ingress_only);
	EXPECT(((const struct mcr_scan_state *)mcr_scan_state(scan))->ring_drops, 0);
	mcr_scan_close(scan);
}

int main(void)
{
	bool is_alone = own_network();

	test_refused();
	if (is_alone) {
		test_heard(false);
		test_heard(true);
	}
	return finish();
}
