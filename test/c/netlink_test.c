/*
 * c/netlink.c: an answer arrives whole, lists with their end, refusals as the
 * kernel's errno; too little room is said, never written past; what has no end
 * ends by time.
 */
#define _GNU_SOURCE
#include "mcr.h"

#include "check.h"

#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#define ROOM 65536u

struct link_request {
	struct nlmsghdr header;
	struct ifinfomsg body;
};

static struct link_request request_link(int ifindex, uint16_t flags)
{
	return (struct link_request){
		.header = { .nlmsg_len = sizeof(struct link_request),
			    .nlmsg_type = RTM_GETLINK,
			    .nlmsg_flags = NLM_F_REQUEST | flags },
		.body = { .ifi_index = ifindex },
	};
}

static int32_t ask(const struct link_request *request, uint8_t *answer, uint32_t room)
{
	return mcr_netlink((const uint8_t *)request, sizeof(*request), answer, room);
}

/* The messages of an answer that stand one behind the other to its last byte; -1 where they do not. */
static int count_messages(const uint8_t *answer, int32_t bytes, uint16_t type)
{
	int count = 0;
	struct nlmsghdr header;

	for (int32_t at = 0; at < bytes; at += NLMSG_ALIGN(header.nlmsg_len)) {
		if (bytes - at < (int32_t)sizeof(header))
			return -1;
		memcpy(&header, answer + at, sizeof(header));
		if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > (uint32_t)(bytes - at))
			return -1;
		count += header.nlmsg_type == type;
	}
	return count;
}

static void test_answers(uint8_t *answer)
{
	struct link_request request = request_link(LOOPBACK_IFINDEX, NLM_F_ACK);
	int32_t bytes;

	begin("one link, and the acknowledgement");
	bytes = ask(&request, answer, ROOM);
	EXPECT(count_messages(answer, bytes, RTM_NEWLINK), 1);
	EXPECT(count_messages(answer, bytes, NLMSG_ERROR), 1);

	begin("a link that does not exist");
	request = request_link(0x7ffffff0, NLM_F_ACK);
	EXPECT(ask(&request, answer, ROOM), -ENODEV);

	begin("a list, to its end");
	request = request_link(0, NLM_F_DUMP);
	bytes = ask(&request, answer, ROOM);
	EXPECT_TRUE(count_messages(answer, bytes, RTM_NEWLINK) >= 1);
	EXPECT(count_messages(answer, bytes, NLMSG_DONE), 1);
}

static void test_room(uint8_t *answer)
{
	struct link_request one = request_link(LOOPBACK_IFINDEX, NLM_F_ACK);
	int32_t whole = ask(&one, answer, ROOM);

	for (uint32_t room = 0; room < (uint32_t)whole; room += 7) {
		/* Of exactly that size, so that the sanitizer sees a byte too many. */
		uint8_t *small = malloc(room ? room : 1);

		begin("%u bytes of room for %d", room, whole);
		need(small != NULL, "memory");
		EXPECT(ask(&one, small, room), -EMSGSIZE);
		free(small);
	}
	begin("just enough room");
	EXPECT(ask(&one, answer, (uint32_t)whole), whole);
}

static void test_no_end(uint8_t *answer)
{
	struct link_request request = request_link(LOOPBACK_IFINDEX, 0);
	int64_t began = mcr_monotonic_us(), took;

	begin("neither a list nor acknowledged");
	EXPECT(ask(&request, answer, ROOM), -ETIMEDOUT);
	took = mcr_monotonic_us() - began;
	EXPECT_TRUE(took >= 900000 && took < 10000000);

	begin("shorter than a header");
	EXPECT(mcr_netlink((const uint8_t *)&request, 8, answer, ROOM), -ETIMEDOUT);
}

int main(void)
{
	uint8_t *answer = malloc(ROOM);

	need(answer != NULL, "memory");
	test_answers(answer);
	test_room(answer);
	test_no_end(answer);
	free(answer);
	return finish();
}
