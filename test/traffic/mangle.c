/*
 * mangle: a relay that does wrong on purpose. Receives one group, sends it on
 * as another, and drops, doubles, swaps or spoils every Nth datagram, counted
 * from 1; so a test knows exactly what a receiver has to find.
 *
 * Prints JSON lines: ready, and at a signal the result with what it did.
 */
#define _GNU_SOURCE
#include "common.h"
#include "options.h"

#define DATAGRAM_BYTES_MAX 65536
#define BUFFER_BYTES (4 << 20)

struct options {
	struct in_addr ingress_address, ingress_group, egress_address, egress_group;
	uint64_t ingress_port, egress_port;
	uint64_t drop, duplicate, swap, corrupt;
};

struct mangler {
	const struct options *options;
	int ingress, egress;
	struct sockaddr_in to;
	uint8_t held[DATAGRAM_BYTES_MAX]; /* goes out after its successor */
	ssize_t held_bytes; /* 0: none */
	uint64_t received, dropped, duplicated, swapped, corrupted;
};

static void read_options(struct options *options, int argc, char **argv)
{
	const struct option_row rows[] = {
		/* clang-format off */
		{ "ingress-address", "ADDRESS", "of the interface it joins on", parse_address, &options->ingress_address, 0, 0 },
		{ "ingress-group", "ADDRESS", "", parse_address, &options->ingress_group, 0, 0 },
		{ "ingress-port", "PORT", "", parse_number, &options->ingress_port, 1, UINT16_MAX },
		{ "egress-address", "ADDRESS", "of the interface it sends from", parse_address, &options->egress_address, 0, 0 },
		{ "egress-group", "ADDRESS", "", parse_address, &options->egress_group, 0, 0 },
		{ "egress-port", "PORT", "", parse_number, &options->egress_port, 1, UINT16_MAX },
		{ "drop", "N", "every Nth datagram", parse_number, &options->drop, 2, UINT32_MAX },
		{ "duplicate", "N", "every Nth datagram", parse_number, &options->duplicate, 2, UINT32_MAX },
		{ "swap", "N", "every Nth datagram with the next", parse_number, &options->swap, 2, UINT32_MAX },
		{ "corrupt", "N", "the last bit of every Nth datagram", parse_number, &options->corrupt, 2, UINT32_MAX },
		{ 0 },
		/* clang-format on */
	};

	*options = (struct options){ 0 };
	parse_options(rows, argc, argv);
	if (!options->ingress_port || !options->egress_port)
		die(EXIT_USAGE, "--ingress-... and --egress-... are required");
}

static void open_sockets(struct mangler *mangler)
{
	const struct options *options = mangler->options;
	const struct sockaddr_in local = { .sin_family = AF_INET,
					   .sin_addr = options->ingress_group,
					   .sin_port = htons((uint16_t)options->ingress_port) };
	const struct ip_mreqn join = { .imr_multiaddr = options->ingress_group,
				       .imr_address = options->ingress_address };
	const struct ip_mreqn out = { .imr_address = options->egress_address };
	int bytes = BUFFER_BYTES;

	mangler->ingress = socket(AF_INET, SOCK_DGRAM, 0);
	mangler->egress = socket(AF_INET, SOCK_DGRAM, 0);
	if (mangler->ingress < 0 || mangler->egress < 0)
		die(EXIT_FAILED, "socket: %s", strerror(errno));
	/* Loses nothing of its own where that is allowed. */
	setsockopt(mangler->ingress, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	if (bind(mangler->ingress, (const struct sockaddr *)&local, sizeof(local)) < 0 ||
	    setsockopt(mangler->ingress, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)) < 0 ||
	    setsockopt(mangler->egress, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) < 0)
		die(EXIT_FAILED, "cannot join or send: %s", strerror(errno));
	mangler->to = (struct sockaddr_in){ .sin_family = AF_INET,
					    .sin_addr = options->egress_group,
					    .sin_port = htons((uint16_t)options->egress_port) };
}

static void transmit(const struct mangler *mangler, const uint8_t *bytes, ssize_t length)
{
	while (sendto(mangler->egress, bytes, (size_t)length, 0,
		      (const struct sockaddr *)&mangler->to, sizeof(mangler->to)) < 0)
		if (errno != EINTR && errno != ENOBUFS && errno != EAGAIN)
			die(EXIT_FAILED, "sendto: %s", strerror(errno));
}

static bool is_turn(const struct mangler *mangler, uint64_t every)
{
	return every && mangler->received % every == 0;
}

static void relay(struct mangler *mangler, uint8_t *bytes, ssize_t length)
{
	const struct options *options = mangler->options;
	ssize_t held_bytes = mangler->held_bytes;

	mangler->received++;
	if (is_turn(mangler, options->drop)) {
		mangler->dropped++;
		return;
	}
	if (is_turn(mangler, options->corrupt)) {
		mangler->corrupted++;
		bytes[length - 1] ^= 1;
	}
	if (!held_bytes && is_turn(mangler, options->swap)) {
		mangler->swapped++;
		memcpy(mangler->held, bytes, (size_t)length);
		mangler->held_bytes = length;
		return;
	}
	transmit(mangler, bytes, length);
	if (is_turn(mangler, options->duplicate)) {
		mangler->duplicated++;
		transmit(mangler, bytes, length);
	}
	if (held_bytes) {
		transmit(mangler, mangler->held, held_bytes);
		mangler->held_bytes = 0;
	}
}

int main(int argc, char **argv)
{
	static uint8_t bytes[DATAGRAM_BYTES_MAX];
	static struct mangler mangler;
	struct options options;

	program = "mangle";
	setvbuf(stdout, NULL, _IOLBF, 0);
	read_options(&options, argc, argv);
	mangler.options = &options;
	stop_on_signals();
	open_sockets(&mangler);
	puts("{\"event\":\"ready\"}");
	while (!stop_signals) {
		ssize_t length = recv(mangler.ingress, bytes, sizeof(bytes), 0);

		if (length > 0)
			relay(&mangler, bytes, length);
	}
	printf("{\"received\":%llu,\"dropped\":%llu,\"duplicated\":%llu,\"swapped\":%llu,"
	       "\"corrupted\":%llu}\n",
	       (unsigned long long)mangler.received, (unsigned long long)mangler.dropped,
	       (unsigned long long)mangler.duplicated, (unsigned long long)mangler.swapped,
	       (unsigned long long)mangler.corrupted);
	return 0;
}
