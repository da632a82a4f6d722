/*
 * One exchange over NETLINK_ROUTE, on a socket of its own: the request as it is,
 * the answer as it comes. Called by src/net/netlink.ts, which gives both their
 * meaning; here only the headers are read that tell where an answer ends.
 */
#define _GNU_SOURCE
#include "mcr.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_US 1000000

static int send_request(int fd, const uint8_t *request, uint32_t request_bytes)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t sent = sendto(fd, request, request_bytes, 0, (const struct sockaddr *)&kernel,
			      sizeof(kernel));

	return sent < 0 ? -errno : 0;
}

/* The bytes of one datagram from the kernel; 0: it came from somebody else. */
static int64_t read_datagram(int fd, uint8_t *answer, uint32_t room, int64_t deadline_us)
{
	struct pollfd waiting = { .fd = fd, .events = POLLIN };
	int64_t left_us = deadline_us - mcr_monotonic_us();
	struct sockaddr_nl from = { 0 };
	socklen_t from_bytes = sizeof(from);
	ssize_t got;
	int ready;

	if (left_us <= 0)
		return -ETIMEDOUT;
	ready = poll(&waiting, 1, (int)(left_us / 1000) + 1);
	if (ready <= 0)
		return ready < 0 ? -errno : -ETIMEDOUT;
	/* MSG_TRUNC: the length that the datagram has, not what there was room for. */
	got = recvfrom(fd, answer, room, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from,
		       &from_bytes);
	if (got < 0)
		return -errno;
	if (from_bytes != sizeof(from) || from.nl_pid != 0)
		return 0;
	return got > room ? -EMSGSIZE : got;
}

/* 1: the answer ends in this datagram; 0: more follows; or -errno. */
static int read_headers(const uint8_t *bytes, uint32_t length)
{
	struct nlmsghdr header;
	int error;

	for (uint32_t at = 0; at + sizeof(header) <= length; at += NLMSG_ALIGN(header.nlmsg_len)) {
		memcpy(&header, bytes + at, sizeof(header));
		if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > length - at)
			return -EBADMSG;
		if (header.nlmsg_flags & NLM_F_DUMP_INTR)
			return -EINTR;
		if (header.nlmsg_type != NLMSG_ERROR && header.nlmsg_type != NLMSG_DONE)
			continue;
		/* Both begin with an error, 0 for none. */
		if (header.nlmsg_len < NLMSG_LENGTH(sizeof(error)))
			return -EBADMSG;
		memcpy(&error, bytes + at + NLMSG_HDRLEN, sizeof(error));
		return error < 0 ? error : 1;
	}
	return 0;
}

static int32_t exchange(int fd, const uint8_t *request, uint32_t request_bytes, uint8_t *answer,
			uint32_t answer_bytes_max)
{
	int64_t deadline_us = mcr_monotonic_us() + ANSWER_US;
	int end = send_request(fd, request, request_bytes);
	uint32_t length = 0;

	while (end == 0) {
		int64_t got =
			read_datagram(fd, answer + length, answer_bytes_max - length, deadline_us);

		if (got < 0)
			return (int32_t)got;
		end = read_headers(answer + length, (uint32_t)got);
		length += (uint32_t)got;
	}
	return end < 0 ? end : (int32_t)length;
}

int32_t mcr_netlink(const uint8_t *request, uint32_t request_bytes, uint8_t *answer,
		    uint32_t answer_bytes_max)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int32_t result;

	if (fd < 0)
		return -errno;
	if (answer_bytes_max > INT32_MAX)
		answer_bytes_max = INT32_MAX;
	result = exchange(fd, request, request_bytes, answer, answer_bytes_max);
	close(fd);
	return result;
}
