/*
 * What all workers share: counters, the published table, wake-ups, stop.
 */
#define _GNU_SOURCE
#include "relay.h"
#include "send.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#define INTERFACES_OFFSET sizeof(struct mcr_worker_counters)
#define RULES_OFFSET \
	(INTERFACES_OFFSET + MCR_INTERFACES_MAX * sizeof(struct mcr_interface_counters))
#define EGRESSES_OFFSET (RULES_OFFSET + MCR_RULES_MAX * sizeof(struct mcr_rule_counters))
#define LATENCIES_OFFSET (EGRESSES_OFFSET + MCR_EGRESSES_MAX * sizeof(struct mcr_egress_counters))
/* One more than there are rules: what it holds is that of all of them. */
#define COUNTERS_BYTES \
	(LATENCIES_OFFSET + (MCR_RULES_MAX + 1) * sizeof(struct mcr_added_latency_counters))
_Static_assert(COUNTERS_BYTES % MCR_CACHE_LINE == 0, "an area is whole cache lines");
/* Areas start on a page, so that no two workers write one. */
#define COUNTERS_STRIDE ((COUNTERS_BYTES + 4095) / 4096 * 4096)
#define HEALTH_BYTES (MCR_HEALTH_STREAMS * sizeof(struct mcr_health_stream))

int32_t mcr_abi(void)
{
	return MCR_ABI;
}

int64_t mcr_counters_bytes(void)
{
	return COUNTERS_BYTES;
}

void *mcr_counters(const struct mcr_relay *relay, uint32_t worker)
{
	if (worker >= relay->worker_count)
		return NULL;
	return relay->counters + worker * COUNTERS_STRIDE;
}

/* Zeroed memory; a page exists once it is written. */
static void *pages_open(size_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

static int worker_open(struct mcr_relay *relay, uint32_t index, uint64_t seed)
{
	struct mcr_worker *worker = &relay->workers[index];
	uint8_t *area = mcr_counters(relay, index);

	worker->index = index;
	worker->counters = (void *)area;
	worker->interfaces = (void *)(area + INTERFACES_OFFSET);
	worker->rules = (void *)(area + RULES_OFFSET);
	worker->egresses = (void *)(area + EGRESSES_OFFSET);
	worker->latencies = (void *)(area + LATENCIES_OFFSET);
	worker->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->event_fd < 0)
		return -errno;
	worker->packets = calloc(MCR_BATCH_PACKETS_MAX, sizeof(*worker->packets));
	worker->sender = mcr_sender_open();
	worker->health.streams = pages_open(HEALTH_BYTES);
	worker->health.mask = MCR_HEALTH_STREAMS - 1;
	worker->health.seed = seed;
	worker->hops.table = pages_open(sizeof(*worker->hops.table));
	worker->hops.seed = seed;
	worker->reassembly = mcr_reassembly_open(worker->interfaces, seed);
	if (!worker->packets || !worker->sender || !worker->health.streams || !worker->hops.table ||
	    !worker->reassembly)
		return -ENOMEM;
	return 0;
}

static void relay_close(struct mcr_relay *relay)
{
	for (uint32_t i = 0; i < relay->worker_count; i++) {
		struct mcr_worker *worker = &relay->workers[i];

		if (worker->event_fd >= 0)
			close(worker->event_fd);
		free(worker->packets);
		mcr_sender_close(worker->sender);
		if (worker->health.streams)
			munmap(worker->health.streams, HEALTH_BYTES);
		if (worker->hops.table)
			munmap(worker->hops.table, sizeof(*worker->hops.table));
		mcr_reassembly_close(worker->reassembly);
	}
	free(relay->rule_numbers);
	if (relay->counters)
		munmap(relay->counters, relay->counters_bytes);
	free(relay);
}

struct mcr_relay *mcr_relay_open(uint32_t worker_count, int32_t *error)
{
	size_t bytes = sizeof(struct mcr_relay) + worker_count * sizeof(struct mcr_worker);
	struct mcr_relay *relay;
	uint64_t seed = 0;

