/*
 * c/relay.c: the counter areas, their reset, epochs, and how many workers.
 */
#define _GNU_SOURCE
#include "relay.h"

#include "check.h"

static struct mcr_relay *relay; /* relays live as long as the process */

static void test_worker_counts(void)
{
	static const uint32_t counts[] = { 0, MCR_WORKERS_MAX + 1, UINT32_MAX };

	for (size_t i = 0; i < COUNT(counts); i++) {
		int32_t error = 0;

		begin("%u workers", counts[i]);
		EXPECT_TRUE(mcr_relay_open(counts[i], &error) == NULL);
		EXPECT(error, -EINVAL);
	}
}

/* | worker counters | interface 0.. | rule 0.. | egress 0.. | latency 0.. |, for each worker */
static void test_layout(void)
{
	const size_t rules_at = 64 + MCR_INTERFACES_MAX * 128;
	const size_t egresses_at = rules_at + MCR_RULES_MAX * 128;
	const size_t latencies_at = egresses_at + MCR_EGRESSES_MAX * 128;
	uint8_t *previous_end = NULL;

	for (uint32_t i = 0; i < relay->worker_count; i++) {
		const struct mcr_worker *worker = &relay->workers[i];
		uint8_t *area = mcr_counters(relay, i);

		begin("counter area of worker %u", i);
		EXPECT((uintptr_t)area % 4096, 0);
		EXPECT_TRUE(area >= previous_end);
		EXPECT((uint8_t *)worker->counters - area, 0);
		EXPECT((uint8_t *)worker->interfaces - area, 64);
		EXPECT((uint8_t *)worker->rules - area, rules_at);
		EXPECT((uint8_t *)worker->egresses - area, egresses_at);
		previous_end = area + mcr_counters_bytes();
		EXPECT((uint8_t *)worker->latencies - area, latencies_at);
		EXPECT((uint8_t *)&worker->latencies[MCR_RULES_MAX + 1] - previous_end, 0);
		EXPECT(worker->counters->wakeups, 0);
		EXPECT(worker->egresses[MCR_EGRESSES_MAX - 1].last_errno, 0);
	}
	begin("no area for a worker that does not exist");
	EXPECT_TRUE(mcr_counters(relay, relay->worker_count) == NULL);
	EXPECT_TRUE(mcr_counters(relay, UINT32_MAX) == NULL);
}

/* Slots 6, 7 and 8 of every worker are written; reset of 7 empties 7 only. */
static void test_reset(void)
{
	for (uint32_t i = 0; i < relay->worker_count; i++) {
		memset(&relay->workers[i].rules[6], 1, 3 * sizeof(struct mcr_rule_counters));
		memset(&relay->workers[i].egresses[6], 1, 3 * sizeof(struct mcr_egress_counters));
		memset(&relay->workers[i].latencies[6], 1,
		       3 * sizeof(struct mcr_added_latency_counters));
	}
	begin("reset of one slot, in every worker");
	EXPECT(mcr_rule_counters_reset(relay, 7), 0);
	EXPECT(mcr_egress_counters_reset(relay, 7), 0);
	for (uint32_t i = 0; i < relay->worker_count; i++) {
		const struct mcr_worker *worker = &relay->workers[i];

		EXPECT(worker->rules[7].packets | worker->rules[7].last_ns, 0);
		EXPECT(worker->egresses[7].sent_packets | worker->egresses[7].last_errno, 0);
		EXPECT_TRUE(worker->rules[6].packets && worker->rules[8].packets);
		EXPECT(worker->latencies[7].samples | worker->latencies[7].max_ns |
			       worker->latencies[7].buckets[MCR_ADDED_LATENCY_BUCKETS - 1],
		       0);
		EXPECT_TRUE(worker->latencies[6].samples && worker->latencies[8].samples);
		EXPECT_TRUE(worker->egresses[6].last_errno && worker->egresses[8].sent_packets);
	}
	begin("reset of the last slot, and of one beyond");
	EXPECT(mcr_rule_counters_reset(relay, MCR_RULES_MAX - 1), 0);
	EXPECT(mcr_rule_counters_reset(relay, MCR_RULES_MAX), -EINVAL);
	EXPECT(mcr_egress_counters_reset(relay, MCR_EGRESSES_MAX - 1), 0);
	EXPECT(mcr_egress_counters_reset(relay, MCR_EGRESSES_MAX), -EINVAL);
}

static void test_epochs(void)
{
	const struct mcr_table_spec spec = { .epoch = 5 };
	int32_t error;
	struct mcr_table *table = mcr_table_build(relay, &spec, &error);

	need(table != NULL, "an empty table");
	begin("no worker has seen a table");
	EXPECT(mcr_relay_epoch_seen(relay), 0);
	mcr_relay_publish(relay, table);
	EXPECT(mcr_relay_epoch_seen(relay), 0);
	begin("the slowest worker decides which epoch is seen");
	EXPECT(mcr_worker_run(relay, 0, 0), 0);
	EXPECT(mcr_worker_run(relay, 1, 0), 0);
	EXPECT(mcr_relay_epoch_seen(relay), 0);
	EXPECT(mcr_worker_run(relay, 2, 0), 0);
	EXPECT(mcr_relay_epoch_seen(relay), 5);
	begin("a worker that does not exist cannot run");
	EXPECT(mcr_worker_run(relay, 3, 0), -EINVAL);
	begin("after a stop every run ends at once");
	mcr_relay_stop(relay);
	EXPECT(mcr_worker_run(relay, 0, 10000), 1);
	EXPECT(mcr_worker_run(relay, 0, 10000), 1);
	mcr_table_free(table);
}

static void test_cpus(void)
{
	uint32_t cpus[2] = { UINT32_MAX, UINT32_MAX };

	begin("CPUs, as many as there is room for");
	EXPECT(mcr_cpus(cpus, 1), 1);
	EXPECT_TRUE(cpus[0] < CPU_SETSIZE);
	EXPECT(cpus[1], UINT32_MAX);
	EXPECT(mcr_cpus(cpus, 0), 0);
	begin("the version of the ABI");
	EXPECT(mcr_abi(), MCR_ABI);
}

int main(void)
{
	int32_t error;

	test_worker_counts();
	relay = mcr_relay_open(3, &error);
	need(relay != NULL, "a relay");
	test_layout();
	test_reset();
	test_epochs();
	test_cpus();
	return finish();
}
