/*
 * What c/reassembly.h promises, in the plainest way: a flag for every byte, a list from the oldest
 * to the newest datagram that is searched from end to end. The C test and the fuzzer ask both for
 * each fragment. Written from RFC 791 and that header; it shares no code with c/reassembly.c.
 */
#ifndef REASSEMBLY_MODEL_H
#define REASSEMBLY_MODEL_H

#include <stdlib.h>
#include <string.h>

#include "reassembly.h"

#define MODEL_INTERFACES 4u
#define MODEL_LINE (8 * MCR_REASSEMBLY_DATAGRAMS)

struct model_key {
	uint64_t addresses, tag, others;
};

struct model_datagram {
	uint32_t interface;
	int64_t first_ns;
	uint64_t frames;
	size_t header_bytes, end, reach, chunk_count; /* end 0: not known */
	uint8_t header[60];
	uint8_t bytes[65536];
	uint8_t came[65536]; /* 1: this byte has */
};

struct model {
	struct mcr_interface_counters counters[MODEL_INTERFACES];
	struct model_datagram **waiting; /* the oldest first, in a longer line */
	struct model_key *keys; /* of these; apart, to be searched */
	struct model_datagram *waiting_line[MODEL_LINE];
	struct model_key keys_line[MODEL_LINE];
	size_t waiting_count, chunk_count;
	struct model_datagram *spare[MCR_REASSEMBLY_DATAGRAMS];
	size_t spare_count;
	struct model_datagram *memory;
	size_t whole_bytes;
	uint8_t whole[65535]; /* what it put together last */
	size_t whole_length;
};

/* Counter by counter. */
static inline bool model_agrees(const struct model *model,
				const struct mcr_interface_counters *counters)
{
	const uint64_t *expected = (const uint64_t *)model->counters;
	const uint64_t *actual = (const uint64_t *)counters;
	uint64_t differing = 0;

	for (size_t i = 0; i < sizeof(model->counters) / (sizeof(*expected)); i++)
		differing |= expected[i] ^ actual[i];
	return differing == 0;
}

/* Memory for all that may wait, once; pages that nothing needs are never touched. */
static inline void model_prepare(struct model *model)
{
	if (model->memory)
		return;
	model->waiting = model->waiting_line;
	model->keys = model->keys_line;
	model->memory = calloc(MCR_REASSEMBLY_DATAGRAMS, sizeof(*model->memory));
	if (!model->memory)
		abort();
	while (model->spare_count < MCR_REASSEMBLY_DATAGRAMS) {
		model->spare[model->spare_count] = &model->memory[model->spare_count];
		model->spare_count++;
	}
}

/* What it put together last is this packet. */
static inline bool model_made(const struct model *model, const uint8_t *ip, size_t bytes)
{
	return bytes == model->whole_length && memcmp(ip, model->whole, bytes) == 0;
}

static inline void model_forget(struct model *model, size_t index)
{
	struct model_datagram *datagram = model->waiting[index];

	model->waiting_count--;
	if (index == 0) { /* as most do */
		model->waiting++;
		model->keys++;
	} else {
		memmove(&model->waiting[index], &model->waiting[index + 1],
			(model->waiting_count - index) * sizeof(model->waiting[0]));
		memmove(&model->keys[index], &model->keys[index + 1],
			(model->waiting_count - index) * sizeof(model->keys[0]));
	}
	model->chunk_count -= datagram->chunk_count;
	memset(datagram->came, 0, datagram->reach);
	model->spare[model->spare_count++] = datagram;
}

enum model_end {
	MODEL_LATE,
	MODEL_FULL
};

static inline void model_drop(struct model *model, size_t index, enum model_end end)
{
	struct model_datagram *datagram = model->waiting[index];
	struct mcr_interface_counters *counters = &model->counters[datagram->interface];

	counters->packets += datagram->frames;
	*(end == MODEL_LATE ? &counters->fragment_late : &counters->fragment_full) +=
		datagram->frames;
	model_forget(model, index);
}

static inline void model_expire(struct model *model, int64_t now_ns)
{
	while (model->waiting_count &&
	       now_ns - MCR_REASSEMBLY_WAIT_NS >= model->waiting[0]->first_ns)
		model_drop(model, 0, MODEL_LATE);
}

