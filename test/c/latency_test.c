/*
 * c/latency.h and c/latency.c: buckets, which packet is sampled, and what is
 * counted once its flow is sent.
 */
#define _GNU_SOURCE
#include "latency.h"

#include <time.h>

#include "check.h"
#include "relay.h"

#define SECOND 1000000000ull

static struct mcr_relay *relay;
static struct mcr_worker *worker;

static uint64_t realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* As mcr.h draws them. */
static uint64_t bucket_start(uint32_t bucket)
{
	uint32_t exponent = bucket < 8 ? 0 : bucket / 4 - 1;

	return (uint64_t)(bucket - 4 * exponent) << exponent << 9;
}

static void test_buckets(void)
{
	for (uint32_t bucket = 0; bucket < MCR_ADDED_LATENCY_BUCKETS - 1; bucket++) {
		begin("first and last time of bucket %u", bucket);
		EXPECT(mcr_latency_bucket(bucket_start(bucket)), bucket);
		EXPECT(mcr_latency_bucket(bucket_start(bucket + 1) - 1), bucket);
	}
	begin("the last bucket has no end");
	EXPECT(mcr_latency_bucket(bucket_start(92)), 92);
	EXPECT(mcr_latency_bucket(60 * SECOND), 92);
	EXPECT(mcr_latency_bucket(UINT64_MAX), 92);
}

static void test_due(void)
{
	static const struct {
		const char *name;
		uint64_t packets; /* after them */
		uint32_t segments;
		int64_t since_sample_ns;
		bool is_due;
	} rows[] = {
		{ "the 1023rd packet, at once", 1023, 1, 1000, false },
		{ "the 1024th packet", 1024, 1, 1000, true },
		{ "the 1025th packet", 1025, 1, 1000, false },
		{ "a super-frame up to the 1024th", 1024, 20, 1000, true },
		{ "a super-frame across the 1024th", 1030, 20, 1000, true },
		{ "a super-frame after the 1024th", 1044, 20, 1000, false },
		{ "the 5 * 1024th packet", 5120, 1, 1000, true },
		{ "a second has passed", 7, 1, (int64_t)SECOND, true },
		{ "less than a second has passed", 7, 1, (int64_t)SECOND - 1, false },
		{ "two packets of one time", 7, 1, 0, false },
		{ "a clock that was set back", 7, 1, -5, true },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct mcr_rule_counters rule = { .packets = rows[i].packets,
							.sampled_ns = 1700 * SECOND };

		begin("%s", rows[i].name);
		EXPECT(mcr_sample_is_due(&rule, rows[i].segments,
					 rule.sampled_ns + (uint64_t)rows[i].since_sample_ns),
		       rows[i].is_due);
	}
	begin("the first packet ever");
	EXPECT(mcr_sample_is_due(&(struct mcr_rule_counters){ .packets = 1 }, 1, 1700 * SECOND),
	       true);
}

static void sample(uint32_t flow, uint32_t rule, uint64_t received_ns)
{
	worker->samples[worker->sample_count++] =
		(struct mcr_sample){ .received_ns = received_ns, .flow = flow, .rule = rule };
}

static void test_count(void)
{
	const struct mcr_added_latency_counters *all = &worker->latencies[MCR_RULES_MAX];

	begin("only the samples of the flow that was sent");
	sample(1, 10, realtime_ns() - 2 * SECOND);
	sample(2, 20, realtime_ns());
	sample(1, 10, realtime_ns() - 3 * SECOND);
	mcr_samples_count(worker, 1);
	EXPECT(worker->latencies[10].samples, 2);
	EXPECT(worker->latencies[20].samples, 0);
	EXPECT(all->samples, 2);
	EXPECT_TRUE(worker->latencies[10].max_ns >= 3 * SECOND);
	EXPECT_TRUE(worker->latencies[10].sum_ns >= 5 * SECOND);
	EXPECT(all->sum_ns, worker->latencies[10].sum_ns);
	mcr_samples_count(worker, 2);
	EXPECT(worker->latencies[20].samples, 1);
	EXPECT(all->samples, 3);
	EXPECT(all->max_ns, worker->latencies[10].max_ns);

	begin("not what a clock that was set makes of it");
	worker->sample_count = 0;
	sample(3, 30, realtime_ns() + 3600 * SECOND); /* set back */
	sample(3, 30, realtime_ns() - 61 * SECOND); /* set forward */
	sample(3, 30, 0);
	sample(3, 30, UINT64_MAX);
	mcr_samples_count(worker, 3);
	EXPECT(worker->latencies[30].samples, 0);
	EXPECT(worker->latencies[30].max_ns, 0);
	EXPECT(all->samples, 3);

	begin("the last rule has a histogram of its own");
	worker->sample_count = 0;
	sample(4, MCR_RULES_MAX - 1, realtime_ns() - 20 * SECOND);
	mcr_samples_count(worker, 4);
	EXPECT(worker->latencies[MCR_RULES_MAX - 1].buckets[MCR_ADDED_LATENCY_BUCKETS - 1], 1);
	EXPECT(all->samples, 4);
}

int main(void)
{
	int32_t error;

	relay = mcr_relay_open(1, &error);
	need(relay != NULL, "a relay");
	worker = &relay->workers[0];
	test_buckets();
	test_due();
	test_count();
	return finish();
}
