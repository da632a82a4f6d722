/*
 * inject: sends the records of stdin (record.h) as they are, offload headers
 * included, so a test can put any frame on a wire: super-frames, checksums left
 * to the device, tags, fragments, nonsense.
 *
 *   --interface IF   through a packet socket, as a neighbour on IF sends
 *   --tap NAME       makes a tap and writes into it, as a guest behind NAME sends
 *
 * Prints JSON lines: ready; sent, whenever all complete records so far are
 * handed over; refused, with the record's index and errno, which is no failure
 * of inject; result at the end of stdin. With --hold the tap stays until a signal.
 */
#define _GNU_SOURCE
#include "record.h"

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#define BUFFER_BYTES (4 << 20)
/* Of one frame: ENOBUFS says that a queue is full, and also that the device will never take it. */
#define TRIES_MAX 10

struct options {
	const char *interface, *tap, *mac;
	uint64_t mtu;
	bool hold;
};

struct injector {
	int fd;
	bool is_tap;
	uint64_t sent, refused;
};

/* -- where frames go --------------------------------------------------------------- */

static void open_interface(struct injector *injector, const char *name)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET };
	int on = 1, bytes = BUFFER_BYTES;

	/* Protocol 0: it receives nothing, and each frame's own type is what counts. */
	injector->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	address.sll_ifindex = (int)if_nametoindex(name);
	if (!address.sll_ifindex)
		die(EXIT_FAILED, "no interface %s", name);
	if (injector->fd < 0 ||
	    setsockopt(injector->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    bind(injector->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(EXIT_FAILED, "packet socket on %s: %s", name, strerror(errno));
	setsockopt(injector->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
}

static void configure(int fd, unsigned long request, struct ifreq *change, const char *name,
		      const char *what)
{
	snprintf(change->ifr_name, sizeof(change->ifr_name), "%s", name);
	if (ioctl(fd, request, change) < 0)
		die(EXIT_FAILED, "%s of %s: %s", what, name, strerror(errno));
}

static void read_mac(const char *text, char *mac)
{
	unsigned int part[6];
	char rest;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &part[0], &part[1], &part[2], &part[3],
		   &part[4], &part[5], &rest) != 6)
		die(EXIT_USAGE, "--mac %s: not a hardware address", text);
	for (int i = 0; i < 6; i++)
		mac[i] = (char)part[i];
}

static void open_tap(struct injector *injector, const struct options *options)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	struct ifreq hardware = { .ifr_hwaddr.sa_family = 1 /* ARPHRD_ETHER */ };
	struct ifreq mtu = { .ifr_mtu = (int)options->mtu };
	struct ifreq flags = { 0 };
	int header_bytes = sizeof(struct virtio_net_hdr);
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	injector->is_tap = true;
	injector->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (injector->fd < 0 || control < 0)
		die(EXIT_FAILED, "/dev/net/tun: %s", strerror(errno));
	configure(injector->fd, TUNSETIFF, &request, options->tap, "making");
	if (ioctl(injector->fd, TUNSETVNETHDRSZ, &header_bytes) < 0)
		die(EXIT_FAILED, "TUNSETVNETHDRSZ: %s", strerror(errno));
	if (options->mac) {
		read_mac(options->mac, hardware.ifr_hwaddr.sa_data);
		configure(control, SIOCSIFHWADDR, &hardware, options->tap, "hardware address");
	}
	if (options->mtu)
		configure(control, SIOCSIFMTU, &mtu, options->tap, "MTU");
	configure(control, SIOCGIFFLAGS, &flags, options->tap, "flags");
	flags.ifr_flags |= IFF_UP;
	configure(control, SIOCSIFFLAGS, &flags, options->tap, "flags");
	close(control);
}

/* -- sending ------------------------------------------------------------------------ */

static void report_refused(struct injector *injector, int error)
{
	printf("{\"event\":\"refused\",\"index\":%llu,\"errno\":%d,\"reason\":\"%s\"}\n",
	       (unsigned long long)(injector->sent + injector->refused), error, strerror(error));
	injector->refused++;
}

