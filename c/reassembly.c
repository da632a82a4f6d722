/*
 * Reassembly of IPv4 datagrams, RFC 791 section 3.2, within the bounds that reassembly.h draws.
 * Every byte of a fragment comes from the network: each length is checked before it is used.
 */
#define _GNU_SOURCE
#include "reassembly.h"

#include <string.h>
#include <sys/mman.h>

#include "frame.h"
#include "count.h"

#define PACKET_BYTES_MAX 65535u
#define MORE_FRAGMENTS 0x2000
#define OFFSET_MASK 0x1fff
#define UNIT_BYTES 8u /* what offsets count in */
#define CHUNK_BYTES MCR_REASSEMBLY_CHUNK_BYTES
#define CHUNK_WORDS (CHUNK_BYTES / UNIT_BYTES / 64)
#define CHUNKS (MCR_REASSEMBLY_BYTES / CHUNK_BYTES)
#define CHUNKS_OF_DATAGRAM (MCR_REASSEMBLY_WHOLE_BYTES_MAX / CHUNK_BYTES)
#define HEADER_BYTES_MAX 60u
#define BUCKET_BITS 11

struct datagram {
	uint64_t key[3];
	int64_t deadline_ns;
	uint32_t payload_bytes; /* 0: its last fragment has not come */
	uint32_t reach; /* bytes up to the end of the farthest fragment */
	uint16_t units; /* that have come */
	uint16_t frames; /* that wait */
	uint16_t header_bytes; /* 0: its first fragment has not come */
	uint16_t older, newer;
	uint16_t previous, next; /* in its bucket, the newest first; next among unused ones */
	uint16_t chunks[CHUNKS_OF_DATAGRAM];
	uint8_t header[HEADER_BYTES_MAX];
} __attribute__((aligned(MCR_CACHE_LINE)));

struct memory {
	struct mcr_reassembly shown;
	struct mcr_interface_counters *interfaces;
	uint64_t seed[2];
	uint32_t chunks_held;
	uint16_t datagrams_held;
	uint16_t datagram_unused; /* first of a list; 0: take one that was never used */
	uint16_t datagrams_touched;
	uint16_t chunk_unused; /* linked by the first word of their bits */
	uint16_t chunks_touched;
	struct datagram datagrams[1 + MCR_REASSEMBLY_DATAGRAMS];
	uint16_t buckets[1 << BUCKET_BITS];
	uint64_t came[1 + CHUNKS][CHUNK_WORDS]; /* by unit; nothing of chunk 0 ever has */
	uint8_t chunks[1 + CHUNKS][CHUNK_BYTES];
	uint8_t whole[MCR_REASSEMBLY_WHOLE_BYTES];
};

/* A fragment whose own header is sound. */
struct piece {
	uint64_t key[3];
	const uint8_t *ip;
	uint32_t header_bytes;
	uint32_t from, to; /* bytes of the datagram's payload */
	bool is_last;
};

struct mcr_reassembly *mcr_reassembly_open(struct mcr_interface_counters *interfaces, uint64_t seed)
{
	struct memory *memory = mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	/* Or the first byte would bring 2 MiB of each idle worker. A kernel without them refuses. */
	madvise(memory, sizeof(*memory), MADV_NOHUGEPAGE);
	memory->interfaces = interfaces;
	memory->seed[0] = seed << 32 | seed >> 32 | 1ull << 63;
	memory->seed[1] = seed | 1;
	memory->datagrams[0].deadline_ns = INT64_MAX;
	memory->shown.deadline_ns = INT64_MAX;
	return &memory->shown;
}

void mcr_reassembly_close(struct mcr_reassembly *reassembly)
{
	if (reassembly)
		munmap(reassembly, sizeof(struct memory));
}

/* -- counting ----------------------------------------------------------------- */

static void count_dropped(struct mcr_interface_counters *counters, uint64_t *reason,
			  uint32_t frames)
{
	MCR_COUNT(counters->packets, frames);
	MCR_COUNT(*reason, frames);
}

