/*
 * record: writes every IPv4 frame that arrives at an interface to stdout, as
 * records (record.h) with the offload header the kernel gives. What the host
 * itself sends is left out. Nothing is joined and nothing is cut.
 *
 * With --without-offload it reads as a program that knows nothing of offloads:
 * a super-frame is one long frame to it, and the header is zero.
 *
 * Prints JSON lines on stderr: ready; at a signal, after everything that had
 * arrived is written, result. `dropped` is what its own socket lost and
 * `undescribed` what the kernel could not hand over; both are 0 in a run that
 * proves anything.
 */
#define _GNU_SOURCE
#include "record.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define BUFFER_BYTES (256 << 20)
#define SLOT_BYTES (sizeof(struct record) + FRAME_BYTES_MAX)
#define WAIT_MS 20 /* a signal between the look and the call waits no longer */

struct recorder {
	int fd;
	bool without_offload;
	uint8_t *slots; /* where the kernel writes: one record each */
	uint8_t *batch; /* the same records without gaps, for one write */
	uint64_t recorded, undescribed;
};

static void open_socket(struct recorder *recorder, const char *name)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
	const struct timeval wait = { .tv_usec = WAIT_MS * 1000 };
	int on = 1, has_offload = !recorder->without_offload, bytes = BUFFER_BYTES;

	address.sll_ifindex = (int)if_nametoindex(name);
	if (!address.sll_ifindex)
		die(EXIT_FAILED, "no interface %s", name);
	recorder->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (recorder->fd < 0 ||
	    setsockopt(recorder->fd, SOL_PACKET, PACKET_VNET_HDR, &has_offload,
		       sizeof(has_offload)) < 0 ||
	    setsockopt(recorder->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
	    setsockopt(recorder->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
		die(EXIT_FAILED, "packet socket: %s", strerror(errno));
	if (setsockopt(recorder->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(recorder->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	if (bind(recorder->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(EXIT_FAILED, "packet socket on %s: %s", name, strerror(errno));
}

static void write_all(const uint8_t *bytes, size_t length)
{
	while (length) {
		ssize_t written = write(STDOUT_FILENO, bytes, length);

		if (written < 0 && errno != EINTR)
			die(EXIT_FAILED, "stdout: %s", strerror(errno));
		if (written > 0) {
			bytes += written;
			length -= (size_t)written;
		}
	}
}

/* One batch; false when there was none. */
static bool record_batch(struct recorder *recorder, int flags)
{
	struct mmsghdr messages[RECORD_BATCH];
	struct sockaddr_ll from[RECORD_BATCH];
	struct iovec vectors[RECORD_BATCH][2];
	const int skip = recorder->without_offload;
	size_t filled = 0;
	int count;

	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < RECORD_BATCH; i++) {
		uint8_t *slot = recorder->slots + SLOT_BYTES * (size_t)i;

		vectors[i][0] = (struct iovec){ slot + offsetof(struct record, offload),
						sizeof(struct virtio_net_hdr) };
		vectors[i][1] = (struct iovec){ slot + sizeof(struct record), FRAME_BYTES_MAX };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i][skip],
						       .msg_iovlen = (size_t)(2 - skip),
						       .msg_name = &from[i],
						       .msg_namelen = sizeof(from[i]) };
	}
	count = recvmmsg(recorder->fd, messages, RECORD_BATCH, MSG_WAITFORONE | flags, NULL);
	if (count < 0 && errno == EINVAL) {
		recorder->undescribed++;
		return true;
	}
	if (count < 0 && errno != EAGAIN && errno != EINTR)
		die(EXIT_FAILED, "recvmmsg: %s", strerror(errno));
	for (int i = 0; i < count; i++) {
		uint8_t *slot = recorder->slots + SLOT_BYTES * (size_t)i;
		struct record record;

		if (messages[i].msg_hdr.msg_flags & MSG_TRUNC)
			die(EXIT_FAILED, "a frame of more than %d bytes", FRAME_BYTES_MAX);
		memcpy(&record, slot, sizeof(record));
		record.frame_bytes =
			messages[i].msg_len - (skip ? 0 : (uint32_t)sizeof(record.offload));
		record.packet_type = from[i].sll_pkttype;
		memcpy(slot, &record, sizeof(record));
		memcpy(recorder->batch + filled, slot, sizeof(record) + record.frame_bytes);
		filled += sizeof(record) + record.frame_bytes;
	}
	write_all(recorder->batch, filled);
	recorder->recorded += count > 0 ? (uint64_t)count : 0;
	return count > 0;
}

static uint64_t socket_drops(const struct recorder *recorder)
{
	struct tpacket_stats statistics = { 0 };
	socklen_t bytes = sizeof(statistics);

	if (getsockopt(recorder->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &bytes) < 0)
		die(EXIT_FAILED, "PACKET_STATISTICS: %s", strerror(errno));
	return statistics.tp_drops;
}

int main(int argc, char **argv)
{
	static struct recorder recorder;
	const char *interface = NULL;
	const struct option_row rows[] = {
		{ "interface", "NAME", "captures here", parse_text, &interface, 0, 0 },
		{ "without-offload", NULL, "takes frames as a plain reader gets them", parse_flag,
		  &recorder.without_offload, 0, 0 },
		{ 0 },
	};

	program = "record";
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	parse_options(rows, argc, argv);
	if (!interface)
		die(EXIT_USAGE, "--interface is required");
	recorder.slots = allocate(RECORD_BATCH, SLOT_BYTES);
	recorder.batch = allocate(RECORD_BATCH, SLOT_BYTES);
	stop_on_signals();
	open_socket(&recorder, interface);
	fprintf(stderr, "{\"event\":\"ready\"}\n");
	while (!stop_signals)
		record_batch(&recorder, 0);
	while (record_batch(&recorder, MSG_DONTWAIT))
		continue;
	fprintf(stderr,
		"{\"event\":\"result\",\"recorded\":%llu,\"dropped\":%llu,\"undescribed\":%llu}\n",
		(unsigned long long)recorder.recorded, (unsigned long long)socket_drops(&recorder),
		(unsigned long long)recorder.undescribed);
	return 0;
}
