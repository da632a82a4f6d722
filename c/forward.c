/*
 * The hot loop of a worker: rings -> batch (gather.c) -> send (send.c) -> sleep.
 * One worker, one call; no allocation, and a system call only to sleep, to take
 * frames one by one, and per message batch.
 */
#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* -- one batch ----------------------------------------------------------------- */

static bool block_gather(const struct mcr_table *table, struct mcr_worker *worker,
			 struct mcr_scratch *scratch, const struct mcr_port *port)
{
	struct mcr_ring *ring = port->ring;
	const struct tpacket_block_desc *block = mcr_ring_take(ring);

	if (!block)
		return false;
	if (!(block->hdr.bh1.block_status & TP_STATUS_BLK_TMO) && worker->pause_ns < ring->pause_ns)
		worker->pause_ns = ring->pause_ns;
	mcr_block_gather(table, worker, scratch, port->interface,
			 mcr_block_read(block, ring->block_bytes, ring->has_offload));
	MCR_COUNT(worker->counters->blocks, 1);
	return true;
}

/* Once in a batch: what was taken stays where it is until it is sent. */
static bool frames_gather(const struct mcr_table *table, struct mcr_worker *worker,
			  struct mcr_scratch *scratch, const struct mcr_port *port)
{
	struct mcr_interface_counters *counters = &worker->interfaces[port->interface];
	struct mcr_ring *ring = port->ring;
	uint64_t undescribed = ring->undescribed;
	uint32_t count;

	if (ring->is_held || ring->is_empty)
		return false;
	count = mcr_frames_take(ring);
	if (__builtin_expect(ring->undescribed != undescribed, 0))
		MCR_COUNT(counters->undescribed, ring->undescribed - undescribed);
	for (uint32_t i = 0; i < count; i++) {
		struct mcr_frame frame;
		enum mcr_read read = mcr_frames_read(ring, i, &frame);

		mcr_gather(table, worker, scratch, port->interface, read, &frame);
	}
	MCR_COUNT(worker->counters->blocks, count);
	return count > 0;
}

static bool port_gather(const struct mcr_table *table, struct mcr_worker *worker,
			struct mcr_scratch *scratch, const struct mcr_port *port)
{
	bool found = port->ring->frames ? frames_gather(table, worker, scratch, port) :
					  block_gather(table, worker, scratch, port);

	worker->block_count += found;
	return found;
}

/* One block of every port in turn, so that a busy interface starves no other. */
static void ports_gather(const struct mcr_table *table, struct mcr_worker *worker,
			 struct mcr_scratch *scratch, const struct mcr_port *ports,
			 uint32_t port_count)
{
	bool found = true;

	while (found) {
		found = false;
		for (uint32_t i = 0; i < port_count; i++) {
			if (worker->block_count == MCR_BATCH_BLOCKS_MAX)
				return;
			found |= port_gather(table, worker, scratch, &ports[i]);
		}
	}
}

/* A socket that the batch before has emptied is not asked again before the worker has slept. */
static void ports_look_again(const struct mcr_port *ports, uint32_t port_count)
{
	for (uint32_t i = 0; i < port_count; i++)
		ports[i].ring->is_empty = false;
}

/* Nothing that was there when the batch began is left in a ring. */
static bool are_drained(const struct mcr_worker *worker, const struct mcr_port *ports,
			uint32_t port_count)
{
	bool are = worker->block_count < MCR_BATCH_BLOCKS_MAX;

	for (uint32_t i = 0; i < port_count; i++)
		are &= !ports[i].ring->is_held || ports[i].ring->is_empty;
	return are;
}

static void blocks_release(struct mcr_worker *worker, const struct mcr_port *ports,
			   uint32_t port_count)
{
	for (uint32_t i = 0; i < port_count; i++)
		mcr_ring_release(ports[i].ring);
	worker->block_count = 0;
}

/* -- the worker ------------------------------------------------------------------ */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static int sleep_until_ready(struct mcr_worker *worker, const struct mcr_port *ports,
			     uint32_t port_count, int64_t timeout_ns)
{
	struct pollfd fds[MCR_PORTS_MAX + 1];
	uint64_t count;
	int ready;

	for (uint32_t i = 0; i < port_count; i++)
		fds[i] = (struct pollfd){ .fd = ports[i].ring->fd, .events = POLLIN | POLLERR };
	fds[port_count] = (struct pollfd){ .fd = worker->event_fd, .events = POLLIN };
	ready = poll(fds, port_count + 1, (int)((timeout_ns + 999999) / 1000000));
	if (ready < 0)
		return -errno;
	if (ready == 0)
		return 0;
	MCR_COUNT(worker->counters->wakeups, 1);
	if (fds[port_count].revents && read(worker->event_fd, &count, sizeof(count)) < 0 &&
	    errno != EAGAIN)
		return -errno;
	for (uint32_t i = 0; i < port_count; i++) {
		int error;
		socklen_t bytes = sizeof(error);

		/* An error stays until it is read, and would end every sleep at once. */
		if (fds[i].revents & POLLERR && !ports[i].ring->frames)
			getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
	}
	return 0;
}

