/*
 * The classic BPF program that admits to a ring what some rule may want: IPv4
 * UDP to a set of destinations, from other hosts. filter.rst.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

#include "option.h"

struct writer {
	struct sock_filter *program;
	uint32_t length;
	uint32_t length_max;
};

static uint32_t put(struct writer *writer, struct sock_filter instruction)
{
	if (writer->length < writer->length_max)
		writer->program[writer->length] = instruction;
	return writer->length++;
}

#define PUT(writer, code, k) put(writer, (struct sock_filter)BPF_STMT(code, k))
#define PUT_JUMP(writer, code, k, yes, no) \
	put(writer, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_K | (code), k, yes, no))

#define ACCEPT 0x40000u /* bytes to keep: all */
#define REJECT 0u

/*
 * Binary search over sorted ranges, A holding the destination. Conditional
 * jumps reach 255 instructions only, so the far half is reached by BPF_JA.
 */
static void put_ranges(struct writer *writer, const struct mcr_address_range *ranges,
		       uint32_t count)
{
	uint32_t middle = count / 2;
	uint32_t jump;

	if (count == 1) {
		PUT_JUMP(writer, BPF_JGE, ranges->first, 0, 2);
		PUT_JUMP(writer, BPF_JGT, ranges->last, 1, 0);
		PUT(writer, BPF_RET | BPF_K, ACCEPT);
		PUT(writer, BPF_RET | BPF_K, REJECT);
		return;
	}
	PUT_JUMP(writer, BPF_JGE, ranges[middle].first, 0, 1);
	jump = PUT(writer, BPF_JMP | BPF_JA, 0);
	put_ranges(writer, ranges, middle);
	if (jump < writer->length_max)
		writer->program[jump].k = writer->length - jump - 1;
	put_ranges(writer, ranges + middle, count - middle);
}

int32_t mcr_filter_build(const struct mcr_address_range *ranges, uint32_t range_count,
			 struct sock_filter *program, uint32_t length_max)
{
	struct writer writer = { .program = program, .length_max = length_max };

	if (range_count > 0) {
		PUT(&writer, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE));
		PUT_JUMP(&writer, BPF_JEQ, PACKET_OUTGOING, 6, 0);
		/* The metadata's protocol, so that link headers do not matter. */
		PUT(&writer, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL));
		PUT_JUMP(&writer, BPF_JEQ, ETH_P_IP, 0, 4);
		PUT(&writer, BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + 9));
		PUT_JUMP(&writer, BPF_JEQ, IPPROTO_UDP, 0, 2);
		PUT(&writer, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + 16));
		PUT(&writer, BPF_JMP | BPF_JA, 1);
		PUT(&writer, BPF_RET | BPF_K, REJECT);
		put_ranges(&writer, ranges, range_count);
	} else {
		PUT(&writer, BPF_RET | BPF_K, REJECT);
	}
	return writer.length <= length_max ? (int32_t)writer.length : -E2BIG;
}

int32_t mcr_ring_filter(struct mcr_ring *ring, const struct mcr_address_range *ranges,
			uint32_t range_count)
{
	struct sock_fprog fprog;
	int32_t length;
	int error;

	fprog.filter = malloc(MCR_FILTER_LENGTH_MAX * sizeof(*fprog.filter));
	if (!fprog.filter)
		return -ENOMEM;
	length = mcr_filter_build(ranges, range_count, fprog.filter, MCR_FILTER_LENGTH_MAX);
	fprog.len = (unsigned short)length;
	error = length < 0 ? length : mcr_set_filter(ring->fd, &fprog);
	free(fprog.filter);
	return error;
}
