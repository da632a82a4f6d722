/*
 * receive: joins N groups with plain kernel sockets, one socket per stream,
 * and accounts for every datagram: received once, duplicated, reordered,
 * corrupt, of another stream, or dropped by this program's own socket.
 *
 * Prints JSON lines: ready (all joins done), progress (with --progress),
 * result. Received counts each sequence number once; copies are duplicates.
 */
#define _GNU_SOURCE
#include "common.h"
#include "options.h"
#include "payload.h"
#include "seen.h"
#include "sha256.h"

#include <linux/sock_diag.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#ifndef IP_MULTICAST_ALL
#define IP_MULTICAST_ALL 49
#endif

/* Asked for, and granted only with CAP_NET_ADMIN; otherwise net.core.rmem_max is the limit. */
#define RECEIVE_BUFFER_BYTES (64 << 20)
/*
 * Pause between two rounds. Nobody waits on the sockets meanwhile, so an
 * arriving datagram wakes nobody: cheaper for the sender than for us.
 */
#define PAUSE_NS 500000
#define PROGRESS_NS 200000000ull
/* A signal that comes just before the wait costs at most this. */
#define WAIT_MS_MAX 100
#define BATCH 32
#define DATAGRAM_BYTES_MAX 65536
#define SOURCES_MAX 10
#define EVENTS_MAX 512
#define MISSING_RANGES_MAX 8

/* Numbers are uint64_t because the option table writes that. */
struct options {
	struct in_addr interface_address, group;
	uint64_t port, streams, group_step, port_step;
	struct sockaddr_in *named; /* --stream */
	uint32_t named_count;
	struct in_addr sources[SOURCES_MAX];
	uint32_t source_count;
	uint64_t expect, deadline_ns, linger_ms;
	bool unicast, any_stream, digest, progress;
};

struct faults {
	uint64_t duplicated, reordered, corrupt, wrong_stream;
	uint64_t socket_drops; /* read from the socket at the end */
};

struct stream {
	int fd;
	struct sockaddr_in address, source;
	uint64_t received, source_changes, bytes;
	struct faults faults;
	uint32_t first_sequence, highest_sequence;
	struct seen seen;
	struct sha256 digest; /* of the payloads in the order of arrival, with --digest */
};

struct receiver {
	const struct options *options;
	struct stream *streams;
	uint32_t stream_count;
	int epoll;
	uint64_t received, first_ns, last_ns;
	struct mmsghdr messages[BATCH];
	struct iovec vectors[BATCH];
	struct sockaddr_in sources[BATCH];
	uint8_t *buffers;
};

struct udp_errors {
	uint64_t receive_buffer, checksum;
};

static void parse_stream(const struct option_row *row, const char *text)
{
	struct options *options = row->target;
	struct sockaddr_in *stream = &options->named[options->named_count++];
	uint64_t port = 0;
	const struct option_row group_row = { .name = row->name, .target = &stream->sin_addr };
	const struct option_row port_row = { row->name, .target = &port, .min = 1,
					     .max = UINT16_MAX };
	const char *colon = strrchr(text, ':');
	char group[INET_ADDRSTRLEN];

	if (!colon || (size_t)(colon - text) >= sizeof(group))
		die(EXIT_USAGE, "--%s %s: not GROUP:PORT", row->name, text);
	memcpy(group, text, (size_t)(colon - text));
	group[colon - text] = '\0';
	parse_address(&group_row, group);
	parse_number(&port_row, colon + 1);
	stream->sin_family = AF_INET;
	stream->sin_port = htons((uint16_t)port);
}

static void parse_source(const struct option_row *row, const char *text)
{
	struct options *options = row->target;
	struct in_addr *source = &options->sources[options->source_count++];
	const struct option_row source_row = { .name = row->name, .target = source };

	if (options->source_count > SOURCES_MAX)
		die(EXIT_USAGE, "--%s: at most %d", row->name, SOURCES_MAX);
	parse_address(&source_row, text);
}

