/*
 * The ABI between mcr's TypeScript and its instruments, `mcr send` and `mcr
 * receive`: a shared object of its own, which a relay never maps. Conventions
 * and addresses are those of mcr.h; after a change here, `make abi` writes the
 * other side, src/native/measure/abi.ts.
 *
 * The two objects know nothing of each other. What one needs of the other is a
 * descriptor that TypeScript hands on: the generator sends by a socket of
 * mcr_egress_open, and mcr_member_join joins the groups of the receiver's.
 */
#ifndef MCR_MEASURE_H
#define MCR_MEASURE_H

#include <stdint.h>

#define MCR_MEASURE_ABI 1
#define MCR_EXPORT __attribute__((visibility("default")))

/* MCR_MEASURE_ABI as this object has it. receiver.c */
MCR_EXPORT int32_t mcr_measure_abi(void);

struct mcr_stream_spec {
	uint8_t address[16];
	uint16_t port;
	uint16_t reserved[3];
};
_Static_assert(sizeof(struct mcr_stream_spec) == 24, "ABI");

/* -- generator.c, batch.c: test traffic of `mcr send` ----------------------- */

#define MCR_PAYLOAD_BYTES_MAX 65507
#define MCR_BURST_MAX 1024
#define MCR_SEGMENTS_MAX 64 /* UDP_MAX_SEGMENTS of the kernels before 6.9 */

struct mcr_generator_options {
	const struct mcr_stream_spec *streams;
	const uint8_t *body; /* repeated behind the header; NULL: zeros */
	uint64_t clock; /* names CLOCK_MONOTONIC of this machine */
	uint64_t count; /* packets of each stream; 0: no limit */
	uint64_t duration_ns; /* 0: no limit */
	uint32_t stream_count;
	uint32_t body_bytes;
	uint32_t payload_bytes; /* of each datagram, header included */
	uint32_t rate_pps; /* of all streams together; 0: as fast as the kernel takes it */
	uint32_t burst; /* packets of a stream in a row, 1..MCR_BURST_MAX */
	uint32_t segments; /* packets of a super-frame, 1..MCR_SEGMENTS_MAX; 1: none */
	int32_t fd; /* of mcr_egress_open, mcr.h; stays the caller's */
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_generator_options) == 72, "ABI");

/* Followed by one u64 for each stream: its packets sent. */
struct mcr_generator_counters {
	uint64_t sent_packets;
	uint64_t retries; /* no room: the same packet was offered again */
	uint64_t errors; /* errors that a second try cured, such as an ICMP answer */
	uint64_t skipped_ns; /* of the schedule: stalls too long to catch up with */
	uint64_t first_ns; /* when the first packets were handed over, CLOCK_MONOTONIC */
	uint64_t last_ns; /* when the last ones were */
	uint64_t last_packets; /* how many were due at last_ns */
	uint64_t end_ns; /* when the kernel had taken them */
};
_Static_assert(sizeof(struct mcr_generator_counters) == 64, "ABI");

struct mcr_generator;

/* NULL and *error: -EINVAL for options out of range, -ENOMEM. */
MCR_EXPORT struct mcr_generator *mcr_generator_open(const struct mcr_generator_options *options,
						    int32_t *error);
/* Sends for about budget_ms. 0: call again, 1: all is sent, or -errno. */
MCR_EXPORT int32_t mcr_generator_run(struct mcr_generator *generator, int32_t budget_ms);
MCR_EXPORT void *mcr_generator_counters(const struct mcr_generator *generator);
MCR_EXPORT void mcr_generator_close(struct mcr_generator *generator);

/* -- receiver.c, stream.c, transport.c: counts for `mcr receive` ------------ */

enum mcr_stream_kind {
	MCR_KIND_UNKNOWN,
	MCR_KIND_MCR,
	MCR_KIND_RTP,
	MCR_KIND_TS,
};

struct mcr_stream_counters {
	uint64_t kind; /* enum mcr_stream_kind */
	uint64_t packets; /* datagrams of any sort */
	uint64_t bytes; /* UDP payload */
	uint64_t lost; /* MPEG-TS: transport packets, at least so many */
	uint64_t duplicated;
	uint64_t reordered;
	uint64_t corrupt;
	uint64_t foreign; /* intact, but of another stream */
	uint64_t restarts; /* its sender began anew */
	uint64_t first_ns; /* CLOCK_REALTIME */
	uint64_t last_ns;
	uint64_t socket_drops; /* no room in the socket: our fault, not the network's */
	uint64_t reserved[4];
};
_Static_assert(sizeof(struct mcr_stream_counters) == 128, "ABI");

/*
 * Bucket b < 64 holds b ns; above that every power of two has 32 buckets:
 * b = 32 * e + m holds m << e up to ((m + 1) << e) - 1, m from 32 to 63.
 */
#define MCR_LATENCY_BUCKETS 1920
struct mcr_latency_counters {
	uint64_t count;
	uint64_t min_ns;
	uint64_t max_ns;
	uint64_t reserved[5];
	uint64_t buckets[MCR_LATENCY_BUCKETS];
};
_Static_assert(sizeof(struct mcr_latency_counters) == 64 + 8 * MCR_LATENCY_BUCKETS, "ABI");

struct mcr_receiver_options {
	const struct mcr_stream_spec *streams;
	uint64_t clock;
	uint64_t expect; /* done when so many good packets came in all; 0: never */
	uint32_t stream_count;
	uint32_t ifindex;
	uint32_t buffer_bytes; /* of each socket; the kernel's limit without CAP_NET_ADMIN */
	uint32_t reserved;
};
_Static_assert(sizeof(struct mcr_receiver_options) == 40, "ABI");

struct mcr_receiver;

/*
 * A socket for each stream, which receives nothing of a group until that is
 * joined on it. NULL and *error, and *failed_stream where one is to blame:
 * -EADDRINUSE, -EADDRNOTAVAIL for a unicast address that is not this host's,
 * -EMFILE, -ENODEV.
 */
MCR_EXPORT struct mcr_receiver *mcr_receiver_open(const struct mcr_receiver_options *options,
						  uint32_t *failed_stream, int32_t *error);
/* The socket of one stream, in the order of the options; -EINVAL beyond the last. */
MCR_EXPORT int32_t mcr_receiver_fd(const struct mcr_receiver *receiver, uint32_t stream);
/* Receives for about budget_ms. 0: call again, 1: what was expected came. */
MCR_EXPORT int32_t mcr_receiver_run(struct mcr_receiver *receiver, int32_t budget_ms);
/* An array of mcr_stream_counters, in the order of the options. */
MCR_EXPORT void *mcr_receiver_counters(const struct mcr_receiver *receiver);
MCR_EXPORT void *mcr_receiver_latency(const struct mcr_receiver *receiver);
/* Bytes that a socket really got, as SO_RCVBUF says. */
MCR_EXPORT int32_t mcr_receiver_buffer_bytes(const struct mcr_receiver *receiver);
MCR_EXPORT void mcr_receiver_close(struct mcr_receiver *receiver);

#endif
