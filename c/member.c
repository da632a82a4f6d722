/*
 * Group membership: the kernel speaks IGMP, we hold sockets. RFC 3678 section 5.
 */
#define _GNU_SOURCE
#include "mcr.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "option.h"

int32_t mcr_member_open(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -errno;
	error = mcr_receive_nothing(fd);
	/* Off: groups joined by other programs are none of this socket's business. */
	if (!error)
		error = mcr_set_option(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

static int ipv4_of(struct sockaddr_storage *storage, const uint8_t address[16])
{
	struct sockaddr_in ipv4 = { .sin_family = AF_INET };

	if (!mcr_is_mapped_ipv4(address))
		return -EAFNOSUPPORT;
	memcpy(&ipv4.sin_addr, address + 12, 4);
	memset(storage, 0, sizeof(*storage));
	memcpy(storage, &ipv4, sizeof(ipv4));
	return 0;
}

static int32_t member_change(int32_t fd, uint32_t ifindex, const uint8_t group[16],
			     const uint8_t source[16], int any_option, int source_option)
{
	static const uint8_t any[16];
	struct group_source_req one = { .gsr_interface = ifindex };
	struct group_req every = { .gr_interface = ifindex };
	int error = ipv4_of(&every.gr_group, group);
	int result;

	if (error)
		return error;
	if (memcmp(source, any, sizeof(any)) == 0) {
		result = setsockopt(fd, IPPROTO_IP, any_option, &every, sizeof(every));
	} else {
		one.gsr_group = every.gr_group;
		error = ipv4_of(&one.gsr_source, source);
		if (error)
			return error;
		result = setsockopt(fd, IPPROTO_IP, source_option, &one, sizeof(one));
	}
	return result < 0 ? -errno : 0;
}

int32_t mcr_member_join(int32_t fd, uint32_t ifindex, const uint8_t group[16],
			const uint8_t source[16])
{
	return member_change(fd, ifindex, group, source, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP);
}

int32_t mcr_member_leave(int32_t fd, uint32_t ifindex, const uint8_t group[16],
			 const uint8_t source[16])
{
	return member_change(fd, ifindex, group, source, MCAST_LEAVE_GROUP,
			     MCAST_LEAVE_SOURCE_GROUP);
}
