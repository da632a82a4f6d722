/*
 * Puts the fragments of IPv4 datagrams together: those that a worker's rings admit, apart by
 * interface, VLAN, protocol, source, destination and identification. No system call after it is
 * opened. forward.c brings every fragment, sends what has become whole, then releases it.
 *
 *   One mapping for each worker; its pages exist once they are used. Index 0 is nobody's: it says
 *   none, and datagram 0 is the anchor of the list by age.
 *
 *     | oldest deadline, lists | datagram 0.. | bits of chunk 0.. | chunk 0.. | whole datagrams |
 *
 *     datagram   key, deadline, the first fragment's header, and an index for every 2,048 bytes:
 *                | chunk of 0..2047 | none yet | chunk of 4096..6143 | ...
 *     chunk      2,048 bytes of payload as they stand in the datagram; one bit for each 8 of them
 *                says that they have come
 *     whole      | IPv4 header | payload | to 64 | IPv4 header | payload | to 64 | ...  <- released
 *                  at once, so a small batch uses the same cache lines again and again
 *
 *   Limits of a worker are below. Where one is reached, the oldest gives way, never the newcomer:
 *   a flood cannot keep a datagram out, only shorten the wait for the rest of it.
 *
 *   A fragment whose bytes have all come is a copy: it is dropped alone. One that overlaps in part
 *   refuses its datagram, and what comes later begins anew (RFC 8200 section 4.5 asks so of IPv6;
 *   for IPv4, RFC 1858 has what overlaps are good for). One that contradicts what is known of the
 *   datagram's end is dropped alone as well.
 *
 *   Work for one fragment: a header checksum, a copy of its payload, at most 128 words of bits, and
 *   a walk over what waits of its source, 64 at most, and of sources that share its hash: one more
 *   on average, whatever addresses senders choose. 33 datagrams at most give way to it. A datagram
 *   that becomes whole is copied once more.
 *
 *   A frame that waits is counted nowhere. A dropped one is counted among its interface's packets
 *   and by what became of it, both at once. A whole datagram is the caller's to count, as one.
 */
#ifndef MCR_REASSEMBLY_H
#define MCR_REASSEMBLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mcr.h"

#define MCR_REASSEMBLY_BYTES (4u << 20) /* of payload that waits, in whole chunks */
#define MCR_REASSEMBLY_CHUNK_BYTES 2048u
#define MCR_REASSEMBLY_DATAGRAMS 1024u
#define MCR_REASSEMBLY_SOURCE_DATAGRAMS 64u /* of one source on one interface */
#define MCR_REASSEMBLY_WAIT_NS 2000000000ll /* from the first fragment that came */
/*
 * Whole datagrams of one batch: 16 of the largest, or 341 of 3,000 bytes. A full one only ends the
 * batch early, and 1 MiB stays in the second-level cache.
 */
#define MCR_REASSEMBLY_WHOLE_BYTES_MAX 65536u
#define MCR_REASSEMBLY_WHOLE_BYTES (16 * MCR_REASSEMBLY_WHOLE_BYTES_MAX)

/* What the hot loop looks at; the rest of the mapping lies behind it. */
struct mcr_reassembly {
	int64_t deadline_ns; /* of the oldest datagram that waits; INT64_MAX: none does */
	uint32_t whole_bytes; /* not yet released */
};

struct mcr_fragment {
	const uint8_t *ip;
	size_t captured;
	size_t wire_bytes;
	uint32_t interface; /* index of its counters */
	uint32_t vlan; /* whatever tells the caller's tags apart */
};

/* One IPv4 packet, sound but for what its payload says. */
struct mcr_assembled {
	const uint8_t *ip;
	size_t bytes;
};

/* seed: random, so that senders cannot choose what shares a hash. NULL: no memory. */
struct mcr_reassembly *mcr_reassembly_open(struct mcr_interface_counters *interfaces,
					   uint64_t seed);
void mcr_reassembly_close(struct mcr_reassembly *reassembly);

/*
 * True where the datagram is whole now: the first fragment's header, for the whole length, without
 * flags and offset, and all payload. It lies there until mcr_reassembly_release. Nothing of the
 * fragment has to be checked before, but that it is IPv4 by its EtherType. now_ns never goes back.
 */
bool mcr_reassembly_take(struct mcr_reassembly *reassembly, const struct mcr_fragment *fragment,
			 int64_t now_ns, struct mcr_assembled *assembled);

/* For one more whole datagram. Ask before each fragment: without room it is dropped as full. */
static inline bool mcr_reassembly_has_room(const struct mcr_reassembly *reassembly)
{
	return reassembly->whole_bytes + MCR_REASSEMBLY_WHOLE_BYTES_MAX <=
	       MCR_REASSEMBLY_WHOLE_BYTES;
}

/* All whole datagrams have been sent. */
static inline void mcr_reassembly_release(struct mcr_reassembly *reassembly)
{
	reassembly->whole_bytes = 0;
}

/* Drops as late what has waited until now_ns or longer; the rings have been read to their end by then. */
void mcr_reassembly_drop_late(struct mcr_reassembly *reassembly, int64_t now_ns);

static inline void mcr_reassembly_expire(struct mcr_reassembly *reassembly, int64_t now_ns)
{
	if (now_ns >= reassembly->deadline_ns)
		mcr_reassembly_drop_late(reassembly, now_ns);
}

/* The worker ends: what waits is late. */
static inline void mcr_reassembly_flush(struct mcr_reassembly *reassembly)
{
	mcr_reassembly_drop_late(reassembly, INT64_MAX);
}

#endif
