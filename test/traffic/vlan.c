/*
 * An 802.1Q interface in user space, for topologies on a kernel without VLANs:
 *
 *   PARENT ── packet socket ── tag on, tag off ── tap NAME
 *
 * Use: vlan PARENT ID NAME. Prints "ready" when NAME stands, ends on a signal.
 * The kernel hands over the tag beside the frame: packet(7), PACKET_AUXDATA.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define FRAME_BYTES_MAX 65536
#define TAG_BYTES 4
#define ADDRESSES_BYTES 12 /* destination and source, before the tag */
#define BUFFER_BYTES (16 << 20)

static int require(int result, const char *what)
{
	if (result >= 0)
		return result;
	fprintf(stderr, "vlan: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_parent(const char *name)
{
	int fd = require(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)), "socket");
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int on = 1, bytes = BUFFER_BYTES;

	address.sll_ifindex = (int)if_nametoindex(name);
	require(address.sll_ifindex ? 0 : -1, name);
	require(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), "PACKET_AUXDATA");
	require(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)), "PACKET_"
										     "IGNORE_"
										     "OUTGOING");
	require(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), "SO_RCVBUF");
	require(bind(fd, (struct sockaddr *)&address, sizeof(address)), "bind");
	return fd;
}

/* With the hardware address of its parent, as a VLAN interface has it. */
static int open_tap(const char *name, int parent_fd, const char *parent)
{
	int fd = require(open("/dev/net/tun", O_RDWR | O_CLOEXEC), "/dev/net/tun");
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	struct ifreq hardware = { 0 };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	require(ioctl(fd, TUNSETIFF, &request), name);
	snprintf(hardware.ifr_name, sizeof(hardware.ifr_name), "%s", parent);
	require(ioctl(parent_fd, SIOCGIFHWADDR, &hardware), parent);
	snprintf(hardware.ifr_name, sizeof(hardware.ifr_name), "%s", name);
	require(ioctl(parent_fd, SIOCSIFHWADDR, &hardware), name);
	return fd;
}

static void tag_on(int tap_fd, int parent_fd, uint16_t id)
{
	static uint8_t frame[FRAME_BYTES_MAX + TAG_BYTES];
	ssize_t bytes = read(tap_fd, frame + TAG_BYTES, FRAME_BYTES_MAX);
	const uint16_t tag[2] = { htons(ETH_P_8021Q), htons(id) };

	if (bytes < ETH_HLEN)
		return;
	memmove(frame, frame + TAG_BYTES, ADDRESSES_BYTES);
	memcpy(frame + ADDRESSES_BYTES, tag, TAG_BYTES);
	if (send(parent_fd, frame, (size_t)bytes + TAG_BYTES, 0) < 0)
		perror("vlan: send");
}

static bool has_tag(struct msghdr *message, uint16_t id)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(message);
	struct tpacket_auxdata data;

	if (!control || control->cmsg_type != PACKET_AUXDATA)
		return false;
	memcpy(&data, CMSG_DATA(control), sizeof(data));
	return data.tp_status & TP_STATUS_VLAN_VALID && (data.tp_vlan_tci & 0xfff) == id;
}

static void tag_off(int parent_fd, int tap_fd, uint16_t id)
{
	static uint8_t frame[FRAME_BYTES_MAX];
	char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct iovec vector = { frame, sizeof(frame) };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t bytes = recvmsg(parent_fd, &message, 0);

	if (bytes > 0 && has_tag(&message, id) && write(tap_fd, frame, (size_t)bytes) < 0)
		perror("vlan: write"); /* such as EIO: the interface is down */
}

int main(int argc, char **argv)
{
	long id = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
	struct pollfd ready[2];

	if (id < 1 || id > 4094) {
		fprintf(stderr, "usage: vlan PARENT ID NAME\n");
		return 64;
	}
	ready[0] = (struct pollfd){ .fd = open_parent(argv[1]), .events = POLLIN };
	ready[1] =
		(struct pollfd){ .fd = open_tap(argv[3], ready[0].fd, argv[1]), .events = POLLIN };
	puts("ready");
	fflush(stdout);
	for (;;) {
		require(poll(ready, 2, -1), "poll");
		if (ready[0].revents)
			tag_off(ready[0].fd, ready[1].fd, (uint16_t)id);
		if (ready[1].revents)
			tag_on(ready[1].fd, ready[0].fd, (uint16_t)id);
	}
}