/*
 * A ring by frame may be looked at again after a short sleep instead of a
 * wake-up for each packet. Only for so many sleeps in a row that find nothing:
 * an idle worker is woken. False: sleep until then.
 */
#define NAPS_MAX 32u
static bool nap(const struct mcr_port *ports, uint32_t port_count, uint32_t *naps)
{
	struct timespec duration = { 0 };

	if (port_count == 0 || ports[0].ring->sleep_us == 0 || *naps == NAPS_MAX)
		return false;
	*naps += 1;
	duration.tv_sec = ports[0].ring->sleep_us / 1000000;
	duration.tv_nsec = ports[0].ring->sleep_us % 1000000 * 1000;
	nanosleep(&duration, NULL);
	return true;
}

/*
 * Blocks that are full before their time would be taken one by one, with few
 * packets of one flow to make a run of. So after such a batch the next begins
 * only when the ring's pause is over: meanwhile more blocks fill, and the runs
 * grow with the rate.
 */
#define PAUSE_NS_MIN 50000 /* not worth a sleep */
static void pause_until(int64_t until_ns, int64_t *at_ns)
{
	const struct timespec until = { .tv_sec = until_ns / 1000000000,
					.tv_nsec = until_ns % 1000000000 };

	if (until_ns - *at_ns < PAUSE_NS_MIN)
		return;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	*at_ns = now_ns();
}

int32_t mcr_worker_pin(uint32_t worker, uint32_t cpu)
{
	char name[16];
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	snprintf(name, sizeof(name), "mcr-worker-%u", worker & 0xff);
	pthread_setname_np(pthread_self(), name);
	/* A sleep of 50 us shall not take 100: the default slack is 50 us, prctl(2). */
	prctl(PR_SET_TIMERSLACK, 1);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/*
 * Takes the time at the boundaries of a batch only: now_ns is when it begins,
 * and when it ends on return. True when there were blocks to empty.
 */
static bool batch_run(const struct mcr_table *table, struct mcr_worker *worker,
		      struct mcr_scratch *scratch, const struct mcr_port *ports,
		      uint32_t port_count, int64_t *at_ns)
{
	int64_t gathered_ns, sent_ns;

	worker->began_ns = *at_ns;
	ports_gather(table, worker, scratch, ports, port_count);
	worker->is_drained = are_drained(worker, ports, port_count);
	if (worker->block_count == 0)
		return false;
	if (worker->block_count == MCR_BATCH_BLOCKS_MAX) /* more is waiting */
		worker->pause_ns = 0;
	gathered_ns = now_ns();
	mcr_batch_send(table, worker, scratch);
	blocks_release(worker, ports, port_count);
	sent_ns = now_ns();
	MCR_COUNT(worker->counters->gather_ns, gathered_ns - *at_ns);
	MCR_COUNT(worker->counters->send_ns, sent_ns - gathered_ns);
	*at_ns = sent_ns;
	return true;
}

int32_t mcr_worker_run(struct mcr_relay *relay, uint32_t index, int32_t budget_ms)
{
	int64_t at_ns = now_ns(); /* read anew after every sleep and every batch */
	const int64_t deadline_ns = at_ns + budget_ms * 1000000ll;
	struct mcr_worker *worker;
	uint32_t naps = NAPS_MAX; /* none before the first packet */
	bool busy = false;

	if (index >= relay->worker_count)
		return -EINVAL;
	worker = &relay->workers[index];
	for (;;) {
		/* Read before the rings are: what arrived before the stop is sent. */
		bool stopping = __atomic_load_n(&relay->stopping, __ATOMIC_ACQUIRE);
		/* Acquire pairs with mcr_relay_publish. */
		const struct mcr_table *table = __atomic_load_n(&relay->table, __ATOMIC_ACQUIRE);
		const struct mcr_port *ports = NULL;
		uint32_t port_count = 0;
		const int64_t began_ns = at_ns;
		int error;

		worker->pause_ns = 0;
		if (table) {
			/* Release: nothing of an older table is used after this. */
			__atomic_store_n(&worker->epoch_seen, table->epoch, __ATOMIC_RELEASE);
			ports = &table->ports[table->port_first[index]];
			port_count = table->port_first[index + 1] - table->port_first[index];
			if (!busy || stopping)
				ports_look_again(ports, port_count);
			busy = batch_run(table, worker, &table->scratch[index], ports, port_count,
					 &at_ns);
		}
		/* After the host stood still, the rest of a datagram may have come long ago. */
		if (worker->is_drained)
			mcr_reassembly_expire(worker->reassembly, began_ns);
		if (busy)
			naps = 0;
		if (stopping && !busy) {
			mcr_reassembly_flush(worker->reassembly);
			return 1;
		}
		if (at_ns >= deadline_ns)
			return 0;
		if (busy) {
			pause_until(began_ns + worker->pause_ns, &at_ns);
			continue;
		}
		if (nap(ports, port_count, &naps)) {
			at_ns = now_ns();
			continue;
		}
		error = sleep_until_ready(worker, ports, port_count, deadline_ns - at_ns);
		if (error == -EINTR)
			return 0;
		if (error)
			return error;
		at_ns = now_ns();
	}
}
