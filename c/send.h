/*
 * The two ways out: frames of our own (link.c) and the kernel's sockets
 * (egress.c), and what a refusal of either means. send.c chooses.
 */
#ifndef MCR_SEND_H
#define MCR_SEND_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "worker.h"

/* UDP_MAX_SEGMENTS of the kernels before 6.9, and as many as the low bits of a hop mark count. */
#define MCR_RUN_PACKETS_MAX 64
/* Below 65,535 less the headers. */
#define MCR_RUN_BYTES_MAX 65000
/*
 * Where a run was refused and its first datagram alone was not, no run is tried
 * for so long. The reason may pass: an MTU that was lower for a moment, a route.
 */
#define MCR_RUN_RETRY_NS 5000000000ll

/* The device's queue or the socket's buffer has no room just now. */
static inline bool mcr_is_full(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

/* What a device or route answers that takes no super-frames; or not these datagrams. */
static inline bool mcr_refuses_run(int error)
{
	return error == EINVAL || error == EIO || error == EMSGSIZE || error == EOPNOTSUPP;
}

/*
 * The same of a single frame: then the device takes none. One that is too large says nothing. ENXIO:
 * the interface was taken away, and the kernel has unbound the socket for good.
 */
static inline bool mcr_refuses_frames(int error)
{
	return error == EINVAL || error == EIO || error == EOPNOTSUPP || error == ENXIO;
}

static inline void mcr_set_last_error(struct mcr_egress_counters *counters, int error)
{
	__atomic_store_n(&counters->last_errno, (uint64_t)error, __ATOMIC_RELAXED);
}

static inline void mcr_count_dropped(struct mcr_egress_counters *counters, size_t packets,
				     int error)
{
	mcr_set_last_error(counters, error);
	if (mcr_is_full(error))
		MCR_COUNT(counters->full_packets, packets);
	else
		MCR_COUNT(counters->error_packets, packets);
}

/* CLOCK_MONOTONIC to a few ms, without a system call. */
static inline int64_t mcr_coarse_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static inline bool mcr_takes_runs(int64_t *refused_until_ns)
{
	if (__builtin_expect(*refused_until_ns != 0, 0) && mcr_coarse_ns() >= *refused_until_ns)
		*refused_until_ns = 0;
	return *refused_until_ns == 0;
}

/* Of the interface, six bytes. link.c */
const uint8_t *mcr_link_mac(const struct mcr_link *link);
/* Queues one flow's packets for the link of this action. link.c */
void mcr_flow_queue(const struct mcr_table *table, struct mcr_worker *worker,
		    const struct mcr_packet_list *list, const struct mcr_action *action);
/* Sends what is queued on all links. link.c */
void mcr_links_flush(struct mcr_worker *worker);

/* Message arrays of one worker. egress.c */
struct mcr_sender *mcr_sender_open(void);
void mcr_sender_close(struct mcr_sender *sender);
/* Sends one flow's packets to those of its egresses that have no link. egress.c */
void mcr_flow_send_by_sockets(const struct mcr_table *table, struct mcr_worker *worker,
			      struct mcr_scratch *scratch, uint32_t flow);

#endif