static struct mcr_interface_counters *counters_of(const struct memory *memory,
						  const struct datagram *datagram)
{
	return &memory->interfaces[datagram->key[1] >> 32];
}

/*
 * libc's memcpy: where gcc knows that a length has a bound, it writes rep movsq in its place, which
 * takes three times as long for 1,480 bytes that are not aligned.
 */
static void bytes_copy(uint8_t *to, const uint8_t *from, size_t bytes)
{
	__asm__("" : "+r"(bytes));
	memcpy(to, from, bytes);
}

/* -- chunks ------------------------------------------------------------------- */

static uint16_t chunk_take(struct memory *memory)
{
	uint16_t chunk = memory->chunk_unused;

	if (chunk)
		memory->chunk_unused = (uint16_t)memory->came[chunk][0];
	else
		chunk = ++memory->chunks_touched;
	memset(memory->came[chunk], 0, sizeof(memory->came[chunk]));
	memory->chunks_held++;
	return chunk;
}

static void chunk_give_back(struct memory *memory, uint16_t chunk)
{
	memory->came[chunk][0] = memory->chunk_unused;
	memory->chunk_unused = chunk;
	memory->chunks_held--;
}

/* -- datagrams ---------------------------------------------------------------- */

/*
 * Of its interface and source. Multiply-shift: with a secret odd factor, any two sources share a
 * bucket with a chance of 2 in 2,048 at most. No factor can be made zero: one is odd, and of the
 * other the highest bit is set, which no address reaches.
 */
static uint16_t *bucket_of(struct memory *memory, const uint64_t key[3])
{
	uint64_t source = key[0] >> 32, interface = key[1] >> 32;
	uint64_t hash = (source ^ memory->seed[0]) * (interface << 1 ^ memory->seed[1]);

	return &memory->buckets[hash >> (64 - BUCKET_BITS)];
}

static void deadline_show(struct memory *memory)
{
	memory->shown.deadline_ns = memory->datagrams[memory->datagrams[0].newer].deadline_ns;
}

/* Nothing of it waits any more. */
static void datagram_forget(struct memory *memory, uint16_t index)
{
	struct datagram *datagrams = memory->datagrams, *datagram = &datagrams[index];

	for (uint32_t i = 0; i * CHUNK_BYTES < datagram->reach; i++) {
		if (datagram->chunks[i])
			chunk_give_back(memory, datagram->chunks[i]);
	}
	datagrams[datagram->older].newer = datagram->newer;
	datagrams[datagram->newer].older = datagram->older;
	if (datagram->previous)
		datagrams[datagram->previous].next = datagram->next;
	else
		*bucket_of(memory, datagram->key) = datagram->next;
	if (datagram->next)
		datagrams[datagram->next].previous = datagram->previous;
	datagram->next = memory->datagram_unused;
	memory->datagram_unused = index;
	memory->datagrams_held--;
	deadline_show(memory);
}

static void datagram_drop_full(struct memory *memory, uint16_t index)
{
	struct mcr_interface_counters *counters = counters_of(memory, &memory->datagrams[index]);

	count_dropped(counters, &counters->fragment_full, memory->datagrams[index].frames);
	datagram_forget(memory, index);
}

void mcr_reassembly_drop_late(struct mcr_reassembly *reassembly, int64_t now_ns)
{
	struct memory *memory = (struct memory *)reassembly;
	uint16_t oldest;

	while ((oldest = memory->datagrams[0].newer) &&
	       memory->datagrams[oldest].deadline_ns <= now_ns) {
		struct datagram *datagram = &memory->datagrams[oldest];
		struct mcr_interface_counters *counters = counters_of(memory, datagram);

		count_dropped(counters, &counters->fragment_late, datagram->frames);
		datagram_forget(memory, oldest);
	}
}