	if (worker_count == 0 || worker_count > MCR_WORKERS_MAX) {
		*error = -EINVAL;
		return NULL;
	}
	relay = aligned_alloc(MCR_CACHE_LINE,
			      (bytes + MCR_CACHE_LINE - 1) / MCR_CACHE_LINE * MCR_CACHE_LINE);
	if (!relay) {
		*error = -ENOMEM;
		return NULL;
	}
	memset(relay, 0, bytes);
	relay->worker_count = worker_count;
	for (uint32_t i = 0; i < worker_count; i++)
		relay->workers[i].event_fd = -1;

	/* Room for every slot there may ever be. */
	relay->counters_bytes = worker_count * COUNTERS_STRIDE;
	relay->counters = pages_open(relay->counters_bytes);
	relay->rule_numbers = calloc(MCR_RULES_MAX, sizeof(*relay->rule_numbers));
	if (!relay->counters || !relay->rule_numbers) {
		*error = -ENOMEM;
		relay_close(relay);
		return NULL;
	}
	/* Without it, early in a boot, senders could still only spoil each other's statistics. */
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
		seed = 0;

	for (uint32_t i = 0; i < worker_count; i++) {
		*error = worker_open(relay, i, seed);
		if (*error) {
			relay_close(relay);
			return NULL;
		}
	}
	return relay;
}

int32_t mcr_rule_counters_reset(struct mcr_relay *relay, uint32_t slot)
{
	if (slot >= MCR_RULES_MAX)
		return -EINVAL;
	relay->rule_numbers[slot] = ++relay->rule_number_last;
	for (uint32_t i = 0; i < relay->worker_count; i++) {
		struct mcr_worker *worker = &relay->workers[i];
		struct mcr_added_latency_counters *latency = &worker->latencies[slot];

		memset(&worker->rules[slot], 0, sizeof(struct mcr_rule_counters));
		/* Reading makes no page exist, writing would. */
		if (latency->samples > 0)
			memset(latency, 0, sizeof(*latency));
	}
	return 0;
}

int32_t mcr_egress_counters_reset(struct mcr_relay *relay, uint32_t slot)
{
	if (slot >= MCR_EGRESSES_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < relay->worker_count; i++)
		memset(&relay->workers[i].egresses[slot], 0, sizeof(struct mcr_egress_counters));
	return 0;
}

static void wake_workers(struct mcr_relay *relay)
{
	const uint64_t one = 1;

	for (uint32_t i = 0; i < relay->worker_count; i++) {
		/* EAGAIN only when a wake-up is pending already: nothing is lost. */
		ssize_t written = write(relay->workers[i].event_fd, &one, sizeof(one));

		(void)written;
	}
}

void mcr_relay_publish(struct mcr_relay *relay, struct mcr_table *table)
{
	/* Release: a worker that sees the pointer sees the whole table. */
	__atomic_store_n(&relay->table, table, __ATOMIC_RELEASE);
	wake_workers(relay);
}

int32_t mcr_relay_epoch_seen(const struct mcr_relay *relay)
{
	uint32_t oldest = UINT32_MAX;

	for (uint32_t i = 0; i < relay->worker_count; i++) {
		/* Acquire: what the worker did with the older table is done. */
		uint32_t seen = __atomic_load_n(&relay->workers[i].epoch_seen, __ATOMIC_ACQUIRE);

		if (seen < oldest)
			oldest = seen;
	}
	return (int32_t)oldest;
}

void mcr_relay_stop(struct mcr_relay *relay)
{
	__atomic_store_n(&relay->stopping, 1, __ATOMIC_RELEASE);
	wake_workers(relay);
}

int32_t mcr_cpus(uint32_t *cpus, uint32_t cpus_max)
{
	cpu_set_t set;
	uint32_t count = 0;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return -errno;
	for (uint32_t cpu = 0; cpu < CPU_SETSIZE && count < cpus_max; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[count++] = cpu;
	return (int32_t)count;
}