static inline void model_release(struct model *model)
{
	model->whole_bytes = 0;
}

static inline void model_close(struct model *model)
{
	free(model->memory);
	memset(model, 0, sizeof(*model));
}

static inline struct model_key model_key(const struct mcr_fragment *fragment)
{
	struct model_key key = { 0 };
	uint8_t *others = (uint8_t *)&key.others;

	memcpy(&key.addresses, fragment->ip + 12, 8);
	memcpy(others, fragment->ip + 4, 2); /* identification */
	memcpy(others + 2, fragment->ip + 9, 1); /* protocol */
	memcpy(others + 4, &fragment->interface, 4);
	key.tag = fragment->vlan;
	return key;
}

static inline size_t model_find(const struct model *model, const struct mcr_fragment *fragment)
{
	struct model_key key = model_key(fragment);
	size_t i;

	for (i = 0; i < model->waiting_count; i++) {
		const struct model_key *other = &model->keys[i];

		/* One condition: clang makes three a call of memcmp, which its fuzzer looks into. */
		if (((other->addresses ^ key.addresses) | (other->tag ^ key.tag) |
		     (other->others ^ key.others)) == 0)
			break;
	}
	return i;
}

static inline void model_add(struct model *model, const struct mcr_fragment *fragment,
			     int64_t now_ns)
{
	struct model_datagram *datagram;
	size_t of_source = 0, oldest = 0;
	uint32_t source;

	memcpy(&source, fragment->ip + 12, 4);
	for (size_t i = model->waiting_count; i-- > 0;) {
		uint32_t other[2];

		memcpy(other, &model->keys[i].addresses, 4);
		memcpy(other + 1, (const uint8_t *)&model->keys[i].others + 4, 4);
		if (other[0] == source && other[1] == fragment->interface) {
			of_source++;
			oldest = i;
		}
	}
	if (of_source == MCR_REASSEMBLY_SOURCE_DATAGRAMS)
		model_drop(model, oldest, MODEL_FULL);
	else if (model->waiting_count == MCR_REASSEMBLY_DATAGRAMS)
		model_drop(model, 0, MODEL_FULL);
	if (&model->waiting[model->waiting_count] == &model->waiting_line[MODEL_LINE]) {
		model->waiting = memmove(model->waiting_line, model->waiting,
					 model->waiting_count * sizeof(model->waiting[0]));
		model->keys = memmove(model->keys_line, model->keys,
				      model->waiting_count * sizeof(model->keys[0]));
	}
	datagram = model->spare[--model->spare_count];
	datagram->interface = fragment->interface;
	datagram->first_ns = now_ns;
	datagram->frames = datagram->header_bytes = datagram->end = 0;
	datagram->reach = datagram->chunk_count = 0;
	model->keys[model->waiting_count] = model_key(fragment);
	model->waiting[model->waiting_count++] = datagram;
}

/* Sum of a sound header is all ones, RFC 791 section 3.1; the result is the checksum that is due. */
static inline uint32_t model_sum(const uint8_t *ip, size_t header_bytes)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < header_bytes; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The counter of what is wrong with the fragment by itself; NULL: nothing. */
static inline uint64_t *model_refuse(struct mcr_interface_counters *counters,
				     const struct mcr_fragment *fragment)
{
	const uint8_t *ip = fragment->ip;
	size_t header, total, offset;
	bool more;

	if (fragment->captured < 20 && fragment->captured < fragment->wire_bytes)
		return &counters->truncated;
	if (fragment->captured < 20)
		return &counters->fragment_malformed;
	header = (size_t)(ip[0] % 16) * 4;
	total = (size_t)ip[2] * 256 + ip[3];
	if (ip[0] / 16 != 4 || header < 20 || total <= header || total > fragment->wire_bytes)
		return &counters->fragment_malformed;
	if (total > fragment->captured)
		return &counters->truncated;
	if (model_sum(ip, header) != 0xffff)
		return &counters->bad_checksum;
	more = ip[6] & 0x20;
	offset = ((size_t)(ip[6] & 0x1f) * 256 + ip[7]) * 8;
	if (!more && offset == 0) /* no fragment at all */
		return &counters->fragment_malformed;
	if (more && (total - header) % 8 != 0)
		return &counters->fragment_malformed;
	if (offset + total > 65535)
		return &counters->fragment_malformed;
	return NULL;
}