/* Each of vectors is one frame behind its virtio header. */
static void transmit_by_socket(struct injector *injector, struct iovec *vectors, int count)
{
	struct mmsghdr messages[RECORD_BATCH];

	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < count; i++)
		messages[i].msg_hdr =
			(struct msghdr){ .msg_iov = &vectors[i * 2], .msg_iovlen = 2 };
	for (int done = 0, tries = 0; done < count;) {
		int sent = sendmmsg(injector->fd, messages + done, (unsigned int)(count - done), 0);

		if (sent > 0) {
			injector->sent += (uint64_t)sent;
			done += sent;
			tries = 0;
		} else if (errno == ENOBUFS && tries < TRIES_MAX) {
			tries++;
			sleep_until(now_ns() + NS_PER_SECOND / 1000);
		} else if (errno != EINTR) {
			report_refused(injector, errno);
			done++;
			tries = 0;
		}
	}
}

static void transmit_by_tap(struct injector *injector, struct iovec *vectors, int count)
{
	for (int i = 0; i < count; i++) {
		if (writev(injector->fd, &vectors[i * 2], 2) >= 0)
			injector->sent++;
		else
			report_refused(injector, errno);
	}
}

/* Sends the complete records at the start of buffer; returns their bytes. */
static size_t transmit(struct injector *injector, uint8_t *buffer, size_t filled)
{
	struct iovec vectors[RECORD_BATCH * 2];
	size_t at = 0;
	int count = 0;

	for (;;) {
		struct record record;
		bool is_whole = filled - at >= sizeof(record);

		if (is_whole) {
			memcpy(&record, buffer + at, sizeof(record));
			if (record.frame_bytes > FRAME_BYTES_MAX)
				die(EXIT_USAGE, "record %llu: a frame of %u bytes",
				    (unsigned long long)(injector->sent + injector->refused +
							 (uint64_t)count),
				    record.frame_bytes);
			is_whole = filled - at - sizeof(record) >= record.frame_bytes;
		}
		if (count == RECORD_BATCH || (count && !is_whole)) {
			(injector->is_tap ? transmit_by_tap : transmit_by_socket)(injector, vectors,
										  count);
			count = 0;
		}
		if (!is_whole)
			return at;
		vectors[count * 2] = (struct iovec){ buffer + at + offsetof(struct record, offload),
						     sizeof(record.offload) };
		vectors[count * 2 + 1] =
			(struct iovec){ buffer + at + sizeof(record), record.frame_bytes };
		count++;
		at += sizeof(record) + record.frame_bytes;
	}
}

static void run(struct injector *injector)
{
	uint8_t *buffer = allocate(1, BUFFER_BYTES);
	size_t filled = 0;

	while (!stop_signals) {
		ssize_t bytes = read(STDIN_FILENO, buffer + filled, BUFFER_BYTES - filled);
		size_t used;

		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes < 0)
			die(EXIT_FAILED, "stdin: %s", strerror(errno));
		if (bytes == 0)
			break;
		filled += (size_t)bytes;
		used = transmit(injector, buffer, filled);
		memmove(buffer, buffer + used, filled - used);
		filled -= used;
		if (used)
			printf("{\"event\":\"sent\",\"records\":%llu}\n",
			       (unsigned long long)(injector->sent + injector->refused));
	}
	if (filled)
		die(EXIT_USAGE, "stdin ends within a record");
}

int main(int argc, char **argv)
{
	static struct options options;
	const struct option_row rows[] = {
		/* clang-format off */
		{ "interface", "NAME", "sends through a packet socket", parse_text, &options.interface, 0, 0 },
		{ "tap", "NAME", "makes this tap and writes into it", parse_text, &options.tap, 0, 0 },
		{ "mac", "ADDRESS", "of the tap", parse_text, &options.mac, 0, 0 },
		{ "mtu", "BYTES", "of the tap", parse_number, &options.mtu, 68, 65521 },
		{ "hold", NULL, "keeps the tap until a signal", parse_flag, &options.hold, 0, 0 },
		{ 0 },
		/* clang-format on */
	};
	struct injector injector = { 0 };
	const char *name;

	program = "inject";
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	parse_options(rows, argc, argv);
	if (!options.interface == !options.tap)
		die(EXIT_USAGE, "either --interface or --tap is required");
	name = options.tap ? options.tap : options.interface;
	stop_on_signals();
	if (options.tap)
		open_tap(&injector, &options);
	else
		open_interface(&injector, options.interface);
	printf("{\"event\":\"ready\",\"interface\":\"%s\",\"index\":%u}\n", name,
	       if_nametoindex(name));
	run(&injector);
	printf("{\"event\":\"result\",\"sent\":%llu,\"refused\":%llu}\n",
	       (unsigned long long)injector.sent, (unsigned long long)injector.refused);
	while (options.hold && !stop_signals)
		sleep_until(now_ns() + NS_PER_SECOND);
	return 0;
}