static void read_options(struct options *options, int argc, char **argv)
{
	const struct option_row rows[] = {
		/* clang-format off */
		{ "interface-address", "ADDRESS", "joins on the interface that has it", parse_address, &options->interface_address, 0, 0 },
		{ "group", "ADDRESS", "of the first stream", parse_address, &options->group, 0, 0 },
		{ "port", "PORT", "of the first stream", parse_number, &options->port, 1, UINT16_MAX },
		{ "streams", "N", "stream i is group+i, port+i (1)", parse_number, &options->streams, 1, STREAMS_MAX },
		{ "group-step", "0|1", "0: all streams have one group (1)", parse_number, &options->group_step, 0, 1 },
		{ "port-step", "0|1", "0: all streams have one port (1)", parse_number, &options->port_step, 0, 1 },
		{ "stream", "GROUP:PORT", "one stream; repeated, instead of the above", parse_stream, options, 0, 0 },
		{ "source", "ADDRESS", "joins (S,G); repeated, at most 10", parse_source, options, 0, 0 },
		{ "unicast", NULL, "joins nothing; group is the interface address", parse_flag, &options->unicast, 0, 0 },
		{ "any-stream", NULL, "takes every stream number on every socket", parse_flag, &options->any_stream, 0, 0 },
		{ "expect", "N", "ends when N distinct datagrams have arrived", parse_number, &options->expect, 1, UINT64_MAX },
		{ "deadline", "SECONDS", "ends in any case (60)", parse_seconds, &options->deadline_ns, 0, 0 },
		{ "linger", "MS", "goes on after --expect or SIGTERM (200)", parse_number, &options->linger_ms, 0, 3600000 },
		{ "digest", NULL, "the SHA-256 of each stream's payloads in a row", parse_flag, &options->digest, 0, 0 },
		{ "progress", NULL, "a JSON line each 200 ms", parse_flag, &options->progress, 0, 0 },
		{ 0 },
		/* clang-format on */
	};

	*options = (struct options){
		.streams = 1,
		.group_step = 1,
		.port_step = 1,
		.deadline_ns = 60 * NS_PER_SECOND,
		.linger_ms = 200,
		.named = allocate((size_t)argc, sizeof(*options->named)),
	};
	parse_options(rows, argc, argv);
	if (!options->interface_address.s_addr)
		die(EXIT_USAGE, "--interface-address is required");
	if (options->unicast && !options->group.s_addr) {
		options->group = options->interface_address;
		options->group_step = 0;
	}
	if (!options->named_count && (!options->group.s_addr || !options->port))
		die(EXIT_USAGE, "--group and --port, or --stream, are required");
}

static void join(int fd, int interface, const struct in_addr *group, const struct in_addr *source)
{
	const struct sockaddr_in group_address = { .sin_family = AF_INET, .sin_addr = *group };
	char text[INET_ADDRSTRLEN];
	int status;

	if (source) {
		const struct sockaddr_in source_address = { .sin_family = AF_INET,
							    .sin_addr = *source };
		struct group_source_req request = { .gsr_interface = (uint32_t)interface };

		memcpy(&request.gsr_group, &group_address, sizeof(group_address));
		memcpy(&request.gsr_source, &source_address, sizeof(source_address));
		status = setsockopt(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &request,
				    sizeof(request));
	} else {
		struct group_req request = { .gr_interface = (uint32_t)interface };

		memcpy(&request.gr_group, &group_address, sizeof(group_address));
		status = setsockopt(fd, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof(request));
	}
	if (status < 0)
		die(EXIT_FAILED, "cannot join %s: %s",
		    inet_ntop(AF_INET, group, text, sizeof(text)), strerror(errno));
}