static inline void model_assemble(struct model *model, struct model_datagram *datagram)
{
	uint8_t *ip = model->whole;
	size_t total = datagram->header_bytes + datagram->end;
	uint32_t sum;

	memcpy(ip, datagram->header, datagram->header_bytes);
	memcpy(ip + datagram->header_bytes, datagram->bytes, datagram->end);
	ip[2] = (uint8_t)(total / 256);
	ip[3] = (uint8_t)(total % 256);
	ip[6] = ip[7] = ip[10] = ip[11] = 0;
	sum = 0xffff - model_sum(ip, datagram->header_bytes);
	ip[10] = (uint8_t)(sum / 256);
	ip[11] = (uint8_t)(sum % 256);
	model->whole_length = total;
	model->whole_bytes += (total + 63) / 64 * 64;
}

/* Puts the bytes in; chunks are what the oldest others give way for. */
static inline void model_keep(struct model *model, struct model_datagram *datagram,
			      const uint8_t *payload, size_t from, size_t to)
{
	for (size_t i = from / 2048; i * 2048 < to; i++) {
		size_t chunks = !memchr(datagram->came + i * 2048, 1, 2048);

		datagram->chunk_count += chunks;
		model->chunk_count += chunks;
	}
	memcpy(datagram->bytes + from, payload, to - from);
	memset(datagram->came + from, 1, to - from);
	datagram->frames++;
	if (to > datagram->reach)
		datagram->reach = to;
	while (model->chunk_count > MCR_REASSEMBLY_BYTES / 2048)
		model_drop(model, model->waiting[0] == datagram, MODEL_FULL);
}

static inline bool model_take(struct model *model, const struct mcr_fragment *fragment,
			      int64_t now_ns)
{
	struct mcr_interface_counters *counters = &model->counters[fragment->interface];
	const uint8_t *ip = fragment->ip;
	uint64_t *wrong = model_refuse(counters, fragment);
	struct model_datagram *datagram;
	size_t header, from, to, index, first, reach;
	bool more, any, all;

	model_expire(model, now_ns);
	if (wrong) {
		counters->packets++;
		*wrong += 1;
		return false;
	}
	header = (size_t)(ip[0] % 16) * 4;
	from = ((size_t)(ip[6] & 0x1f) * 256 + ip[7]) * 8;
	to = from + (size_t)ip[2] * 256 + ip[3] - header;
	more = ip[6] & 0x20;
	index = model_find(model, fragment);
	if (index == model->waiting_count) {
		model_add(model, fragment, now_ns);
		index = model->waiting_count - 1;
	}
	datagram = model->waiting[index];
	first = from == 0 ? header : datagram->header_bytes;
	reach = to > datagram->reach ? to : datagram->reach;
	if ((datagram->end && (more ? to > datagram->end : to != datagram->end)) ||
	    (!more && to < datagram->reach) || first + reach > 65535) {
		counters->packets++;
		counters->fragment_malformed++;
		return false;
	}
	any = memchr(datagram->came + from, 1, to - from);
	all = !memchr(datagram->came + from, 0, to - from);
	if (any) {
		uint64_t frames = all ? 1 : 1 + datagram->frames;

		counters->packets += frames;
		counters->fragment_overlap += frames;
		if (!all)
			model_forget(model, index);
		return false;
	}
	if (from == 0) {
		datagram->header_bytes = header;
		memcpy(datagram->header, ip, header);
	}
	if (!more)
		datagram->end = to;
	model_keep(model, datagram, ip + header, from, to);
	if (!datagram->header_bytes || !datagram->end || memchr(datagram->came, 0, datagram->end))
		return false;
	for (index = 0; model->waiting[index] != datagram;)
		index++;
	if (model->whole_bytes + 65536 > MCR_REASSEMBLY_WHOLE_BYTES) {
		model_drop(model, index, MODEL_FULL);
		return false;
	}
	model_assemble(model, datagram);
	model_forget(model, index);
	return true;
}

#endif
