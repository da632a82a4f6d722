/*
 * The hop mark: how often mcr has relayed a packet, in the Identification of its IPv4 header.
 *
 *   15         9 8     6 5           0      of atomic datagrams: DF set, no fragment. There the
 *   | signature | number | low six bits |    field has no meaning, RFC 6864 section 4.1.
 *     1011010     1 to 7   0; in the pieces of a super-frame 0, 1, 2 ... as the kernel counts
 *
 * A mark is evidence, never a verdict: senders count their Identification up, keep it, or roll it,
 * and hit every mark now and then. So a relay goes by rows: frames of one flow without an exception
 * that are atomic, marked, and sound in their low bits. Of these the row counts the beginnings of
 * messages, whose low part is 0. Pieces that were lost leave gaps, so a low part that is higher than
 * the last one of the same number is sound; one that is not takes a beginning from the row, and ends
 * it when none is left. A counting sender makes rows of 448 frames, since so many numbers in a row
 * are marks, with 7 beginnings. One whose super-frames are counted by one and arrive in pieces
 * (UDP_SEGMENT of a connected socket) makes rows of 448 super-frames: each has a beginning at most
 * where it has 64 pieces, and one that is not sound. MCR_HOP_ROW is more.
 *
 *   row <= MCR_HOP_ROW    the marks are taken for chance: what is relayed gets the number 1
 *   longer: known         a relay sent this: what is relayed gets its number + 1, 7 at most
 *   and suspected         the row has had the number 7, and two others: a chain of relays gives
 *                         every packet the same number, a loop counts up
 *
 * Of a suspected flow, packets of MCR_HOP_MANY or more are dropped, and no others. The suspicion
 * ends with the row, or MCR_HOP_CALM_NS after the last of these.
 *
 * Loops of one to five relays end after MCR_HOP_ROW rounds and a few more; so do longer ones whose
 * relays have begun to count at the same place. What this cannot tell:
 *   - a loop with a leg that does not carry marks: sockets (unicast, tunnels), `plain` egresses,
 *     fragments, anything that rewrites the Identification. Every number behind it is 1;
 *   - a loop where marked and unmarked packets of one flow alternate: `source = "keep"` on links
 *     without MAC addresses, where the sender and the relay that repeats it look alike;
 *   - a loop whose frames are spread over workers (fanout cpu, qm) in pieces of small super-frames:
 *     a worker sees too few of them begin;
 *   - a chain of eight relays: the last takes it for a loop once the numbers have changed on the
 *     way, as when one of them begins anew. `plain = true` on one of them cures it;
 *   - senders with a constant Identification that happens to be a mark (7 of 65,536): two of them
 *     merged into one flow by a relay before, or one of 6 or 7 hops as the third relay sees it
 *     when the first has begun anew.
 *
 * Memory is fixed: MCR_HOP_SETS * 4 rows for each worker, of which only pages in use exist. Known
 * rows keep their place while packets come; a flow that finds none is relayed with the number 1.
 * Static inline where every packet comes by; the rest is in hop.c. One worker, no system calls.
 */
#ifndef MCR_HOP_H
#define MCR_HOP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MCR_HOP_SIGNATURE 0xb400u /* top 7 bits */
#define MCR_HOP_SIGNATURE_MASK 0xfe00u
#define MCR_HOP_SHIFT 6
#define MCR_HOP_MAX 7
#define MCR_HOP_LOW_MASK ((1u << MCR_HOP_SHIFT) - 1)

/* No sender that counts gets so far: there are 2^9 identifications with the signature. */
#define MCR_HOP_ROW 512u
#define MCR_HOP_MANY 4u
#define MCR_HOP_CALM_NS 60000000000ull
#define MCR_HOP_SETS 4096u
#define MCR_HOP_WAYS 4u

/* Of one flow as it arrives; all 24 bytes are compared. */
struct mcr_hop_key {
	uint64_t link_source; /* MAC address; 0 on links that have none */
	uint32_t source; /* IPv4, network order, as is the destination */
	uint32_t destination;
	uint32_t interface;
	uint16_t source_port;
	uint16_t port;
};
_Static_assert(sizeof(struct mcr_hop_key) == 24, "hashed as three words");

