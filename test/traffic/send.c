/*
 * send: numbered, patterned UDP datagrams to N groups at a steady total rate,
 * through a plain kernel socket, and an exact count of what the kernel took.
 *
 * Streams take turns; a turn is --run datagrams of one stream (default 1),
 * and with --gso the run leaves as one UDP_SEGMENT super-frame. With several
 * sizes each stream takes them in turn. Prints JSON lines: ready, progress
 * (with --progress), result.
 */
#define _GNU_SOURCE
#include "common.h"
#include "options.h"
#include "payload.h"
#include "sha256.h"

#include <netinet/udp.h>
#include <sys/prctl.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* After a stall the debt is repaid at twice the rate, and what exceeds 10 ms of it is forgiven. */
#define CATCH_UP_NS_MAX 10000000ull
/* Default burst: one wake-up each 200 us, which a timer on a virtual machine still keeps. */
#define WAKEUPS_PER_SECOND 5000
#define PROGRESS_NS 200000000ull
#define BURST_UNPACED 64
#define BURST_MAX 1024
#define GSO_SEGMENTS_MAX 64
#define GSO_BYTES_MAX 65000

/* Numbers are uint64_t because the option table writes that. */
struct options {
	struct in_addr interface_address, group, source;
	uint64_t port, streams, group_step, port_step;
	uint64_t rate_pps, count, duration_ns, burst, run;
	struct number_list sizes;
	uint64_t source_port, ttl, first_stream, first_sequence, corrupt_every;
	bool unbounded, gso, digest, wait, progress;
};

struct sender {
	const struct options *options;
	int fd;
	uint64_t turn_batch; /* turns per wake-up */
	size_t size_max;
	uint32_t segments; /* datagrams per message */
	uint64_t turns; /* completed so far */
	uint64_t sent, retries, corrupted;
	uint64_t *sent_per_stream;
	struct sha256 *digests; /* of each stream, with --digest */
	struct sockaddr_in *destinations;
	struct mmsghdr *messages;
	struct iovec *vectors;
	uint8_t *buffers;
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
	} segment;
};

static void read_options(struct options *options, int argc, char **argv)
{
	const struct option_row rows[] = {
		/* clang-format off */
		{ "interface-address", "ADDRESS", "sends through the interface that has it", parse_address, &options->interface_address, 0, 0 },
		{ "group", "ADDRESS", "of the first stream; any IPv4 address", parse_address, &options->group, 0, 0 },
		{ "port", "PORT", "of the first stream", parse_number, &options->port, 1, UINT16_MAX },
		{ "streams", "N", "stream i goes to group+i, port+i (1)", parse_number, &options->streams, 1, STREAMS_MAX },
		{ "group-step", "0|1", "0: all streams to one group (1)", parse_number, &options->group_step, 0, 1 },
		{ "port-step", "0|1", "0: all streams to one port (1)", parse_number, &options->port_step, 0, 1 },
		{ "rate", "PPS", "of all streams together; 0 is unpaced (1000)", parse_number, &options->rate_pps, 0, 100000000 },
		{ "count", "N", "datagrams per stream, or", parse_number, &options->count, 1, UINT32_MAX },
		{ "duration", "SECONDS", "or", parse_seconds, &options->duration_ns, 0, 0 },
		{ "unbounded", NULL, "until SIGTERM", parse_flag, &options->unbounded, 0, 0 },
		{ "size", "BYTES,...", "of UDP payload, in turn (1024)", parse_numbers, &options->sizes, PAYLOAD_SIZE_MIN, PAYLOAD_SIZE_MAX },
		{ "burst", "N", "datagrams per wake-up (rate / 5000)", parse_number, &options->burst, 1, BURST_MAX },
		{ "run", "N", "datagrams of one stream in a row (1)", parse_number, &options->run, 1, BURST_MAX },
		{ "gso", NULL, "each run is one UDP_SEGMENT send", parse_flag, &options->gso, 0, 0 },
		{ "source", "ADDRESS", "any local address (the interface's)", parse_address, &options->source, 0, 0 },
		{ "source-port", "PORT", "(chosen by the kernel)", parse_number, &options->source_port, 1, UINT16_MAX },
		{ "ttl", "N", "(8)", parse_number, &options->ttl, 1, UINT8_MAX },
		{ "first-stream", "N", "its number in the payload (0)", parse_number, &options->first_stream, 0, UINT32_MAX },
		{ "first-sequence", "N", "(0)", parse_number, &options->first_sequence, 0, UINT32_MAX },
		{ "corrupt-every", "N", "every Nth datagram has one wrong bit (never)", parse_number, &options->corrupt_every, 1, UINT32_MAX },
		{ "digest", NULL, "the SHA-256 of each stream's payloads in a row", parse_flag, &options->digest, 0, 0 },
		{ "wait", NULL, "starts when a line arrives on stdin", parse_flag, &options->wait, 0, 0 },
		{ "progress", NULL, "a JSON line each 200 ms", parse_flag, &options->progress, 0, 0 },
		{ 0 },
		/* clang-format on */
	};

	*options = (struct options){
		.streams = 1,
		.group_step = 1,
		.port_step = 1,
		.rate_pps = 1000,
		.sizes = { .count = 1, .values = { 1024 } },
		.run = 1,
		.ttl = 8,
	};
	parse_options(rows, argc, argv);
	if (!options->interface_address.s_addr || !options->group.s_addr || !options->port)
		die(EXIT_USAGE, "--interface-address, --group and --port are required");
	if ((options->count > 0) + (options->duration_ns > 0) + options->unbounded != 1)
		die(EXIT_USAGE, "one of --count, --duration and --unbounded is required");
	if (options->count % options->run)
		die(EXIT_USAGE, "--count must be a multiple of --run");
	if (options->gso && options->sizes.count > 1)
		die(EXIT_USAGE, "--gso: a run has one size");
	if (options->gso && (options->run > GSO_SEGMENTS_MAX ||
			     options->run * options->sizes.values[0] > GSO_BYTES_MAX))
		die(EXIT_USAGE, "--gso: a run holds at most %d datagrams and %d bytes",
		    GSO_SEGMENTS_MAX, GSO_BYTES_MAX);
}