/* What waits of a source, along one bucket. */
struct found {
	uint16_t index; /* the datagram itself; 0: it is not there, and only then: */
	uint16_t oldest;
	uint32_t count;
};

static struct found datagram_find(struct memory *memory, const uint64_t key[3])
{
	struct found found = { 0 };
	uint16_t index = *bucket_of(memory, key);

	for (; index; index = memory->datagrams[index].next) {
		const uint64_t *other = memory->datagrams[index].key;

		if ((other[0] ^ key[0]) >> 32 || (other[1] ^ key[1]) >> 32)
			continue;
		if (other[0] == key[0] && other[1] == key[1] && other[2] == key[2]) {
			found.index = index;
			return found;
		}
		found.oldest = index;
		found.count++;
	}
	return found;
}

static uint16_t datagram_add(struct memory *memory, const struct found *found,
			     const uint64_t key[3], int64_t now_ns)
{
	struct datagram *datagrams = memory->datagrams, *datagram;
	uint16_t index, *bucket;

	if (found->count == MCR_REASSEMBLY_SOURCE_DATAGRAMS)
		datagram_drop_full(memory, found->oldest);
	else if (memory->datagrams_held == MCR_REASSEMBLY_DATAGRAMS)
		datagram_drop_full(memory, datagrams[0].newer);

	index = memory->datagram_unused;
	if (index)
		memory->datagram_unused = datagrams[index].next;
	else
		index = ++memory->datagrams_touched;
	memory->datagrams_held++;

	bucket = bucket_of(memory, key);
	datagram = &datagrams[index];
	*datagram = (struct datagram){
		.key = { key[0], key[1], key[2] },
		.deadline_ns = now_ns + MCR_REASSEMBLY_WAIT_NS,
		.older = datagrams[0].older,
		.next = *bucket,
	};
	datagrams[datagram->older].newer = index;
	datagrams[0].older = index;
	if (datagram->next)
		datagrams[datagram->next].previous = index;
	*bucket = index;
	deadline_show(memory);
	return index;
}

/* -- fragments ---------------------------------------------------------------- */

/* NULL, or the counter of what is wrong with the fragment by itself. */
static uint64_t *piece_read(struct piece *piece, const struct mcr_fragment *fragment,
			    struct mcr_interface_counters *counters)
{
	const uint8_t *ip = fragment->ip;
	uint32_t header_bytes, total_bytes, source, destination;
	uint16_t word;

	if (fragment->captured < MCR_IPV4_HEADER_BYTES_MIN)
		return fragment->captured < fragment->wire_bytes ? &counters->truncated :
								   &counters->fragment_malformed;
	header_bytes = (ip[0] & 0x0fu) * 4;
	total_bytes = mcr_get16(ip + 2);
	if (ip[0] >> 4 != 4 || header_bytes < MCR_IPV4_HEADER_BYTES_MIN ||
	    total_bytes <= header_bytes || total_bytes > fragment->wire_bytes)
		return &counters->fragment_malformed;
	if (total_bytes > fragment->captured)
		return &counters->truncated;
	if (mcr_fold(mcr_sum(ip, header_bytes, 0)) != 0xffff)
		return &counters->bad_checksum;

	word = mcr_get16(ip + 6);
	piece->ip = ip;
	piece->header_bytes = header_bytes;
	piece->is_last = !(word & MORE_FRAGMENTS);
	piece->from = (word & OFFSET_MASK) * UNIT_BYTES;
	piece->to = piece->from + total_bytes - header_bytes;
	if (piece->to > PACKET_BYTES_MAX - header_bytes ||
	    (piece->is_last ? piece->from == 0 : piece->to % UNIT_BYTES != 0))
		return &counters->fragment_malformed;

	memcpy(&source, ip + 12, sizeof(source));
	memcpy(&destination, ip + 16, sizeof(destination));
	piece->key[0] = (uint64_t)source << 32 | destination;
	piece->key[1] = (uint64_t)fragment->interface << 32 | fragment->vlan;
	piece->key[2] = (uint64_t)ip[9] << 16 | mcr_get16(ip + 4);
	return NULL;
}

