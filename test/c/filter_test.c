/*
 * The filter of c/ring.c, run by an interpreter of classic BPF: a packet is
 * admitted exactly when it is IPv4 UDP, not outgoing, and goes to an address
 * in one of the ranges. The kernel must take the program, too.
 */
#define _GNU_SOURCE
#include "relay.h"

#include <linux/if_ether.h>

#include "check.h"

#define RANGES_MAX 700

/* What the filter may look at. */
struct packet {
	uint32_t destination; /* host order */
	uint32_t protocol; /* EtherType */
	uint32_t type; /* PACKET_HOST, PACKET_OUTGOING ... */
	uint8_t transport;
};

static uint32_t load(const struct packet *packet, uint32_t size, uint32_t at)
{
	switch (at) {
	case (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE):
		return packet->type;
	case (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL):
		return packet->protocol;
	case (uint32_t)(SKF_NET_OFF + 9):
		EXPECT(size, BPF_B);
		return packet->transport;
	case (uint32_t)(SKF_NET_OFF + 16):
		EXPECT(size, BPF_W);
		return packet->destination;
	}
	EXPECT(at, -1); /* no other field concerns the filter */
	return 0;
}

/* linux/filter.h, Documentation/networking/filter.rst; only what may occur here. */
static uint32_t run(const struct sock_filter *program, uint32_t length, const struct packet *packet)
{
	uint32_t accumulator = 0;

	for (uint32_t pc = 0; pc < length; pc++) {
		const struct sock_filter *i = &program[pc];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
		case BPF_LD | BPF_B | BPF_ABS:
			accumulator = load(packet, BPF_SIZE(i->code), i->k);
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		case BPF_JMP | BPF_K | BPF_JEQ:
			pc += accumulator == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_K | BPF_JGT:
			pc += accumulator > i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_K | BPF_JGE:
			pc += accumulator >= i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			EXPECT(i->code, -1); /* an instruction that this does not know */
			return 0;
		}
	}
	EXPECT(length, -1); /* ran off the end */
	return 0;
}

static struct mcr_address_range ranges[RANGES_MAX];
static struct sock_filter program[MCR_FILTER_LENGTH_MAX];

static bool inside(uint32_t count, uint32_t destination)
{
	for (uint32_t i = 0; i < count; i++)
		if (destination >= ranges[i].first && destination <= ranges[i].last)
			return true;
	return false;
}

static void expect_verdicts(uint32_t length, uint32_t count, uint32_t destination)
{
	const struct packet good = { destination, ETH_P_IP, PACKET_MULTICAST, IPPROTO_UDP };
	struct packet other = good;

	if (!EXPECT(run(program, length, &good) != 0, inside(count, destination)))
		printf("  destination 0x%08x\n", destination);
	other.type = PACKET_OUTGOING;
	EXPECT(run(program, length, &other), 0);
	other = good;
	other.protocol = ETH_P_IPV6;
	EXPECT(run(program, length, &other), 0);
	other = good;
	other.transport = IPPROTO_TCP;
	EXPECT(run(program, length, &other), 0);
}

/* Ranges of 1, 2, 3 ... 7 addresses, with gaps of 1 to 5; the second touches the first. */
static void fill_ranges(uint32_t count)
{
	uint32_t next = 0xef000000; /* 239.0.0.0 */

	for (uint32_t i = 0; i < count; i++) {
		ranges[i].first = next;
		ranges[i].last = next + i % 7;
		next = ranges[i].last + 1 + (i ? 1 + i % 5 : 0);
	}
}

static void expect_kernel_takes(uint32_t length)
{
	const struct sock_fprog fprog = { .len = (unsigned short)length, .filter = program };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	int result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &fprog, sizeof(fprog));

	/* ENOMEM: longer than net.core.optmem_max lets this socket have. */
	if (result < 0 && errno == ENOMEM)
		skip("no room for the program on this socket", "the kernel does not judge it");
	else
		EXPECT(result < 0 ? -errno : 0, 0);
	close(fd);
}

static void test_ranges(uint32_t count)
{
	int32_t length;

	begin("%u ranges", count);
	fill_ranges(count);
	length = mcr_filter_build(ranges, count, program, MCR_FILTER_LENGTH_MAX);
	if (!EXPECT_TRUE(length > 0))
		return;
	for (uint32_t i = 0; i < count; i++) {
		expect_verdicts((uint32_t)length, count, ranges[i].first - 1);
		expect_verdicts((uint32_t)length, count, ranges[i].first);
		expect_verdicts((uint32_t)length, count, ranges[i].last);
		expect_verdicts((uint32_t)length, count, ranges[i].last + 1);
	}
	expect_verdicts((uint32_t)length, count, 0);
	expect_verdicts((uint32_t)length, count, 0x0a000001);
	expect_verdicts((uint32_t)length, count, UINT32_MAX);
	expect_kernel_takes((uint32_t)length);

	begin("%u ranges, room for one instruction less", count);
	EXPECT(mcr_filter_build(ranges, count, program, (uint32_t)length), length);
	EXPECT(mcr_filter_build(ranges, count, program, (uint32_t)length - 1), -E2BIG);
}

static void test_everything(void)
{
	int32_t length;

	begin("one range of all addresses");
	ranges[0] = (struct mcr_address_range){ 0, UINT32_MAX };
	length = mcr_filter_build(ranges, 1, program, MCR_FILTER_LENGTH_MAX);
	expect_verdicts((uint32_t)length, 1, 0);
	expect_verdicts((uint32_t)length, 1, UINT32_MAX);
}

static void test_too_many(void)
{
	begin("as many ranges as fit, and one more");
	fill_ranges(682);
	EXPECT_TRUE(mcr_filter_build(ranges, 681, program, MCR_FILTER_LENGTH_MAX) > 0);
	EXPECT(mcr_filter_build(ranges, 682, program, MCR_FILTER_LENGTH_MAX), -E2BIG);
}

int main(void)
{
	static const uint32_t counts[] = { 0, 1, 2, 3, 4, 5, 127, 128, 129, 500, 681 };

	for (size_t i = 0; i < COUNT(counts); i++)
		test_ranges(counts[i]);
	test_everything();
	test_too_many();
	return finish();
}