static int open_socket(const struct options *options)
{
	struct ip_mreqn out = {
		.imr_address = options->interface_address,
		.imr_ifindex = interface_index(options->interface_address),
	};
	struct sockaddr_in local = {
		.sin_family = AF_INET,
		.sin_addr = options->source,
		.sin_port = htons((uint16_t)options->source_port),
	};
	/* Without IP_RECVERR the kernel hides that a device queue dropped a datagram (ENOBUFS). */
	int on = 1, ttl = (int)options->ttl, fd = socket(AF_INET, SOCK_DGRAM, 0);
	char text[INET_ADDRSTRLEN];

	if (fd < 0)
		die(EXIT_FAILED, "socket: %s", strerror(errno));
	if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof(ttl)) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)) < 0)
		die(EXIT_FAILED, "setsockopt: %s", strerror(errno));
	if (bind(fd, (struct sockaddr *)&local, sizeof(local)) < 0)
		die(EXIT_FAILED, "cannot bind to %s port %u: %s",
		    inet_ntop(AF_INET, &local.sin_addr, text, sizeof(text)), ntohs(local.sin_port),
		    strerror(errno));
	return fd;
}

static void prepare(struct sender *sender)
{
	const struct options *options = sender->options;
	uint64_t burst = options->burst;
	size_t messages;

	if (!burst)
		burst = options->rate_pps ? options->rate_pps / WAKEUPS_PER_SECOND : BURST_UNPACED;
	if (burst > BURST_MAX)
		burst = BURST_MAX;
	sender->turn_batch = burst > options->run ? burst / options->run : 1;
	sender->segments = options->gso ? (uint32_t)options->run : 1;
	messages = sender->turn_batch * options->run;
	sender->sent_per_stream = allocate(options->streams, sizeof(*sender->sent_per_stream));
	sender->digests = allocate(options->streams, sizeof(*sender->digests));
	for (uint32_t i = 0; i < options->streams; i++)
		sha256_begin(&sender->digests[i]);
	sender->destinations = allocate(options->streams, sizeof(*sender->destinations));
	sender->messages = allocate(messages, sizeof(*sender->messages));
	sender->vectors = allocate(messages, sizeof(*sender->vectors));
	for (size_t i = 0; i < options->sizes.count; i++)
		if (options->sizes.values[i] > sender->size_max)
			sender->size_max = options->sizes.values[i];
	sender->buffers = allocate(messages, sender->size_max);
	for (uint32_t i = 0; i < options->streams; i++)
		sender->destinations[i] = (struct sockaddr_in){
			.sin_family = AF_INET,
			.sin_addr = address_after(options->group, i * options->group_step),
			.sin_port = htons(port_after(options->port, i * options->port_step)),
		};
	sender->segment.header = (struct cmsghdr){
		.cmsg_level = SOL_UDP,
		.cmsg_type = UDP_SEGMENT,
		.cmsg_len = CMSG_LEN(sizeof(uint16_t)),
	};
	memcpy(CMSG_DATA(&sender->segment.header), &(uint16_t){ (uint16_t)sender->size_max },
	       sizeof(uint16_t));
}