/* Whether it agrees with what is known of the datagram's end and of its header. */
static bool piece_agrees(const struct piece *piece, const struct datagram *datagram)
{
	uint32_t end = datagram->payload_bytes;
	uint32_t reach = piece->to > datagram->reach ? piece->to : datagram->reach;
	uint32_t header_bytes = piece->from == 0 ? piece->header_bytes : datagram->header_bytes;

	if (end && (piece->is_last ? piece->to != end : piece->to > end))
		return false;
	if (piece->is_last && piece->to < datagram->reach)
		return false;
	/* Options of the first fragment may be in no other: only both say how long the whole is. */
	return header_bytes + reach <= PACKET_BYTES_MAX;
}

/* Of the word-th 64 units of a datagram, those that the piece has. */
static uint64_t piece_bits(const struct piece *piece, uint32_t word)
{
	uint32_t from = piece->from / UNIT_BYTES, last = (piece->to - 1) / UNIT_BYTES;
	uint64_t bits = ~0ull;

	if (word == from / 64)
		bits &= ~0ull << from % 64;
	if (word == last / 64)
		bits &= ~0ull >> (63 - last % 64);
	return bits;
}

enum overlap {
	NO_OVERLAP,
	PARTIAL_OVERLAP,
	COPY
};

static enum overlap piece_overlap(const struct memory *memory, const struct datagram *datagram,
				  const struct piece *piece)
{
	uint32_t word = piece->from / UNIT_BYTES / 64, last = (piece->to - 1) / UNIT_BYTES / 64;
	uint64_t came = 0, new = 0;

	for (; word <= last; word++) {
		uint64_t bits = piece_bits(piece, word);
		uint16_t chunk = datagram->chunks[word / CHUNK_WORDS];

		came |= memory->came[chunk][word % CHUNK_WORDS] & bits;
		new |= ~memory->came[chunk][word % CHUNK_WORDS] & bits;
	}
	if (!came)
		return NO_OVERLAP;
	return new ? PARTIAL_OVERLAP : COPY;
}

/* Chunks for the piece: the oldest give way, but not the datagram that goes on just now. */
static void chunks_make(struct memory *memory, uint16_t index, const struct piece *piece)
{
	struct datagram *datagram = &memory->datagrams[index];
	uint32_t first = piece->from / CHUNK_BYTES, last = (piece->to - 1) / CHUNK_BYTES;
	uint32_t lacking = 0;

	for (uint32_t i = first; i <= last; i++)
		lacking += datagram->chunks[i] == 0;
	while (memory->chunks_held + lacking > CHUNKS) {
		uint16_t oldest = memory->datagrams[0].newer;

		datagram_drop_full(memory, oldest == index ? datagram->newer : oldest);
	}
	for (uint32_t i = first; i <= last; i++) {
		if (datagram->chunks[i] == 0)
			datagram->chunks[i] = chunk_take(memory);
	}
}

static void piece_keep(struct memory *memory, uint16_t index, const struct piece *piece)
{
	struct datagram *datagram = &memory->datagrams[index];
	const uint8_t *payload = piece->ip + piece->header_bytes;
	uint32_t word = piece->from / UNIT_BYTES / 64, last = (piece->to - 1) / UNIT_BYTES / 64;

	chunks_make(memory, index, piece);
	for (uint32_t at = piece->from; at < piece->to;) {
		uint8_t *chunk = memory->chunks[datagram->chunks[at / CHUNK_BYTES]];
		uint32_t bytes = CHUNK_BYTES - at % CHUNK_BYTES;

		if (bytes > piece->to - at)
			bytes = piece->to - at;
		bytes_copy(chunk + at % CHUNK_BYTES, payload, bytes);
		payload += bytes;
		at += bytes;
	}
	for (; word <= last; word++) {
		uint16_t chunk = datagram->chunks[word / CHUNK_WORDS];

		memory->came[chunk][word % CHUNK_WORDS] |= piece_bits(piece, word);
	}
	datagram->units += (piece->to - piece->from + UNIT_BYTES - 1) / UNIT_BYTES;
	datagram->frames++;
	if (piece->to > datagram->reach)
		datagram->reach = piece->to;
	if (piece->is_last)
		datagram->payload_bytes = piece->to;
	if (piece->from == 0) {
		datagram->header_bytes = (uint16_t)piece->header_bytes;
		bytes_copy(datagram->header, piece->ip, piece->header_bytes);
	}
}

