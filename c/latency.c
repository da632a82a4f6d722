/*
 * What mcr adds to a packet's way, sampled: mcr.h tells how. The clock is read
 * here and nowhere else in the loop, for batches that hold a sample.
 */
#define _GNU_SOURCE
#include "latency.h"

#include <time.h>

#include "worker.h"

static uint64_t realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void count(struct mcr_added_latency_counters *latency, uint64_t ns)
{
	MCR_COUNT(latency->samples, 1);
	MCR_COUNT(latency->sum_ns, ns);
	MCR_COUNT(latency->buckets[mcr_latency_bucket(ns)], 1);
	if (ns > latency->max_ns)
		__atomic_store_n(&latency->max_ns, ns, __ATOMIC_RELAXED);
}

void mcr_samples_count(struct mcr_worker *worker)
{
	const uint64_t now_ns = realtime_ns();

	for (uint32_t i = 0; i < worker->sample_count; i++) {
		const struct mcr_sample *sample = &worker->samples[i];
		const uint64_t ns = now_ns - sample->received_ns;

		if (ns > MCR_SAMPLE_NS_MAX) /* or below 0, unsigned */
			continue;
		count(&worker->latencies[sample->rule], ns);
		count(&worker->latencies[MCR_RULES_MAX], ns);
	}
}
