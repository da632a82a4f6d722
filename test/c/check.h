/*
 * What the C unit tests share: numbered cases that say what failed and go on,
 * addresses, a network namespace of our own, sockets that receive.
 *
 *   begin("IHL %u", ihl);              the next case of the table
 *   EXPECT(verdict, MCR_FRAME_OK);     two integers are equal
 *   return finish();                   exit code of main
 */
#ifndef CHECK_H
#define CHECK_H

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define EXPECT(actual, expected) \
	expect_equal(__FILE__, __LINE__, #actual, (int64_t)(actual), (int64_t)(expected))
#define EXPECT_TRUE(condition) EXPECT(!!(condition), 1)

#define LOOPBACK_IFINDEX 1

/* The case that runs now; one thread reports, so plain globals. */
static char case_name[128] = "start";
static unsigned int case_count, failure_count;

__attribute__((format(printf, 1, 2))) static inline void begin(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(case_name, sizeof(case_name), format, arguments);
	va_end(arguments);
	case_count++;
}

static inline bool expect_equal(const char *file, int line, const char *what, int64_t actual,
				int64_t expected)
{
	if (actual == expected)
		return true;
	fprintf(stderr, "%s:%d: case %u, %s: %s is %lld, expected %lld\n", file, line, case_count,
		case_name, what, (long long)actual, (long long)expected);
	failure_count++;
	return false;
}

/* What the test cannot go on without. */
static inline void need(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "case %u, %s: cannot go on: %s: %s\n", case_count, case_name, what,
		strerror(errno));
	exit(1);
}

/* A host that does not let us test this; stderr, as for failures: not buffered, so no crash hides it. */
static inline void skip(const char *reason, const char *consequence)
{
	fprintf(stderr, "SKIP: %s: %s\n", reason, consequence);
}

static inline int finish(void)
{
	printf("%u cases, %u failures\n", case_count, failure_count);
	return failure_count ? 1 : 0;
}

/* The same numbers in every run. */
static inline uint32_t random32(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

/* "239.1.1.1" as ::ffff:239.1.1.1 */
static inline void map_address(uint8_t mapped[16], const char *text)
{
	memset(mapped, 0, 16);
	mapped[10] = mapped[11] = 0xff;
	need(inet_pton(AF_INET, text, mapped + 12) == 1, text);
}

/* -- network ---------------------------------------------------------------- */

static inline bool loopback_set_mtu(int mtu)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_mtu = mtu };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool done = ioctl(fd, SIOCSIFMTU, &request) == 0;

	close(fd);
	return done;
}

/*
 * A network namespace of our own with lo up: nothing else sends there, and
 * its limits are ours. False where the host forbids it; lo is the host's then.
 */
static inline bool own_network(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	bool done = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	done = done && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	if (!done)
		skip(strerror(errno), "no network namespace of our own, what needs one is not "
				      "tested");
	return done;
}

/* A UDP socket on 127.0.0.1; *port is where. */
static inline int receiver_open(uint16_t *port)
{
	struct sockaddr_in local = { .sin_family = AF_INET,
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t bytes = sizeof(local);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	int buffer_bytes = 64 << 20;

	need(fd >= 0 && bind(fd, (struct sockaddr *)&local, sizeof(local)) == 0, "a receiver");
	getsockname(fd, (struct sockaddr *)&local, &bytes);
	/* Only who owns the namespace may; bigger bursts are not sent elsewhere. */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes));
	*port = ntohs(local.sin_port);
	return fd;
}

/* Length of the next datagram, waiting up to a deadline; -1: none came. */
static inline ssize_t receive(int fd, void *buffer, size_t bytes, int deadline_ms)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	return poll(&ready, 1, deadline_ms) == 1 ? recv(fd, buffer, bytes, 0) : -1;
}

#endif