/* What the receiver knows of one frame, or of one super-frame. */
struct mcr_hop_frame {
	struct mcr_hop_key key;
	uint32_t segments;
	uint16_t identification; /* host order */
	bool is_atomic; /* DF set, MF not, offset 0 */
};

struct mcr_hop_row {
	struct mcr_hop_key key;
	uint64_t many_ns; /* suspected: when the last packet of many hops came */
	uint32_t seen_ticks;
	uint16_t frames; /* that begin a message; more than MCR_HOP_ROW: known */
	uint8_t numbers; /* bit n: the row has had the number n */
	uint8_t last; /* low six bits of the last frame */
	uint8_t number_last; /* of the last frame */
	bool is_suspected;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct mcr_hop_row) == 64, "one cache line");

struct mcr_hop_table {
	uint32_t tags[MCR_HOP_SETS][MCR_HOP_WAYS]; /* 0: free */
	struct mcr_hop_row rows[MCR_HOP_SETS][MCR_HOP_WAYS];
};

struct mcr_hops {
	struct mcr_hop_table *table; /* zeroed by who allocates it */
	uint64_t seed; /* random: keeps senders from choosing whose place they take */
	uint32_t row_count;
};

/* In host order; number is 1 to MCR_HOP_MAX. */
static inline uint16_t mcr_hop_mark(uint8_t number)
{
	return (uint16_t)(MCR_HOP_SIGNATURE | (uint32_t)number << MCR_HOP_SHIFT);
}

/* 0: no mark. mcr never writes that number, so it is none. */
static inline uint8_t mcr_hop_number(uint16_t identification)
{
	if ((identification & MCR_HOP_SIGNATURE_MASK) != MCR_HOP_SIGNATURE)
		return 0;
	return identification >> MCR_HOP_SHIFT & MCR_HOP_MAX;
}

/* Every factor is odd and fixed, so there is no key that makes it zero. */
static inline uint64_t mcr_hop_hash(const struct mcr_hop_key *key, uint64_t seed)
{
	uint64_t words[3], hash;

	memcpy(words, key, sizeof(words));
	hash = (words[0] ^ seed) * 0x9e3779b97f4a7c15u + (words[1] ^ seed) * 0xd6e8feb86659fd93u;
	hash = (hash ^ hash >> 32 ^ words[2]) * 0xff51afd7ed558ccdu;
	return hash ^ hash >> 32;
}

static inline uint32_t mcr_hop_tag(uint64_t hash)
{
	return (uint32_t)(hash >> 32) | 1;
}

/* hop.c: mcr_hops_take below, for a frame that has a mark or may belong to a flow with a row. */
uint8_t mcr_hops_judge(struct mcr_hops *hops, const struct mcr_hop_frame *frame, uint64_t hash,
		       uint64_t received_ns, bool *is_looped);

static inline bool mcr_hop_is_marked(bool is_atomic, uint16_t identification)
{
	return is_atomic && mcr_hop_number(identification);
}

/* Nothing to look up for this frame: it would get the number 1. */
static inline bool mcr_hops_idle(const struct mcr_hops *hops, bool is_atomic,
				 uint16_t identification)
{
	return hops->row_count == 0 && !mcr_hop_is_marked(is_atomic, identification);
}

/*
 * Takes one frame, in the order of arrival: the number that its packets are to leave with, 1 to
 * MCR_HOP_MAX; or *is_looped, and they are to be dropped.
 */
static inline uint8_t mcr_hops_take(struct mcr_hops *hops, const struct mcr_hop_frame *frame,
				    uint64_t received_ns, bool *is_looped)
{
	const bool is_marked = mcr_hop_is_marked(frame->is_atomic, frame->identification);
	const uint32_t *tags;
	uint64_t hash;
	uint32_t tag;

	*is_looped = false;
	if (__builtin_expect(!is_marked && hops->row_count == 0, 1))
		return 1;
	hash = mcr_hop_hash(&frame->key, hops->seed);
	tags = hops->table->tags[hash & (MCR_HOP_SETS - 1)];
	tag = mcr_hop_tag(hash);
	if (!is_marked && tags[0] != tag && tags[1] != tag && tags[2] != tag && tags[3] != tag)
		return 1;
	return mcr_hops_judge(hops, frame, hash, received_ns, is_looped);
}

#endif