/* Bound to (group, port) first and joined last, so nothing but the stream itself can be queued. */
static int open_stream(const struct options *options, const struct sockaddr_in *address,
		       int interface)
{
	int on = 1, off = 0, bytes = RECEIVE_BUFFER_BYTES;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	char text[INET_ADDRSTRLEN];

	if (fd < 0)
		die(EXIT_FAILED, "socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof(off)) < 0)
		die(EXIT_FAILED, "setsockopt: %s", strerror(errno));
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		die(EXIT_FAILED, "cannot bind to %s port %u: %s",
		    inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text)),
		    ntohs(address->sin_port), strerror(errno));
	if (options->unicast)
		return fd;
	for (uint32_t i = 0; i < options->source_count; i++)
		join(fd, interface, &address->sin_addr, &options->sources[i]);
	if (!options->source_count)
		join(fd, interface, &address->sin_addr, NULL);
	return fd;
}

static struct sockaddr_in stream_address(const struct options *options, uint32_t index)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr = address_after(options->group, index * options->group_step),
		.sin_port = htons(port_after(options->port, index * options->port_step)),
	};
}

static void open_streams(struct receiver *receiver)
{
	const struct options *options = receiver->options;
	struct rlimit files;
	int interface = interface_index(options->interface_address);

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	receiver->stream_count = (uint32_t)options->streams;
	if (options->named_count)
		receiver->stream_count = options->named_count;
	receiver->streams = allocate(receiver->stream_count, sizeof(*receiver->streams));
	receiver->epoll = epoll_create1(0);
	if (receiver->epoll < 0)
		die(EXIT_FAILED, "epoll_create1: %s", strerror(errno));
	for (uint32_t i = 0; i < receiver->stream_count; i++) {
		struct stream *stream = &receiver->streams[i];
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		if (options->named_count)
			stream->address = options->named[i];
		else
			stream->address = stream_address(options, i);
		sha256_begin(&stream->digest);
		stream->fd = open_stream(options, &stream->address, interface);
		if (epoll_ctl(receiver->epoll, EPOLL_CTL_ADD, stream->fd, &event) < 0)
			die(EXIT_FAILED, "epoll_ctl: %s", strerror(errno));
	}
	receiver->buffers = allocate(BATCH, DATAGRAM_BYTES_MAX);
	for (uint32_t i = 0; i < BATCH; i++) {
		uint8_t *buffer = receiver->buffers + (size_t)i * DATAGRAM_BYTES_MAX;

		receiver->vectors[i] = (struct iovec){ buffer, DATAGRAM_BYTES_MAX };
	}
}

static void account(struct receiver *receiver, struct stream *stream, const uint8_t *bytes,
		    size_t size, const struct sockaddr_in *source)
{
	struct payload payload;

	if (!payload_read(bytes, size, &payload)) {
		stream->faults.corrupt++;
		return;
	}
	if (payload.stream != (uint32_t)(stream - receiver->streams) &&
	    !receiver->options->any_stream) {
		stream->faults.wrong_stream++;
		return;
	}
	if (stream->source.sin_port && (stream->source.sin_addr.s_addr != source->sin_addr.s_addr ||
					stream->source.sin_port != source->sin_port))
		stream->source_changes++;
	stream->source = *source;
	if (was_seen(&stream->seen, payload.sequence)) {
		stream->faults.duplicated++;
		return;
	}
	if (!stream->received)
		stream->first_sequence = stream->highest_sequence = payload.sequence;
	else if (payload.sequence < stream->highest_sequence)
		stream->faults.reordered++;
	else
		stream->highest_sequence = payload.sequence;
	if (receiver->options->digest)
		sha256_add(&stream->digest, bytes, size);
	stream->received++;
	stream->bytes += size;
	receiver->received++;
}

