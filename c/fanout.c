/*
 * Fanout: which worker gets a frame of an interface that all of them capture.
 * packet(7), PACKET_FANOUT.
 *
 * The fragments of a datagram meet on one worker, which puts them together
 * (reassembly.h), whatever the mode: only the first tells ports, so all go by
 * their addresses. Never PACKET_FANOUT_FLAG_DEFRAG: the kernel's reassembly is
 * shared by the whole network namespace, knows neither interface nor VLAN, and
 * counts nothing.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <sys/socket.h>

/* Linux 6.1; without it a fanout group also captures what this host sends. */
#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

/* Odd constants with well-mixed bits; the kernel takes the result modulo the number of workers. */
#define MULTIPLY_FIRST 0x9e3779b1
#define MULTIPLY_LAST 0x85ebca6b
#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset: RFC 791 */
#define LOAD_METADATA(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + (what)))

/* Offset 0 is the IP header here. What follows is for whole datagrams. */
#define FRAGMENT_BY_ADDRESSES()                                                          \
	BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),                                           \
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, IPV4_FRAGMENT, 0, 8),               \
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16),                                  \
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, MULTIPLY_FIRST),                     \
		BPF_STMT(BPF_MISC | BPF_TAX, 0), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12), \
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),                                  \
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, MULTIPLY_LAST),                      \
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16), BPF_STMT(BPF_RET | BPF_A, 0)

/*
 * By a hash of (destination, port), so that a flow stays in order on one
 * worker, and groups and ports that count up together spread evenly.
 */
static const struct sock_filter by_flow[] = {
	FRAGMENT_BY_ADDRESSES(),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16),
	BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, MULTIPLY_FIRST),
	BPF_STMT(BPF_ST, 0),
	BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
	BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
	BPF_STMT(BPF_LDX | BPF_MEM, 0),
	BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
	BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, MULTIPLY_LAST),
	BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
	BPF_STMT(BPF_RET | BPF_A, 0),
};
static const struct sock_filter by_cpu[] = {
	FRAGMENT_BY_ADDRESSES(),
	LOAD_METADATA(SKF_AD_CPU),
	BPF_STMT(BPF_RET | BPF_A, 0),
};
static const struct sock_filter by_queue[] = {
	FRAGMENT_BY_ADDRESSES(),
	LOAD_METADATA(SKF_AD_QUEUE),
	BPF_STMT(BPF_RET | BPF_A, 0),
};

#define PROGRAM(instructions) \
	.program = (instructions), .length = sizeof(instructions) / sizeof((instructions)[0])

/* By enum mcr_fanout. */
static const struct mode {
	uint32_t type;
	bool splits_flows;
	const struct sock_filter *program;
	unsigned short length;
} modes[] = {
	[MCR_FANOUT_FLOW] = { .type = PACKET_FANOUT_CBPF, PROGRAM(by_flow) },
	/* The kernel's flow hash leaves the ports of fragments out by itself. */
	[MCR_FANOUT_HASH] = { .type = PACKET_FANOUT_HASH },
	[MCR_FANOUT_CPU] = { .type = PACKET_FANOUT_CBPF, .splits_flows = true, PROGRAM(by_cpu) },
	[MCR_FANOUT_QM] = { .type = PACKET_FANOUT_CBPF, .splits_flows = true, PROGRAM(by_queue) },
	[MCR_FANOUT_SINGLE] = { .type = PACKET_FANOUT_CPU },
};
_Static_assert(sizeof(modes) / sizeof(modes[0]) == MCR_FANOUT_COUNT, "one for each");

static int program_set(int fd, const struct mode *mode)
{
	/* The kernel only reads it. */
	const struct sock_fprog fprog = { .len = mode->length,
					  .filter = (void *)(uintptr_t)mode->program };

	return setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &fprog, sizeof(fprog)) < 0 ? -errno :
											   0;
}

/* type: with its flags */
static int group_join(int fd, uint32_t id, uint32_t type)
{
	uint32_t argument = id | type << 16;

	return setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, sizeof(argument)) < 0 ? -errno :
											    0;
}

int32_t mcr_fanout_join(struct mcr_ring *ring, uint32_t id, enum mcr_fanout fanout)
{
	const struct mode *mode = &modes[fanout];
	bool first = id == MCR_FANOUT_NEW;
	uint32_t type = mode->type | (first ? PACKET_FANOUT_FLAG_UNIQUEID : 0);
	uint32_t wanted = first ? 0 : id;
	uint32_t joined = 0;
	socklen_t bytes = sizeof(joined);
	int error = group_join(ring->fd, wanted, type | PACKET_FANOUT_FLAG_IGNORE_OUTGOING);

	if (error == -EINVAL) /* an older kernel: the filter rejects outgoing frames */
		error = group_join(ring->fd, wanted, type);
	if (error)
		return error;
	if (getsockopt(ring->fd, SOL_PACKET, PACKET_FANOUT, &joined, &bytes) < 0)
		return -errno;
	ring->fanout_id = joined & 0xffff;
	ring->splits_flows = mode->splits_flows;
	return first && mode->program ? program_set(ring->fd, mode) : 0;
}