static size_t size_of(const struct sender *sender, uint64_t sequence)
{
	const struct number_list *sizes = &sender->options->sizes;

	return sizes->values[sequence % sizes->count];
}

static void write_datagram(struct sender *sender, uint8_t *bytes, uint32_t stream,
			   uint64_t sequence, uint64_t sent_ns)
{
	const struct options *options = sender->options;
	const size_t size = size_of(sender, sequence);
	const struct payload header = {
		.magic = PAYLOAD_MAGIC,
		.size = (uint32_t)size,
		.stream = (uint32_t)(options->first_stream + stream),
		.sequence = (uint32_t)(options->first_sequence + sequence),
		.sent_ns = sent_ns,
	};

	payload_write(bytes, &header);
	/* The wrong bit wanders through the whole datagram, header included. */
	if (options->corrupt_every && (sequence + 1) % options->corrupt_every == 0) {
		uint64_t bit = sender->corrupted++;

		bytes[bit % size] ^= (uint8_t)(1u << (bit % 8));
	}
}

static void address_message(struct sender *sender, uint32_t message, uint32_t stream,
			    uint64_t sequence, uint8_t *bytes)
{
	bool is_segmented = sender->segments > 1;

	sender->vectors[message] =
		(struct iovec){ bytes, sender->segments * size_of(sender, sequence) };
	sender->messages[message].msg_hdr = (struct msghdr){
		.msg_name = &sender->destinations[stream],
		.msg_namelen = sizeof(sender->destinations[stream]),
		.msg_iov = &sender->vectors[message],
		.msg_iovlen = 1,
		.msg_control = is_segmented ? sender->segment.bytes : NULL,
		.msg_controllen = is_segmented ? sizeof(sender->segment.bytes) : 0,
	};
}

/* Fills the messages of the next `turns` turns; returns how many messages that are. */
static uint32_t fill(struct sender *sender, uint64_t turns)
{
	const struct options *options = sender->options;
	uint64_t sent_ns = now_ns();
	uint32_t messages = 0;
	uint8_t *bytes = sender->buffers;

	for (uint64_t turn = sender->turns; turn < sender->turns + turns; turn++) {
		uint64_t sequence = turn / options->streams * options->run;
		uint32_t stream = (uint32_t)(turn % options->streams);

		for (uint64_t k = 0; k < options->run; k++, bytes += sender->size_max) {
			if (k % sender->segments == 0)
				address_message(sender, messages++, stream, sequence + k, bytes);
			write_datagram(sender, bytes, stream, sequence + k, sent_ns);
		}
	}
	return messages;
}