static void drain(struct receiver *receiver, struct stream *stream)
{
	int count;

	do {
		for (uint32_t i = 0; i < BATCH; i++)
			receiver->messages[i].msg_hdr = (struct msghdr){
				.msg_name = &receiver->sources[i],
				.msg_namelen = sizeof(receiver->sources[i]),
				.msg_iov = &receiver->vectors[i],
				.msg_iovlen = 1,
			};
		count = recvmmsg(stream->fd, receiver->messages, BATCH, MSG_DONTWAIT, NULL);
		if (count < 0 && errno != EAGAIN && errno != EINTR)
			die(EXIT_FAILED, "recvmmsg: %s", strerror(errno));
		if (count > 0) {
			receiver->last_ns = now_ns();
			if (!receiver->first_ns)
				receiver->first_ns = receiver->last_ns;
		}
		for (int i = 0; i < count; i++)
			account(receiver, stream, receiver->vectors[i].iov_base,
				receiver->messages[i].msg_len, &receiver->sources[i]);
	} while (count == BATCH);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Receives until an end is reached; returns its name. */
static const char *run(struct receiver *receiver)
{
	const struct options *options = receiver->options;
	static struct epoll_event events[EVENTS_MAX];
	uint64_t begin = now_ns(), now = begin, deadline = begin + options->deadline_ns;
	uint64_t linger_end = UINT64_MAX, reported = begin;
	const char *ended_by = "deadline";

	for (;;) {
		uint64_t wake = earlier(deadline, linger_end);
		int count;

		if (options->progress)
			wake = earlier(wake, reported + PROGRESS_NS);
		count = epoll_wait(
			receiver->epoll, events, EVENTS_MAX,
			wake > now ? (int)earlier((wake - now) / 1000000 + 1, WAIT_MS_MAX) : 0);
		if (count < 0 && errno != EINTR)
			die(EXIT_FAILED, "epoll_wait: %s", strerror(errno));
		for (int i = 0; i < count; i++)
			drain(receiver, &receiver->streams[events[i].data.u32]);
		now = now_ns();
		if (options->progress && now >= reported + PROGRESS_NS) {
			printf("{\"event\":\"progress\",\"received\":%llu}\n",
			       (unsigned long long)receiver->received);
			reported = now;
		}
		if (linger_end == UINT64_MAX &&
		    (stop_signals || (options->expect && receiver->received >= options->expect))) {
			ended_by = stop_signals ? "signal" : "expected";
			linger_end = now + options->linger_ms * 1000000;
		}
		if (now >= earlier(deadline, linger_end) || stop_signals > 1)
			return ended_by;
		if (count > 0 && !stop_signals)
			sleep_until(now + PAUSE_NS);
	}
}

/* What the socket itself dropped: its buffer was full, or a checksum was wrong. */
static uint64_t socket_drops(const struct stream *stream)
{
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t length = sizeof(memory);

	if (getsockopt(stream->fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0)
		die(EXIT_FAILED, "SO_MEMINFO: %s", strerror(errno));
	return memory[SK_MEMINFO_DROPS];
}

/*
 * The same drops told apart, for the whole namespace: /proc/net/snmp has two
 * "Udp:" lines, the first with names, the second with their values.
 */
static struct udp_errors read_udp_errors(void)
{
	struct udp_errors errors = { 0 };
	char names[1024] = "", values[1024] = "";
	char *name, *name_state, *value, *value_state;
	FILE *file = fopen("/proc/net/snmp", "r");

	if (!file)
		die(EXIT_FAILED, "/proc/net/snmp: %s", strerror(errno));
	while (fgets(names, sizeof(names), file))
		if (!strncmp(names, "Udp:", 4) && fgets(values, sizeof(values), file))
			break;
	fclose(file);
	name = strtok_r(names, " \n", &name_state);
	value = strtok_r(values, " \n", &value_state);
	while (name && value) {
		if (!strcmp(name, "RcvbufErrors"))
			errors.receive_buffer = strtoull(value, NULL, 10);
		if (!strcmp(name, "InCsumErrors"))
			errors.checksum = strtoull(value, NULL, 10);
		name = strtok_r(NULL, " \n", &name_state);
		value = strtok_r(NULL, " \n", &value_state);
	}
	return errors;
}

/* The first gaps below the highest sequence number, counted from 0: [[first, last], …]. */
static void print_missing(const struct stream *stream)
{
	uint32_t ranges = 0;

	fputs("\"missing\":[", stdout);
	for (uint64_t i = 0;
	     stream->received && i < stream->highest_sequence && ranges < MISSING_RANGES_MAX; i++) {
		uint64_t first = i;

		while (!(stream->seen.bits[i / 8] & (1u << (i % 8))))
			i++;
		if (i > first)
			printf("%s[%llu,%llu]", ranges++ ? "," : "", (unsigned long long)first,
			       (unsigned long long)i - 1);
	}
	fputs("]", stdout);
}

static void print_faults(const struct faults *faults)
{
	print_count("duplicated", faults->duplicated);
	print_count("reordered", faults->reordered);
	print_count("corrupt", faults->corrupt);
	print_count("wrong_stream", faults->wrong_stream);
	print_count("socket_drops", faults->socket_drops);
}

static void print_stream(struct stream *stream, bool with_digest)
{
	char text[INET_ADDRSTRLEN];

	printf("{\"group\":\"%s\",",
	       inet_ntop(AF_INET, &stream->address.sin_addr, text, sizeof(text)));
	print_count("port", ntohs(stream->address.sin_port));
	print_count("received", stream->received);
	print_faults(&stream->faults);
	print_count("bytes", stream->bytes);
	print_count("source_changes", stream->source_changes);
	if (stream->received) {
		print_count("first_sequence", stream->first_sequence);
		print_count("highest_sequence", stream->highest_sequence);
	}
	if (stream->source.sin_port)
		printf("\"source\":\"%s:%u\",",
		       inet_ntop(AF_INET, &stream->source.sin_addr, text, sizeof(text)),
		       ntohs(stream->source.sin_port));
	print_missing(stream);
	if (with_digest)
		print_digest(&stream->digest);
	putchar('}');
}

/* Also completes each stream's faults with its socket's drops. */
static struct faults sum_faults(const struct receiver *receiver)
{
	struct faults sum = { 0 };

	for (uint32_t i = 0; i < receiver->stream_count; i++) {
		struct faults *faults = &receiver->streams[i].faults;

		faults->socket_drops = socket_drops(&receiver->streams[i]);
		sum.duplicated += faults->duplicated;
		sum.reordered += faults->reordered;
		sum.corrupt += faults->corrupt;
		sum.wrong_stream += faults->wrong_stream;
		sum.socket_drops += faults->socket_drops;
	}
	return sum;
}

static void print_result(const struct receiver *receiver, const char *ended_by,
			 struct udp_errors before)
{
	const struct udp_errors after = read_udp_errors();
	const struct faults faults = sum_faults(receiver);
	int buffer_bytes = 0;
	socklen_t length = sizeof(buffer_bytes);

	getsockopt(receiver->streams[0].fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, &length);
	printf("{\"event\":\"result\",\"ended_by\":\"%s\",", ended_by);
	print_count("received", receiver->received);
	print_faults(&faults);
	print_count("receive_buffer_errors", after.receive_buffer - before.receive_buffer);
	print_count("checksum_errors", after.checksum - before.checksum);
	print_count("receive_buffer_bytes", (uint64_t)buffer_bytes);
	printf("\"seconds\":%.6f,\"streams\":[",
	       (double)(receiver->last_ns - receiver->first_ns) / (double)NS_PER_SECOND);
	for (uint32_t i = 0; i < receiver->stream_count; i++) {
		if (i)
			putchar(',');
		print_stream(&receiver->streams[i], receiver->options->digest);
	}
	puts("]}");
}

int main(int argc, char **argv)
{
	struct options options;
	struct receiver receiver = { .options = &options };
	struct udp_errors before;
	const char *ended_by;

	program = "receive";
	setvbuf(stdout, NULL, _IOLBF, 0);
	read_options(&options, argc, argv);
	stop_on_signals();
	prctl(PR_SET_TIMERSLACK, 1);
	before = read_udp_errors();
	open_streams(&receiver);
	puts("{\"event\":\"ready\"}");
	ended_by = run(&receiver);
	print_result(&receiver, ended_by, before);
	return 0;
}
