/*
 * What send.c and receive.c share besides options and payload: errors that end
 * the program with one sentence, addresses, clocks, JSON members, and stopping
 * on a signal. Exit codes: 0 done, 1 failed while running, 64 wrong usage.
 */
#ifndef TRAFFIC_COMMON_H
#define TRAFFIC_COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 64
};

#define NS_PER_SECOND 1000000000ull
#define STREAMS_MAX 65536

/* argv[0] of the program; signals received so far. One thread, so plain globals. */
static const char *program = "traffic";
static volatile sig_atomic_t stop_signals;

__attribute__((noreturn, format(printf, 2, 3))) static inline void die(int status,
								       const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%s: ", program);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(status);
}

static inline void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		die(EXIT_FAILED, "out of memory for %zu x %zu bytes", count, size);
	return memory;
}

/* Stream i counts address and port up; a carry goes into the next octet. */
static inline struct in_addr address_after(struct in_addr first, uint64_t index)
{
	return (struct in_addr){ .s_addr = htonl(ntohl(first.s_addr) + (uint32_t)index) };
}

static inline uint16_t port_after(uint64_t first, uint64_t index)
{
	if (first + index > UINT16_MAX)
		die(EXIT_USAGE, "--port %llu: stream %llu would need port %llu",
		    (unsigned long long)first, (unsigned long long)index,
		    (unsigned long long)(first + index));
	return (uint16_t)(first + index);
}

/* Index of the interface that has this address; groups are joined and sent by index, never by route. */
static inline int interface_index(struct in_addr address)
{
	struct ifaddrs *list, *entry;
	char text[INET_ADDRSTRLEN];
	int index = 0;

	if (getifaddrs(&list) < 0)
		die(EXIT_FAILED, "cannot list interfaces: %s", strerror(errno));
	for (entry = list; entry && !index; entry = entry->ifa_next) {
		struct sockaddr_in local;

		if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET)
			continue;
		memcpy(&local, entry->ifa_addr, sizeof(local));
		if (local.sin_addr.s_addr == address.s_addr)
			index = (int)if_nametoindex(entry->ifa_name);
	}
	freeifaddrs(list);
	if (!index)
		die(EXIT_FAILED, "no interface has the address %s",
		    inet_ntop(AF_INET, &address, text, sizeof(text)));
	return index;
}

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* Sleeps until the moment or the next signal. */
static inline void sleep_until(uint64_t moment_ns)
{
	struct timespec moment = {
		.tv_sec = (time_t)(moment_ns / NS_PER_SECOND),
		.tv_nsec = (long)(moment_ns % NS_PER_SECOND),
	};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
}

/* `"key":value,`: the members of a JSON object but its last. */
static inline void print_count(const char *key, uint64_t value)
{
	printf("\"%s\":%llu,", key, (unsigned long long)value);
}

static inline void count_stop(int signal_number)
{
	(void)signal_number;
	stop_signals++;
}

static inline void stop_on_signals(void)
{
	struct sigaction action = { .sa_handler = count_stop };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

#endif