/* No bytes are kept twice, so as many as there are, are all. */
static bool datagram_is_whole(const struct datagram *datagram)
{
	return datagram->header_bytes && datagram->payload_bytes &&
	       datagram->units == (datagram->payload_bytes + UNIT_BYTES - 1) / UNIT_BYTES;
}

static struct mcr_assembled datagram_assemble(struct memory *memory,
					      const struct datagram *datagram)
{
	uint8_t *ip = memory->whole + memory->shown.whole_bytes;
	uint32_t total_bytes = datagram->header_bytes + datagram->payload_bytes;
	uint16_t sum;

	memcpy(ip, datagram->header, HEADER_BYTES_MAX); /* what is no header is payload soon */
	for (uint32_t at = 0; at < datagram->payload_bytes; at += CHUNK_BYTES) {
		uint32_t bytes = datagram->payload_bytes - at;

		bytes_copy(ip + datagram->header_bytes + at,
			   memory->chunks[datagram->chunks[at / CHUNK_BYTES]],
			   bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES);
	}
	ip[2] = (uint8_t)(total_bytes >> 8);
	ip[3] = (uint8_t)total_bytes;
	memset(ip + 6, 0, 2); /* flags and offset */
	memset(ip + 10, 0, 2);
	sum = (uint16_t)~mcr_fold(mcr_sum(ip, datagram->header_bytes, 0));
	memcpy(ip + 10, &sum, sizeof(sum));
	memory->shown.whole_bytes += (total_bytes + MCR_CACHE_LINE - 1) & -MCR_CACHE_LINE;
	return (struct mcr_assembled){ .ip = ip, .bytes = total_bytes };
}

bool mcr_reassembly_take(struct mcr_reassembly *reassembly, const struct mcr_fragment *fragment,
			 int64_t now_ns, struct mcr_assembled *assembled)
{
	struct memory *memory = (struct memory *)reassembly;
	struct mcr_interface_counters *counters = &memory->interfaces[fragment->interface];
	struct piece piece;
	uint64_t *wrong = piece_read(&piece, fragment, counters);
	enum overlap overlap;
	struct datagram *datagram;
	struct found found;

	if (wrong) {
		count_dropped(counters, wrong, 1);
		return false;
	}
	found = datagram_find(memory, piece.key);
	if (!found.index)
		found.index = datagram_add(memory, &found, piece.key, now_ns);
	datagram = &memory->datagrams[found.index];
	if (!piece_agrees(&piece, datagram)) {
		count_dropped(counters, &counters->fragment_malformed, 1);
		return false;
	}
	overlap = piece_overlap(memory, datagram, &piece);
	if (overlap != NO_OVERLAP) {
		uint32_t frames = overlap == PARTIAL_OVERLAP ? datagram->frames : 0;

		count_dropped(counters, &counters->fragment_overlap, 1 + frames);
		if (overlap == PARTIAL_OVERLAP)
			datagram_forget(memory, found.index);
		return false;
	}
	piece_keep(memory, found.index, &piece);
	if (!datagram_is_whole(datagram))
		return false;
	if (!mcr_reassembly_has_room(reassembly)) {
		datagram_drop_full(memory, found.index);
		return false;
	}
	*assembled = datagram_assemble(memory, datagram);
	datagram_forget(memory, found.index);
	return true;
}