/* Hands all messages to the kernel, each until it is taken, unless a stop signal comes. */
static void transmit(struct sender *sender, uint32_t messages)
{
	uint32_t done = 0;

	while (done < messages && !stop_signals) {
		int taken = sendmmsg(sender->fd, sender->messages + done, messages - done, 0);

		if (taken < 0) {
			/* ECONNREFUSED tells of an earlier unicast datagram; this one was not sent either. */
			if (errno != EINTR && errno != EAGAIN && errno != ENOBUFS &&
			    errno != ECONNREFUSED)
				die(EXIT_FAILED, "sendmmsg: %s", strerror(errno));
			sender->retries++;
			if (errno == ENOBUFS)
				sleep_until(now_ns() + 50000);
			continue;
		}
		for (int i = 0; i < taken; i++) {
			const struct msghdr *message =
				&sender->messages[done + (uint32_t)i].msg_hdr;
			const struct sockaddr_in *destination = message->msg_name;
			size_t stream = (size_t)(destination - sender->destinations);

			sender->sent_per_stream[stream] += sender->segments;
			sender->sent += sender->segments;
			if (sender->options->digest)
				sha256_add(&sender->digests[stream], message->msg_iov->iov_base,
					   message->msg_iov->iov_len);
		}
		done += (uint32_t)taken;
	}
}

static void run(struct sender *sender)
{
	const struct options *options = sender->options;
	uint64_t turns_max = UINT64_MAX, interval = 0;
	uint64_t begin = now_ns(), deadline = begin, earliest = begin, reported = begin;

	if (options->count)
		turns_max = options->count / options->run * options->streams;
	if (options->rate_pps)
		interval = NS_PER_SECOND * sender->turn_batch * options->run / options->rate_pps;
	while (sender->turns < turns_max && !stop_signals) {
		uint64_t left = turns_max - sender->turns, now;
		uint64_t turns = left < sender->turn_batch ? left : sender->turn_batch;

		if (interval)
			sleep_until(deadline > earliest ? deadline : earliest);
		now = now_ns();
		if (options->duration_ns && now - begin >= options->duration_ns)
			break;
		transmit(sender, fill(sender, turns));
		sender->turns += turns;
		if (now > deadline + CATCH_UP_NS_MAX)
			deadline = now - CATCH_UP_NS_MAX;
		deadline += interval;
		earliest = now + interval / 2;
		if (options->progress && now - reported >= PROGRESS_NS) {
			printf("{\"event\":\"progress\",\"sent\":%llu}\n",
			       (unsigned long long)sender->sent);
			reported = now;
		}
	}
}

/* CPU time of this process in ns: what sending cost, the receiving side of a veth included. */
static uint64_t cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * NS_PER_SECOND + (uint64_t)time.tv_nsec;
}

static void print_result(const struct sender *sender, double seconds, uint64_t cpu)
{
	fputs("{\"event\":\"result\",", stdout);
	print_count("sent", sender->sent);
	print_count("retries", sender->retries);
	print_count("cpu_ns", cpu);
	printf("\"seconds\":%.6f,\"rate_pps\":%.0f,\"streams\":[", seconds,
	       seconds > 0 ? (double)sender->sent / seconds : 0);
	for (uint32_t i = 0; i < sender->options->streams; i++) {
		char text[INET_ADDRSTRLEN];

		inet_ntop(AF_INET, &sender->destinations[i].sin_addr, text, sizeof(text));
		printf("%s{\"group\":\"%s\",\"port\":%u,\"sent\":%llu", i ? "," : "", text,
		       ntohs(sender->destinations[i].sin_port),
		       (unsigned long long)sender->sent_per_stream[i]);
		if (sender->options->digest)
			print_digest(&sender->digests[i]);
		putchar('}');
	}
	puts("]}");
}

int main(int argc, char **argv)
{
	struct options options;
	struct sender sender = { .options = &options };
	uint64_t begin, cpu;

	program = "send";
	setvbuf(stdout, NULL, _IOLBF, 0);
	read_options(&options, argc, argv);
	stop_on_signals();
	/* The default slack of 50 us would round every pause up. */
	prctl(PR_SET_TIMERSLACK, 1);
	sender.fd = open_socket(&options);
	prepare(&sender);
	puts("{\"event\":\"ready\"}");
	if (options.wait) {
		char line[64];

		if (read(STDIN_FILENO, line, sizeof(line)) <= 0 && !stop_signals)
			die(EXIT_FAILED, "stdin ended before a line came");
	}
	cpu = cpu_ns();
	begin = now_ns();
	run(&sender);
	print_result(&sender, (double)(now_ns() - begin) / (double)NS_PER_SECOND, cpu_ns() - cpu);
	return 0;
}
