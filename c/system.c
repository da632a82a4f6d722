/*
 * System calls that Bun does not offer.
 */
#define _GNU_SOURCE
#include "mcr.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int read_fields(int fd, const char *name, struct mcr_interface *interface)
{
	struct ifreq request = { 0 };
	struct sockaddr_in address;

	if (strlen(name) >= sizeof(request.ifr_name))
		return -ENODEV;
	strcpy(request.ifr_name, name);
	if (ioctl(fd, SIOCGIFINDEX, &request) < 0)
		return -errno;
	interface->ifindex = (uint32_t)request.ifr_ifindex;
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	interface->flags = (uint16_t)request.ifr_flags;
	if (ioctl(fd, SIOCGIFMTU, &request) < 0)
		return -errno;
	interface->mtu = (uint32_t)request.ifr_mtu;
	if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		return -errno;
	interface->type = request.ifr_hwaddr.sa_family;
	memcpy(&interface->mac, request.ifr_hwaddr.sa_data, 6);
	interface->address = 0;
	if (ioctl(fd, SIOCGIFADDR, &request) < 0) /* netdevice(7) */
		return errno == EADDRNOTAVAIL ? 0 : -errno;
	memcpy(&address, &request.ifr_addr, sizeof(address));
	interface->address = address.sin_addr.s_addr;
	return 0;
}

int32_t mcr_interface_read(const char *name, struct mcr_interface *interface)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	*interface = (struct mcr_interface){ 0 };
	error = read_fields(fd, name, interface);
	close(fd);
	return error;
}

void mcr_close(int32_t fd)
{
	close(fd);
}

/* The supplementary groups of the peer: Linux 4.13. */
static int is_member(int fd, uint32_t group)
{
	socklen_t bytes = 0;
	int found = 0;
	gid_t *groups;

	/* Asked with no room, the kernel says how much it wants. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) == 0 || errno != ERANGE)
		return 0;
	groups = malloc(bytes);
	if (!groups)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) == 0)
		for (size_t i = 0; i < bytes / sizeof(*groups); i++)
			found |= groups[i] == group;
	free(groups);
	return found;
}

int32_t mcr_peer_read(int32_t fd, uint32_t group, struct mcr_peer *peer)
{
	struct ucred credentials;
	socklen_t bytes = sizeof(credentials);
	int member;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) < 0)
		return -errno;
	member = credentials.gid == group ? 1 : is_member(fd, group);
	if (member < 0)
		return member;
	peer->pid = (uint32_t)credentials.pid;
	peer->uid = credentials.uid;
	peer->gid = credentials.gid;
	peer->in_group = (uint32_t)member;
	return 0;
}

int32_t mcr_notify(const char *path, const char *message, uint32_t message_bytes)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t path_bytes = strlen(path);
	int error = 0;
	int fd;

	/* sd_notify(3): anything but an absolute path or an abstract name is an error. */
	if ((path[0] != '/' && path[0] != '@') || path_bytes < 2 ||
	    path_bytes >= sizeof(address.sun_path))
		return -EINVAL;
	memcpy(address.sun_path, path, path_bytes);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* An abstract name is as long as the address says; a path ends where it does. */
	if (sendto(fd, message, message_bytes, MSG_NOSIGNAL, (const struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_bytes)) < 0)
		error = -errno;
	close(fd);
	return error;
}

int64_t mcr_monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
