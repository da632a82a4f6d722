/*
 * media: sends what media gateways send, RTP (RFC 3550) or MPEG transport
 * packets (7 in a datagram: two PIDs, stuffing, and every 16th time a table
 * of two programs), at 2,000 datagrams a second, without a fault.
 */
#define _GNU_SOURCE
#include "common.h"
#include "options.h"

#define RTP_BYTES 172
#define TS_BYTES 188
#define TS_PACKETS 7
#define TABLE_EVERY 16
#define PAUSE_NS 500000

struct options {
	struct in_addr interface_address, group;
	uint64_t port, count;
	bool ts;
};

static void read_options(struct options *options, int argc, char **argv)
{
	const struct option_row rows[] = {
		/* clang-format off */
		{ "interface-address", "ADDRESS", "of the interface it sends from", parse_address, &options->interface_address, 0, 0 },
		{ "group", "ADDRESS", "", parse_address, &options->group, 0, 0 },
		{ "port", "PORT", "", parse_number, &options->port, 1, UINT16_MAX },
		{ "count", "N", "datagrams", parse_number, &options->count, 1, UINT32_MAX },
		{ "ts", NULL, "transport packets instead of RTP", parse_flag, &options->ts, 0, 0 },
		{ 0 },
		/* clang-format on */
	};

	*options = (struct options){ 0 };
	parse_options(rows, argc, argv);
	if (!options->port || !options->count)
		die(EXIT_USAGE, "--group, --port and --count are required");
}

/* G.711, 20 ms: the sequence starts near its end, so that it wraps early. */
static size_t write_rtp(uint8_t *bytes, uint64_t index)
{
	uint16_t sequence = htons((uint16_t)(65000 + index));
	uint32_t time = htonl((uint32_t)index * 160), source = htonl(0xcafef00d);

	memset(bytes, 0xd5, RTP_BYTES);
	bytes[0] = 0x80; /* version 2 */
	bytes[1] = 8; /* PCMA */
	memcpy(bytes + 2, &sequence, sizeof(sequence));
	memcpy(bytes + 4, &time, sizeof(time));
	memcpy(bytes + 8, &source, sizeof(source));
	return RTP_BYTES;
}

/* CRC-32 of ISO/IEC 13818-1 annex A. */
static uint32_t crc_of(const uint8_t *bytes, size_t length)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < length; i++) {
		crc ^= (uint32_t)bytes[i] << 24;
		for (int bit = 0; bit < 8; bit++)
			crc = crc << 1 ^ (crc >> 31 ? 0x04c11db7 : 0);
	}
	return crc;
}

/* A program association table, ISO/IEC 13818-1 section 2.4.4.3, of two programs. */
static void write_table(uint8_t *packet, uint64_t counter)
{
	static const uint8_t section[] = {
		0x00, 0xb0, 21, /* table 0, of 21 more bytes */
		0x00, 0x01, 0xc1, 0x00, 0x00, /* stream 1, version 0, the one section */
		0x00, 0x00, 0xe0, 0x10, /* network: PID 0x10 */
		0x00, 0x01, 0xe1, 0x00, /* program 1: PID 0x100 */
		0x00, 0x02, 0xe2, 0x00, /* program 2: PID 0x200 */
	};
	uint32_t crc = htonl(crc_of(section, sizeof(section)));

	memset(packet, 0xff, TS_BYTES);
	packet[0] = 0x47;
	packet[1] = 0x40; /* a section begins; PID 0 */
	packet[2] = 0;
	packet[3] = (uint8_t)(0x10 | (counter & 0xf));
	packet[4] = 0; /* and begins at once */
	memcpy(packet + 5, section, sizeof(section));
	memcpy(packet + 5 + sizeof(section), &crc, sizeof(crc));
}

/* Five packets of video, one of audio, one of stuffing or the table; their counters go on for ever. */
static size_t write_ts(uint8_t *bytes, uint64_t index)
{
	for (uint64_t i = 0; i < TS_PACKETS; i++) {
		uint8_t *packet = bytes + i * TS_BYTES;
		uint16_t pid = i < 5 ? 0x100 : i == 5 ? 0x101 : 0x1fff;
		uint64_t counter = i < 5 ? index * 5 + i : i == 5 ? index : 0;

		memset(packet, (int)(index * 7 + i), TS_BYTES);
		memcpy(packet + 4, &index, sizeof(index)); /* no two alike */
		packet[0] = 0x47;
		packet[1] = (uint8_t)(pid >> 8);
		packet[2] = (uint8_t)pid;
		packet[3] = (uint8_t)(0x10 | (counter & 0xf)); /* payload only */
	}
	if (index % TABLE_EVERY == 0)
		write_table(bytes + (TS_PACKETS - 1) * TS_BYTES, index / TABLE_EVERY);
	return TS_PACKETS * TS_BYTES;
}

int main(int argc, char **argv)
{
	struct options options;
	uint8_t bytes[TS_PACKETS * TS_BYTES];
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct ip_mreqn out = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	program = "media";
	read_options(&options, argc, argv);
	to.sin_addr = options.group;
	to.sin_port = htons((uint16_t)options.port);
	out.imr_address = options.interface_address;
	if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) < 0)
		die(EXIT_FAILED, "setsockopt: %s", strerror(errno));
	for (uint64_t i = 0; i < options.count; i++) {
		const struct timespec pause = { .tv_nsec = PAUSE_NS };
		size_t length = options.ts ? write_ts(bytes, i) : write_rtp(bytes, i);

		if (sendto(fd, bytes, length, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			die(EXIT_FAILED, "sendto: %s", strerror(errno));
		nanosleep(&pause, NULL);
	}
	printf("{\"sent\":%llu}\n", (unsigned long long)options.count);
	return 0;
}
