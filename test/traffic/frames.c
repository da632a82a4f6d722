/*
 * frames: what a program sees that reads raw packets and knows nothing of
 * offloads: a packet socket without PACKET_VNET_HDR. Counts the UDP frames to
 * groups that arrive at an interface, those of them that are one whole test
 * datagram, and those whose Identification is that of the frame before.
 *
 * Prints JSON lines: ready, and result on SIGTERM.
 */
#define _GNU_SOURCE
#include "common.h"
#include "options.h"
#include "payload.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <poll.h>
#include <sys/prctl.h>

#define HEADER_BYTES (sizeof(struct iphdr) + 8) /* without options: nobody here sends any */
#define BUFFER_BYTES (64 << 20)

struct seen {
	uint64_t frames, understood, repeated, bytes_max;
	uint32_t identification; /* of the last frame; beyond 16 bits: none yet */
};

/* packet begins with its IPv4 header: SOCK_DGRAM. */
static void count(struct seen *seen, const uint8_t *packet, size_t bytes)
{
	struct payload payload;
	struct iphdr ip;
	size_t whole;

	if (bytes < HEADER_BYTES)
		return;
	memcpy(&ip, packet, sizeof(ip));
	if (ip.protocol != IPPROTO_UDP || (ntohl(ip.daddr) >> 28) != 14)
		return;
	whole = ntohs(ip.tot_len);
	seen->frames++;
	seen->repeated += ip.id == seen->identification;
	seen->identification = ip.id;
	if (whole > seen->bytes_max)
		seen->bytes_max = whole;
	if (whole > bytes || whole < HEADER_BYTES + PAYLOAD_SIZE_MIN)
		return;
	memcpy(&payload, packet + HEADER_BYTES, sizeof(payload));
	seen->understood += payload.magic == PAYLOAD_MAGIC && payload.size == whole - HEADER_BYTES;
}

int main(int argc, char **argv)
{
	static uint8_t packet[65536];
	struct in_addr interface_address = { 0 };
	const struct option_row rows[] = {
		{ "interface-address", "ADDRESS", "reads on the interface that has it",
		  parse_address, &interface_address, 0, 0 },
		{ 0 },
	};
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
	struct seen seen = { .identification = UINT32_MAX };
	const int buffer_bytes = BUFFER_BYTES;
	int fd;

	program = "frames";
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	parse_options(rows, argc, argv);
	address.sll_ifindex = interface_index(interface_address);
	stop_on_signals();
	fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes)) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		die(EXIT_FAILED, "packet socket: %s", strerror(errno));
	puts("{\"event\":\"ready\"}");
	for (;;) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		ssize_t bytes = recv(fd, packet, sizeof(packet), MSG_TRUNC);

		if (bytes >= 0)
			count(&seen, packet, (size_t)bytes);
		else if (stop_signals) /* all that had come is counted */
			break;
		else
			poll(&ready, 1, 20);
	}
	printf("{\"event\":\"result\",");
	print_count("frames", seen.frames);
	print_count("understood", seen.understood);
	print_count("repeated", seen.repeated);
	printf("\"bytes_max\":%llu}\n", (unsigned long long)seen.bytes_max);
	return 0;
}
